"""The file of a run: records are only ever added, a line each, each on the disk before the next."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import ResultsError, UsageError
from harness.results.record import Record, decode, encode, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

__all__ = ["BadLine", "Reading", "Run", "Store", "new_run_id", "read_run"]

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

        :raises ResultsError: the folder or the file cannot be made.
        :raises UsageError: an id that is no file name.
        """
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise UsageError(f"{run_id!r} is no run id", todo="use letters, digits, ., _ and -")
        run_id = run_id or new_run_id()
        path = self.folder / f"{run_id}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(_open(path))
        except OSError as error:
            raise _cannot_write(error, path) from error
        return Run(run_id, path)

    def runs(self) -> list[Path]:
        """The runs' files, oldest first."""
        return sorted(self.folder.glob("*.jsonl"))


@dataclass(frozen=True)
class Run:
    """One run's file. Holds nothing open: processes may share it, and a crash loses at most one record."""

    id: str
    path: Path

    def append(self, one: Mapping[str, Any]) -> None:
        """Add a record and wait until it is on the disk.

        A line that a crash left unfinished is ended first. When the disk is full, what was written of this record
        is taken back, so that the file holds whole records only.

        :raises ResultsError: it cannot be written, or holds something that has no JSON form.
        """
        line = encode(one)
        try:
            file = _open(self.path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                _write_whole(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise _cannot_write(error, self.path) from error


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


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
                    yield one
        except OSError as error:
            raise ResultsError(
                f"cannot be read: {error.strerror}", where=str(self.path), todo="name a run's .jsonl file"
            ) from error


def read_run(path: Path) -> Reading:
    """The records of a run's file, one at a time; iterating raises ResultsError where there is no such file."""
    return Reading(path)
