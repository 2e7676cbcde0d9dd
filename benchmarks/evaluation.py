"""Shared by the accuracy benchmarks: frozen corpora, FP32 references, SQNR of a Q/DQ file per length bucket."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import peers

from fixtures.catalogue import ENTRIES
from harness.accuracy import Aggregate, load_score
from harness.calibration import pipeline
from harness.calibration.qdq import write_qdq
from harness.corpus.buckets import PICKING, by_bucket
from harness.corpus.samples import Corpus
from harness.modelfile import prepare, weighted_nodes
from harness.paths import cache_dir
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import Layout, length_buckets, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from harness.calibration.ranges import Ranges
    from harness.corpus.samples import Feeds

CALIBRATION_SAMPLES = {"vad": 32, "wave": 32, "plc": 32, "rec": 32, "text": 32, "digits": 32}
TEST_SEED = 1_000


@dataclass(frozen=True)
class Bench:
    """One fixture model with its test set: ``tests`` natural samples of each length bucket, seed 1000.

    With 8 a bucket, single characters that flip decide between methods on ``rec``.
    """

    key: str
    tests: int = 24

    @cached_property
    def entry(self) -> Any:
        return ENTRIES[self.key]

    @cached_property
    def prepared(self) -> Path:
        return prepare(self.entry.onnx(), self.entry.model)

    @cached_property
    def nodes(self) -> list[str]:
        return weighted_nodes(onnx.load(self.prepared))

    @cached_property
    def layout(self) -> Layout:
        return single(self.entry.model)

    def calibration_corpus(self, seed: int) -> Corpus:
        count = CALIBRATION_SAMPLES[self.key]
        samples = itertools.islice(self.entry.samples("calibration", seed), count)
        return self._corpus(f"calibration-{seed}-{count}", samples)

    @cached_property
    def test_corpus(self) -> Corpus:
        return self._corpus(f"test-{TEST_SEED}-{self.tests}-{PICKING}", by_bucket(self.entry, self.tests, TEST_SEED))

    def _corpus(self, name: str, samples: Iterator[Feeds]) -> Corpus:
        folder = cache_dir("benchmarks") / f"{self.key}-{name}-{self.entry.version}"
        return Corpus.open(folder) or Corpus.write(folder, self.entry.model, samples, name)

    @cached_property
    def reference(self) -> list[dict[str, np.ndarray]]:
        return list(self._outputs(self.prepared))

    def _outputs(self, path: Path) -> Iterator[dict[str, np.ndarray]]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for feeds in self.test_corpus:
            yield dict(zip(names, session.run(names, feeds), strict=True))

    def measure(self, path: Path) -> dict[str, tuple[float, float | None]]:
        """Bucket -> (SQNR dB, task score), pooled over its samples."""
        model = self.entry.model
        buckets, score = length_buckets(model), load_score(model.score)
        pooled = [Aggregate(model.output, score) for _ in buckets.profiles]
        for length, reference, candidate in zip(
            self.test_corpus.lengths, self.reference, self._outputs(path), strict=True
        ):
            pooled[buckets.dispatch(length)].add(reference, candidate)
        names = ("short", "middle", "long")
        return {n: (p.comparison.sqnr_db, p.comparison.score) for n, p in zip(names, pooled, strict=True) if p.n}

    def of_ranges(self, ranges: Ranges, dialect: Dialect) -> dict[str, tuple[float, float | None]]:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "candidate.onnx")
            write_qdq(self.prepared, self.nodes, ranges, dialect, path)
            return self.measure(path)

    def ours(self, seed: int, method: str, policy: Policy, dialect: Dialect, layout: Layout | None = None) -> Any:
        """Our calibration on the frozen corpus ``seed``."""
        layout, corpus, model = layout or self.layout, self.calibration_corpus(seed), self.entry.model
        found = pipeline.observed(self.prepared, model, corpus, policy, layout)
        calibration = Calibration(Method.parse(method), policy)
        return pipeline.from_observed(found, self.prepared, model, corpus, corpus.lengths, calibration, layout, dialect)

    def onnxruntime_ranges(self, seed: int, method: str) -> Ranges:
        """Ranges by ONNX Runtime's own calibrator over the same samples and nodes, kept between runs."""
        return peers.onnxruntime_ranges(self.prepared, self.calibration_corpus(seed), method)
