"""The table of latency: a row for each case, how many times faster INT8 is at each length and over the traffic."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from harness.report.plain import new_table, plain_lines
from harness.spec.shapes import bucket_names
from harness.stats.multiple import holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.corpus.catalogue import Entry

__all__ = ["render_speed"]

_COLUMNS = ("short", "middle", "long")
_FAILED = ("failed", "below bounds", "not proved")
_FAMILY_WISE = 0.05


def render_speed(records: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry], *, width: int = 100) -> list[str]:
    """The table of all latency records, as plain lines no wider than ``width``; nothing where there are none."""
    mine = [one for one in records if one["kind"] == "latency"]
    rows = _rows(mine, entries)
    if not rows:
        return []
    baselines = dict.fromkeys(
        one["values"]["baseline"].upper() for one in mine if isinstance(one["values"].get("baseline"), str)
    )
    runtimes = dict.fromkeys(one["fields"]["runtime"] for one in mine)
    against = ", ".join(baselines) or "float"
    table = new_table(f"speed: INT8 against {against} at each length bucket's opt, on {', '.join(runtimes)}")
    table.add_column("", overflow="fold")
    for name in (*_COLUMNS, "traffic"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for label, row in rows.items():
        cells = [_cell(row["buckets"].get(index, {})) for index in range(len(_COLUMNS))]
        table.add_row(label, *cells, _ratio(row["traffic"]), _verdict(row))
    lines = plain_lines(table, width=width)
    lines.append("a cell: INT8's median, how many times faster that is, and the half-width of the ratio's interval")
    if not any(row.get("asked") or row["failed"] for row in rows.values()):
        lines.append("no speed-up was asked for, so nothing could fail; --bound speedup=1.3 asks")
    return ["", *lines, *_slower(mine), *_whys(rows)]


def _rows(records: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    """Label -> ``buckets`` (by index), ``traffic``, ``word``, ``failed``, ``why``."""
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        values = record["values"]
        row = rows.setdefault(
            _label(record, records), {"buckets": {}, "traffic": {}, "word": "", "failed": [], "why": ""}
        )
        names = bucket_names(entries[record["fields"]["model"]].model)
        for bucket, cell in values.get("buckets", {}).items():
            row["buckets"][names.index(bucket)] = cell
        if record["verdict"] in _FAILED:
            row["failed"].append(record["verdict"])
        if session := values.get("session"):
            row["traffic"], row["word"] = session.get("ratio") or {}, session["word"]
            row["why"] = "; ".join(filter(None, (session["why"], session["advice"])))
            row["asked"] = bool(session.get("gains"))
    return rows


def _label(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """The model, and of runtime, calibration and layout what is not the same in all rows."""
    fields = record["fields"]
    told_apart = [
        names
        for names in (("runtime",), ("method", "policy", "route"), ("layout",))
        if len({tuple(one["fields"][name] for name in names) for one in records}) > 1
    ]
    drawn = " (synthetic)" if record["synthetic"] else ""
    return " ".join([fields["model"] + drawn, *("-".join(_said(fields, names)) for names in told_apart)])


def _said(fields: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Q/DQ is the usual route, and goes without saying."""
    return [fields[name] for name in names if fields[name] and (name, fields[name]) != ("route", "qdq")]


def _cell(cell: Mapping[str, Any]) -> str:
    times = cell.get("int8") or {}
    median = times.get("median_ms")
    return " ".join(filter(None, (_ms(median) if isinstance(median, Real) else "", _ratio(cell))))


def _ms(value: Any) -> str:  # noqa: ANN401 - a number of JSON
    """Three digits: ``0.162ms``, ``12.3ms``, ``1234ms``."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{min(digits, 4)}f}ms"


def _ratio(cell: Mapping[str, Any]) -> str:
    """``1.62x ±2%``, with ``±?`` where the interval is open."""
    ratio, low, high = (cell.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if not isinstance(ratio, Real) or not isinstance(low, Real) or not isinstance(high, Real):
        return ""
    half = 50 * (float(high) - float(low)) / float(ratio)
    return f"{float(ratio):.2f}x ±" + (f"{half:.0f}%" if half < 100 else "?")


def _verdict(row: Mapping[str, Any]) -> str:
    held = f"{row['word']}, as asked" if row.get("asked") else row["word"]
    return next((word for word in _FAILED if word in row["failed"]), held)


def _whys(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a session that says nothing says about itself."""
    return [f"{label}: {row['word']}: {row['why']}" for label, row in rows.items() if row["word"] in _OPEN]


_OPEN = {"inconclusive", "invalid"}


def _slower(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which cases are slower than their baseline, over all of them at one error rate."""
    p = {
        one["case"]: session["p_slower"]
        for one in records
        if "p_slower" in (session := one["values"].get("session", {}))
    }
    if len(p) <= 1:
        return []
    found = [case for case, slower in zip(p, holm(list(p.values()), _FAMILY_WISE), strict=True) if slower]
    return [f"slower than tolerated, over {len(p)} cases at a family-wise 5 % (Holm): {', '.join(found) or 'none'}"]
