"""What can go wrong between a build and its engine: it is told, nothing broken is kept, and the next one works."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from harness.errors import (
    BuildFailed,
    CalibrationFailed,
    EnvironmentMissing,
    RunFailed,
    WorkerDied,
    WorkerHung,
    WriteFailed,
)
from harness.workers import Environment, Worker, Workers, engines, store
from tests.builders import building, kill_in_the_middle
from tests.fake_tensorrt import GPU, interpreter, models, resettle

VERSION = "8.6"
PROFILES = {"profiles": [{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 64]]}]}
LARGE = {"profiles": [{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 1 << 20]]}]}
X = np.random.default_rng(0).standard_normal((1, 4, 16)).astype(np.float32)


class Lab:
    """Interpreters that have the stand-in, made once a module; a test's own cache."""

    def __init__(self, folder):
        self.folder, self._made = folder, {}

    def environment(self, version=VERSION, **settings):
        defaults = {
            "gpu": GPU, "compute_capability": [9, 0], "memory_bytes": 8 << 30, "build_seconds": 0.0, "crash": "",
            "victim": "", "driver": 13000,
        }  # fmt: skip
        if version not in self._made:
            self._made[version] = interpreter(version, self.folder / version)
        resettle(self.folder / version, **{**defaults, **settings})
        full = {"8.6": "8.6.1", "8.5": "8.5.3.1"}[version]
        return Environment(f"tensorrt-{full}", str(self._made[version]), "tensorrt", full)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("stand-in"))


@pytest.fixture
def started(lab):
    """A function of the stand-in's settings to a worker; all are closed in the end."""
    running = []

    def start(version=VERSION, **settings):
        running.append(Worker(lab.environment(version, **settings), deadline_s=30))
        return running[-1]

    yield start
    for worker in running:
        worker.close()


@pytest.fixture
def conv(tmp_path):
    path = tmp_path / "conv.onnx"
    path.write_bytes(models.conv())
    return path


def works(worker, engine):
    with worker.load(engine) as loaded:
        return loaded.run({"x": X})["y"].shape == (1, 8, 16)


def files(cache):
    """Every file in the cache but code and logs, by its path in it."""
    found = (path for path in cache.rglob("*") if path.is_file())
    names = (path.relative_to(cache) for path in found)
    return {str(name) for name in names if name.parts[0] not in {"code", "logs"}}


def kept(cache):
    return {name for name in files(cache) if name.startswith("engines/")}


def is_clean(cache):
    """Nothing half made; every stored file is what its name says, and every kept build has its engine."""
    assert not [name for name in files(cache) if name.startswith("scratch/")]
    for path in (cache / "blobs").iterdir():
        assert path.is_file(), path
        assert store.file_digest(path) == path.name
    for path in (cache / "engines").glob("*"):
        assert path.suffix == ".json"
        assert store.is_sound(json.loads(path.read_text())["artefact"])
    return True


# A cache that was damaged


@pytest.mark.parametrize("damage", ["cut short", "empty", "another", "gone"])
def test_a_damaged_engine_in_the_cache_is_built_again_with_a_word_about_it(started, conv, cache, damage):
    worker = started()
    _, engine = worker.build(conv, PROFILES)
    assert worker.build(conv, PROFILES)[0]["cached"] is True
    whole = engine.read_bytes()
    if damage == "gone":
        engine.unlink()
    else:
        engine.write_bytes({"cut short": whole[: len(whole) // 2], "empty": b"", "another": whole[::-1]}[damage])
    facts, again = worker.build(conv, PROFILES)
    assert facts["cached"] is False
    (word,) = [line for line in facts["warnings"] if "built again" in line]
    assert ("gone" if damage == "gone" else "damaged") in word
    assert str(engine) in word
    assert works(worker, again)
    facts, _ = worker.build(conv, PROFILES)
    assert facts["cached"] is True
    assert not [line for line in facts["warnings"] if "built again" in line]
    worker.close()
    assert is_clean(cache)


@pytest.mark.parametrize("text", ["", '{"artefact": "', '{"artefact": 1}'])
def test_damaged_facts_of_a_build_are_no_facts(started, conv, cache, text):
    worker = started()
    worker.build(conv, PROFILES)
    (facts_file,) = (cache / "engines").iterdir()
    facts_file.write_text(text)
    facts, engine = worker.build(conv, PROFILES)
    assert facts["cached"] is False
    assert any("earlier build was damaged" in line for line in facts["warnings"])
    assert works(worker, engine)
    assert worker.build(conv, PROFILES)[0]["cached"] is True
    worker.close()
    assert is_clean(cache)


def test_a_damaged_copy_of_the_model_is_not_built_from(started, conv, cache):
    worker = started()
    digest = worker.put(conv)
    (cache / "blobs" / digest).write_bytes(b"cut")
    assert store.keep(conv, digest).read_bytes() == conv.read_bytes()
    (cache / "blobs" / digest).write_bytes(b"")
    _, engine = worker.build(conv, PROFILES)
    assert works(worker, engine)
    worker.close()
    assert is_clean(cache)


def test_a_worker_with_a_cache_of_its_own_is_sent_what_is_damaged_there(lab, conv, tmp_path):
    with Worker(lab.environment(), deadline_s=30, cache=tmp_path / "other") as worker:
        _, engine = worker.build(conv, PROFILES)
    copy = tmp_path / "other" / "blobs" / engine.name
    copy.write_bytes(copy.read_bytes()[:100])
    with Worker(lab.environment(), deadline_s=30, cache=tmp_path / "other") as worker:
        assert works(worker, engine)
    assert copy.read_bytes() == engine.read_bytes()


@pytest.mark.parametrize("content", [b"", b"no engine", None])
def test_an_engine_file_that_is_broken_says_so(started, conv, tmp_path, content):
    worker = started()
    _, engine = worker.build(conv, PROFILES)
    broken = tmp_path / "broken.engine"
    broken.write_bytes(engine.read_bytes()[:-20] if content is None else content)
    with pytest.raises(BuildFailed, match="it is damaged, no engine at all") as caught:
        worker.load(broken)
    assert str(broken) in caught.value.where
    assert "blobs" not in caught.value.where
    assert "build it again" in caught.value.todo
    assert caught.value.detail
    assert works(worker, engine)


# Another version, another GPU, another driver


def test_an_engine_of_another_version_says_so(started, conv):
    _, engine = started("8.5").build(conv, PROFILES)
    with pytest.raises(BuildFailed, match="it was built by another version") as caught:
        started("8.6").load(engine)
    assert "build it again with this one (TensorRT 8.6.1" in caught.value.todo
    assert "expecting library version 8.6.1 got 8.5.3.1" in caught.value.detail


def test_an_engine_of_another_gpu_says_so(started, conv):
    _, engine = started(gpu="Fake A100").build(conv, PROFILES)
    with pytest.raises(BuildFailed, match="it was built on another GPU") as caught:
        started().load(engine)
    assert GPU in caught.value.todo


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "Fake A100"},
        {"compute_capability": [8, 0]},
        {"memory_bytes": 4 << 30},
        {"driver": 12080},
    ],
)
def test_hosts_that_share_a_cache_have_engines_of_their_own(started, conv, cache, other):
    """The same model, options and version; only what is below differs."""
    assert started().build(conv, PROFILES)[0]["cached"] is False
    facts, engine = started(**other).build(conv, PROFILES)
    assert facts["cached"] is False
    assert len(kept(cache)) == 2
    second = started(**other)
    facts, engine = second.build(conv, PROFILES)
    assert facts["cached"] is True
    assert works(second, engine)
    assert started().build(conv, PROFILES)[0]["cached"] is True


def test_the_gpu_that_the_options_name_is_the_one_that_counts(started):
    """Not the first one. Here there is only that."""
    worker = started()
    assert worker.call("tied_to", {"device": 0})["gpu"]["name"] == GPU
    with pytest.raises(EnvironmentMissing, match="no GPU to use") as caught:
        worker.call("tied_to", {"device": 1})
    assert "device 1" in caught.value.where


def test_another_cublas_is_another_engine(lab, started, conv):
    """TensorRT takes other kernels where it is missing."""
    assert started().build(conv, PROFILES)[0]["cached"] is False
    (packages,) = (lab.folder / VERSION).glob("lib/python3*/site-packages")
    info = packages / "nvidia_cublas_cu12-12.1.3.1.dist-info"
    info.mkdir()
    try:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cublas-cu12\nVersion: 12.1.3.1\n")
        assert started().build(conv, PROFILES)[0]["cached"] is False
        (info / "METADATA").unlink()  # what pip leaves of a package that it could not remove
        assert started().build(conv, PROFILES)[0]["cached"] is True
    finally:
        info.rmdir()


# Memory


def test_a_tactic_that_finds_no_workspace_fails_the_build_with_the_logs_words(started, conv, cache):
    worker = started()
    with pytest.raises(BuildFailed, match="the builder refuses this model") as caught:
        worker.build(conv, {**PROFILES, "workspace_bytes": 16})
    assert "within workspace limit" in caught.value.detail
    assert str(conv) in caught.value.where
    assert kept(cache) == set()
    assert works(worker, worker.build(conv, PROFILES)[1])
    worker.close()
    assert is_clean(cache)


def test_an_engine_whose_context_the_gpu_has_no_room_for(started, conv):
    worker = started(memory_bytes=1 << 20)
    _, engine = worker.build(conv, LARGE)
    with pytest.raises(RunFailed, match="makes no execution context") as caught:
        worker.load(engine)
    assert worker.alive
    assert "memory" in caught.value.todo
    assert "OutOfMemory" in caught.value.detail
    assert works(worker, worker.build(conv, PROFILES)[1])


def test_an_engine_that_the_gpu_has_no_room_for_is_not_called_one_of_another_gpu(lab, conv):
    with Workers(deadline_s=30) as workers:
        _, engine = workers.get(lab.environment()).build(conv, PROFILES)
    with Worker(lab.environment(memory_bytes=100), deadline_s=30) as worker:
        with pytest.raises(RunFailed, match="too little memory on the GPU") as caught:
            worker.load(engine)
        assert "nvidia-smi" in caught.value.todo


def test_a_feed_that_the_gpu_has_no_room_for_fails_alone(started, conv):
    worker = started(memory_bytes=80 << 20)
    loaded = worker.load(worker.build(conv, LARGE)[1])
    for _ in range(3):  # what the failed one had taken is given back
        with pytest.raises(RunFailed, match=r"\d+ bytes wanted, \d+ of \d+ are free on the GPU") as caught:
            loaded.run({"x": np.zeros((1, 4, 1 << 20), np.float32)})
        assert "GPU memory" in caught.value.where
        assert "nvidia-smi" in caught.value.todo
        assert "out of memory" in caught.value.detail
    assert loaded.run({"x": X})["y"].shape == (1, 8, 16)


def test_a_lost_context_costs_one_case_and_not_those_after_it(lab, conv):
    """After an illegal access every call of CUDA fails, in that process."""
    with Workers(deadline_s=30) as workers:
        worker = workers.get(lab.environment(crash="run"))
        loaded = worker.load(worker.build(conv, PROFILES)[1])
        with pytest.raises(RunFailed, match="illegal memory access") as caught:
            loaded.run({"x": X})
        assert "dmesg" in caught.value.todo
        assert not worker.alive
        with pytest.raises(WorkerDied, match="illegal memory access"):
            loaded.run({"x": X})
        replaced = workers.get(lab.environment())
        facts, engine = replaced.build(conv, PROFILES)
        assert facts["cached"] is True
        assert works(replaced, engine)


# A full disk


def test_a_full_disk_is_told_and_nothing_half_written_is_found_later(started, conv, cache):
    worker = started()
    worker.put(conv)
    unlimited = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (500, unlimited[1]))  # beyond it a write fails
    with pytest.raises(WriteFailed, match="the disk is full") as caught:
        worker.build(conv, PROFILES)
    assert "make room" in caught.value.todo
    assert worker.alive
    assert kept(cache) == set()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, unlimited)
    assert works(worker, worker.build(conv, PROFILES)[1])
    worker.close()
    assert is_clean(cache)


def test_facts_that_cannot_be_written_leave_no_stump(cache):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, unlimited[1]))
    try:
        with pytest.raises(WriteFailed, match="the build cannot be kept") as caught:
            engines.remember("key", {"artefact": "0" * 64})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert str(cache / "engines") in caught.value.where
    assert "make room" in caught.value.todo
    assert kept(cache) == set()


# The builder ends in the middle


def test_a_killed_builder_leaves_nothing_and_the_next_one_builds(lab, conv, cache):
    with Worker(lab.environment(build_seconds=60), deadline_s=60) as worker:
        killer = kill_in_the_middle(worker, cache)
        with pytest.raises(WorkerDied, match="SIGKILL") as caught:
            worker.build(conv, PROFILES)
        killer.join()
        assert str(conv) in caught.value.where
        assert "ran out of memory: see dmesg" in caught.value.todo
        assert kept(cache) == set()
        assert {path.name for path in (cache / "blobs").iterdir()} == {store.file_digest(conv)}
        assert is_clean(cache)  # half the engine is gone
        lab.environment()
        worker.restart()
        facts, engine = worker.build(conv, PROFILES)
        assert facts["cached"] is False
        assert facts["warnings"] == []
        assert works(worker, engine)
    assert is_clean(cache)


def test_a_build_beside_it_keeps_its_folder(lab, conv, cache):
    """A new worker clears up after the dead, not after those that are at work."""
    with Worker(lab.environment(build_seconds=3), deadline_s=60) as slow:
        built = []
        thread = threading.Thread(target=lambda: built.append(slow.build(conv, PROFILES)))
        thread.start()
        busy = building(slow, cache)
        with Worker(lab.environment(), deadline_s=30) as other:
            other.build(conv, {**PROFILES, "build": 1})
            assert busy.is_dir()
            thread.join()
            assert works(other, built[0][1])
    assert is_clean(cache)


def test_a_crash_within_a_build_is_told_and_the_pool_replaces_the_worker(lab, conv, cache):
    with Workers(deadline_s=30) as workers:
        worker = workers.get(lab.environment(crash="build"))
        with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
            worker.build(conv, PROFILES)
        assert "the library crashed" in caught.value.todo
        assert str(conv) in caught.value.where
        assert "Segmentation fault" in caught.value.detail
        assert "_built" in worker.log.read_text()
        assert kept(cache) == set()
        replaced = workers.get(lab.environment())
        facts, engine = replaced.build(conv, PROFILES)
        assert facts["cached"] is False
        assert works(replaced, engine)
    assert is_clean(cache)


def test_a_build_over_the_deadline_is_ended_and_the_next_one_works(lab, conv, cache):
    with Workers(deadline_s=30) as workers:
        worker = workers.get(lab.environment(build_seconds=60))
        with pytest.raises(WorkerHung, match=r"no answer within 0\.8 s") as caught:
            worker.build(conv, PROFILES, deadline_s=0.8)
        assert "allow it more time" in caught.value.todo
        assert str(conv) in caught.value.where
        assert kept(cache) == set()
        replaced = workers.get(lab.environment())
        assert works(replaced, replaced.build(conv, PROFILES)[1])
    assert is_clean(cache)


# Two at once

BUILDER = """
import json, sys
from pathlib import Path
from harness.workers import Environment, Worker
python, full, model, profiles = sys.argv[1:]
with Worker(Environment("tensorrt-" + full, python, "tensorrt", full), deadline_s=60) as worker:
    worker.describe()
    print("ready", flush=True)
    sys.stdin.readline()
    facts, engine = worker.build(Path(model), json.loads(profiles))
    with worker.load(engine) as loaded:
        print(json.dumps({"engine": str(engine), "cached": facts["cached"], "warnings": facts["warnings"]}), flush=True)
"""


def test_two_runs_that_build_the_same_engine_at_once(lab, conv, cache):
    environment = lab.environment(build_seconds=0.5)
    command = [sys.executable, "-c", BUILDER, environment.python, environment.version, str(conv), json.dumps(PROFILES)]
    root = str(Path(__file__).parents[2])
    runs = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        for _ in range(2)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    said = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [one["cached"] for one in said] == [False, False]  # neither waited for the other
    assert said[0]["engine"] == said[1]["engine"]
    assert len(kept(cache)) == 1
    assert len([name for name in files(cache) if name.startswith("timing/")]) == 1
    assert is_clean(cache)
    with Worker(lab.environment(), deadline_s=30) as worker:
        facts, engine = worker.build(conv, PROFILES)
        assert facts["cached"] is True
        assert works(worker, engine)


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_timing_cache_is_written_anew(started, conv, cache, content):
    worker = started()
    worker.build(conv, PROFILES)
    (timings,) = (cache / "timing").iterdir()
    whole = timings.read_bytes()
    timings.write_bytes(whole[: len(whole) // 2] if content is None else content)
    facts, engine = worker.build(conv, {**PROFILES, "workspace_bytes": 1 << 30})
    assert facts["cached"] is False
    assert works(worker, engine)
    assert timings.read_bytes() == whole


# What a build is given beside the model


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short", "npy"])
def test_batches_that_cannot_be_read_are_told(started, conv, tmp_path, content):
    batches = tmp_path / "batches.npz"
    if content == "npy":
        with batches.open("wb") as file:
            np.save(file, X)
    else:
        batches.write_bytes(content)
    worker = started()
    options = {**PROFILES, "flags": ["INT8"], "algorithm": "MinMaxCalibration"}
    with pytest.raises(CalibrationFailed, match="batches cannot be read") as caught:
        worker.build(conv, options, files={"batches": batches})
    assert "NUMBER:INPUT" in caught.value.todo
    assert str(batches) in caught.value.where
    assert worker.alive


@pytest.mark.parametrize(("zero", "rank"), [(0, 3), (128, 2)])
def test_unsigned_activations_are_refused_before_tensorrt_sees_them(started, tmp_path, cache, zero, rank):
    worker = started()
    path = tmp_path / "u8.onnx"
    path.write_bytes(models.quantized(zero, "uint8", weight_rank=rank))
    with pytest.raises(BuildFailed, match=r"QuantizeLinear 'xq' \(and 1 more\) has an unsigned type") as caught:
        worker.build(path, PROFILES)
    assert str(path) in caught.value.where
    assert "qdq-s8s8" in caught.value.todo
    assert worker.alive
    assert kept(cache) == set()


def test_a_build_that_ended_its_worker_is_not_tried_again_in_a_run(lab, conv, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(models.matmul())
    with Workers(deadline_s=30) as workers:
        environment = lab.environment(crash="build")
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            workers.build(environment, conv, PROFILES)
        lab.environment()  # it would go well now
        pid = workers.get(environment).pid
        with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
            workers.build(environment, conv, PROFILES)
        assert "not tried again in this run" in caught.value.todo
        assert workers.get(environment).pid == pid
        assert workers.build(environment, conv, {**PROFILES, "build": 1})[0]["cached"] is False
        product = {"profiles": [{"x": [[2, 4], [8, 4], [64, 4]]}]}
        assert workers.build(environment, other, product)[0]["cached"] is False
    with Workers(deadline_s=30) as workers:
        assert workers.build(environment, conv, PROFILES)[0]["cached"] is False


def test_a_build_that_is_refused_is_asked_again(lab, conv):
    with Workers(deadline_s=30) as workers:
        environment = lab.environment()
        for _ in range(2):
            with pytest.raises(BuildFailed) as caught:
                workers.build(environment, conv, {**PROFILES, "workspace_bytes": 16})
            assert "not tried again" not in caught.value.todo
