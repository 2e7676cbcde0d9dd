"""The samples of a search, and cases run over them: what the rungs of accuracy measure."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.accuracy import Aggregate
from harness.best.evidence import Accuracy
from harness.corpus.samples import Corpus
from harness.errors import DataError
from harness.materials import bucket_name
from harness.mixed.corpus import counts_by_cost, unseen
from harness.paths import cache_dir
from harness.spec.calibration import Precision
from harness.spec.case import Case
from harness.spec.shapes import length_buckets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.served import Outputs
    from harness.workbench import Workbench

__all__ = ["Looking", "some"]


@dataclass
class Looking:
    """The samples that a search looks at.

    :param corpus: of the calibration split; no sample of a test is among them.
    :param seen: calibration has seen them, for there were no others.
    """

    bench: Workbench
    key: str
    corpus: Corpus
    seen: bool
    _references: dict[int, Outputs] = field(default_factory=dict)

    @classmethod
    def made(cls, bench: Workbench, key: str, each: int) -> Looking:
        """Draw the samples: in every length bucket, about ``each``, more of the short ones.

        Where calibration took all that there are, they are looked at again, and ``seen`` says so.
        """
        entry, calibration = bench.entries[key], bench.corpus(key, "calibration")
        counts = counts_by_cost(entry, each)
        folder = Path(tempfile.mkdtemp(prefix="best.", dir=cache_dir("corpora")))
        try:
            try:
                drawn = unseen(entry, calibration, counts, bench.seed)
                corpus = Corpus.write(folder / "corpus", entry.model, drawn, f"{key} search, seed {bench.seed}")
                return cls(bench, key, corpus, seen=False)
            except DataError:
                if entry.every is None:
                    raise
                return cls(bench, key, calibration, seen=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def close(self) -> None:
        if not self.seen:
            shutil.rmtree(self.corpus.folder.parent, ignore_errors=True)

    def accuracy(self, case: Case, indices: Sequence[int]) -> Accuracy:
        """The case's outputs on some of the samples against FP32's in the same environment, by length bucket."""
        bench, key = self.bench, self.key
        model, score = bench.model(key), bench.score(key)
        buckets, served = length_buckets(model), bench.served(case)
        found: dict[str, Aggregate] = {}
        for index in indices:
            name = bucket_name(buckets, self.corpus.lengths[index])
            pooled = found.setdefault(name, Aggregate(bench.output(key), score))
            pooled.add(self._reference(case, index), served.run(self.corpus[index]))
        return accuracy_of(bench, key, found)

    def _reference(self, case: Case, index: int) -> Outputs:
        if index not in self._references:
            fp32 = Case(case.model, case.runtime, Precision.FP32, None, "single")
            self._references[index] = bench_run(self.bench, fp32, self.corpus, index)
        return self._references[index]


def bench_run(bench: Workbench, case: Case, corpus: Corpus, index: int) -> Outputs:
    """A case's outputs of one sample."""
    return bench.served(case).run(corpus[index])


def accuracy_of(bench: Workbench, key: str, found: dict[str, Aggregate]) -> Accuracy:
    """Pooled samples as what is kept of them, buckets in their order."""
    score = bench.score(key)
    buckets = length_buckets(bench.model(key))
    order = [bucket_name(buckets, profile.opt) for profile in buckets.profiles]
    pooled = {name: found[name].comparison for name in order if name in found}
    return Accuracy(pooled, lower_is_better=bool(score and score.lower_is_better))


def some(looking: Looking, each: int) -> tuple[int, ...]:
    """Indices of the first ``each`` samples of every bucket."""
    buckets = length_buckets(looking.bench.model(looking.key))
    taken: dict[int, list[int]] = {}
    for index, length in enumerate(looking.corpus.lengths):
        taken.setdefault(buckets.dispatch(length), []).append(index)
    return tuple(sorted(index for indices in taken.values() for index in indices[:each]))
