"""How ``harness results`` shows runs and records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.results.query import RunSummary
    from harness.results.record import Record

__all__ = ["brief", "pretty", "run_table", "runs_table"]

_SHORT = 48


def runs_table(runs: Sequence[RunSummary]) -> Any:  # noqa: ANN401 - a rich table
    """One row a run."""
    from rich.table import Column, Table

    table = Table(
        Column("run, begun (UTC)", overflow="fold", min_width=23),
        Column("host", overflow="fold"),
        Column("runtimes", overflow="fold"),
        Column("models", overflow="fold"),
        Column("records", no_wrap=True),
        Column("verdicts", no_wrap=True),
    )
    for one in runs:
        table.add_row(
            f"{one.run}\n{one.begun:%Y-%m-%d %H:%M}" if one.begun else one.run,
            "\n".join(one.hosts),
            "\n".join(one.runtimes),
            _few(one.models),
            f"{one.records}" + (f" (+{one.bad} bad)" if one.bad else ""),
            "\n".join(f"{count} {verdict or 'none'}" for verdict, count in one.verdicts.items()),
        )
    return table


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def run_table(numbered: Sequence[tuple[int, Record]]) -> Any:  # noqa: ANN401 - a rich table
    """One row a record, with the number of its line."""
    from rich.table import Column, Table

    # Ids of cases begin alike: whatever is cut off is what tells them apart.
    cases = Column("case", overflow="fold")
    table = Table("line", "UTC", "kind", cases, "verdict", Column("values", width=28))
    for number, one in numbered:
        time, case = str(one.get("time", "")), str(one.get("case") or "")
        table.add_row(
            str(number), time[11:19], str(one.get("kind", "")), case, str(one.get("verdict", "")), _values(one)
        )
    return table


def brief(one: Record) -> Record:
    """The record without its latency samples."""
    values = one.get("values")
    if not isinstance(values, dict):
        return one
    return {**one, "values": {name: value for name, value in values.items() if name != "samples_ns"}}


def _values(one: Record) -> str:
    """What says most, in a few words."""
    values = one.get("values")
    if not isinstance(values, dict):
        return ""
    if "error" in values:
        return _cut(str(values["error"]))
    buckets = values.get("buckets")
    if isinstance(buckets, dict):
        name = "ratio" if one.get("kind") == "latency" else "sqnr_db"
        cells = {bucket: cell.get(name) for bucket, cell in buckets.items() if isinstance(cell, dict)}
        found = [f"{bucket} {cell:.3g}" for bucket, cell in cells.items() if isinstance(cell, int | float)]
        return f"{name} {', '.join(found)}" if found else ""
    session = values.get("session")
    if isinstance(session, dict):
        return _cut(str(session.get("why", "")))
    if told := _TOLD.get(str(one.get("kind"))):
        return _cut(told(values))
    names = [name for name in ("int8", "engine_bytes", "build_seconds") if name in values]
    return _cut(", ".join(f"{name} {values[name]}" for name in names))


def _drawn(values: Mapping[str, Any]) -> str:
    """How many examples, and the least SQNR of one."""
    worst = values.get("worst")
    found = worst.get("sqnr_db") if isinstance(worst, dict) else None
    least = f", worst {found:.3g} dB" if isinstance(found, int | float) else ""
    return f"{values.get('examples')} example(s){least}"


def _gated(values: Mapping[str, Any]) -> str:
    """From where, and what did not pass."""
    findings = [one for one in values.get("findings") or () if one.get("word") != "pass"]
    told = [" ".join(filter(None, (one.get("word"), one.get("aspect"), one.get("where")))) for one in findings]
    cases = values.get("cases")
    found = f"{len(cases)} case(s)" if cases else ", ".join(told) or "all pass"
    return f"{found} against {values.get('baseline')}"


_TOLD = {"drawn": _drawn, "gate": _gated}


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."


def pretty(value: Any, indent: int = 0) -> str:  # noqa: ANN401 - any JSON
    """JSON for people: what fits in a line stands in one, and so do lists of numbers."""
    flat = json.dumps(value, ensure_ascii=False)
    numbers = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    if len(flat) + indent <= 100 or numbers or not isinstance(value, dict | list):
        return flat
    pad, end = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        return "[\n" + ",\n".join(pad + pretty(item, indent + 2) for item in value) + f"\n{end}]"
    items: Mapping[str, Any] = value
    lines = (f"{pad}{json.dumps(name, ensure_ascii=False)}: {pretty(item, indent + 2)}" for name, item in items.items())
    return "{\n" + ",\n".join(lines) + f"\n{end}}}"
