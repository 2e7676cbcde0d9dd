"""Noisy neighbours, made on purpose: two processes that now and then take a core and the memory's bandwidth."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DUTY", "burners"]

DUTY = 0.28
"""Share of the time that each process is busy."""

# Standard library only. A burner leaves when its parent is gone, so that an aborted self-test leaves no noise behind.
_PROGRAM = """
import os, random, sys, time
kind, seed, duty, parent = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
source, target = bytearray(64 << 20), bytearray(64 << 20)
while os.getppid() == parent:
    busy = draw.uniform(0.05, 0.6)
    until = time.monotonic() + busy
    while time.monotonic() < until:
        if kind == "memory":
            target[:] = source
        else:
            sum(i * i for i in range(20_000))
    time.sleep(busy * (1 - duty) / duty * draw.uniform(0.7, 1.3))
"""


@contextmanager
def burners(seed: int) -> Iterator[list[int]]:
    """Run one CPU and one memory-bandwidth burner meanwhile; yields their process ids.

    :param seed: of the lengths of busy spells (50 to 600 ms) and pauses.
    """
    processes = [
        subprocess.Popen([sys.executable, "-I", "-c", _PROGRAM, kind, str(seed + i), str(DUTY), str(os.getpid())])
        for i, kind in enumerate(("cpu", "memory"))
    ]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
