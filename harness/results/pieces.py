"""Rows of many run files as Parquet files ("pieces"), written by several processes.

The same pieces serve ``compact``, which keeps them, and questions over runs that are not compacted, for which they are
made with the small columns only and thrown away.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import secrets
import tempfile
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.errors import ResultsError
from harness.results.lines import Entry, FileState, Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import duckdb
    import msgspec

    from harness.results.lines import Texts

__all__ = ["COLUMNS", "SMALL", "Piece", "connect", "make_pieces", "read_pieces", "write_query"]


class Column(NamedTuple):
    """A column of a piece: its type in DuckDB, and its cell of one record."""

    kind: str
    cell: Callable[[Entry], Any]


SMALL: dict[str, Column] = {
    "file": Column("VARCHAR", attrgetter("file")),
    "line": Column("BIGINT", attrgetter("number")),
    "byte_offset": Column("BIGINT", attrgetter("offset_bytes")),
    "byte_length": Column("BIGINT", attrgetter("length_bytes")),
    "kind": Column("VARCHAR", attrgetter("line.kind")),
    "run": Column("VARCHAR", attrgetter("line.run")),
    "time": Column("TIMESTAMP", lambda one: _microseconds(one.line.time)),
    "harness": Column("VARCHAR", attrgetter("line.harness")),
    "case_id": Column("VARCHAR", attrgetter("line.case")),
    "model": Column("VARCHAR", attrgetter("line.fields.model")),
    "runtime": Column("VARCHAR", attrgetter("line.fields.runtime")),
    "precision": Column("VARCHAR", attrgetter("line.fields.precision")),
    "method": Column("VARCHAR", attrgetter("line.fields.method")),
    "policy": Column("VARCHAR", attrgetter("line.fields.policy")),
    "route": Column("VARCHAR", attrgetter("line.fields.route")),
    "layout": Column("VARCHAR", attrgetter("line.fields.layout")),
    "bucket": Column("VARCHAR", attrgetter("bucket")),
    "verdict": Column("VARCHAR", attrgetter("line.verdict")),
    "synthetic": Column("BOOLEAN", attrgetter("line.synthetic")),
    "historical": Column("BOOLEAN", attrgetter("line.historical")),
    "host": Column("VARCHAR", attrgetter("line.environment.host")),
    "cpu": Column("VARCHAR", attrgetter("line.environment.cpu")),
    "commit_id": Column("VARCHAR", attrgetter("line.environment.commit")),
    "gpu": Column("VARCHAR", attrgetter("line.environment.gpu.name")),
    "driver": Column("VARCHAR", attrgetter("line.environment.gpu.driver")),
    "library": Column("VARCHAR", attrgetter("line.environment.program.library")),
    "library_version": Column("VARCHAR", attrgetter("line.environment.program.version")),
}
"""What queries ask for. ``time`` is UTC; ``file``, ``byte_offset`` and ``byte_length`` are where the record stands."""

COLUMNS: dict[str, Column] = {
    **SMALL,
    "seed": Column("BIGINT", attrgetter("texts.seed")),
    "values_json": Column("VARCHAR", lambda one: _without_samples(_texts(one).values)),
    "samples_ns_json": Column("VARCHAR", lambda one: _text(_texts(one).values.get("samples_ns"))),
    "environment_json": Column("VARCHAR", lambda one: _text(_texts(one).environment)),
    "model_json": Column("VARCHAR", lambda one: _text(_texts(one).model)),
    "corpus_json": Column("VARCHAR", lambda one: _text(_texts(one).corpus)),
    "samples_json": Column("VARCHAR", lambda one: _text(_texts(one).samples)),
}
"""All columns of a compacted file. ``values_json`` is ``values`` without ``samples_ns``, which has its own column."""

_PIECE_BYTES = 48_000_000
_PIECE_ROWS = 100_000
_BATCH_ROWS = 64
_TASK_BYTES = 2 * _PIECE_BYTES
_ALONE_BYTES = 64_000_000
_MOST_WORKERS = 8
_NUMPY = {"BIGINT": np.int64, "TIMESTAMP": np.int64, "BOOLEAN": np.bool_}


@dataclass(frozen=True)
class Piece:
    """One Parquet file.

    :param files: names of the run files that it has rows of.
    """

    name: str
    size_bytes: int
    rows: int
    files: tuple[str, ...]


def connect(threads: int = 0) -> duckdb.DuckDBPyConnection:
    """A database in memory that takes 500 MB at most and spills beside the system's temporary files.

    :param threads: as many as this process may use where 0.
    """
    import duckdb

    return duckdb.connect(
        config={
            "threads": threads or len(os.sched_getaffinity(0)),
            "memory_limit": "500MB",
            "temp_directory": tempfile.gettempdir(),
            "preserve_insertion_order": False,
        }
    )


def make_pieces(
    paths: Sequence[Path], folder: Path, columns: Collection[str] = tuple(COLUMNS), about: str = ""
) -> tuple[list[Piece], list[FileState]]:
    """Read run files and write their rows into ``folder``; in this process where there is little to read.

    :param columns: of :data:`COLUMNS`. With those that are not :data:`SMALL`, states have digests, too.
    :param about: see :class:`harness.results.lines.Lines`.
    :raises ResultsError: a run cannot be read, or a piece cannot be written.
    """
    tasks = list(_tasks(paths, _TASK_BYTES))
    workers = min(len(tasks), len(os.sched_getaffinity(0)), _MOST_WORKERS)
    if workers < 2 or sum(_size(path) for path in paths) < _ALONE_BYTES:
        done = [_make(task, folder, columns, about) for task in tasks]
    else:
        # Not forked: DuckDB has threads.
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        try:
            with pool:
                make = functools.partial(_make, folder=folder, columns=tuple(columns), about=about)
                done = list(pool.map(make, tasks))
        except BrokenExecutor as error:
            raise ResultsError(
                "a process that reads results died",
                where=str(folder),
                todo="was it killed for want of memory? Free some and try again",
            ) from error
    return [piece for pieces, _ in done for piece in pieces], [state for _, states in done for state in states]


def _tasks(paths: Sequence[Path], most_bytes: int) -> Iterator[list[Path]]:
    task: list[Path] = []
    size = 0
    for path in paths:
        if task and size + _size(path) > most_bytes:
            yield task
            task, size = [], 0
        task.append(path)
        size += _size(path)
    if task:
        yield task


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it says what is wrong


def _make(paths: list[Path], folder: Path, columns: Collection[str], about: str) -> tuple[list[Piece], list[FileState]]:
    whole = not SMALL.keys() >= set(columns)
    pieces: list[Piece] = []
    states: list[FileState] = []
    cells: dict[str, list[Any]] = {name: [] for name in columns}
    getters = [(COLUMNS[name].cell, column) for name, column in cells.items()]
    rows = size = 0
    files: dict[str, None] = {}
    for path in paths:
        lines = Lines(path, whole=whole, about=about)
        # Batches are small so that memory is used again and again: three times as fast as all rows at once.
        for batch in _batches(lines):
            for cell, column in getters:
                column.extend(map(cell, batch))
            files[path.name] = None
            rows += len(batch)
            size += sum(one.length_bytes for one in batch)
            if (whole and size > _PIECE_BYTES) or rows >= _PIECE_ROWS:
                pieces.append(_write(cells, folder, tuple(files)))
                for column in cells.values():
                    column.clear()
                files = {}
                rows = size = 0
        states.append(lines.state)
    if rows:
        pieces.append(_write(cells, folder, tuple(files)))
    return pieces, states


def _batches(lines: Lines) -> Iterator[list[Entry]]:
    every = iter(lines)
    while batch := list(itertools.islice(every, _BATCH_ROWS)):
        yield batch


def _write(cells: Mapping[str, list[Any]], folder: Path, files: tuple[str, ...]) -> Piece:
    chosen = ", ".join(f"{_converted(name)} AS {name}" for name in cells)
    database = _writer().cursor()
    try:
        database.register("cells", {name: _array(COLUMNS[name].kind, column) for name, column in cells.items()})
        return write_query(database, f"SELECT {chosen} FROM cells", folder, files)  # noqa: S608 - names of our own
    finally:
        database.close()


@functools.cache
def _writer() -> duckdb.DuckDBPyConnection:
    """One for the process: a new one takes as long as a piece of a small run."""
    return connect(threads=1)


def write_query(database: duckdb.DuckDBPyConnection, query: str, folder: Path, files: tuple[str, ...]) -> Piece:
    """What a query gives, as a new piece in ``folder``.

    :param files: names of the run files whose rows these are.
    :raises ResultsError: it cannot be written; nothing is left of it.
    """
    import duckdb

    path = folder / f"{secrets.token_hex(8)}.parquet"
    try:
        options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880, ROW_GROUP_SIZE_BYTES '64MB'"
        database.execute(f"COPY ({query}) TO '{_quoted(path)}' ({options})")
        counted = database.execute(f"SELECT num_rows FROM parquet_file_metadata('{_quoted(path)}')").fetchone()  # noqa: S608
    except (duckdb.Error, OSError) as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise _cannot_write(folder, error) from error
    return Piece(path.name, path.stat().st_size, counted[0] if counted else 0, files)


def _array(kind: str, cells: list[Any]) -> np.ndarray:
    if kind in _NUMPY and None not in cells:
        return np.array(cells, dtype=_NUMPY[kind])
    out = np.empty(len(cells), dtype=object)
    out[:] = cells
    return out


def _converted(name: str) -> str:
    kind = COLUMNS[name].kind
    return f"make_timestamp({name})" if kind == "TIMESTAMP" else f"CAST({name} AS {kind})"


def _microseconds(time: datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6)


def _texts(one: Entry) -> Texts:
    assert one.texts is not None, "columns of texts are read from whole lines"
    return one.texts


def _text(part: msgspec.Raw | None) -> str | None:
    return None if part is None else bytes(part).decode()


def _without_samples(values: dict[str, msgspec.Raw]) -> str:
    kept = (f"{json.dumps(name)}:{_text(part)}" for name, part in values.items() if name != "samples_ns")
    return "{" + ",".join(kept) + "}"


def read_pieces(paths: Iterable[Path], columns: Collection[str] = tuple(COLUMNS)) -> str:
    """SQL of all rows of these pieces with these columns, and ``piece``, the file's name, beside them."""
    names = ", ".join(f"'{_quoted(path)}'" for path in paths)
    if not names:
        none = ", ".join(f"NULL::{COLUMNS[name].kind} AS {name}" for name in columns)
        return f"SELECT {none}, NULL::VARCHAR AS piece WHERE false"
    return f"SELECT {', '.join(columns)}, parse_filename(filename) AS piece FROM read_parquet([{names}], filename=true)"  # noqa: S608


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _cannot_write(folder: Path, error: Exception) -> ResultsError:
    return ResultsError(
        "cannot be written",
        where=str(folder),
        todo="make room, or check its permissions; the runs' own files are not touched",
        detail=str(error),
    )
