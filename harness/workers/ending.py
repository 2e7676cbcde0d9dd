"""How a worker's process ended, in words, and what to do about it."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

from harness.errors import HostLost, WorkerDied
from harness.spec.hosts import read_host

if TYPE_CHECKING:
    from pathlib import Path

    from harness.workers.environments import Environment

__all__ = ["LOST", "died", "how", "log_tail", "of_ssh", "what_to_do"]

LOST = 255
"""What ssh ends with when the connection did: its own failures, and a server that is gone (ssh(1))."""

_LOG_TAIL_LINES = 20
_LOG_TAIL_BYTES = 64 << 10
_NOISE = re.compile(
    r'  File "(<string>|.*/harness_runtimes/(serve|base)\.py|.*/workers/bootstrap\.py)"|Extension modules: |$'
)
"""Lines of a crash that would push out what the library said before it: frames of execnet and of the loop around it."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})


def how(code: int | None) -> str:
    """``signal SIGSEGV`` or ``exit code 7``, of a process's return code."""
    if code is not None and code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def died(environment: Environment, where: str, code: int | None, log: Path) -> WorkerDied:
    """What to say of a worker that ended by itself, or whose host went away.

    :param code: its process's return code; on another host, ssh's.
    """
    tail = log_tail(log)
    if environment.host and code == LOST:
        host = read_host(environment.host)
        last = tail.splitlines()[-1] if tail else "ssh ended without a word"
        return HostLost(
            f"the connection to {host.label} was lost: {last}",
            where=where,
            todo=f"see whether it is there: {host} true; the worker there ends by itself; the log is {log}",
            detail=tail,
        )
    if environment.host:
        code = of_ssh(code)
    return WorkerDied(f"the worker ended with {how(code)}", where=where, todo=what_to_do(code, log), detail=tail)


def of_ssh(code: int | None) -> int | None:
    """The return code of a process on another host, of ssh's: a guard there tells signals as 128 and their number."""
    last = max(signal.Signals)
    return 128 - code if code is not None and 128 < code <= 128 + last else code


def what_to_do(code: int | None, log: Path) -> str:
    """What a return code lets one suspect, and where to look."""
    number = -code if code is not None and code < 0 else 0
    if number == signal.SIGKILL:
        return f"if nobody killed it, the system ran out of memory: see dmesg, and {log}"
    if number in _CRASHES:
        return f"the library crashed, not the harness; what it said last is in {log}"
    return f"see {log}"


def log_tail(log: Path, lines: int = _LOG_TAIL_LINES) -> str:
    """The last lines of a worker's log that tell something; empty if it cannot be read.

    :param lines: at the most, out of the last 64 kB: a library may have written gigabytes.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            found = file.read(_LOG_TAIL_BYTES).decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in found if not _NOISE.match(line)][-lines:])
