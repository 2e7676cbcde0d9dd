from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from harness.errors import BuildFailed, EnvironmentMissing, RunFailed, UsageError, WorkerDied, WorkerHung
from harness.workers import Environment, Worker, Workers, store
from harness.workers import worker as worker_module
from harness.workers.ending import log_tail

X = np.random.default_rng(1).normal(size=(1, 4, 9)).astype(np.float32)


def _gone(pid: int) -> bool:
    """Neither running nor a zombie."""
    return not Path(f"/proc/{pid}").exists()


# What it is for


def test_loads_runs_and_times_a_model(worker, conv):
    with worker.load(conv) as engine:
        assert engine.inputs() == [{"name": "x", "dtype": "float32", "shape": [1, 4, None]}]
        assert engine.outputs()[0]["name"] == "y"
        assert engine.run({"x": X})["y"].shape == (1, 8, 9)
        durations = engine.burst({"x": X}, 1, 5)
        assert len(durations) == 5
        assert min(durations) > 0
        assert engine.coverage() == {"int8": 0, "float": 1, "operators": {"Conv": 1}, "in_float": ["y"]}
    with pytest.raises(UsageError, match="closed"):
        engine.run({"x": X})
    assert worker.alive


def test_describes_the_environment_it_runs_in(worker, here):
    said = worker.describe()
    assert (said["library"], said["version"]) == ("onnxruntime", here.version)
    assert worker.describe() == said


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_back_as_they_were(worker, tmp_path, save, dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, size=shape).astype(dtype)
    dims = [f"d{i}" for i in range(len(shape))]
    # Where() rather than Identity, which an optimizer may remove together with the only node.
    nodes = [helper.make_node("Where", ["c", "x", "x"], ["y"])]
    values = {"c": (np.bool_, dims), "x": (dtype, dims)}
    if np.dtype(dtype) == np.bool_:
        nodes, values = [helper.make_node("And", ["x", "x"], ["y"])], {"x": (dtype, dims)}
    elif np.dtype(dtype) == np.float16:
        nodes, values = [helper.make_node("Reshape", ["x", "s"], ["y"])], {"x": (dtype, dims)}
    constants = {"s": np.array(shape, np.int64)} if np.dtype(dtype) == np.float16 else {}
    path = save(tmp_path / "echo.onnx", nodes, values, {"y": (dtype, dims)}, constants)
    feeds = {"x": array, "c": np.ones(shape, np.bool_)}
    back = worker.load(path).run({name: feeds[name] for name in values})["y"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


def test_a_build_gives_facts_and_the_file_to_load(worker, conv):
    facts, artefact = worker.build(conv)
    assert artefact == conv
    assert facts["coverage"]["float"] == 1
    assert facts["bytes"] == conv.stat().st_size


def test_an_engine_is_another_one_when_the_code_that_builds_it_changes(worker, monkeypatch):
    key = worker._engine_key("0" * 64, {})
    assert worker._engine_key("0" * 64, {}) == key
    monkeypatch.setattr(store, "code_tree", lambda: ("another", {}))
    assert worker._engine_key("0" * 64, {}) != key


# Errors


def test_an_error_names_the_file_that_was_given(worker, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf at all")
    for call in (worker.load, worker.build):
        with pytest.raises(BuildFailed) as caught:
            call(broken)
        text = str(caught.value)
        assert str(broken) in text
        assert "blobs" not in text
        assert worker.environment.name in text
    assert worker.alive


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_file_is_a_build_failure(worker, tmp_path, content):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BuildFailed, match=r"model\.onnx"):
        worker.load(path)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"z": X}, "no input is called 'z'"),
        ({"x": X.astype(np.float64)}, "float64"),
        ({"x": X[0]}, "shape"),
        ({"x": X.tolist()}, "expected an array, got list"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused_and_the_engine_goes_on(worker, conv, feeds, said):
    engine = worker.load(conv)
    with pytest.raises(RunFailed, match=said):
        engine.run(feeds)
    assert engine.run({"x": X})["y"].shape == (1, 8, 9)


def test_options_are_checked_where_they_are_used(worker, conv):
    with pytest.raises(UsageError, match="'thraeds'"):
        worker.load(conv, {"thraeds": 2})
    with pytest.raises(UsageError, match="options must be"):
        worker.load(conv, {"threads": np.int64(2)})
    with pytest.raises(EnvironmentMissing, match="CPUExecutionProvider"):
        worker.load(conv, {"provider": "RocketExecutionProvider"})


def test_the_environments_options_lie_under_those_of_a_call(here, conv):
    options = {"provider": "RocketExecutionProvider"}
    rocket = Environment(here.name, here.python, here.runtime, here.version, options)
    with Worker(rocket) as worker:
        with pytest.raises(EnvironmentMissing, match="Rocket"):
            worker.load(conv)
        worker.load(conv, {"provider": "CPUExecutionProvider"}).run({"x": X})


def test_an_interpreter_that_is_not_there_or_has_no_numpy(tmp_path, bad_library):
    missing = Environment("onnxruntime-0-cpu", str(tmp_path / "python"), "onnxruntime", "0")
    with pytest.raises(EnvironmentMissing, match="does not start"):
        Worker(missing)
    bare = bad_library("pass")
    for path in Path(bare.python).parent.parent.glob("lib/python3*/site-packages/numpy.pth"):
        path.unlink()
    with pytest.raises(EnvironmentMissing, match="numpy"):
        Worker(bare)


def test_a_cache_that_cannot_be_written_is_told(here, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WorkerDied, match="file") as caught:
        Worker(here, cache=tmp_path / "file")
    assert "gave up" in caught.value.what


# Death and hanging


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_death_between_calls_is_told_by_the_next_one(worker, number):
    os.kill(worker.pid, number)
    with pytest.raises(WorkerDied, match=number.name) as caught:
        worker.call("describe")
    assert not isinstance(caught.value, WorkerHung)
    assert not worker.alive
    assert _gone(worker.pid)


@pytest.mark.parametrize(
    ("misdeed", "told"),
    [
        ("os.write(1, b'native noise\\n'); ctypes.string_at(0)", "SIGSEGV"),
        ("os.write(2, b'native noise\\n'); os.abort()", "SIGABRT"),
        ("print('native noise', flush=True); os._exit(7)", "exit code 7"),
        ("print('native noise', flush=True); os._exit(0)", "exit code 0"),
        ("print('native noise', flush=True); os.kill(os.getpid(), 9); time.sleep(30)", "SIGKILL"),
    ],
)
def test_death_during_a_call_is_noticed_with_its_cause_and_last_words(bad_library, misdeed, told):
    with Worker(bad_library(misdeed), deadline_s=30) as worker:
        with pytest.raises(WorkerDied, match=told) as caught:
            worker.describe()
        assert not isinstance(caught.value, WorkerHung)
        assert "native noise" in caught.value.detail
        assert "describe" in caught.value.where
        assert str(worker.log) in caught.value.todo
        assert _gone(worker.pid)


def test_what_python_was_doing_is_in_the_log_of_a_crash(bad_library):
    with Worker(bad_library("ctypes.string_at(0)")) as worker:
        with pytest.raises(WorkerDied):
            worker.describe()
        assert "in get_device" in worker.log.read_text()


@pytest.mark.parametrize(
    "misdeed", ["time.sleep(60)", "print('deep in thought', flush=True); os.kill(os.getpid(), 19)"]
)
def test_a_hang_ends_at_the_deadline(bad_library, misdeed):
    with Worker(bad_library(misdeed), deadline_s=0.5) as worker:
        with pytest.raises(WorkerHung, match=r"0\.5 s"):
            worker.describe()
        assert _gone(worker.pid)


def test_a_worker_that_stops_reading_hangs_the_sender_no_longer_than_the_deadline(worker, conv):
    engine = worker.load(conv)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerHung):
        engine.run({"x": np.zeros((1, 4, 4_000_000), np.float32)}, deadline_s=0.5)
    assert _gone(worker.pid)


def test_after_its_end_calls_are_refused_until_a_restart(worker, conv):
    engine, first = worker.load(conv), worker.pid
    os.kill(first, signal.SIGKILL)
    for call in (lambda: engine.run({"x": X}), lambda: worker.load(conv), worker.describe):
        with pytest.raises(WorkerDied):
            call()
    engine.close()
    worker.restart()
    assert worker.pid != first
    with pytest.raises(WorkerDied, match="load the engine again"):
        engine.run({"x": X})
    assert worker.load(conv).run({"x": X})["y"].shape == (1, 8, 9)


def test_an_interrupted_call_leaves_no_answer_for_the_next_one(bad_library):
    with Worker(bad_library("time.sleep(60)")) as worker:
        main = threading.main_thread().ident
        timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            worker.describe()
        timer.join()
        with pytest.raises(WorkerDied, match="interrupted"):
            worker.describe()
        assert _gone(worker.pid)


def test_the_log_stays_only_when_it_tells_something(here, tmp_path):
    with Worker(here) as well:
        assert well.log.exists()
    assert not well.log.exists()
    with Worker(here) as ill:
        os.kill(ill.pid, signal.SIGSEGV)
        with pytest.raises(WorkerDied):
            ill.call("describe")
    assert ill.log.exists()
    with Workers() as workers:
        unnoticed = workers.get(here)
        first = unnoticed.log
        os.kill(unnoticed.pid, signal.SIGSEGV)
        unnoticed._process.wait()
        workers.get(here)
    assert "Segmentation fault" in first.read_text()
    with Worker(here, log_dir=tmp_path / "logs") as kept:
        pass
    assert kept.log.parent == tmp_path / "logs"
    assert kept.log.exists()


def test_a_pool_tells_the_end_of_what_its_workers_printed_also_of_those_that_died(bad_library, here):
    noisy = bad_library("print('\\n'.join(f'line {n}' for n in range(150)), flush=True); os._exit(7)")
    with Workers() as workers:
        workers.get(here)
        for _ in range(2):
            with pytest.raises(WorkerDied):
                workers.get(noisy).describe()
        (name, said), *others = workers.tails().items()
    assert (name, others) == (noisy.name, []), "one that printed nothing is left out"
    assert said.splitlines() == [f"line {n}" for n in range(50, 150)]


def test_the_end_of_a_huge_log_is_read_without_the_rest(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 1_000_000 + "\nlast but one\nlast\n")
    assert log_tail(log, 2) == "last but one\nlast"
    assert len(log_tail(log)) <= 64 << 10
    assert log_tail(tmp_path / "none") == ""


# What travels


def test_a_worker_with_a_cache_of_its_own_is_sent_the_files(here, conv, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "_CHUNK_BYTES", 100)
    other = tmp_path / "elsewhere"
    with Worker(here, cache=other) as worker:
        digest = worker.put(conv)
        assert (other / "blobs" / digest).read_bytes() == conv.read_bytes()
        assert worker.load(conv).run({"x": X})["y"].shape == (1, 8, 9)
        empty = tmp_path / "empty.onnx"
        empty.touch()
        with pytest.raises(BuildFailed, match=r"empty\.onnx"):
            worker.load(empty)


def test_a_model_changed_after_it_was_put_is_another_model(worker, conv, tmp_path, save):
    first = worker.put(conv)
    save(conv, [helper.make_node("Neg", ["x"], ["y"])], {"x": (np.float32, ["L"])}, {"y": (np.float32, ["L"])})
    assert worker.put(conv) != first
    assert worker.load(conv).run({"x": X[0, 0]})["y"].tolist() == (-X[0, 0]).tolist()
    assert store.file_digest(store.blob(first)) == first


def test_a_damaged_code_tree_is_mended(here, cache):
    with Worker(here):
        pass
    digest, files = store.code_tree()
    tree = cache / "code" / digest / "harness_runtimes"
    assert {path.name for path in tree.glob("*.py")} == set(files)
    (tree / "serve.py").write_text("raise SystemExit('damaged')")
    (tree / "wire.py").unlink()
    with Worker(here) as worker:
        assert worker.describe()["library"] == "onnxruntime"
    assert {path.name: path.read_bytes() for path in tree.glob("*.py")} == files


def test_nothing_of_the_coordinators_is_on_the_workers_path(here, tmp_path, monkeypatch):
    for name in ("numpy", "queue", "json", "onnxruntime", "harness_runtimes"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the coordinator')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Worker(here) as worker:
        assert worker.describe()["version"] == here.version


# Several


def test_one_worker_an_environment_and_a_new_one_for_a_dead_one(here, conv):
    with Workers() as workers:
        first = workers.get(here)
        assert workers.get(here) is first
        pid = first.pid
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(WorkerDied):
            first.load(conv)
        second = workers.get(here)
        assert second.alive
        assert second.pid != pid
        assert second.load(conv).run({"x": X})["y"].shape == (1, 8, 9)
    assert _gone(second.pid)


def test_a_worker_killed_between_cases_is_replaced_unseen(here):
    with Workers() as workers:
        first = workers.get(here)
        os.kill(first.pid, signal.SIGKILL)
        first._process.wait()
        assert workers.get(here).describe()["library"] == "onnxruntime"


def test_a_worker_is_pinned_and_one_that_is_gone_says_so(here):
    core = min(os.sched_getaffinity(0))
    with Worker(here) as one:
        one.pin(core)
        assert os.sched_getaffinity(one.pid) == {core}
    with pytest.raises(WorkerDied, match="gone before it was pinned"):
        one.pin(core)
