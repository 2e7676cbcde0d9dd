"""TensorRT-RTX where it runs and where it does not: on the stand-in, in a worker, on GPUs of three kinds."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from harness.errors import BuildFailed, EnvironmentMissing, LengthOutOfRange, UsageError
from harness.runtimes import tensorrt_rtx
from harness.workers import Worker, find_environments
from tests.fake_tensorrt import interpreter, loaded, models, resettle

PROFILES = [{"x": [[1, 4, low], [1, 4, high], [1, 4, high]]} for low, high in ((2, 8), (9, 64))]
OPTIONS = {"profiles": PROFILES}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "conv.onnx"
    path.write_bytes(models.conv())
    return path


@pytest.fixture
def machine(tmp_path):
    """A worker of a version on a machine with a GPU of a kind; the one environment that is found there."""
    started = []

    def make(version="rtx-1.7", gpu="Fake RTX", capability=(8, 9)):
        folder = tmp_path / f"venv{len(started)}"
        python = interpreter(version, folder, gpu=gpu, compute_capability=capability)
        (found,) = (e for e in find_environments(tmp_path, [str(python)]) if e.runtime == "tensorrt-rtx")
        started.append(Worker(found, deadline_s=60))
        return started[-1], folder

    yield make
    for worker in started:
        worker.close()


def feeds(length):
    return {"x": np.random.default_rng(length).standard_normal((1, 4, length)).astype(np.float32)}


@pytest.mark.parametrize("version", ["rtx-1.4", "rtx-1.7"])
def test_it_runs_on_a_gpu_that_it_supports(machine, source, version):
    worker, _ = machine(version)
    found = worker.environment
    assert (found.can_run, found.can_build, found.why) == (True, True, "")
    said = worker.describe()
    assert (said["can_run"], said["device"]) == (True, "Fake RTX 8.9")
    _, path = worker.build(source, OPTIONS)
    engine = worker.load(path)
    session = onnxruntime.InferenceSession(models.conv(), providers=["CPUExecutionProvider"])
    for length in (2, 64, 8, 9):
        ours, theirs = engine.run(feeds(length))["y"], session.run(None, feeds(length))[0]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    with pytest.raises(LengthOutOfRange):
        engine.run(feeds(65))
    engine.keep("some", feeds(20))
    timed = engine.timed("some", 1, 3)
    assert set(timed) == {"wall_ns", "device_ns"}
    assert min(timed["device_ns"]) > 0
    assert engine.coverage()["int8"] == 0


def test_it_is_built_for_the_gpu_that_is_there(machine, source):
    """On another one the same engine is refused, with the library's own words."""
    worker, folder = machine(capability=(12, 0))
    _, path = worker.build(source, OPTIONS)
    assert worker.load(path).run(feeds(8))["y"].shape == (1, 8, 8)
    _, other = worker.build(source, {**OPTIONS, "compute_capabilities": ["SM86", "SM89"]})
    with pytest.raises(BuildFailed) as caught:
        worker.load(other)
    assert "The engine cannot run on this GPU, which has compute capability 12.0" in caught.value.detail
    resettle(folder, compute_capability=[8, 9])
    worker.restart()
    assert worker.load(other).run(feeds(8))["y"].shape == (1, 8, 8)


def test_a_gpu_that_it_does_not_support_is_refused_by_name(machine, source):
    worker, _ = machine(gpu="Fake H200", capability=(9, 0))
    found = worker.environment
    assert (found.can_run, found.can_build) == (False, True)
    assert "TensorRT-RTX 1.7.1.116 does not run on compute capability 9.0" in found.why
    said = worker.describe()
    assert (said["can_run"], said["device"], said["gpu"]["compute_capability"]) == (False, "CPU", "9.0")
    _, path = worker.build(source, OPTIONS)  # for SM89
    with pytest.raises(EnvironmentMissing) as caught:
        worker.load(path)
    assert "does not run on compute capability 9.0; it does on 7.5, 8.0" in caught.value.what
    assert "The engine cannot run on this GPU, which has compute capability 9.0" in caught.value.detail


def test_without_a_gpu_it_builds(machine, source):
    worker, _ = machine(gpu="")
    assert (worker.environment.can_run, worker.environment.can_build) == (False, True)
    assert "no GPU" in worker.environment.why
    assert (worker.describe()["can_run"], worker.describe()["device"]) == (False, "CPU")
    _, path = worker.build(source, OPTIONS)
    with pytest.raises(EnvironmentMissing, match="engines can be built here, not run: no GPU"):
        worker.load(path)


def test_without_pycuda_it_builds_and_says_what_is_missing(machine, source, tmp_path):
    worker, folder = machine()
    (package,) = folder.glob("lib/python3*/site-packages/pycuda")
    package.rename(package.with_name("gone"))
    (found,) = (e for e in find_environments(tmp_path, [worker.environment.python]) if e.runtime == "tensorrt-rtx")
    assert (found.can_run, found.can_build) == (False, True)
    assert "pycuda is not installed" in found.why
    _, path = worker.build(source, OPTIONS)
    with pytest.raises(EnvironmentMissing, match="pycuda is not installed"):
        worker.load(path)


def test_a_strategy_for_kernels_that_there_is_not(machine, source):
    worker, _ = machine()
    _, path = worker.build(source, OPTIONS)
    with pytest.raises(UsageError, match="no specialization 'SOON'"):
        worker.load(path, {"specialization": "SOON"})


@pytest.mark.parametrize(("options", "strategy"), [({}, "EAGER"), ({"specialization": "LAZY"}, "LAZY")])
def test_kernels_are_compiled_before_they_are_timed_unless_said_otherwise(
    source, tmp_path, monkeypatch, options, strategy
):
    """In every context, also in those that run at the same time."""
    monkeypatch.setattr(tensorrt_rtx, "gpus", lambda: [{"name": "Fake RTX", "compute_capability": "8.9"}])
    with loaded("rtx-1.7", tmp_path / "fake", compute_capability=(8, 9)):
        runtime = tensorrt_rtx.TensorRtRtx()
        runtime.build(str(source), str(tmp_path / "engine"), OPTIONS)
        engine = runtime.load(str(tmp_path / "engine"), options)
        engine.keep("two", feeds(8), contexts=2)
        contexts = [engine._context, *(kept.context for kept in engine._kept["two"][1:])]
        assert len(contexts) == 2
        for context in contexts:
            config = context._state.config._state
            assert config.dynamic_shapes_kernel_specialization_strategy.name == strategy


def test_a_damaged_engine_is_no_matter_of_the_gpu(machine, source, tmp_path):
    worker, _ = machine()
    _, path = worker.build(source, OPTIONS)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BuildFailed, match="cannot load this engine"):
        worker.load(damaged)
