"""Faults of the genuine TensorRT on a GPU. ``HARNESS_TEST_TRT_PYTHON`` names an interpreter.

HARNESS_TEST_TRT_PYTHON=.tox/trt86/bin/python pytest tests/workers/test_faults_on_gpu.py
"""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from harness.errors import BuildFailed, WorkerDied, WorkerHung
from harness.spec.config import find_config
from harness.workers import Worker, Workers, find_environments, store
from tests.builders import kill_in_the_middle
from tests.fake_tensorrt import models

PYTHON = os.environ.get("HARNESS_TEST_TRT_PYTHON", "")
PROFILES = {"profiles": [{"x": [[1, 4, 2], [1, 4, 16], [1, 4, 64]]}], "flags": ["-TF32"]}
X = np.random.default_rng(0).standard_normal((1, 4, 16)).astype(np.float32)

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="HARNESS_TEST_TRT_PYTHON names no interpreter with TensorRT and a GPU"
)


@pytest.fixture
def environment(tmp_path):
    found = find_environments(tmp_path, [PYTHON])
    (one,) = (e for e in found if e.runtime == "tensorrt" and e.python == str(Path(PYTHON).absolute()))
    return replace(one, options=find_config().options.of(one.name))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.onnx"
    path.write_bytes(models.conv())
    return path


@pytest.fixture
def deep(tmp_path, save):
    """Twelve convolutions, each of its own width: some time of building."""
    random = np.random.default_rng(0)
    widths = [4, *(32 + 8 * n for n in range(12))]
    names = ["x", *(f"h{n}" for n in range(11)), "y"]
    weights = {f"w{n}": random.normal(size=(widths[n + 1], widths[n], 3)).astype(np.float32) for n in range(12)}
    nodes = [helper.make_node("Conv", [names[n], f"w{n}"], [names[n + 1]], pads=[1, 1]) for n in range(12)]
    ends = {"x": (np.float32, (1, 4, "L"))}, {"y": (np.float32, (1, widths[-1], "L"))}
    return save(tmp_path / "deep.onnx", nodes, *ends, weights)


def works(worker, engine):
    with worker.load(engine) as loaded:
        return set(loaded.run({"x": X})) == {"y"}


def test_a_damaged_engine_and_damaged_timings_are_made_anew(environment, source, cache):
    with Worker(environment, deadline_s=120) as worker:
        _, engine = worker.build(source, PROFILES)
        assert worker.build(source, PROFILES)[0]["cached"] is True
        engine.write_bytes(engine.read_bytes()[: engine.stat().st_size // 2])
        for timings in (cache / "timing").glob("*"):
            timings.write_bytes(timings.read_bytes()[: timings.stat().st_size // 2])
        facts, again = worker.build(source, PROFILES)
        assert facts["cached"] is False
        assert any("built again" in line for line in facts["warnings"])
        assert store.file_digest(again) == again.name
        assert works(worker, again)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.9])
def test_a_stump_of_an_engine_is_told_and_the_worker_goes_on(environment, source, tmp_path, share):
    with Worker(environment, deadline_s=120) as worker:
        _, engine = worker.build(source, PROFILES)
        stump = tmp_path / "stump"
        stump.write_bytes(engine.read_bytes()[: int(share * engine.stat().st_size)])
        with pytest.raises(BuildFailed, match="cannot load this engine") as caught:
            worker.load(stump)
        assert "build it again" in caught.value.todo
        assert works(worker, engine)


def test_a_killed_builder_leaves_nothing_and_the_next_one_builds(environment, deep, cache):
    with Worker(environment, deadline_s=120) as worker:
        killer = kill_in_the_middle(worker, cache)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            worker.build(deep, PROFILES)
        killer.join()
        assert not list((cache / "engines").glob("*"))
        assert not list((cache / "scratch").iterdir())
        worker.restart()
        facts, engine = worker.build(deep, PROFILES)
        assert facts["cached"] is False
        assert works(worker, engine)


def test_a_build_over_the_deadline_is_ended_and_the_next_one_works(environment, deep, source):
    with Workers(deadline_s=120) as workers:
        worker = workers.get(environment)
        worker.describe()
        with pytest.raises(WorkerHung, match="killed"):
            worker.build(deep, PROFILES, deadline_s=0.3)
        replaced = workers.get(environment)
        assert works(replaced, replaced.build(source, PROFILES)[1])


def test_two_that_build_the_same_engine_at_once(environment, deep, cache):
    with Worker(environment, deadline_s=120) as one, Worker(environment, deadline_s=120) as other:
        built = []
        threads = [threading.Thread(target=lambda w=w: built.append(w.build(deep, PROFILES))) for w in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [facts["cached"] for facts, _ in built] == [False, False]
        assert all(works(one, engine) and works(other, engine) for _, engine in built)
        assert len(list((cache / "engines").iterdir())) == 1
        assert one.build(deep, PROFILES)[0]["cached"] is True


def test_unsigned_activations_are_refused(environment, tmp_path):
    path = tmp_path / "u8.onnx"
    path.write_bytes(models.quantized(0, "uint8"))
    with Worker(environment, deadline_s=120) as worker, pytest.raises(BuildFailed, match="unsigned type"):
        worker.build(path, PROFILES)


LOSS = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorrt
from harness_runtimes.cuda import Cuda, lost
assert lost() == ""
cuda = Cuda()
PTX = b'''.version 7.0
.target sm_70
.address_size 64
.visible .entry stray()
{
    .reg .u64 %address;
    .reg .u32 %value;
    mov.u64 %address, 8;
    mov.u32 %value, 1;
    st.global.u32 [%address], %value;
    ret;
}
'''
with cuda.current():
    assert lost() == ""
    try:
        cuda.allocate(1 << 50)
    except Exception as error:
        print(type(error).__name__, error)
    assert lost() == "", "too little memory is no loss"
    cuda.driver.module_from_buffer(PTX).get_function("stray")(block=(1, 1, 1), grid=(1, 1))
print(lost(), flush=True)
import os
os._exit(0)  # destructors of a lost context have nothing to say
"""


def test_an_illegal_access_is_a_loss_and_too_little_memory_is_none(environment, cache):
    with Worker(environment, deadline_s=120) as worker:
        worker.describe()
        (tree,) = (cache / "code").iterdir()
        done = subprocess.run([PYTHON, "-c", LOSS, tree], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted, lost = done.stdout.splitlines()
    assert "RuntimeFailure" in wanted
    assert "illegal" in lost
