"""Questions over all runs of a folder, answered by DuckDB: from Parquet where runs are compacted or have an index of
their own (:mod:`harness.results.index`), from the runs' own files where not.

Those are read by :mod:`harness.results.lines`, not by DuckDB's reader of JSON: there one
unfinished line fails all files, or, with ``ignore_errors``, comes back as a row of NULLs, and a value of a wrong type
is NULL without a word. Here each line is checked, and those that are no records are counted and said.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from harness.errors import ResultsError
from harness.results import record
from harness.results.compact import held
from harness.results.index import indexed
from harness.results.lines import FileState, Texts
from harness.results.pieces import SMALL, connect, make_pieces, read_pieces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import duckdb

    from harness.results.record import Record

__all__ = ["Found", "Results", "RunSummary", "Where", "open_case", "open_list", "open_run", "open_verdicts", "trouble"]

_FOUND = (
    "file", "line", "byte_offset", "byte_length", "time", "kind", "case_id", "model", "runtime", "precision", "bucket",
    "verdict", "host", "historical",
)  # fmt: skip
_LISTED = ("file", "time", "kind", "verdict", "host", "runtime", "model", "harness")
_TEXTS = msgspec.json.Decoder(Texts)


@dataclass(frozen=True)
class Where:
    """Which records are meant; what is None or empty is not asked for.

    :param since: UTC, without a zone.
    :param runtime: the whole id, or its beginning up to a ``-`` or ``.``: ``tensorrt-8.5`` takes ``tensorrt-8.5.3.1``.
    """

    since: datetime | None = None
    model: str | None = None
    runtime: str | None = None
    kind: str | None = None
    case: str | None = None
    host: str | None = None
    bucket: str | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """A condition and its parameters."""
        parts = {
            "time >= ?": self.since,
            "model = ?": self.model,
            "kind = ?": self.kind,
            "case_id = ?": self.case,
            "host = ?": self.host,
            "bucket = ?": self.bucket,
        }
        asked = {text: value for text, value in parts.items() if value is not None}
        conditions, values = list(asked), list(asked.values())
        if self.runtime is not None:
            conditions.append("(runtime = ? OR starts_with(runtime, ? || '.') OR starts_with(runtime, ? || '-'))")
            values += [self.runtime] * 3
        return " AND ".join(conditions) or "true", values


@dataclass(frozen=True)
class Found:
    """One record: what queries know of it, and where it stands.

    :param time: UTC, without a zone.
    :param bucket: of latency records: the length bucket's name, or ``traffic`` for the whole session.
    """

    path: Path
    line: int
    byte_offset: int
    byte_length: int
    time: datetime
    kind: str
    case: str | None
    model: str | None
    runtime: str | None
    precision: str | None
    bucket: str | None
    verdict: str
    host: str | None
    historical: bool

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.stem

    @property
    def id(self) -> str:
        """``RUN:LINE``, as ``harness results show`` takes it."""
        return f"{self.run}:{self.line}"

    def record(self) -> Record:
        """All of it.

        :raises ResultsError: its file is no longer what it was.
        """
        try:
            return record.decode(self._bytes())
        except ValueError as error:
            raise self._changed() from error

    def values(self) -> dict[str, Any]:
        """Its ``values`` without ``samples_ns``, which are most of a latency record and are not built here.

        :raises ResultsError: its file is no longer what it was.
        """
        try:
            parts = _TEXTS.decode(self._bytes()).values
        except msgspec.MsgspecError:
            whole = self.record()["values"]  # of an older schema
            return {name: value for name, value in whole.items() if name != "samples_ns"}
        kept = {name: msgspec.json.decode(part) for name, part in parts.items() if name != "samples_ns"}
        found: dict[str, Any] = record.restored(kept)
        return found

    def _bytes(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return os.pread(file.fileno(), self.byte_length, self.byte_offset)
        except OSError as error:
            raise self._changed() from error

    def _changed(self) -> ResultsError:
        return ResultsError(
            f"line {self.line} is no longer what it was: the run's file was removed or written over",
            where=str(self.path),
            todo="ask again; run harness results compact if it stays so",
        )


@dataclass(frozen=True)
class RunSummary:
    """One run in a list; counts and names are of the records that were asked for.

    :param begun: time of its first record, UTC without a zone; None where it has none.
    :param bad: lines that are no records.
    """

    run: str
    begun: datetime | None = None
    ended: datetime | None = None
    records: int = 0
    bad: int = 0
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    harness: tuple[str, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)


class Results:
    """The records of a folder as the table ``records``, for the time of a ``with``.

    :param columns: of :data:`harness.results.pieces.SMALL`; fewer are faster where runs are not compacted.
    :param about: only lines that hold this text are read where runs are not compacted (a case's id): faster, and bad
        lines are counted among those only.
    :param run: only the run of this id; empty takes all.
    :param states: of the files, by name, once it is open: how many lines of each are no records.
    """

    def __init__(self, folder: Path, columns: Collection[str] = tuple(SMALL), about: str = "", run: str = "") -> None:
        self.folder, self._columns, self._run = folder, tuple(columns), run
        # A text that JSON would write in another way is not looked for.
        self._about = about if about.isascii() and not set(about) & set('"\\/<>&') and about.isprintable() else ""
        self.states: dict[str, FileState] = {}

    def __enter__(self) -> Self:
        """:raises ResultsError: a run cannot be read."""
        there = held(self.folder)
        self._scratch = Path(tempfile.mkdtemp(prefix="harness-results-"))
        try:
            indexes, rest = indexed(self.folder, [path for path in there.rest if self._is_asked(path.name)])
            pieces, states = make_pieces(rest, self._scratch, self._columns, self._about)
            every = (*there.states.values(), *indexes.values(), *states)
            self.states = {state.name: state for state in every if self._is_asked(state.name)}
            self._database = connect()
            paths = [*there.pieces, *indexes, *(self._scratch / one.name for one in pieces)]
            self._database.execute("CREATE TEMP TABLE outdated (piece VARCHAR, file VARCHAR)")
            source = f"({read_pieces(paths, self._columns)})"
            if there.outdated:
                self._database.executemany("INSERT INTO outdated VALUES (?, ?)", there.outdated)
                source += " ANTI JOIN outdated USING (piece, file)"
            if self._run:
                name = _file(self._run).replace("'", "''")
                source += f" WHERE file = '{name}'"
            self._execute(f"CREATE TEMP VIEW records AS SELECT {', '.join(self._columns)} FROM {source}")  # noqa: S608
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_database"):
            self._database.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _is_asked(self, file: str) -> bool:
        return not self._run or file == _file(self._run)

    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query over ``records``; see :data:`harness.results.pieces.SMALL` for its columns.

        :raises ResultsError: a compacted file cannot be read.
        """
        return self._execute(query, parameters).fetchall()

    def _execute(self, query: str, parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        import duckdb

        try:
            return self._database.execute(query, parameters)
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException) as error:
            raise ResultsError(
                "compacted results cannot be read",
                where=str(self.folder),
                todo="remove its folder compacted/ (nothing is lost by that) and run harness results compact",
                detail=str(error),
            ) from error

    def runs(self, where: Where = Where()) -> list[RunSummary]:
        """The runs that have such records, the oldest first; without a condition, those without records, too."""
        condition, parameters = where.sql()
        lists = ", ".join(
            f"list_sort(list(DISTINCT {name}) FILTER (WHERE {name} IS NOT NULL))"
            for name in ("host", "model", "runtime", "harness")
        )
        rows = self.select(
            f"SELECT file, min(time), max(time), count(*), {lists}, histogram(kind), histogram(verdict)"  # noqa: S608
            f" FROM records WHERE {condition} GROUP BY file",
            parameters,
        )
        found = {}
        for file, begun, ended, count, hosts, models, runtimes, harness, kinds, verdicts in rows:
            found[file] = RunSummary(
                run=Path(file).stem,
                begun=begun,
                ended=ended,
                records=count,
                bad=self.states[file].bad,
                hosts=tuple(hosts or ()),
                models=tuple(models or ()),
                runtimes=tuple(runtimes or ()),
                harness=tuple(harness or ()),
                kinds=_plain(kinds),
                verdicts=_plain(verdicts),
            )
        if where == Where():
            for name, state in self.states.items():
                found.setdefault(name, RunSummary(Path(name).stem, bad=state.bad))
        return sorted(found.values(), key=lambda one: (one.begun or datetime.min, one.run))  # noqa: DTZ901 - without a zone

    def newest(self, where: Where) -> Found | None:
        """The newest such record: what a gate compares with. ``Where(case=..., kind=..., host=...)``."""
        return next(iter(self._found(where, "ORDER BY time DESC, file DESC, line DESC LIMIT 1")), None)

    def history(self, where: Where, last: int = 1_000) -> list[Found]:
        """The newest such records, the oldest of them first. ``Where(case=..., kind=...)``."""
        return self._found(where, "ORDER BY time DESC, file DESC, line DESC LIMIT ?", last)[::-1]

    def newest_verdicts(self, where: Where = Where()) -> list[Found]:
        """The newest record of every case, kind, bucket and host, by model and runtime."""
        condition, parameters = where.sql()
        # A window function over all columns does the same in ten times the time.
        query = (
            "WITH newest AS (SELECT max(struct_pack(time := time, file := file, line := line)) AS one FROM records"  # noqa: S608
            f" WHERE case_id IS NOT NULL AND {condition} GROUP BY case_id, kind, bucket, host)"
            f" SELECT {', '.join(_FOUND)} FROM records"
            " SEMI JOIN (SELECT one.file AS file, one.line AS line FROM newest) AS places USING (file, line)"
            " ORDER BY model, runtime, case_id, kind, bucket, host"
        )
        return [self._made(row) for row in self.select(query, parameters)]

    def of_run(self, run: str) -> Iterator[Found]:
        """The records of one run, in their order."""
        columns = ", ".join(_FOUND)
        query = f"SELECT {columns} FROM records WHERE file = ? ORDER BY line"  # noqa: S608
        return (self._made(row) for row in self.select(query, [_file(run)]))

    def _found(self, where: Where, rest: str, *more: Any) -> list[Found]:  # noqa: ANN401
        condition, parameters = where.sql()
        query = f"SELECT {', '.join(_FOUND)} FROM records WHERE {condition} {rest}"  # noqa: S608
        return [self._made(row) for row in self.select(query, [*parameters, *more])]

    def _made(self, row: tuple[Any, ...]) -> Found:
        return Found(self.folder / row[0], *row[1:])


def open_list(folder: Path) -> Results:
    """For :meth:`Results.runs` only."""
    return Results(folder, _LISTED)


def open_case(folder: Path, case: str) -> Results:
    """For :meth:`Results.newest` and :meth:`Results.history` of one case."""
    return Results(folder, (*_FOUND,), about=case)


def open_verdicts(folder: Path) -> Results:
    """For :meth:`Results.newest_verdicts`."""
    return Results(folder, _FOUND)


def open_run(folder: Path, run: str) -> Results:
    """For :meth:`Results.runs` and :meth:`Results.of_run` of one run."""
    return Results(folder, run=run)


def trouble(states: Collection[FileState]) -> list[str]:
    """One line for every file that has lines which are no records: how many, and the first one."""
    return [
        f"{state.name}: {state.bad} line(s) are no records and left out; {state.examples[0]}"
        for state in sorted(states, key=lambda state: state.name)
        if state.bad
    ]


def _file(run: str) -> str:
    return f"{run}.jsonl"


def _plain(counts: Mapping[str, int] | None) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted((counts or {}).items())}
