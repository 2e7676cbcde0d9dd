"""One run's state: models, corpora, calibrations, artefacts and engines, each made once, shared between cases."""

from __future__ import annotations

import hashlib
import itertools
import platform
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.accuracy import Aggregate, Comparison, Score, compare, load_score, verdict
from harness.calibration import artefacts, pipeline
from harness.corpus.buckets import PICKING, by_bucket
from harness.corpus.samples import Corpus, length_of
from harness.errors import HarnessError, UsageError
from harness.modelfile import ModelFacts, prepare, profiles_for, read_facts, scored_output
from harness.paths import cache_dir
from harness.results.record import record
from harness.spec.calibration import Calibration, Dialect, Method, Policy, Precision
from harness.spec.shapes import layout_from_text, length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Feeds
    from harness.results.store import Run
    from harness.spec.case import Case
    from harness.spec.matrix import Matrix
    from harness.spec.model import Model
    from harness.spec.shapes import Layout
    from harness.workers import Environment, RemoteEngine, Workers

__all__ = ["Served", "Workbench", "bucket_name"]

Outputs = dict[str, "NDArray[np.generic]"]

_ENGINES_KEPT = 4
_PICKING = 2
"""Part of a kept corpus's name: raise it when :class:`Workbench` picks other samples from the same stream."""


@dataclass(frozen=True)
class Served:
    """A case's engines behind its layout: the profile is picked by length, anything outside is refused.

    :param engines: one for all profiles, or one for each.
    """

    model: Model
    layout: Layout
    engines: tuple[RemoteEngine, ...]

    def engine_for(self, length: int) -> RemoteEngine:
        """:raises LengthOutOfRange: no profile admits ``length``."""
        index = self.layout.dispatch(length)
        return self.engines[index if len(self.engines) > 1 else 0]

    def run(self, feeds: Feeds) -> Outputs:
        """One inference, dispatched by the sample's length.

        :raises LengthOutOfRange: no profile admits it. :raises RunFailed: the runtime refused it.
        """
        return self.engine_for(length_of(self.model, feeds)).run(feeds)


class Workbench:
    """What the suites work with.

    :param entries: model key -> catalogue entry.
    :param environments: environment name -> environment.
    :param run: where records go.
    :param seed: draws corpora, orders and examples.

    ``refused`` holds why a model's file, data or score could not be used, by model key.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        environments: Mapping[str, Environment],
        workers: Workers,
        run: Run,
        matrix: Matrix,
        seed: int,
    ) -> None:
        self.entries, self.environments, self.workers = entries, environments, workers
        self.run, self.matrix, self.seed = run, matrix, seed
        self.records: list[dict[str, Any]] = []
        self.refused: dict[str, HarnessError] = {}
        self._prepared: dict[str, Path] = {}
        self._facts: dict[str, ModelFacts] = {}
        self._scores: dict[str, Score | None] = {}
        self._corpora: dict[tuple[str, str], Corpus] = {}
        self._passing: TemporaryDirectory[str] | None = None
        self._calibrated: dict[tuple[str, ...], pipeline.Calibrated] = {}
        self._engines: OrderedDict[tuple[str, str, str], RemoteEngine] = OrderedDict()
        self._references: dict[tuple[str, str], list[Outputs]] = {}

    # -- models and data ----------------------------------------------------------------------------------------

    def model(self, key: str) -> Model:
        return self.entries[key].model

    def prepared(self, key: str) -> Path:
        """The canonical FP32 file (see :func:`harness.modelfile.prepare`)."""
        if key not in self._prepared:
            entry = self.entries[key]
            self._prepared[key] = prepare(entry.onnx(), entry.model)
        return self._prepared[key]

    def facts(self, key: str) -> ModelFacts:
        if key not in self._facts:
            self._facts[key] = read_facts(self.prepared(key))
        return self._facts[key]

    def corpus(self, key: str, split: str) -> Corpus:
        """``calibration`` (natural lengths) or ``test`` (the same number of samples in every length bucket)."""
        if (key, split) not in self._corpora:
            entry = self.entries[key]
            count = self.matrix.samples if split == "calibration" else self.matrix.tests
            low, high = entry.model.minimum, entry.model.maximum
            described = f"{_PICKING}/{PICKING}/{entry.version}/{split}/{self.seed}/{count}/{low}-{high}"
            name = hashlib.sha256(described.encode()).hexdigest()[:16]
            folder = self._corpora_of(entry) / f"{key}-{split}-{name}"
            origin = "synthetic" if entry.synthetic else f"{key} {split}, seed {self.seed}"
            found = Corpus.open(folder)
            if found is None:
                drawn = self._natural(entry, count) if split == "calibration" else by_bucket(entry, count, self.seed)
                found = Corpus.write(folder, entry.model, drawn, origin)
            self._corpora[key, split] = found
        return self._corpora[key, split]

    def _corpora_of(self, entry: Entry) -> Path:
        """The cache; for samples that may be others in the next run, a folder that goes with this one."""
        if entry.lasting:
            return cache_dir("corpora")
        if self._passing is None:
            self._passing = TemporaryDirectory(prefix="run.", dir=cache_dir("corpora"))
        return Path(self._passing.name)

    def _natural(self, entry: Entry, count: int) -> Iterator[Feeds]:
        return itertools.islice(entry.samples("calibration", self.seed), count)

    def score(self, key: str) -> Score | None:
        """The model's task score.

        :raises UsageError: it names no function.
        """
        if key not in self._scores:
            self._scores[key] = load_score(self.entries[key].model.score)
        return self._scores[key]

    def make_ready(self, key: str) -> None:
        """Get the model's file, samples and score, which everything else is made from; a second call does nothing.

        :raises HarnessError: one of them is refused; it is remembered in ``refused``.
        """
        try:
            self.prepared(key)
            self.score(key)
            for split in ("calibration", "test"):
                self.corpus(key, split)
        except HarnessError as error:
            self.refused[key] = error
            raise

    # -- calibration and artefacts ------------------------------------------------------------------------------

    def environment(self, case: Case) -> Environment:
        return self.environments[case.runtime]

    def layout(self, case: Case) -> Layout:
        return layout_from_text(case.layout, self.model(case.model))

    def dialect(self, case: Case) -> Dialect:
        """``u8s8`` where x86 kernels run it, ``s8s8`` for GPUs."""
        environment = self.environment(case)
        on_cpu = environment.runtime == "onnxruntime" and environment.name.endswith("-cpu")
        return Dialect.U8S8 if on_cpu and platform.machine() in {"x86_64", "AMD64"} else Dialect.S8S8

    def calibrated(self, key: str, calibration: Calibration, layout: Layout, dialect: Dialect) -> pipeline.Calibrated:
        """Ranges from the model's calibration corpus; observations are cached by content."""
        prepared, corpus, model = self.prepared(key), self.corpus(key, "calibration"), self.model(key)
        scope = "" if calibration.policy is Policy.RAGGED else str(layout.profiles)
        wanted = (key, str(calibration), scope, f"{layout.minimum}-{layout.maximum}", dialect.value)
        if wanted not in self._calibrated:
            found = pipeline.observed(prepared, model, corpus, calibration.policy, layout)
            self._calibrated[wanted] = pipeline.from_observed(
                found, prepared, model, corpus, corpus.lengths, calibration, layout, dialect
            )
        return self._calibrated[wanted]

    def chosen_methods(self, case: Case) -> tuple[Method, ...]:
        """What the case's ranges were chosen by, one for each artefact; ``auto`` is resolved. Empty for float cases."""
        if case.calibration is None:
            return ()
        return self.calibrated(case.model, case.calibration, self.layout(case), self.dialect(case)).methods

    def artefacts(self, case: Case) -> tuple[Path, ...]:
        """The ONNX files that the case's engines are built from: one, or one for each profile."""
        prepared = self.prepared(case.model)
        if case.precision is Precision.FP32:
            return (prepared,)
        if case.precision is Precision.FP16:
            return (artefacts.fp16(prepared),)
        if case.calibration is None:
            raise UsageError("an INT8 case without a calibration", where=case.id)
        dialect = self.dialect(case)
        found = self.calibrated(case.model, case.calibration, self.layout(case), dialect)
        return tuple(artefacts.int8(prepared, ranges, dialect) for ranges in found.ranges)

    # -- engines ------------------------------------------------------------------------------------------------

    def build_options(self, case: Case, index: int, count: int) -> dict[str, Any]:
        """Options for engine ``index`` of ``count``: the profiles it is built for."""
        environment = self.environment(case)
        if environment.runtime == "onnxruntime":
            return {}
        layout = self.layout(case)
        profiles = layout.profiles if count == 1 else (layout.profiles[index],)
        return {"profiles": profiles_for(self.model(case.model), self.facts(case.model), profiles)}

    def build(self, case: Case) -> list[tuple[dict[str, Any], Path]]:
        """Build every engine of the case: (facts, file to load) for each.

        :raises BuildFailed: with everything that the runtime said.
        """
        worker = self.workers.get(self.environment(case))
        files = self.artefacts(case)
        return [
            worker.build(path, self.build_options(case, index, len(files)), deadline_s=600)
            for index, path in enumerate(files)
        ]

    def can_run(self, case: Case) -> bool:
        """Whether engines of this environment run here, or are only built."""
        return bool(self.workers.get(self.environment(case)).describe()["can_run"])

    def served(self, case: Case) -> Served:
        """The case's engines, loaded (the last few stay loaded), behind its layout."""
        environment = self.environment(case)
        worker = self.workers.get(environment)
        engines = []
        for path in self.artefacts(case) if environment.runtime == "onnxruntime" else [p for _, p in self.build(case)]:
            key = (environment.name, str(path), str(worker.generation))
            engine = self._engines.pop(key, None) or worker.load(path)
            self._engines[key] = engine
            engines.append(engine)
        while len(self._engines) > max(_ENGINES_KEPT, len(engines)):
            self._engines.popitem(last=False)[1].close()
        return Served(self.model(case.model), self.layout(case), tuple(engines))

    def reference(self, case: Case) -> Served:
        """The FP32 engine in the same environment, over the same layout."""
        return self.served(_fp32(case))

    # -- accuracy -----------------------------------------------------------------------------------------------

    def reference_outputs(self, case: Case) -> list[Outputs]:
        """FP32 outputs of every test sample, from the same environment; kept for the model last asked for."""
        key = (case.model, case.runtime)
        if key not in self._references:
            self._references.clear()
            served = self.reference(case)
            self._references[key] = [served.run(feeds) for feeds in self.corpus(case.model, "test")]
        return self._references[key]

    def accuracy(self, case: Case, served: Served) -> dict[str, Aggregate]:
        """Length bucket -> what was lost against FP32 on the test corpus, pooled over the bucket's samples."""
        model, score = self.model(case.model), self.score(case.model)
        buckets = length_buckets(model)
        found: dict[str, Aggregate] = {}
        references = self.reference_outputs(case)
        for feeds, reference in zip(self.corpus(case.model, "test"), references, strict=True):
            length = length_of(model, feeds)
            name = bucket_name(buckets, length)
            pooled = found.setdefault(name, Aggregate(self.output(case.model), score))
            pooled.add(reference, served.run(feeds))
        return found

    def compare(self, key: str, reference: Outputs, candidate: Outputs) -> Comparison:
        """One sample's comparison by the model's output and score."""
        return compare(reference, candidate, self.output(key), self.score(key))

    def verdict(self, key: str, bucket: str, measured: Comparison | Aggregate) -> list[str]:
        """Why a bucket's values are out of the model's bounds; empty where they are within."""
        score = self.score(key)
        lower = score.lower_is_better if score else False
        return verdict(measured, self.model(key).bounds_for(bucket), lower_is_better=lower)[1]

    def output(self, key: str) -> str:
        """The output that is compared; see :func:`harness.modelfile.scored_output`."""
        return scored_output(self.model(key), self.facts(key))

    # -- records ------------------------------------------------------------------------------------------------

    def record(self, kind: str, case: Case, verdict: str, **values: object) -> dict[str, Any]:
        """Write one record of a case, with what is needed to trust it."""
        key = case.model
        made = record(
            kind,
            self.run.id,
            values,
            case=case,
            model={"fp32": self.facts(key).digest},
            corpus={split: corpus.digest for (model, split), corpus in self._corpora.items() if model == key},
            seed=self.seed,
            synthetic=self.entries[key].synthetic,
            verdict=verdict,
        )
        self.run.append(made)
        self.records.append(made)
        return made

    def close(self) -> None:
        """End all workers."""
        self._engines.clear()
        self.workers.close()
        if self._passing is not None:
            self._passing.cleanup()


def bucket_name(buckets: Layout, length: int) -> str:
    """``short``, ``middle`` or ``long`` for three buckets, else the profile's range."""
    index = buckets.dispatch(length)
    names = ("short", "middle", "long")
    return names[index] if len(buckets.profiles) == len(names) else str(buckets.profiles[index])


def _fp32(case: Case) -> Case:
    return replace(case, precision=Precision.FP32, calibration=None)
