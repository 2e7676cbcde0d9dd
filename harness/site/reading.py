"""What pages need of the records: small columns by one query, values of the records that are drawn and of no others."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.results.query import Found, Where
from harness.site.words import level, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from harness.results.query import Results

__all__ = [
    "JUDGED",
    "Group",
    "as_decibels",
    "as_mapping",
    "as_number",
    "as_triple",
    "is_mixed",
    "labelled",
    "newest_groups",
    "read_gates",
    "read_newest",
    "read_searches",
    "read_traffic",
]

EVERYTHING = Where()
"""No condition."""

_HUGE = 1e15
_FIELDS = ("model", "runtime", "precision", "method", "policy", "route", "layout")
_NOT_OF_A_CASE = ("benchmark", "best", "gate", "layers", "mixed", "selftest")
JUDGED = ("build", "accuracy", "drawn", "profiles", "calibration", "latency")
"""Kinds of records whose words say whether a case is right and faster, in the order in which pages name them."""

_PLACE = "struct_pack(line := line, byte_offset := byte_offset, byte_length := byte_length, verdict := verdict)"


@dataclass(frozen=True)
class Group:
    """The newest records of one case, kind, length bucket and host: those of one run.

    :param time: of the last of them, UTC without a zone.
    :param previous: the worst word of the run before, ``previous_run`` at ``previous_time``; None where there is none.
    :param records: in the order of their lines.
    """

    case: str
    kind: str
    bucket: str | None
    host: str
    fields: Mapping[str, str | None]
    time: datetime
    word: str
    previous: str | None
    previous_run: str | None
    previous_time: datetime | None
    records: tuple[Found, ...] = field(repr=False)

    @property
    def model(self) -> str:
        """Its key; empty for a record without one."""
        return self.fields["model"] or ""

    @property
    def runtime(self) -> str:
        """As records name it; empty for a record without one."""
        return self.fields["runtime"] or ""

    @property
    def run(self) -> str:
        """The id of the run that it is of."""
        return self.records[0].run

    @property
    def place(self) -> tuple[str, str]:
        """Runtime and host: what one section of a page is about."""
        return self.runtime, self.host

    @property
    def label(self) -> str:
        """``fp16``, or how INT8 was calibrated, with the layout behind it."""
        return labelled(self.fields)

    @functools.cached_property
    def values(self) -> tuple[Mapping[str, Any], ...]:
        """Each record's ``values`` without samples, read when they are asked for.

        :raises ResultsError: a run's file is no longer what it was.
        """
        return tuple(one.values() for one in self.records)


def labelled(fields: Mapping[str, str | None]) -> str:
    """``fp16``, ``auto-ragged``, ``minmax-pad-calibrator buckets3``: Q/DQ and one profile are usual and go unsaid.

    ``int8 mixed`` is INT8 as ``harness mix`` left it.
    """
    calibration = "-".join(fields.get(name) or "" for name in ("method", "policy")).strip("-")
    if is_mixed(fields):
        calibration = "int8 mixed"
    route = fields.get("route")
    if calibration and route not in {None, "qdq"}:
        calibration += f"-{route}"
    layout = fields.get("layout")
    return " ".join(filter(None, (calibration or fields.get("precision"), layout if layout != "single" else "")))


def is_mixed(fields: Mapping[str, str | None]) -> bool:
    """Whether a case runs INT8 as a search for mixed precision left it."""
    return fields.get("precision") == "int8" and fields.get("method") == "mixed"


def newest_groups(results: Results, where: Where = EVERYTHING) -> list[Group]:
    """Of each case, kind, bucket and host the records of the newest run that has some, by model and runtime.

    Of kinds that are not :data:`JUDGED` those that failed: what else their words say is no verdict on a case, and is
    on the page of its run.
    """
    condition, parameters = where.sql()
    names = ", ".join(f"any_value({name}) AS {name}" for name in _FIELDS)
    kinds = ", ".join(f"'{kind}'" for kind in _NOT_OF_A_CASE)
    rows = results.select(
        f"WITH runs AS (SELECT case_id, kind, bucket, host, file, max(time) AS time, {names},"  # noqa: S608
        f" list({_PLACE} ORDER BY line) AS ones FROM records WHERE case_id IS NOT NULL"
        f" AND kind NOT IN ({kinds}) AND {condition} GROUP BY case_id, kind, bucket, host, file)"
        " SELECT case_id, kind, bucket, host,"
        f" {', '.join(f'arg_max({name}, time)' for name in _FIELDS)},"
        " arg_max(struct_pack(file := file, time := time, ones := ones), time, 2) FROM runs"
        " GROUP BY case_id, kind, bucket, host ORDER BY case_id, kind, bucket, host",
        parameters,
    )
    groups = [_group(results, row) for row in rows]
    return [group for group in groups if group.kind in JUDGED or level(group.word) == "bad"]


def _group(results: Results, row: Sequence[Any]) -> Group:
    case, kind, bucket, host = row[:4]
    fields = dict(zip(_FIELDS, row[4:11], strict=True))
    newest, *before = row[11]
    records = tuple(
        Found(
            results.folder / newest["file"], one["line"], one["byte_offset"], one["byte_length"], newest["time"], kind,
            case, fields["model"], fields["runtime"], fields["precision"], bucket, one["verdict"], host, False,
        )
        for one in newest["ones"]
    )  # fmt: skip
    return Group(
        case=case,
        kind=kind,
        bucket=bucket,
        host=host or "",
        fields=fields,
        time=newest["time"],
        word=worst(one["verdict"] for one in newest["ones"]),
        previous=worst(one["verdict"] for one in before[0]["ones"]) if before else None,
        previous_run=Path(before[0]["file"]).stem if before else None,
        previous_time=before[0]["time"] if before else None,
        records=records,
    )


def read_traffic(results: Results, where: Where, last: int) -> list[tuple[Found, Mapping[str, Any]]]:
    """The newest latency sessions of each case and host, the oldest first, each with what else stood beside it.

    :param last: of each case and host.
    :return: the record, and its ``method``, ``policy``, ``route``, ``layout``, ``harness``, ``driver``,
        ``library_version``.
    """
    condition, parameters = where.sql()
    found = (
        "file, line, byte_offset, byte_length, time, kind, case_id, model, runtime, precision, bucket, verdict, host,"
        " historical"
    )
    beside = ("method", "policy", "route", "layout", "harness", "driver", "library_version", "precision", "gpu")
    rows = results.select(
        f"SELECT {found}, {', '.join(beside)} FROM records WHERE kind = 'latency' AND bucket = 'traffic'"  # noqa: S608
        f" AND case_id IS NOT NULL AND {condition}"
        " QUALIFY row_number() OVER (PARTITION BY case_id, host ORDER BY time DESC) <= ? ORDER BY time",
        [*parameters, last],
    )
    return [(_found(results, row[:14]), dict(zip(beside, row[14:], strict=True))) for row in rows]


def read_gates(results: Results, where: Where, last: int) -> dict[str, list[Found]]:
    """The records of the newest gates, the newest gate first: run's id -> its records in their order.

    :param last: gates.
    """
    condition, parameters = where.sql()
    rows = results.select(
        "SELECT file, line, byte_offset, byte_length, time, kind, case_id, model, runtime, precision, bucket, verdict,"  # noqa: S608
        f" host, historical FROM records WHERE kind = 'gate' AND {condition} ORDER BY time, line",
        parameters,
    )
    gates: dict[str, list[Found]] = {}
    for row in rows:
        one = _found(results, row)
        gates.setdefault(one.run, []).append(one)
    newest = sorted(gates, key=lambda run: gates[run][-1].time, reverse=True)[:last]
    return {run: gates[run] for run in newest}


def read_searches(results: Results, where: Where, last: int) -> list[Found]:
    """The newest records of searches for mixed precision, the newest first.

    :param last: of all models together.
    """
    condition, parameters = where.sql()
    rows = results.select(
        "SELECT file, line, byte_offset, byte_length, time, kind, case_id, model, runtime, precision, bucket, verdict,"  # noqa: S608
        f" host, historical FROM records WHERE kind = 'mixed' AND {condition} ORDER BY time DESC, line DESC LIMIT ?",
        [*parameters, last],
    )
    return [_found(results, row) for row in rows]


def read_newest(results: Results, kind: str, where: Where, each: int) -> list[Found]:
    """The newest records of a kind, the newest first.

    :param each: of each model, runtime and host.
    """
    condition, parameters = where.sql()
    rows = results.select(
        "SELECT file, line, byte_offset, byte_length, time, kind, case_id, model, runtime, precision, bucket, verdict,"  # noqa: S608
        f" host, historical FROM records WHERE kind = ? AND model IS NOT NULL AND runtime IS NOT NULL AND {condition}"
        " QUALIFY row_number() OVER (PARTITION BY model, runtime, host ORDER BY time DESC, line DESC) <= ?"
        " ORDER BY time DESC, line DESC",
        [kind, *parameters, each],
    )
    return [_found(results, row) for row in rows]


def _found(results: Results, row: Sequence[Any]) -> Found:
    return Found(results.folder / row[0], *row[1:])


def as_number(value: object) -> float | None:
    """A number of a record, or None for anything else: what stands in a file may be of any type and size.

    Numbers from 1e15 on are none: nothing here is measured that has so many, and scales cannot hold them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HUGE < value < _HUGE:
        return None
    return float(value)


def as_decibels(value: object) -> float | None:
    """A signal-to-noise ratio of a record. NaN and the infinities are some: outputs that are none, or the same."""
    return value if isinstance(value, float) and not math.isfinite(value) else as_number(value)


def as_triple(value: object) -> tuple[float, float, float] | None:
    """Low end, point and high end; None where they are not three numbers, the point between the ends."""
    if not isinstance(value, list | tuple):
        return None
    numbers = [as_number(one) for one in value]
    known = [one for one in numbers if one is not None]
    if len(known) != 3 or len(numbers) != 3 or not known[0] <= known[1] <= known[2]:
        return None
    return known[0], known[1], known[2]


def as_mapping(value: object) -> Mapping[str, Any]:
    """A JSON object of a record, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def interval_of(cell: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """A ratio's low end, point and high end; all well above 0."""
    found = as_triple([cell.get(name) for name in ("ratio_low", "ratio", "ratio_high")])
    return found if found and found[0] > 1e-9 else None


def first(values: Iterable[object]) -> float | None:
    """The first of them that is a number."""
    return next((number for value in values if (number := as_number(value)) is not None), None)
