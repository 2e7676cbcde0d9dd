"""One run's state: calibrations, artefacts, engines and times, each made once, shared between cases."""

from __future__ import annotations

import platform
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from harness import trt_forms
from harness.accuracy import Aggregate, Comparison, compare, verdict
from harness.calibration import artefacts, pipeline, policies
from harness.calibration.ready import check_family
from harness.corpus.samples import length_of
from harness.errors import HarnessError, HostLost, ResultsError, UsageError
from harness.latency import Latency, design_of, engines_of, gains_of, margins_of
from harness.materials import Materials, bucket_name
from harness.measure.arms import Arm, Question
from harness.measure.host import host
from harness.measure.session import run_session
from harness.mixed.palette import mixed_file
from harness.mixed.plan import find as find_plan
from harness.modelfile import profiles_for
from harness.ready import for_runtime
from harness.results.record import record
from harness.served import LoadedEngines, Outputs, Served
from harness.spec.calibration import Calibration, Dialect, Method, Policy, Precision, Route
from harness.spec.latency import LatencyConfig
from harness.spec.routes import ALGORITHMS, cache_version, routes_of
from harness.spec.shapes import layout_from_text, length_buckets
from harness.workers import Worker
from harness.workers.places import place_of
from harness.workers.standins import Standins
from harness.workers.store import file_digest
from harness.workers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.corpus.catalogue import Entry
    from harness.mixed.plan import Plan
    from harness.results.store import Run
    from harness.spec.case import Case
    from harness.spec.matrix import Matrix
    from harness.spec.model import Bounds
    from harness.spec.shapes import Layout
    from harness.workers import Environment, Workers

__all__ = ["Served", "Workbench"]

CACHE_ALGORITHM = "MinMaxCalibration"
"""The calibrator that reads our caches; it says nothing of how the ranges were found."""


class Workbench(Materials):
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
        super().__init__(entries, matrix, seed)
        self.environments, self.workers = environments, workers
        self.standins, self.turns = standins or Standins(environments, workers), turns or Turns()
        self.run, self.command = run, command
        self.latency = latency or LatencyConfig()
        self.first_build = 0
        self._build_deadline_s: float | None = None
        self.records: list[dict[str, Any]] = []
        self._recorded: list[tuple[str, Case]] = []
        self._repeated: dict[tuple[str, Case], dict[str, Any]] = {}
        self._formed: dict[tuple[str, str], Path] = {}
        self._calibrated: dict[tuple[str, ...], pipeline.Calibrated] = {}
        self._engines = LoadedEngines()
        self._artefacts: dict[Case, tuple[Path, ...]] = {}
        self._beside: dict[Case, list[dict[str, Path]]] = {}
        self._described: dict[str, dict[str, Any]] = {}
        self._machines: dict[str, dict[str, Any]] = {}
        self.arm: Case | None = None
        self._references: dict[tuple[str, str], list[Outputs]] = {}
        self._timed: dict[Case, Latency] = {}

    # -- calibration and artefacts ------------------------------------------------------------------------------

    def environment(self, case: Case) -> Environment:
        """The case's, or what took over from it when its host went away."""
        return self.standins.of(case.runtime)

    def placed(self, case: Case) -> Case:
        """The case under the name of the environment that really runs it."""
        return replace(case, runtime=self.environment(case).name)

    def layout(self, case: Case) -> Layout:
        return layout_from_text(case.layout, self.model(case.model))

    def dialect(self, case: Case) -> Dialect:
        """``u8s8`` where x86 kernels run it, ``s8s8`` for GPUs."""
        environment = self.environment(case)
        on_cpu = environment.runtime == "onnxruntime" and environment.name.partition("@")[0].endswith("-cpu")
        return Dialect.U8S8 if on_cpu and self._architecture(case) in {"x86_64", "AMD64"} else Dialect.S8S8

    def _architecture(self, case: Case) -> str:
        """Of the host that the case runs on, as :func:`platform.machine` has it."""
        environment = self.environment(case)
        if not environment.host:
            return platform.machine()
        if environment.name not in self._machines:
            self.worker(case)
        return str(self._machines[environment.name]["architecture"])

    def calibrated(self, key: str, calibration: Calibration, layout: Layout, dialect: Dialect) -> pipeline.Calibrated:
        """Ranges from the model's calibration corpus; observations are cached by content."""
        prepared, corpus, model = self.prepared(key), self.corpus(key, "calibration"), self.model(key)
        scope = "" if calibration.policy is Policy.RAGGED else str(layout.profiles)
        wanted = (key, str(calibration), scope, f"{layout.minimum}-{layout.maximum}", dialect.value)
        if calibration.method.name == "mixed":
            plan = self.mixed_plan(key, dialect)
            by_one = self.calibrated(key, replace(calibration, method=Method.parse(plan.method)), layout, dialect)
            return replace(by_one, ranges=(plan.ranges,), methods=(calibration.method,), tried=())
        if wanted not in self._calibrated:
            found = pipeline.observed(prepared, model, corpus, calibration.policy, layout)
            self._calibrated[wanted] = pipeline.from_observed(
                found, prepared, model, corpus, corpus.lengths, calibration, layout, dialect
            )
        return self._calibrated[wanted]

    def mixed_plan(self, key: str, dialect: Dialect) -> Plan:
        """What ``harness mix`` found for a model.

        :raises UsageError: there was no search of this model in this dialect.
        """
        plan = find_plan(self.prepared(key), dialect)
        if plan is None:
            raise UsageError(
                f"no search for mixed precision has been run for {key} in {dialect.value}",
                where="int8-mixed",
                todo=f"run it: harness mix {key} --dialect {dialect.value}",
            )
        return plan

    def chosen_methods(self, case: Case) -> tuple[Method, ...]:
        """What the case's ranges were chosen by, one for each artefact; ``auto`` is resolved. Empty for float cases."""
        if case.calibration is None:
            return ()
        return self.calibrated(case.model, case.calibration, self.layout(case), self.dialect(case)).methods

    def profiles_without_samples(self, case: Case) -> list[str]:
        """Profiles that ``per_profile`` cannot calibrate, for want of a sample of their lengths; else none."""
        if case.calibration is None or case.calibration.policy is not Policy.PER_PROFILE:
            return []
        lengths = self.corpus(case.model, "calibration").lengths
        return [str(p) for p in self.layout(case).profiles if not any(length in p for length in lengths)]

    def artefacts(self, case: Case) -> tuple[Path, ...]:
        """The ONNX files that the case's engines are built from: one, or one for each profile."""
        if case not in self._artefacts:
            self._artefacts[case] = self._made(case)
        return self._artefacts[case]

    def formed(self, case: Case) -> Path:
        """The prepared file in the form that the case's runtime takes: itself, or one for an older TensorRT's parser.

        :raises BuildFailed: a form does not compute what the model does on the first calibration sample.
        """
        environment, prepared = self.environment(case), self.prepared(case.model)
        key = (case.model, environment.name)
        if key not in self._formed:
            made = trt_forms.for_parser(
                prepared, environment.runtime, environment.version, self.model(case.model), self.facts(case.model)
            )
            if made != prepared:
                trt_forms.check_equal(prepared, made, self.corpus(case.model, "calibration")[0])
            self._formed[key] = made
        return self._formed[key]

    def _as_it_is(self, case: Case) -> Path:
        """The file of a model that brings its own Q/DQ, as the case's runtime takes it.

        :raises ModelRefused: the runtime cannot take such Q/DQ.
        """
        environment, path = self.environment(case), self.ready(case.model)
        check_family(self.scales(case.model), environment.runtime, str(path))
        return for_runtime(path, environment.runtime, environment.version, self.model(case.model))

    def about_ready(self, case: Case) -> dict[str, Any]:
        """What records say of a case that runs Q/DQ as they were given; empty for another."""
        if not case.ready:
            return {}
        scales = self.scales(case.model)
        said = {item.name: getattr(scales, item.name) for item in fields(scales) if item.name != "remarks"}
        taken_out = self.entries[case.model].without_qdq
        return {
            "baseline": "its own graph, Q/DQ taken out" if taken_out else "the FP32 file that was given",
            **said,
            "warnings": [str(one) for one in scales.warnings(self.environment(case).runtime)],
        }

    def computes_in_float(self, case: Case) -> bool:
        """Whether a model's own Q/DQ are in a form for TensorRT: ONNX Runtime rounds by them, and computes in float."""
        return (
            case.ready and self.environment(case).runtime == "onnxruntime" and bool(self.scales(case.model).operators)
        )

    def _made(self, case: Case) -> tuple[Path, ...]:
        if case.ready:
            return (self._as_it_is(case),)
        prepared = self.formed(case)
        if case.precision is Precision.FP32:
            return (prepared,)
        if case.precision is Precision.FP16:
            return (prepared,) if self._by_flags(case) else (artefacts.fp16(prepared),)
        if case.calibration is None:
            raise UsageError("an INT8 case without a calibration", where=case.id)
        if case.route is Route.CALIBRATOR:
            return (prepared,)
        dialect = self.dialect(case)
        found = self.calibrated(case.model, case.calibration, self.layout(case), dialect)
        if case.route is Route.CACHE:
            return (prepared,) * len(found.ranges)
        named = found.ranges
        if prepared != self.prepared(case.model):
            named = tuple(trt_forms.with_aliases(ranges, prepared) for ranges in named)
        environment = self.environment(case)
        weights = trt_forms.weights_for(environment.runtime, environment.version)
        if case.mixed:
            plan = self.mixed_plan(case.model, dialect)
            made = tuple(mixed_file(prepared, ranges, plan.assignment, dialect, weights) for ranges in named)
        else:
            made = tuple(artefacts.int8(prepared, ranges, dialect, weights) for ranges in named)
        strong = environment.runtime.startswith("tensorrt") and not self._by_flags(case)
        return tuple(artefacts.beside_fp16(path) for path in made) if strong else made

    def _by_flags(self, case: Case) -> bool:
        """Whether the builder chooses precisions by flags, and not the types in the model."""
        environment = self.environment(case)
        weak = Route.QDQ in routes_of(environment.runtime, environment.version) and case.route is not Route.QDQ_STRONG
        return environment.runtime == "tensorrt" and weak

    def calibration_files(self, case: Case) -> list[dict[str, Path]]:
        """What a TensorRT build of each engine reads beside the model: a cache of our ranges, or batches."""
        if case not in self._beside:
            self._beside[case] = self._read_beside(case)
        return self._beside[case]

    def _read_beside(self, case: Case) -> list[dict[str, Path]]:
        calibration = case.calibration
        if calibration is None or case.route not in {Route.CACHE, Route.CALIBRATOR}:
            return [{}] * len(self.artefacts(case))
        prepared, model, layout = self.prepared(case.model), self.model(case.model), self.layout(case)
        corpus = self.corpus(case.model, "calibration")
        if case.route is Route.CALIBRATOR:
            profile = layout.profiles[policies.calibration_profile(layout, corpus.lengths)]
            drawn = policies.handed_over(model, corpus, calibration.policy, profile)
            described = f"{calibration.policy.value}/{profile}/{corpus.digest}"
            return [{"batches": artefacts.batches(prepared, model, drawn, described)}]
        chosen = set(self.chosen_methods(case))
        if len(chosen) == 1:  # ``auto`` has been resolved: what it costs is paid once
            calibration = replace(calibration, method=chosen.pop())
        found = pipeline.observed(prepared, model, corpus, calibration.policy, layout)
        ranges = pipeline.from_observed(
            found, prepared, model, corpus, corpus.lengths, calibration, layout, Dialect.S8S8,
            tensors=artefacts.cached_tensors(prepared),
        ).ranges  # fmt: skip
        version, aliases = cache_version(self.environment(case).version), trt_forms.aliases(self.formed(case))
        return [{"cache": artefacts.trt_cache(prepared, one, version, CACHE_ALGORITHM, aliases)} for one in ranges]

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

    def worker(self, case: Case) -> Worker:
        """A living worker of the case's environment."""
        environment = self.environment(case)
        worker = self.workers.get(environment)
        self._described[environment.name] = {**worker.describe(), **environment.options}
        if environment.host:  # a record is about the host that the engine was on
            self._machines[environment.name] = {**worker.machine(), "coordinator": platform.node()}
            self.standins.seen(environment, self._machines[environment.name])
        return worker

    def machine(self, case: Case) -> dict[str, Any]:
        """What records say of the host that a case runs on, which may be another one: :func:`host`, asked there."""
        environment = self.environment(case)
        if environment.host and environment.name not in self._machines:
            self.worker(case)
        return {**host(), **self._machines.get(environment.name, {})}

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
