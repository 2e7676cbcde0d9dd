"""Workers on another host: this machine, by a real sshd on 127.0.0.1 with a cache, a core and a name of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from harness.errors import (
    EnvironmentMissing,
    HarnessError,
    HostLost,
    HostUnreachable,
    WorkerDied,
    WorkerError,
    WorkerHung,
)
from harness.measure.arms import Arm, Design, Input, Question
from harness.measure.session import run_session
from harness.spec.config import EnvironmentConfig
from harness.stats.verdict import Margins
from harness.workers import Environment, Worker, Workers
from harness.workers.environments import configured
from harness.workers.places import elsewhere
from tests.fake_tensorrt import interpreter, models

X = np.random.default_rng(0).normal(size=(1, 4, 9)).astype(np.float32)
BUILD = {"profiles": [{"x": [[1, 4, 4], [1, 4, 16], [1, 4, 64]]}]}
HOLDS_THE_LOCK = "print('deep in native code', flush=True); ctypes.PyDLL(None).sleep(300)"
"""A library call that never lets another thread of Python run: nothing in that process can notice a lost connection."""


@pytest.fixture
def there(sshd):
    version = onnxruntime.__version__
    name = f"onnxruntime-{version}-cpu@{sshd.label}"
    return Environment(name, sys.executable, "onnxruntime", version, host=sshd.host)


@pytest.fixture
def far(there):
    with Worker(there, deadline_s=30) as running:
        yield running


@pytest.fixture
def bad(bad_library, sshd):
    """As ``bad_library``, on the host."""

    def make(misdeed):
        return Environment("onnxruntime-0.0-cpu@far", bad_library(misdeed).python, "onnxruntime", "0.0", host=sshd.host)

    return make


def entry(sshd, python=sys.executable, host=None):
    return EnvironmentConfig("gpu", str(python), host or sshd.host)


def ends(pid, seconds=10.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# Finding and starting


def test_what_a_host_has_is_found_under_a_name_of_its_own(sshd):
    (found,) = configured(entry(sshd))
    assert found.name == f"onnxruntime-{onnxruntime.__version__}-cpu@127.0.0.1-{sshd.port}"
    assert (found.python, found.host, found.can_run) == (sys.executable, sshd.host, True)


def test_a_worker_there_is_that_hosts_and_has_its_cache(far, sshd, cache):
    assert far.host == sshd.hostname
    assert far.describe()["cpus"] == 1
    assert far.cores() == [sshd.core]
    machine = far.machine()
    assert (machine["host"], machine["cores_usable"]) == (sshd.hostname, 1)
    assert machine["memory_bytes"] > 0
    assert len(machine["load"]) == 3
    assert list(sshd.home.glob("trt-int8-harness/code/*/harness_runtimes/serve.py"))
    assert not (cache / "code").exists()
    # What it prints goes over the connection, not to a file of that host that happens to be called the same.
    assert Path(f"/proc/{far.pid}/fd/2").readlink() != far.log


def test_an_onnx_file_is_built_and_run_there_as_here(far, here, conv, sshd):
    facts, artefact = far.build(conv)
    with far.load(artefact) as engine, Worker(here) as near:
        np.testing.assert_array_equal(engine.run({"x": X})["y"], near.load(conv).run({"x": X})["y"])
    assert facts["artefact"] in {path.name for path in sshd.home.glob("trt-int8-harness/blobs/*")}


def test_an_engine_is_built_there_from_files_that_are_here_and_comes_back(sshd, tmp_path, cache):
    python = interpreter("8.5.3.1", tmp_path / "trt")
    (found,) = [one for one in configured(entry(sshd, python)) if one.runtime == "tensorrt"]
    assert found.name == f"tensorrt-8.5.3.1@{sshd.label}"
    source, batches = tmp_path / "conv.onnx", tmp_path / "batches.npz"
    source.write_bytes(models.conv())
    sample = np.random.default_rng(1).uniform(-1, 1, (1, 4, 16)).astype(np.float32)
    np.savez(batches, **{"0:x": sample})
    quantized = {**BUILD, "flags": ["INT8"], "algorithm": "MinMaxCalibration"}
    with Worker(found, deadline_s=60) as one:
        facts, engine = one.build(source, quantized, files={"batches": batches})
        assert facts["cached"] is False
        outputs = one.load(engine).run({"x": sample})
    assert engine.parent == cache / "blobs"
    stored = {path.name for path in sshd.home.glob("trt-int8-harness/blobs/*")}
    assert engine.name in stored
    with Workers(deadline_s=60) as workers:
        again, same = workers.build(found, source, quantized, files={"batches": batches})
        assert (again["cached"], same) == (True, engine)
        (sshd.home / "trt-int8-harness" / "blobs" / engine.name).unlink()  # a host that has not seen it is sent it
        second = workers.get(found).load(same).run({"x": sample})
    assert {name: value.tobytes() for name, value in second.items()} == {n: v.tobytes() for n, v in outputs.items()}


def test_only_what_the_host_lacks_is_sent(there, tmp_path, monkeypatch, cache):
    sent = []
    call = Worker.call

    def counted(self, method, *arguments, **options):
        if method == "receive":
            sent.append(len(arguments[1]))
        return call(self, method, *arguments, **options)

    monkeypatch.setattr(Worker, "call", counted)
    large = tmp_path / "weights.bin"
    large.write_bytes(np.random.default_rng(2).bytes(21 << 20))
    with Worker(there) as first:
        digest = first.put(large)
        assert sent == [4 << 20] * 5 + [1 << 20]
        assert not list(cache.glob("blobs/*"))  # nothing here needs a copy of it
        sent.clear()
        assert first.put(large) == digest
    with Worker(there) as second:
        second.put(large)
        assert sent == []
        stored = second._cache / "blobs" / digest
        assert stored.read_bytes() == large.read_bytes()
        stored.write_bytes(stored.read_bytes()[:-1])  # a disk there was full
        second.put(large)
        assert sum(sent) == 21 << 20
        sent.clear()
        with large.open("ab") as file:
            file.write(b"more")
        second.put(large)
        assert sum(sent) == (21 << 20) + 4
    assert stored.read_bytes() != large.read_bytes()


def test_variables_of_the_host_are_there_before_the_interpreter(sshd, bad_library):
    bad = bad_library("raise RuntimeError(repr({k: v for k, v in os.environ.items() if k.startswith('CUDA_')}))")
    host = sshd.spec(behind="//env:CUDA_VISIBLE_DEVICES=1,3")
    one = Worker(Environment("o@far", bad.python, "onnxruntime", "0.0", host=host))
    with one, pytest.raises(HarnessError, match=r"\{'CUDA_VISIBLE_DEVICES': '1,3'\}"):
        one.describe()


# What cannot be reached


def test_a_port_where_nobody_listens_is_told_as_ssh_says_it(sshd, there):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = sshd.spec(port=port)
    with pytest.raises(EnvironmentMissing, match=r"cannot be reached: .*Connection refused") as caught:
        configured(entry(sshd, host=host))
    assert "[environments] gpu" in caught.value.where
    assert f"-p {port}" in caught.value.todo
    with pytest.raises(HostUnreachable, match=r"cannot be reached: .*Connection refused") as caught:
        Worker(Environment(there.name, there.python, "onnxruntime", "0", host=host))
    assert there.name in caught.value.where
    found, missing = elsewhere([entry(sshd), EnvironmentConfig("off", sys.executable, host)])
    assert [one.host for one in found] == [sshd.host]
    assert "Connection refused" in missing["off"].what


def test_a_key_that_is_not_known_there_is_refused_without_a_question(sshd, there):
    host = sshd.spec(key="other")
    with pytest.raises(EnvironmentMissing, match=r"cannot be reached: .*Permission denied") as caught:
        configured(entry(sshd, host=host))
    assert "without a question" in caught.value.todo
    with pytest.raises(EnvironmentMissing, match=r"cannot be reached: .*Permission denied"):
        Worker(Environment(there.name, there.python, "onnxruntime", "0", host=host))


def test_a_host_that_nobody_has_vouched_for_is_refused(sshd):
    (sshd.folder / "nobody").touch()
    host = sshd.host.replace(f"{sshd.folder}/known", f"{sshd.folder}/nobody")
    with pytest.raises(EnvironmentMissing, match="cannot be reached: Host key verification failed"):
        configured(entry(sshd, host=host))


@pytest.mark.parametrize("start", [lambda one, _: configured(one), lambda one, name: Worker(
    Environment(name, one.python, "onnxruntime", "0", host=one.host))], ids=["probe", "worker"])  # fmt: skip
@pytest.mark.parametrize(
    ("program", "told"),
    [
        (None, "no such interpreter there: .*no/python"),
        ("#!/bin/sh\necho so that is why >&2\nexit 3\n", "does not start there: so that is why"),
        ("#!/bin/sh\nexec sleep 300\n", "no answer within 1 s"),
    ],
)
def test_an_interpreter_that_is_none(sshd, tmp_path, monkeypatch, start, program, told):
    if program and "sleep" in program:
        monkeypatch.setattr("harness.workers.worker._START_DEADLINE_S", 1)
        monkeypatch.setattr("harness.workers.environments._PROBE_DEADLINE_S", 1)
    python = tmp_path / "no" / "python"
    if program:
        python.parent.mkdir()
        python.write_text(program)
        python.chmod(0o755)
    with pytest.raises(EnvironmentMissing, match=told) as caught:
        start(entry(sshd, python), "onnxruntime-0-cpu@far")
    assert not isinstance(caught.value, HostUnreachable), "the host is there"


def test_a_shell_that_greets_is_told(sshd, tmp_path, there):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho Welcome\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.raises(EnvironmentMissing, match="does a start-up file of the shell there print something"):
        Worker(Environment(there.name, str(python), "onnxruntime", "0", host=sshd.host))
    (found,) = configured(entry(sshd, python))  # the question what there is survives it
    assert found.runtime == "onnxruntime"


def test_an_interpreter_without_a_runtime(sshd, tmp_path):
    venv.create(tmp_path / "empty", symlinks=True)
    with pytest.raises(EnvironmentMissing, match="no runtime can be imported there") as caught:
        configured(entry(sshd, tmp_path / "empty" / "bin" / "python"))
    assert caught.value.todo == "install one there"


# Death and hanging


def test_a_deadline_ends_the_process_there(bad, sshd):
    with Worker(bad(HOLDS_THE_LOCK), deadline_s=1.5) as worker:
        pid = worker.pid
        assert Path(f"/proc/{pid}").exists()
        with pytest.raises(WorkerHung, match=r"no answer within 1\.5 s") as caught:
            worker.describe()
        assert "deep in native code" in caught.value.detail
        assert ends(pid)
        worker.restart()
        assert not Path(f"/proc/{pid}").exists()
        assert worker.alive
    assert ends(worker.pid)
    until = time.monotonic() + 10
    while (left := sshd.descendants()) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def test_a_worker_that_stops_reading_is_ended_too(far, conv):
    engine = far.load(conv)
    os.kill(far.pid, signal.SIGSTOP)
    with pytest.raises(WorkerHung):
        engine.run({"x": np.zeros((1, 4, 4_000_000), np.float32)}, deadline_s=0.5)
    assert ends(far.pid)


@pytest.mark.parametrize(
    ("misdeed", "told"),
    [
        ("os.write(1, b'native noise\\n'); ctypes.string_at(0)", "signal SIGSEGV"),
        ("print('native noise', flush=True); os._exit(7)", "exit code 7"),
        ("print('native noise', flush=True); os.kill(os.getpid(), 9); time.sleep(30)", "signal SIGKILL"),
    ],
)
def test_a_crash_there_comes_with_its_cause_and_last_words(bad, misdeed, told):
    with Worker(bad(misdeed), deadline_s=30) as worker:
        with pytest.raises(WorkerDied, match=told) as caught:
            worker.describe()
        assert not isinstance(caught.value, WorkerHung)
        assert "native noise" in caught.value.detail
        assert str(worker.log) in caught.value.todo


@pytest.mark.parametrize("how", ["the server's end", "this end"])
def test_a_connection_that_is_lost_in_a_call(bad, sshd, how):
    """In native code, which notices nothing: the process there must end all the same."""
    with Worker(bad(HOLDS_THE_LOCK), deadline_s=60) as worker:
        cut = sshd.cut if how == "the server's end" else worker._process.kill
        timer = threading.Timer(1.0, cut)
        timer.start()
        began = time.monotonic()
        with pytest.raises(WorkerDied) as caught:
            worker.describe()
        timer.join()
        assert time.monotonic() - began < 30
        assert not isinstance(caught.value, WorkerHung)
        if how == "the server's end":
            assert caught.value.what.startswith(f"the connection to {sshd.label} was lost: ")
            assert "closed" in caught.value.what.lower() or "reset" in caught.value.what.lower()
            assert "describe" in caught.value.where
        assert ends(worker.pid)


def test_a_guard_that_is_killed_takes_its_worker_along(bad):
    with Worker(bad(HOLDS_THE_LOCK), deadline_s=60) as worker:
        parent = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
        timer = threading.Timer(1.0, os.kill, (parent, signal.SIGKILL))
        timer.start()
        with pytest.raises(WorkerDied):
            worker.describe()
        timer.join()
        assert ends(worker.pid)


def test_after_a_lost_connection_the_next_call_has_a_new_worker(there, sshd, conv):
    with Workers(deadline_s=30) as workers:
        first = workers.get(there)
        engine, pid = first.load(conv), first.pid
        assert sshd.cut() >= 1
        with pytest.raises(HostLost, match=r"the connection to .* was lost"):
            engine.run({"x": X})
        with pytest.raises(WorkerDied, match="load the engine again"):
            workers.get(there).load(conv) and engine.run({"x": X})
        assert workers.get(there).pid != pid
        assert workers.get(there).load(conv).run({"x": X})["y"].shape == (1, 8, 9)
        assert ends(pid)


def test_a_host_that_goes_away_is_missing_until_it_is_back(there, sshd, conv):
    with Workers(deadline_s=30) as workers:
        one = workers.get(there)
        sshd.stop()
        try:
            with pytest.raises(HostLost, match=r"the connection to .* was lost"):
                one.load(conv)
            with pytest.raises(EnvironmentMissing, match="cannot be reached"):
                workers.get(there)
        finally:
            sshd.start()
        assert workers.get(there).load(conv).run({"x": X})["y"].shape == (1, 8, 9)


def test_a_build_whose_host_was_lost_is_tried_again_and_kept_once(sshd, tmp_path, cache):
    python = str(interpreter("8.5.3.1", tmp_path / "trt", build_seconds=3.0))
    environment = Environment(f"tensorrt-8.5.3.1@{sshd.label}", python, "tensorrt", "8.5.3.1", host=sshd.host)
    source = tmp_path / "conv.onnx"
    source.write_bytes(models.conv())
    with Workers(deadline_s=60) as workers:
        workers.get(environment).describe()
        timer = threading.Timer(1.5, sshd.cut)
        timer.start()
        with pytest.raises(HostLost, match=r"the connection to .* was lost"):
            workers.build(environment, source, BUILD)
        timer.join()
        assert not list(cache.glob("engines/*.json"))
        facts, engine = workers.build(environment, source, BUILD)
        assert facts["cached"] is False
        assert workers.build(environment, source, BUILD)[1] == engine
    assert len(list(cache.glob("engines/*.json"))) == 1
    assert not list((sshd.home / "trt-int8-harness" / "scratch").glob("worker.*"))


def test_a_worker_that_ends_well_leaves_nothing(there, sshd):
    with Worker(there) as one:
        assert ends(one.pid, 0.1) is False
    assert ends(one.pid)
    assert not one.log.exists()
    assert not list(one.log.parent.glob("*.pid"))


def test_a_coordinator_that_is_killed_takes_its_workers_along(sshd, pytestconfig, bad, tmp_path):
    environment = bad(HOLDS_THE_LOCK)
    program = (
        "from harness.workers import Environment, Worker\n"
        f"e = Environment('o@far', {environment.python!r}, 'onnxruntime', '0.0', host={sshd.host!r})\n"
        "w = Worker(e, deadline_s=99)\nprint(w.pid, flush=True)\nw.describe()\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(pytestconfig.rootpath)}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ)
    try:
        pid = int(process.stdout.readline())
        time.sleep(1.0)
        assert not ends(pid, 0.1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert ends(pid)


# Measuring


def test_a_session_runs_on_the_host_by_its_own_clock(there, conv, sshd, monkeypatch):
    """Nothing of this machine takes part: its core, its load and its GPUs are not asked for."""

    def fail(*_):
        raise AssertionError("asked of the coordinator")

    monkeypatch.setattr("harness.measure.launch.os.getloadavg", fail)
    monkeypatch.setattr("harness.measure.launch.throttled", fail)
    feed = Input("9", 9, {"x": X})
    question = Question(Arm("baseline", there, conv), Arm("candidate", there, conv), (feed,))
    design = Design(looks=(2,), blocks=4, warm_ms=5, burst_ms=1)
    outcome = run_session(question, design, Margins(), seed=3)
    assert outcome.lost == []
    assert len(outcome.launches) == 2
    for launch in outcome.launches:
        assert launch.core == sshd.core
        assert launch.clock == "cpu_ns"
        assert len(launch.load) == 3
        bursts = [burst for inputs in launch.samples.values() for burst in inputs["9"]]
        values = [value for burst in bursts for value in burst["cpu_ns"]]
        assert len(values) >= 3 * 4 * 3
        assert min(values) > 0


def test_a_pinned_worker_computes_on_that_core(far):
    core = far.cores()[0]
    far.pin(core)
    assert os.sched_getaffinity(far.pid) == {core}
    with pytest.raises(WorkerError, match="Invalid argument"):
        far.pin(4000)
