"""The guard by itself: what ssh would connect it to are pipes and sockets here."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.workers import bootstrap, ending, guard

STUBBORN = "import ctypes; print('on', flush=True); ctypes.PyDLL(None).sleep(300)"


@pytest.fixture
def guarded():
    started = []

    def start(program, beat_s=30.0, *, ends=None, **variables):
        told = {"arguments": ["-I", "-c", program], "variables": variables, "beat_s": beat_s}
        order = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        given, taken = ends or (subprocess.PIPE, subprocess.PIPE)
        started.append(
            subprocess.Popen(
                [sys.executable, "-I", guard.__file__, order], stdin=given, stdout=taken, stderr=subprocess.PIPE
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream and not stream.closed:
                stream.close()


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("pass", 0, "exit code 0"),
        ("raise SystemExit(7)", 7, "exit code 7"),
        ("import os; os.abort()", 134, "signal SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", 137, "signal SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", 139, "signal SIGSEGV"),
    ],
)
def test_how_the_worker_ended_comes_back_as_a_shell_would_tell_it(guarded, program, code, told):
    assert guarded(program).wait(10) == code
    assert ending.how(ending.of_ssh(code)) == told


def test_streams_are_the_workers_own_and_variables_are_set(guarded):
    program = "import os, sys; print(sys.stdin.readline() + os.environ['SAID'] + os.environ['HARNESS_GUARD'])"
    process = guarded(program, SAID="so ")
    out, _ = process.communicate(b"in\n", timeout=10)
    assert out.decode().split() == ["in", "so", str(process.pid)]


def child(process):
    assert process.stdout.readline() == b"on\n"
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def gone(pid):
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


def test_a_reader_that_is_gone_ends_it_while_it_computes(guarded):
    process = guarded(STUBBORN)
    pid = child(process)
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGKILL
    assert gone(pid)


def test_a_socket_whose_other_end_is_gone_ends_it(guarded):
    """As sshd has it: one socket for both directions."""
    near, far = socket.socketpair()
    process = guarded("import time; time.sleep(300)", ends=(far, far))
    far.close()
    time.sleep(0.3)
    assert process.poll() is None
    near.close()
    assert process.wait(10) == 128 + signal.SIGKILL


def test_the_end_of_its_input_ends_it_after_a_while(guarded):
    near, far = socket.socketpair()
    process = guarded("import time; time.sleep(300)", ends=(far, far))
    far.close()
    began = time.monotonic()
    near.shutdown(socket.SHUT_WR)
    assert process.wait(30) == 128 + signal.SIGKILL
    assert time.monotonic() - began >= guard.PATIENCE_S
    near.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_guard_that_is_told_to_end_takes_its_worker_along(guarded, number):
    process = guarded(STUBBORN)
    pid = child(process)
    os.kill(process.pid, number)
    assert process.wait(10) == 128 + signal.SIGKILL
    assert gone(pid)


def test_what_the_worker_started_ends_with_it(guarded):
    program = (
        "import subprocess, sys\n"
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "print(left.pid, flush=True)"
    )
    process = guarded(program)
    pid = int(process.stdout.readline())
    assert process.wait(10) == 0
    assert gone(pid)


def test_it_beats(guarded):
    process = guarded("import time; time.sleep(300)", beat_s=0.05)
    assert [process.stderr.read(1) for _ in range(3)] == [b"\n"] * 3
    process.stderr.close()  # a connection that was given up is found by the next one
    assert process.wait(10) == 128 + signal.SIGKILL


def test_a_worker_waits_for_the_one_before_it():
    before = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    reaper = threading.Thread(target=before.wait)
    reaper.start()
    bootstrap.wait_for(before.pid)
    assert not Path(f"/proc/{before.pid}").exists()
    reaper.join()
    bootstrap.wait_for(0)
    bootstrap.wait_for(os.getpid(), 0.1)  # not for ever: its id may have become another's
