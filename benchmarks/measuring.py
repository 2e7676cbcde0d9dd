"""Run one piece of work in a fresh process and report how long it took and how much memory it needed at most."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ROOT", "CaseFailed", "Measured", "fresh", "machine"]

ROOT = Path(__file__).resolve().parent.parent
_CLEAR_PEAK = "5"  # proc(5), clear_refs: resets the peak resident set size


class CaseFailed(Exception):
    """The process ended without a result; the message is the end of what it printed."""


@dataclass(frozen=True)
class Measured:
    """One piece of work, done once.

    :param seconds: wall time of the work, or of the part that the work itself reports.
    :param cpu_seconds: processor time of the whole work, all threads; other load on the machine hardly changes it.
    :param peak_mb: peak resident memory during the work above what was resident when it began, in 10**6 bytes.
    :param result: what the work returned.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    result: dict[str, Any]


def fresh(case: str, arguments: Mapping[str, Any], *, timeout_s: float = 600) -> Measured:
    """Measure ``case`` in a new interpreter.

    :param case: ``module:function`` of this folder. The function gets ``arguments`` by name, makes its
        preparations (imports, finding files) and returns the work: a function without arguments that returns a dict
        of plain data. A ``seconds`` in it replaces the measured time.
    :raises CaseFailed: the process failed.
    """
    command = [sys.executable, str(Path(__file__).resolve()), case, json.dumps(dict(arguments))]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode:
        raise CaseFailed(f"{case} {dict(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def machine() -> dict[str, Any]:
    """What a reader needs to know about the machine: processor, cores, versions."""
    import numpy as np
    import onnxruntime

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _resident_mb(field: str) -> float:
    # not getrusage: its ru_maxrss is inherited through fork and exec, so a large parent hides a small child
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no {field} in /proc/self/status")


def _measured(work: Callable[[], dict[str, Any]]) -> Measured:
    Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
    before = _resident_mb("VmRSS")
    start, cpu_start = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = _resident_mb("VmHWM") - before
    return Measured(result.pop("seconds", seconds), cpu_seconds, peak, result)


def _main(case: str, arguments: str) -> None:
    module, _, function = case.partition(":")
    work = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps(vars(_measured(work))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
