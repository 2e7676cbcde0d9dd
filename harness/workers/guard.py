"""What ssh starts on another host: it starts the worker, and ends it when the connection is gone.

A worker that is busy in a native library cannot notice that, and sshd leaves it running. This program is sent as text
on ssh's command line and runs in the environment's own interpreter.

CPython 3.10 syntax, standard library only.
"""

import base64
import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from typing import NoReturn

BEAT_S = 30.0
"""A newline goes to the coordinator's log so often. A network that was cut says nothing; data that nobody acknowledges
make the kernel give the connection up, on Linux after some 15 minutes."""


PATIENCE_S = 5.0
"""So long a worker may take to end after its input did. When a coordinator is killed its ssh stays, and only passes on
that there will be no more input."""


def watched(command: list[str], variables: dict[str, str], beat_s: float) -> int:
    """Run the command on this process's own standard streams until it ends, or until the other ends of them are gone.

    The command leads a process group of its own, all of which ends with it.

    :returns: its exit code; 128 and the signal's number for one that a signal ended, as shells have it.
    """
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    environ = {**os.environ, **variables, "HARNESS_GUARD": str(os.getpid())}
    child = subprocess.Popen(command, env=environ, start_new_session=True)
    # No events asked for: errors and a peer that is gone are told all the same (poll(2)).
    poller = select.poll()
    poller.register(1, 0)
    poller.register(0, getattr(select, "POLLRDHUP", 0))
    poller.register(woken, select.POLLIN)
    due, until = time.monotonic() + beat_s, math.inf
    while child.poll() is None:
        told = dict(poller.poll(max(0.0, min(due, until) - time.monotonic()) * 1000))
        if 0 in told:
            poller.unregister(0)
            until = time.monotonic() + PATIENCE_S
        gone = 1 in told or time.monotonic() >= until
        if woken in told and set(os.read(woken, 512)) & {signal.SIGTERM, signal.SIGHUP}:
            gone = True
        if not gone and time.monotonic() >= due:
            due = time.monotonic() + beat_s
            try:
                os.write(2, b"\n")
            except OSError:
                gone = True
        if gone:
            _kill_group(child.pid)
            child.wait()
    _kill_group(child.pid)  # what it started and left behind
    return 128 - child.returncode if child.returncode < 0 else child.returncode


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def main(order: str) -> NoReturn:
    """Carry an order out and end with the worker's exit code.

    :param order: JSON in URL-safe base64, which every shell leaves alone: ``arguments`` of the interpreter,
        ``variables`` of its environment, ``beat_s``.
    """
    told = json.loads(base64.urlsafe_b64decode(order))
    os._exit(watched([sys.executable, *told["arguments"]], told["variables"], told["beat_s"]))


if __name__ == "__main__":
    main(sys.argv[1])
