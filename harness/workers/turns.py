"""Who may work where while several processes of one run do: nothing else runs on a host while times are taken there.

Locks on files in a folder that the processes share (flock(2)): the end of a process, also a violent one, gives back
what it held.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.workers.places import Place

__all__ = ["Turns"]


class Turns:
    """One process's turns; its own work pauses while it times.

    Work on a host goes on beside other work, and ends before anything is timed there. Timed are one case a GPU at once,
    and on a host's CPU one alone. Whoever comes waits behind who came before. This machine has a part in all that
    runs anywhere, so what is timed here is timed alone.

    :param folder: that the processes of the run share; None for a run of one process, in which nobody waits.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._working: tuple[str, ExitStack] | None = None

    @contextmanager
    def working(self, host: str) -> Iterator[None]:
        """Within, this process builds or checks on a host.

        :param host: its label; empty is this machine.
        """
        self._begin(host)
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def timing(self, place: Place) -> Iterator[None]:
        """Within, this process times in a place, and its work is interrupted: it holds nothing while it waits."""
        host = self._end()
        try:
            with ExitStack() as held:
                if place.host:
                    self._enter(held, "", "timed", "working")
                # Before the host's door: who waits here keeps nobody away from the host's other GPUs.
                self._lock(held, place.host, place.device, fcntl.LOCK_EX)
                self._enter(held, place.host, "working", "timed", alone=place.device == "CPU")
                yield
        finally:
            if host is not None:
                self._begin(host)

    def _begin(self, host: str) -> None:
        held = ExitStack()
        for one in dict.fromkeys(("", host)):  # everybody in this order, so that no two wait for one another
            self._enter(held, one, "timed", "working")
        self._working = (host, held)

    def _end(self) -> str | None:
        if self._working is None:
            return None
        (host, held), self._working = self._working, None
        held.close()
        return host

    def _enter(self, held: ExitStack, host: str, against: str, beside: str, *, alone: bool = False) -> None:
        """Wait until nobody is ``against`` on the host, and be ``beside`` there from then on."""
        with ExitStack() as door:
            self._lock(door, host, "door", fcntl.LOCK_EX)
            self._lock(door, host, against, fcntl.LOCK_EX)
            self._lock(held, host, beside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)

    def _lock(self, held: ExitStack, host: str, what: str, how: int) -> None:
        if self.folder is not None:
            # A GPU may be named by anything that CUDA_VISIBLE_DEVICES takes: MIG-GPU-8932f937/1/0 is no file's name.
            name = hashlib.sha256(f"{host}\0{what}".encode()).hexdigest()
            file = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
            held.callback(os.close, file)
            fcntl.flock(file, how)
