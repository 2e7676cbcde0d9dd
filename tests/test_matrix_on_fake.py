"""Every version, calibrator, route, policy and layout over the stand-in for TensorRT, and what they are compared with.

What a case builds from, its options and its calibration come from :class:`harness.workbench.Workbench`, as in a run. A
few versions are reached through workers in interpreters of their own; the others in this process, which is quicker.

The data are made so that a wrong reading shows: channel 3 is the loud one, and in samples shorter than opt everything
is quiet. Rows of a longer sample that are read across their ends, [1, 4, T] with T innermost, never get to channel 3.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from harness.calibration.policies import calibration_profile
from harness.corpus.catalogue import Entry
from harness.corpus.samples import length_of
from harness.errors import HarnessError
from harness.runtimes.base import RuntimeFailure
from harness.runtimes.tensorrt import TensorRt
from harness.runtimes.trt_calibrator import CLASSES
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case
from harness.spec.matrix import Matrix, expand
from harness.spec.model import Axis, Model
from harness.spec.routes import ALGORITHMS, routes_of
from harness.spec.shapes import layout_from_text
from harness.workbench import Served, Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter, loaded, models, versions, violations

# 8.4 has bindings by number, 8.6 no strong types, 10.16 is the last with calibrators, 11.4 has none.
BY_WORKERS = ("8.4.1.5", "8.6.1", "10.16.1.11", "11.4.0.106")
LAYOUTS = ("single", "buckets3")
MODELS = {
    "innermost": Model("innermost", (Axis("x", 2),), "frames", minimum=4, opt=16, maximum=64),
    "outermost": Model("outermost", (Axis("x", 0),), "frames", minimum=4, opt=16, maximum=64),
}
FILES = {"innermost": models.conv, "outermost": models.matmul}
LENGTHS = [5, 24, 60, 7, 23, 12, 30, 25]
"""Of calibration: three below the opts 16 and 17, one of them first, where nothing that came before fills the buffer;
the others so far beyond opt that channel 3 starts behind opt-volume."""
HANDED_OVER = (Policy.PAD, Policy.TRUNCATE, Policy.WINDOW, Policy.REINTERPRET)
BY_RANGES = [Calibration(Method("minmax"), policy) for policy in (Policy.RAGGED, Policy.PER_PROFILE, *HANDED_OVER)]
BY_RANGES += [Calibration(Method("entropy"), Policy.RAGGED)]
PADDED = Calibration(Method("minmax"), Policy.PAD)
LARGEST_OPT, QUIET, PEAK, LOUD = 17, 0.3, 3.0, 8.0
CLOSE, WRONG = 0.06, 0.3
"""Largest difference from FP32, as a share of the largest output: what INT8 may have, and what a wrong range gives."""


def drawn(key, length, seed):
    values = np.random.default_rng((seed, length)).uniform(-1, 1, (4, length)).astype(np.float32)
    values[3] *= LOUD
    if length <= LARGEST_OPT:
        values *= QUIET
    else:
        values[1, 5] = PEAK  # within the first rows, and behind what TensorRT reads at the first profile's opt
    return {"x": np.ascontiguousarray(values[None] if key == "innermost" else values.T)}


def samples(key):
    def stream(split, seed):
        del seed
        lengths = LENGTHS if split == "calibration" else itertools.cycle([4, 10, 11, 17, 26, 64])
        return (drawn(key, length, split == "test") for length in lengths)

    return stream


class InProcess:
    """What a workbench asks of its workers and of one of them, done in this process."""

    generation = 1

    def __init__(self, environment, folder):
        self.environment, self.folder, self.built = environment, folder, {}
        self.runtime = TensorRt()
        self.runtime.cache = str(folder / "timings")

    def get(self, environment):
        assert environment == self.environment
        return self

    def describe(self):
        return self.runtime.describe()

    def build(self, environment, source, options, *, files=None, deadline_s=None):  # noqa: ARG002
        assert environment == self.environment
        given = {**options, "files": {role: str(path) for role, path in (files or {}).items()}}
        key = json.dumps([str(source), given], sort_keys=True)
        if key not in self.built:
            target = self.folder / f"{len(self.built)}.engine"
            self.built[key] = self.runtime.build(str(source), str(target), given), target
        return self.built[key]

    def load(self, path):
        return self.runtime.load(str(path), {})

    def close(self):
        pass


class Bench:
    """A workbench of one version, and where its stand-in says what was read outside of a buffer."""

    def __init__(self, version, workers, environment, fake, folder):
        entries = {}
        for key, model in MODELS.items():
            path = folder / f"{key}.onnx"
            path.write_bytes(FILES[key]())
            entries[key] = Entry(model, lambda path=path: path, samples(key), version="1")
        counted = SimpleNamespace(samples=len(LENGTHS), tests=2)
        self.version, self.fake, self.environment = version, fake, environment
        self.truth: dict[str, onnxruntime.InferenceSession] = {}
        self.workbench = Workbench(entries, {environment.name: environment}, workers, None, counted, 0)

    def case(self, key, layout, route, calibration=PADDED):
        return Case(key, self.environment.name, Precision.INT8, calibration, layout, route)

    def difference(self, case, engines):
        """The largest one from FP32 over all test samples, as a share of the largest output."""
        served = Served(MODELS[case.model], self.workbench.layout(case), tuple(engines))
        prepared = str(self.workbench.prepared(case.model))
        if prepared not in self.truth:
            self.truth[prepared] = onnxruntime.InferenceSession(prepared)
        truth = self.truth[prepared]
        worst = largest = 0.0
        lengths = set()
        for feeds in self.workbench.corpus(case.model, "test"):
            (expected,) = truth.run(None, dict(feeds))
            given = served.run(feeds)["y"]
            assert np.isfinite(given).all()
            worst = max(worst, float(np.abs(given - expected).max()))
            largest = max(largest, float(np.abs(expected).max()))
            lengths.add(length_of(MODELS[case.model], feeds))
        assert lengths == {4, 10, 11, 17, 26, 64}, "every profile is asked, at both of its ends"
        return worst / largest

    def checked(self, case, built, engines):
        """Run what was built; what holds of every INT8 engine, whatever it was calibrated by."""
        assert [engine.coverage()["int8"] for engine in engines] == [1] * len(built)
        assert violations(self.fake) == []
        assert not [line for facts, _ in built for line in facts["warnings"] if "Profile 0" in line]
        return self.difference(case, engines)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What was observed of a model is the same for all versions, and kept between them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_INT8_HARNESS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def bench(request, cache, tmp_path_factory):
    """The bench of the version that the test is parametrized with."""
    version, folder = request.param, tmp_path_factory.mktemp("matrix")
    name, fake = f"tensorrt-{version}", folder / "fake"
    if version in BY_WORKERS:
        python = str(interpreter(version, fake))
        with Workers() as workers:
            yield Bench(version, workers, Environment(name, python, "tensorrt", version), fake, folder)
        return
    environment = Environment(name, "", "tensorrt", version)
    with loaded(version, fake):
        yield Bench(version, InProcess(environment, folder), environment, fake, folder)


def taking(route):
    return [version for version in versions() if route in routes_of("tensorrt", version)]


def cells(route, **axes):
    """Parametrize a test over every version that takes the route, and over the axes; a version's cells are together."""
    by_version = pytest.mark.parametrize("bench", taking(route), indirect=True)

    def decorate(test):
        for name, values in axes.items():
            test = pytest.mark.parametrize(name, values, ids=str)(test)
        return by_version(test)

    return decorate


def opt_of(key, layout):
    """The opt of the profile that has to be named, and that of the first one."""
    profiles = layout_from_text(layout, MODELS[key]).profiles
    return profiles[calibration_profile(layout_from_text(layout, MODELS[key]), LENGTHS)].opt, profiles[0].opt


def batches_of(policy, opt):
    """How many batches the calibration samples make."""
    if policy is Policy.TRUNCATE:
        return sum(length >= opt for length in LENGTHS)
    return sum(max(1, -(-length // opt)) if policy is Policy.WINDOW else 1 for length in LENGTHS)


def largest_read(key, policy, opt):
    """The largest magnitude of x in what TensorRT reads: opt-volume elements of each batch, in the order of memory."""
    arrays = [drawn(key, length, 0)["x"] for length in LENGTHS]
    if policy is Policy.REINTERPRET:
        buffer, seen = np.zeros(4 * 64, np.float32), []
        for array in arrays:
            buffer[: array.size] = array.reshape(-1)
            seen.append(np.abs(buffer[: 4 * opt]).max())
        return max(seen)
    dim = MODELS[key].axes[0].dim
    whole = [array for array in arrays if policy is not Policy.TRUNCATE or array.shape[dim] >= opt]
    cut = [array if policy is Policy.WINDOW else array.take(range(min(opt, array.shape[dim])), dim) for array in whole]
    return max(np.abs(array).max() for array in cut)


def scale_of(facts, name):
    lines = dict(line.rsplit(": ", 1) for line in facts["calibration"]["written"].splitlines()[1:])
    return struct.unpack("!f", bytes.fromhex(lines[name]))[0]


def by_algorithm(bench, case, algorithm):
    """As the workbench builds the case, by any of TensorRT's calibrators: two of them no method asks for."""
    (source,) = bench.workbench.artefacts(case)
    options = {**bench.workbench.build_options(case, 0, 1), "algorithm": algorithm}
    (files,) = bench.workbench.calibration_files(case)
    return bench.workbench.workers.build(bench.environment, source, options, files=files)


def test_the_matrix_has_every_version_and_route():
    assert len(versions()) == 13
    assert Counter(route for version in versions() for route in routes_of("tensorrt", version)) == {
        Route.CACHE: 10, Route.QDQ: 10, Route.CALIBRATOR: 10, Route.QDQ_STRONG: 10,
    }  # fmt: skip
    assert {model.axes[0].dim for model in MODELS.values()} == {0, 2}


@pytest.mark.parametrize("bench", versions(), indirect=True)
def test_the_routes_that_are_run_are_those_that_the_library_says(bench):
    said = bench.workbench.worker(bench.case("innermost", "single", Route.QDQ)).describe()
    assert sorted(said["routes"]) == sorted(routes_of("tensorrt", bench.version))
    assert said["version"] == bench.version


@pytest.mark.parametrize("bench", versions(), indirect=True)
def test_a_run_has_the_cells_below(bench):
    """What ``--routes``, ``--methods`` and ``--policies`` with everything in them would run on this version."""
    everything = Matrix(
        precisions=("int8",), methods=("minmax", "entropy"), layouts=LAYOUTS,
        routes=tuple(Route), policies=tuple(Policy),
    )  # fmt: skip
    families = {bench.environment.name: ("tensorrt", bench.version)}
    there = Counter(case.route for case in expand(everything, MODELS, families, families))
    assert there == {
        route: len(MODELS) * len(LAYOUTS) * 2 * len(HANDED_OVER if route is Route.CALIBRATOR else Policy)
        for route in routes_of("tensorrt", bench.version)
    }


@cells(Route.CALIBRATOR, algorithm=CLASSES, policy=HANDED_OVER, layout=LAYOUTS, key=MODELS)
def test_calibrators(bench, algorithm, policy, layout, key):
    method = next((name for name, own in ALGORITHMS.items() if own == algorithm), None)
    case = bench.case(key, layout, Route.CALIBRATOR, Calibration(Method(method or "minmax"), policy))
    (built,) = bench.workbench.build(case) if method else [by_algorithm(bench, case, algorithm)]
    facts, path = built
    opt, first = opt_of(key, layout)
    calibration = facts["calibration"]
    supplied = batches_of(policy, opt)
    assert (calibration["supplied"], calibration["consumed"]) == (supplied, supplied)
    assert calibration["asked"] == supplied + 1
    assert calibration["written"].partition("\n")[0].endswith(f"-{algorithm}")
    assert {"INT8", "FP16"} <= set(facts["flags"])

    read = largest_read(key, policy, opt)
    if algorithm == "MinMaxCalibration":
        assert scale_of(facts, "x") == pytest.approx(read / 127, rel=1e-6)
        # with profile 0 in place of the named one it would be another
        assert layout == "single" or largest_read(key, policy, first) != read or policy is Policy.WINDOW
    engine = bench.workbench.worker(case).load(path)
    difference = bench.checked(case, [built], [engine])
    engine.close()
    misread = policy is Policy.REINTERPRET and key == "innermost"
    assert difference > WRONG if misread else 0 < difference < CLOSE


def check_ranges(bench, case):
    """A case whose ranges are found by us: as many engines as ranges, near FP32 or visibly wrong."""
    built = bench.workbench.build(case)
    policy = case.calibration.policy
    assert len(built) == (3 if policy is Policy.PER_PROFILE and case.layout == "buckets3" else 1)
    engines = bench.workbench.served(case).engines
    difference = bench.checked(case, built, engines)
    misread = policy is Policy.REINTERPRET and case.model == "innermost"
    assert difference > WRONG if misread else 0 < difference < CLOSE
    if len(built) > 1:  # each for its own lengths
        with pytest.raises((HarnessError, RuntimeFailure), match="no optimization profile admits x"):
            engines[0].run(drawn(case.model, 64, 1))
    return built


@cells(Route.CACHE, calibration=BY_RANGES, layout=LAYOUTS, key=MODELS)
def test_caches(bench, calibration, layout, key):
    for facts, _ in check_ranges(bench, bench.case(key, layout, Route.CACHE, calibration)):
        assert facts["calibration"]["cache_used"]
        assert (facts["calibration"]["supplied"], facts["calibration"]["asked"]) == (0, 0)
        assert {"INT8", "FP16"} <= set(facts["flags"])


@cells(Route.QDQ, calibration=BY_RANGES, layout=LAYOUTS, key=MODELS)
def test_qdq(bench, calibration, layout, key):
    for facts, _ in check_ranges(bench, bench.case(key, layout, Route.QDQ, calibration)):
        assert facts["calibration"] is None
        assert {"INT8", "FP16"} <= set(facts["flags"])


@cells(Route.QDQ_STRONG, calibration=BY_RANGES, layout=LAYOUTS, key=MODELS)
def test_qdq_strong(bench, calibration, layout, key):
    for facts, _ in check_ranges(bench, bench.case(key, layout, Route.QDQ_STRONG, calibration)):
        assert facts["calibration"] is None
        assert not {"INT8", "FP16"} & set(facts["flags"])


@pytest.mark.parametrize("bench", versions(), indirect=True)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", MODELS)
def test_float(bench, precision, layout, key):
    """What INT8 is compared with, by flags and, from 11 on, by the types in the model."""
    case = Case(key, bench.environment.name, precision, None, layout)
    ((facts, _),) = bench.workbench.build(case)
    by_flag = precision is Precision.FP16 and Route.QDQ in routes_of("tensorrt", bench.version)
    assert ("FP16" in facts["flags"]) is by_flag
    assert facts["calibration"] is None
    served = bench.workbench.served(case)
    assert [engine.coverage()["int8"] for engine in served.engines] == [0]
    difference = bench.difference(case, served.engines)
    assert difference < 1e-6 if precision is Precision.FP32 else 1e-6 < difference < 2e-3


@pytest.mark.parametrize("bench", versions(), indirect=True)
def test_fp32_is_not_tf32(bench):
    """The flag is on by default, and heeded by strongly typed networks, too."""
    case = Case("innermost", bench.environment.name, Precision.FP32, None, "single")
    ((facts, _),) = bench.workbench.build(case)
    assert "TF32" not in facts["flags"]


REFUSALS = {
    Route.CALIBRATOR: "no calibrator for 'MinMaxCalibration'",
    Route.CACHE: "no calibrator for 'MinMaxCalibration'",
    Route.QDQ: "no builder flag 'INT8'",
    Route.QDQ_STRONG: "knows no strongly typed networks",
}
REFUSED = [(version, route) for version in versions() for route in Route if route not in routes_of("tensorrt", version)]


@pytest.mark.parametrize(("bench", "route"), REFUSED, indirect=["bench"])
def test_a_route_that_a_version_does_not_take_is_refused_in_words(bench, route):
    case = bench.case("outermost", "single", route)
    (source,) = bench.workbench.artefacts(case)
    options = {**bench.workbench.build_options(case, 0, 1), "flags": ["INT8"] if route is Route.QDQ else []}
    (files,) = bench.workbench.calibration_files(case)
    with pytest.raises((HarnessError, RuntimeFailure), match=REFUSALS[route]) as raised:
        bench.workbench.workers.build(bench.environment, source, options, files=files)
    assert "qdq" in raised.value.todo
