"""The index of a finished run: its records' small columns as one Parquet file, so that questions need not read it all.

A run that ends makes its own (:meth:`harness.results.store.Run.close`), so that folders that nobody compacts are quick
to ask, too. It stands for the run's file only while that has the size and the time that the index's name says: a run
that was killed, goes on, or came by a copy with another time is read itself, and so is one with a line that is no
record, which has to be told. Indexes may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.results import record
from harness.results.lines import FileState
from harness.results.pieces import SMALL, make_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Indexed", "clear_indexes", "indexed", "write_index"]

_FORMAT = 1
_GRACE_S = 3600.0

Indexed = tuple[dict[Path, FileState], tuple[Path, ...]]
"""Indexes, each with the state of its run's file; and the run files that have none."""


def folder_of(results: Path) -> Path:
    """Where indexes are kept. What was written by another format or schema is never looked at."""
    return results / "compacted" / f"index-{_FORMAT}.{record.SCHEMA}"


def write_index(run: Path) -> Path | None:
    """The index of a run that nobody writes any longer; None where there is nothing to index, or it is not to be.

    It only saves time: that it cannot be written is no error.

    :param run: its file. Without an index stay: empty ones, those with a line that is no record, and those with more
        rows than fit one piece.
    """
    place = folder_of(run.parent)
    try:
        if not run.is_file():
            return None
        place.mkdir(parents=True, exist_ok=True)
        pieces, (state,) = make_pieces([run], place, tuple(SMALL))
        target = None
        if len(pieces) == 1 and not state.bad:
            target = place / f"{state.name}.{state.size_bytes}.{state.mtime_ns}.parquet"
            with (place / pieces[0].name).open("rb") as file:
                os.fsync(file.fileno())
            os.replace(place / pieces[0].name, target)
        else:
            for piece in pieces:
                (place / piece.name).unlink(missing_ok=True)
    except (OSError, ResultsError):
        return None
    return target


def indexed(results: Path, runs: Sequence[Path]) -> Indexed:
    """Which of these run files have an index that is theirs as they are now. Nothing is read but names."""
    there = {path.name: path for path in folder_of(results).glob("*.parquet")}
    found: dict[Path, FileState] = {}
    rest = []
    for run in runs:
        try:
            about = run.stat()
        except OSError:
            rest.append(run)  # reading it says what is wrong
            continue
        index = there.get(f"{run.name}.{about.st_size}.{about.st_mtime_ns}.parquet")
        if index is None:
            rest.append(run)
        else:
            found[index] = FileState(run.name, about.st_size, about.st_mtime_ns)
    return found, tuple(rest)


def clear_indexes(results: Path, runs: Sequence[Path]) -> None:
    """Remove indexes that are no run's any longer, if nobody can still be reading them."""
    found, _ = indexed(results, runs)
    old = time.time() - _GRACE_S
    for path in (results / "compacted").glob("index-*/*.parquet"):
        if path not in found:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < old:
                    path.unlink()
