"""On top of one run's materials: where a case runs, and the files that its engines are built from, each made once."""

from __future__ import annotations

import platform
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from harness import trt_forms
from harness.calibration import artefacts, pipeline, policies
from harness.calibration.ready import check_family
from harness.calibration.rescaling import rescaled_file
from harness.errors import UsageError
from harness.materials import Materials
from harness.measure.host import host
from harness.mixed.palette import mixed_file
from harness.mixed.plan import find as find_plan
from harness.ready import for_runtime
from harness.spec.calibration import Calibration, Dialect, Method, Policy, Precision, Route
from harness.spec.routes import cache_version, routes_of
from harness.spec.shapes import layout_from_text
from harness.workers.standins import Standins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.corpus.catalogue import Entry
    from harness.mixed.plan import Plan
    from harness.spec.case import Case
    from harness.spec.matrix import Matrix
    from harness.spec.shapes import Layout
    from harness.workers import Environment, Worker, Workers

__all__ = ["CACHE_ALGORITHM", "CaseFiles"]

CACHE_ALGORITHM = "MinMaxCalibration"
"""The calibrator that reads our caches; it says nothing of how the ranges were found."""


class CaseFiles(Materials):
    """What a case is built from; it hangs on where the case runs.

    :param entries: model key -> catalogue entry.
    :param environments: environment name -> environment.
    :param workers: that run in them.
    :param matrix: says how many samples.
    :param seed: draws corpora.
    :param standins: who takes over from a host that goes away; nobody unless it is said.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        environments: Mapping[str, Environment],
        workers: Workers,
        matrix: Matrix,
        seed: int,
        standins: Standins | None = None,
    ) -> None:
        super().__init__(entries, matrix, seed)
        self.environments, self.workers = environments, workers
        self.standins = standins or Standins(environments, workers)
        self._formed: dict[tuple[str, Path, str], Path] = {}
        self._calibrated: dict[tuple[str, ...], pipeline.Calibrated] = {}
        self._artefacts: dict[Case, tuple[Path, ...]] = {}
        self._beside: dict[Case, list[dict[str, Path]]] = {}
        self._described: dict[str, dict[str, Any]] = {}
        self._machines: dict[str, dict[str, Any]] = {}

    # -- where a case runs --------------------------------------------------------------------------------------

    def environment(self, case: Case) -> Environment:
        """The case's, or what took over from it when its host went away."""
        return self.standins.of(case.runtime)

    def placed(self, case: Case) -> Case:
        """The case under the name of the environment that really runs it."""
        return replace(case, runtime=self.environment(case).name)

    def layout(self, case: Case) -> Layout:
        return layout_from_text(case.layout, self.model(case.model))

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

    # -- calibration --------------------------------------------------------------------------------------------

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

    # -- files --------------------------------------------------------------------------------------------------

    def artefacts(self, case: Case) -> tuple[Path, ...]:
        """The ONNX files that the case's engines are built from: one, or one for each profile."""
        if case not in self._artefacts:
            self._artefacts[case] = self._made(case)
        return self._artefacts[case]

    def formed(self, case: Case) -> Path:
        """The prepared file in the form that the case's runtime takes: itself, or one for an older TensorRT's parser.

        A plan's rescaled rows are in it (:mod:`harness.calibration.rescaling`).

        :raises BuildFailed: a form does not compute what the model does on the first calibration sample.
        """
        environment, source = self.environment(case), self._unformed(case)
        key = (case.model, source, environment.name)
        if key not in self._formed:
            made = trt_forms.for_parser(
                source, environment.runtime, environment.version, self.model(case.model), self.facts(case.model)
            )
            trt_forms.check_equal(self.prepared(case.model), made, self.corpus(case.model, "calibration")[0])
            self._formed[key] = made
        return self._formed[key]

    def _unformed(self, case: Case) -> Path:
        prepared = self.prepared(case.model)
        if not case.mixed:
            return prepared
        return rescaled_file(prepared, self.mixed_plan(case.model, self.dialect(case)).assignment.rows)

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
        if prepared != self._unformed(case):
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
