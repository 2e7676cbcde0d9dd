"""No worker outlives its coordinator, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COORDINATOR = """
import os, signal, sys, time
from harness.workers import Environment, Worker
with Worker(Environment("onnxruntime-here-cpu", sys.executable, "onnxruntime", "here"), deadline_s=60) as worker:
    {before}
    print(worker.pid, flush=True)
    {meanwhile}
"""
STOPPED = "os.kill(worker.pid, signal.SIGSTOP)"


@pytest.fixture
def start(pytestconfig, tmp_path):
    started = []

    def run(meanwhile: str, before: str = "pass") -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", COORDINATOR.format(before=before, meanwhile=meanwhile)],
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "stderr").open("w"),
            text=True,
            cwd=pytestconfig.rootpath,
            env={**os.environ, "PYTHONPATH": str(pytestconfig.rootpath)},
            start_new_session=True,
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def _ends(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended; who adopted it has not looked yet
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("before", ["pass", STOPPED], ids=["idle", "stopped"])
def test_killed(start, before):
    coordinator, pid = start("time.sleep(60)", before)
    coordinator.kill()
    assert _ends(pid)


@pytest.mark.parametrize("meanwhile", ["time.sleep(60)", "worker.call('describe')"], ids=["idle", "in a call"])
def test_ctrl_c_reaches_the_whole_group_and_the_coordinator_decides(start, meanwhile):
    coordinator, pid = start(meanwhile, STOPPED if "call" in meanwhile else "pass")
    time.sleep(0.3)
    os.killpg(coordinator.pid, signal.SIGINT)
    assert coordinator.wait(20) in {1, -signal.SIGINT}
    assert _ends(pid)


def test_ctrl_c_alone_does_not_end_a_worker(start):
    coordinator, pid = start("time.sleep(0.5); print(worker.describe()['library'], flush=True)")
    os.kill(pid, signal.SIGINT)
    assert coordinator.stdout.readline().strip() == "onnxruntime"
    assert coordinator.wait(20) == 0
    assert _ends(pid)


@pytest.mark.parametrize("end", ["sys.exit(3)", "os._exit(3)", "worker.__exit__ = None; raise SystemExit(3)"])
def test_ended_by_itself(start, end):
    coordinator, pid = start(end)
    assert coordinator.wait(20) == 3
    assert _ends(pid)
