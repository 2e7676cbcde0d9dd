"""The file of a run: records are only ever added, a line each, each on the disk before the next."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import ResultsError, UsageError
from harness.results.record import Record, decode, encode, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

__all__ = ["BadLine", "Reading", "Run", "Store", "is_written", "new_run_id", "read_run"]

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHOWN = 60


def new_run_id() -> str:
    """``20261123T002159Z-5f3a9c``: sorts by time, differs between runs of one second."""
    return f"{now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Store:
    """A folder of runs."""

    folder: Path

    def open_run(self, run_id: str | None = None) -> Run:
        """A run to add records to; a new one without ``run_id``, else that one, begun or not.

        It is the only one that may: whoever opens the same run meanwhile, here or in another process, is refused.

        :raises ResultsError: the folder or the file cannot be made, or somebody is writing this run.
        :raises UsageError: an id that is no file name.
        """
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id", todo="use letters, digits, ., _ and -")
        run_id = run_id or new_run_id()
        path = self.folder / f"{run_id}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _cannot_write(error, path) from error
        try:
            _lock(file, path)
            _keep_name(file, self.folder)
        except BaseException:
            os.close(file)
            raise
        return Run(run_id, path, file)

    def runs(self) -> list[Path]:
        """The runs' files, oldest first."""
        return sorted(self.folder.glob("*.jsonl"))


class Run:
    """One run's file, open and locked until :meth:`close`, the end of the process, or until nobody refers to it.

    A crash loses at most the record that is being written, and leaves no lock behind.
    """

    def __init__(self, run_id: str, path: Path, file: int) -> None:
        self.id, self.path, self._file = run_id, path, file
        self._one_at_a_time = threading.Lock()
        self._give_up = weakref.finalize(self, os.close, file)

    def close(self) -> None:
        """End writing: the run gets its index (:mod:`harness.results.index`), then the lock is given up.

        Twice does no harm. A run that is not closed has no index, and questions take longer; nothing else. The file of
        a run without records is removed: what was refused before anything ran is no run.
        """
        from harness.results.index import write_index  # brings DuckDB, which writing records does not need

        with self._one_at_a_time:
            if self._give_up.alive:
                if os.fstat(self._file).st_size:
                    write_index(self.path)
                else:
                    self.path.unlink(missing_ok=True)
                self._give_up()

    def append(self, one: Mapping[str, Any]) -> None:
        """Add a record and wait until it is on the disk. Threads may share a run.

        A line that a crash left unfinished is ended first. When the disk is full, what was written of this record
        is taken back, so that the file holds whole records only.

        :raises ResultsError: it cannot be written, or holds something that has no JSON form, or the run was closed.
        """
        line = encode(one)
        with self._one_at_a_time:
            if not self._give_up.alive:
                raise ResultsError("this run is closed", where=str(self.path), todo="open it again with Store.open_run")
            if os.fstat(self._file).st_nlink == 0:
                raise ResultsError(
                    "this run's file was removed while it was written",
                    where=str(self.path),
                    todo="run again; the records so far are lost",
                )
            try:
                _write_whole(self._file, line)
            except OSError as error:
                raise _cannot_write(error, self.path) from error


def is_written(path: Path) -> bool:
    """Whether somebody has this run open for writing now. False where it cannot be asked."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lock(file: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return  # a device's lock would be one for the whole machine
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ResultsError(
            "this run is being written by somebody else",
            where=str(path),
            todo="a run has one writer: wait until it ends, or begin a run of its own (Store.open_run without an id)",
        ) from error
    except OSError as error:
        raise _cannot_write(error, path) from error


def _keep_name(file: int, folder: Path) -> None:
    """Of a new run: its records survive a power cut only if the folder knows its name by then."""
    if os.fstat(file).st_size:
        return
    with contextlib.suppress(OSError):  # some network file systems have no such thing
        names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(names)
        finally:
            os.close(names)


def _write_whole(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        left = memoryview(line)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError:
        if size < os.fstat(file).st_size:
            os.ftruncate(file, size)
        raise


def _cannot_write(error: OSError, path: Path) -> ResultsError:
    if error.errno in _FULL:
        return ResultsError(
            "the disk is full; the records so far are intact",
            where=str(path),
            todo="make room, or write elsewhere (--results DIR, or results = ... in the configuration), and run again",
        )
    return ResultsError(
        f"cannot be written: {error.strerror}",
        where=str(path),
        todo="check its permissions, or write elsewhere (--results DIR, or results = ... in the configuration)",
    )


@dataclass(frozen=True)
class BadLine:
    """A line that is no record.

    :param number: counted from 1.
    """

    number: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}: {self.text!r}"


@dataclass
class Reading:
    """The records of one file, read as they are asked for; after that, ``bad`` holds the lines that are none."""

    path: Path
    bad: list[BadLine] = field(default_factory=list)

    def __iter__(self) -> Iterator[Record]:
        return (one for _, one in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Record]]:
        """The same, each with the number of its line, from 1."""
        self.bad.clear()
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        one = decode(line)
                    except (ValueError, RecursionError) as error:
                        reason = str(error) if line.endswith(b"\n") else "unfinished"
                        self.bad.append(BadLine(number, reason, line[:_SHOWN].decode(errors="replace").strip()))
                        continue
                    yield number, one
        except OSError as error:
            raise ResultsError(
                f"cannot be read: {error.strerror}", where=str(self.path), todo="name a run's .jsonl file"
            ) from error


def read_run(path: Path) -> Reading:
    """The records of a run's file, one at a time; iterating raises ResultsError where there is no such file."""
    return Reading(path)
