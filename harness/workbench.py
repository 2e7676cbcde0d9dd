"""One run's state: engines, what was measured and recorded of them, each made once, shared between cases."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.accuracy import Aggregate, Comparison, compare, verdict
from harness.calibration import policies
from harness.casefiles import CACHE_ALGORITHM, CaseFiles
from harness.corpus.samples import length_of
from harness.errors import HarnessError, HostLost, ResultsError
from harness.latency import Latency, design_of, engines_of, gains_of, margins_of
from harness.materials import bucket_name
from harness.measure.arms import Arm, Question
from harness.measure.host import host
from harness.measure.session import run_session
from harness.modelfile import profiles_for
from harness.results.record import record
from harness.served import LoadedEngines, Outputs, Served
from harness.spec.calibration import Precision, Route
from harness.spec.latency import LatencyConfig
from harness.spec.routes import ALGORITHMS
from harness.spec.shapes import length_buckets
from harness.workers import Worker
from harness.workers.places import place_of
from harness.workers.store import file_digest
from harness.workers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.corpus.catalogue import Entry
    from harness.results.store import Run
    from harness.spec.case import Case
    from harness.spec.matrix import Matrix
    from harness.spec.model import Bounds
    from harness.workers import Environment, Workers
    from harness.workers.standins import Standins

__all__ = ["Served", "Workbench"]


class Workbench(CaseFiles):
    """What the suites work with.

    :param entries: model key -> catalogue entry.
    :param environments: environment name -> environment.
    :param run: where records go.
    :param seed: draws corpora, orders and examples.
    :param latency: margins and budgets of the configuration.
    :param standins: who takes over from a host that goes away; nobody unless it is said.
    :param turns: with other processes of this run.
    :param command: that was given to begin it; records say it where it is known.

    ``first_build`` is what build 0 of a case is numbered; another first one makes all builds anew.
    ``arm`` is the case that a test is at while it goes through several (see :meth:`at`).
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        environments: Mapping[str, Environment],
        workers: Workers,
        run: Run,
        matrix: Matrix,
        seed: int,
        latency: LatencyConfig | None = None,
        standins: Standins | None = None,
        turns: Turns | None = None,
        command: str = "",
    ) -> None:
        super().__init__(entries, environments, workers, matrix, seed, standins)
        self.run, self.command, self.turns = run, command, turns or Turns()
        self.latency = latency or LatencyConfig()
        self.first_build = 0
        self._build_deadline_s: float | None = None
        self.records: list[dict[str, Any]] = []
        self._recorded: list[tuple[str, Case]] = []
        self._repeated: dict[tuple[str, Case], dict[str, Any]] = {}
        self._engines = LoadedEngines()
        self.arm: Case | None = None
        self._references: dict[tuple[str, str], list[Outputs]] = {}
        self._timed: dict[Case, Latency] = {}

    # -- engines ------------------------------------------------------------------------------------------------

    def build_options(self, case: Case, index: int, count: int) -> dict[str, Any]:
        """Options for engine ``index`` of ``count``: the profiles it is built for."""
        environment = self.environment(case)
        if environment.runtime == "onnxruntime":
            return {}
        layout = self.layout(case)
        profiles = layout.profiles if count == 1 else (layout.profiles[index],)
        given = profiles_for(self.model(case.model), self.facts(case.model), profiles)
        if environment.runtime != "tensorrt":
            return {"profiles": given, **({"tf32": False} if case.precision is Precision.FP32 else {})}
        options: dict[str, Any] = {"profiles": given, "flags": self._flags(case)}
        if case.precision is Precision.INT8:
            options["strong"] = case.route is Route.QDQ_STRONG
        if case.calibration is not None and case.route in {Route.CACHE, Route.CALIBRATOR}:
            own = ALGORITHMS[case.calibration.method.name] if case.route is Route.CALIBRATOR else CACHE_ALGORITHM
            lengths = self.corpus(case.model, "calibration").lengths
            options["algorithm"] = own
            options["calibration_profile"] = given[policies.calibration_profile(layout, lengths) if count == 1 else 0]
        return options

    def _flags(self, case: Case) -> list[str]:
        """FP32 is FP32, where TensorRT would compute in TF32. What is not INT8 beside INT8 is FP16."""
        if case.precision is Precision.FP32:
            return ["-TF32"]  # no precision of a type: strongly typed networks heed it, too
        if not self._by_flags(case):
            return []
        return {Precision.FP16: ["FP16"], Precision.INT8: ["INT8", "FP16"]}[case.precision]

    def build(self, case: Case, number: int = 0) -> list[tuple[dict[str, Any], Path]]:
        """Build every engine of the case: (facts, file to load) for each.

        :param number: of the build; each is made anew, with timings of its own.
        :raises BuildFailed: with everything that the runtime said.
        """
        environment, files = self.environment(case), self.artefacts(case)
        self.worker(case)
        beside = self.calibration_files(case)
        number += self.first_build if self.tells_builds_apart(case) else 0
        again = {"build": number} if number else {}
        asked = [{**self.build_options(case, index, len(files)), **again} for index in range(len(files))]
        with _told_of(case):
            return [
                self.workers.build(environment, path, options, files=paths, deadline_s=self._build_deadline_s)
                for path, options, paths in zip(files, asked, beside, strict=True)
            ]

    @contextmanager
    def builds_within(self, seconds: float) -> Iterator[None]:
        """Within, a build that outlasts so many seconds is stopped, and its worker with it (:class:`WorkerHung`)."""
        before, self._build_deadline_s = self._build_deadline_s, seconds
        try:
            yield
        finally:
            self._build_deadline_s = before

    def rebuilt(self, case: Case) -> list[list[tuple[dict[str, Any], Path]]]:
        """Every further build of the case that the matrix asks for, where the runtime can tell builds apart."""
        numbers = range(1, self.matrix.builds) if self.tells_builds_apart(case) else ()
        return [self.build(case, number) for number in numbers]

    def tells_builds_apart(self, case: Case) -> bool:
        """Whether another number is another build: elsewhere a second one is the first."""
        return self.environment(case).tells_builds_apart

    def coverage(self, case: Case, built: Sequence[tuple[dict[str, Any], Path]]) -> list[dict[str, Any] | None]:
        """What runs in INT8 in each engine: as the build said, else as the loaded engine does where it runs here."""
        said = [facts.get("coverage") for facts, _ in built]
        if None not in said or not self.environment(case).can_run:
            return said
        return [engine.coverage() for engine in self._serving(case, [path for _, path in built]).engines]

    def device_memory(self, case: Case, built: Sequence[tuple[dict[str, Any], Path]]) -> list[dict[str, int]]:
        """What each engine's context takes on the device, in bytes; empty without a device, or where it only builds."""
        if not self.environment(case).can_run or not self.environment(case).runtime.startswith("tensorrt"):
            return []
        return [engine.memory() for engine in self._serving(case, [path for _, path in built]).engines]

    def profiles(
        self, case: Case, built: Sequence[tuple[dict[str, Any], Path]]
    ) -> list[list[dict[str, list[list[int]]]]]:
        """The profiles of each engine as it has them; empty where it only builds."""
        if not self.environment(case).can_run:
            return []
        return [engine.profiles() for engine in self._serving(case, [path for _, path in built]).engines]

    def served(self, case: Case, number: int = 0) -> Served:
        """The case's engines behind its layout; loaded as long as what is returned lives, and the last few longer.

        :param number: of the build.
        """
        if self.environment(case).runtime == "onnxruntime":
            return self._serving(case, self.artefacts(case))
        return self._serving(case, [path for _, path in self.build(case, number)])

    def _serving(self, case: Case, files: Sequence[Path]) -> Served:
        worker = self.worker(case)
        with _told_of(case):
            return self._engines.serve(worker, files, self.model(case.model), self.layout(case))

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

    def verdict(self, key: str, bucket: str, measured: Aggregate) -> list[str]:
        """Why a bucket's values are out of the model's bounds; empty where they are within."""
        return self._reasons(key, self.model(key).bounds_for(bucket), measured)

    def drawn_verdict(self, key: str, bucket: str, measured: Comparison) -> list[str]:
        """The same of one drawn example, by the model's bounds for these."""
        return self._reasons(key, self.model(key).bounds_for_draw(bucket), measured)

    def _reasons(self, key: str, bounds: Bounds, measured: Comparison | Aggregate) -> list[str]:
        score = self.score(key)
        lower = score.lower_is_better if score else False
        return verdict(measured, bounds, lower_is_better=lower)[1]

    # -- latency ------------------------------------------------------------------------------------------------

    def baseline(self, case: Case) -> Case:
        """What INT8 has to beat: FP16 where a GPU computes in it, FP32 on a CPU."""
        on_gpu = self.environment(case).runtime.startswith("tensorrt")
        return replace(_fp32(case), precision=Precision.FP16) if on_gpu else _fp32(case)

    def timed(self, case: Case) -> Latency:
        """The case's session against its baseline, over all length buckets; measured once."""
        if case not in self._timed:
            settings = self.latency.settings(case.model, case.runtime)
            model, margins = self.model(case.model), margins_of(settings)
            question = Question(self.side(self.baseline(case)), self.side(case), self.inputs(case.model))
            design, gains = design_of(self.matrix, settings), gains_of(model)
            environment = self.environment(case)
            with self.turns.timing(place_of(environment)):
                outcome = run_session(question, design, margins, self.seed, gains=gains, start=self.fresh)
            if outcome.stopped_by == "lost launches" and (why := self.standins.gone(environment)):
                raise HostLost(f"the host went away while the case was timed: {why}", where=environment.name)
            self._timed[case] = Latency(question, outcome, margins, self.baseline(case).precision.value)
        return self._timed[case]

    def side(self, case: Case) -> Arm:
        """The case as one side of a session, with all its builds."""
        runs_onnx = self.environment(case).runtime == "onnxruntime"
        first = self.artefacts(case) if runs_onnx else [path for _, path in self.build(case)]
        model, layout = self.model(case.model), self.layout(case)
        engines, *others = [
            engines_of(model, layout, files)
            for files in (first, *([path for _, path in again] for again in self.rebuilt(case)))
        ]
        return Arm(case.precision.value, self.environment(case), engines, rebuilt=tuple(others))

    def fresh(self, arm: Arm) -> Worker:
        """A worker of its own, for one launch."""
        return Worker(arm.environment, deadline_s=self.workers.deadline_s)

    # -- records ------------------------------------------------------------------------------------------------

    def record(
        self, kind: str, case: Case, verdict: str, *, settings: Mapping[str, Any] | None = None, **values: object
    ) -> dict[str, Any]:
        """Write one record of a case, with what is needed to trust it; of one that moved, about where it ran.

        :param settings: what must be the same for two records to be compared (:func:`harness.measure.host.comparable`).
        """
        if (kind, case) in self._repeated:
            return self._repeated[kind, case]
        key, placed = case.model, self.placed(case)
        corpora, samples = self.corpora_of(key)
        artefacts = self._artefacts.get(case, ()) if case.precision is not Precision.FP32 else ()
        digests = [file_digest(path) for path in artefacts]
        role = case.precision.value
        roles = [role] if len(digests) == 1 else [f"{role}[{index}]" for index in range(len(digests))]
        if about := self.about_ready(case):
            values["ready"] = about
        parts = {"worker": self._described.get(placed.runtime), "settings": settings, "command": self.command}
        parts = {name: part for name, part in parts.items() if part}
        made = record(
            kind,
            self.run.id,
            values if placed == case else {**values, "moved_from": case.runtime},
            case=placed,
            model={"fp32": self.facts(key).digest, **dict(zip(roles, digests, strict=True))},
            corpus=corpora,
            seed=self.seed,
            samples=samples,
            synthetic=self.entries[key].synthetic,
            verdict=verdict,
            environment={**host(), **self._machines.get(placed.runtime, {}), **parts},
        )
        self.run.append(made)
        self.records.append(made)
        self._recorded.append((kind, case))
        return made

    @contextmanager
    def again(self, case: Case, before: int) -> Iterator[None]:
        """Within, a test of a case runs once more, because a host was lost: what it recorded already stays as it is.

        :param before: how many records there were when the test began.
        """
        for made in (self._artefacts, self._beside):  # the host that takes over may want other files
            for one in [one for one in made if one.runtime == case.runtime]:
                del made[one]
        self._references.pop((case.model, case.runtime), None)
        self.arm = None
        self._repeated = dict(zip(self._recorded[before:], self.records[before:], strict=True))
        try:
            yield
        finally:
            self._repeated = {}

    @contextmanager
    def at(self, arm: Case) -> Iterator[None]:
        """Within, failures are the arm's, not those of the case that the test began with."""
        self.arm = arm
        yield
        self.arm = None

    def close(self) -> None:
        """End all workers, and remove what does not last longer than the run.

        The ends of what workers printed go into a record of the run, where there is any.
        """
        self._engines.clear()
        tails = self.workers.tails()
        self.workers.close()
        super().close()
        if tails:
            with suppress(ResultsError):  # the run was ended before, or the disk is full: what was measured is kept
                self.run.append(record("run", self.run.id, {"worker_logs": tails}, seed=self.seed, environment=host()))


@contextmanager
def _told_of(case: Case) -> Iterator[None]:
    """Files are named by their content; an error says whose they are, which may be the FP32 reference's."""
    try:
        yield
    except HarnessError as error:
        error.where = f"{case.id}: {error.where}" if error.where else case.id
        raise


def _fp32(case: Case) -> Case:
    return replace(case, precision=Precision.FP32, calibration=None, route=Route.QDQ)
