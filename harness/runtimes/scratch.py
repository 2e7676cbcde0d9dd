"""A folder for half-made files that goes with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["Scratch", "sweep"]

_PREFIX, _LOCK = "worker.", ".lock"


class Scratch:
    """A folder of this process alone, in ``<cache>/scratch``; made when it is first asked for.

    A process that is killed cannot remove it. So each holds a lock, which the kernel takes back with the process
    (flock(2)), and whoever makes a folder removes those first whose lock nobody holds.
    """

    def __init__(self, cache: str) -> None:
        self._cache, self._parent = cache, _parent(cache)
        self._folder: Path | None = None
        self._lock = -1

    def folder(self) -> Path:
        """The folder.

        :raises OSError: it cannot be made.
        """
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            sweep(self._cache)
            self._folder = self._claimed()
        return self._folder

    def close(self) -> None:
        """Remove it, if there is one."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            _lock_of(self._folder).unlink(missing_ok=True)
            os.close(self._lock)
            self._folder = None

    def _claimed(self) -> Path:
        while True:
            self._lock, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=self._parent)
            with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps there, either
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.fstat(self._lock).st_nlink:  # else somebody swept it before it was locked
                folder = Path(name.removesuffix(_LOCK))
                folder.mkdir()
                return folder
            os.close(self._lock)


def sweep(cache: str) -> None:
    """Remove the folders of processes that are gone."""
    for lock in _parent(cache).glob(f"{_PREFIX}*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:  # swept by another, or another user's
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its owner lives
            continue
        else:
            shutil.rmtree(str(lock).removesuffix(_LOCK), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _parent(cache: str) -> Path:
    return Path(cache, "scratch")


def _lock_of(folder: Path) -> Path:
    return Path(str(folder) + _LOCK)
