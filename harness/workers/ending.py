"""How a worker's process ended, in words, and what to do about it."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["how", "log_tail", "what_to_do"]

_LOG_TAIL_LINES = 20
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


def what_to_do(code: int | None, log: Path) -> str:
    """What a return code lets one suspect, and where to look."""
    number = -code if code is not None and code < 0 else 0
    if number == signal.SIGKILL:
        return f"if nobody killed it, the system ran out of memory: see dmesg, and {log}"
    if number in _CRASHES:
        return f"the library crashed, not the harness; what it said last is in {log}"
    return f"see {log}"


def log_tail(log: Path) -> str:
    """The last lines of a worker's log that tell something; empty if it cannot be read."""
    try:
        lines = log.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in lines if not _NOISE.match(line)][-_LOG_TAIL_LINES:])
