"""The tables of accuracy at the end of a run: per model, length bucket x precision/method/policy."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from harness.report.plain import new_table, plain_lines
from harness.spec.shapes import length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from harness.corpus.catalogue import Entry

__all__ = ["render"]

_BUCKETS = ("short", "middle", "long")
_WORST_FIRST = (
    "failed",
    "below bounds",
    "unknown",
    "unbounded",
    "shown wrong",
    "pass",
    "built",
    "compared",
    "unjudged",
    "in float",
    "left out",
)
_NOTHING_TO_SEE = {"pass", "built", "shown wrong", "unknown", "left out", "in float"}
_EXPLAINED = {"unbounded": "unbounded: no bounds, so nothing could fail; give some with --bound sqnr_db=15"}
_GOOD_FROM = _WORST_FIRST.index("shown wrong")


def render(
    records: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry], *, width: int = 100, seed: int = 0
) -> list[str]:
    """One table for each model that has records other than latency, as plain lines no wider than ``width``."""
    lines: list[str] = []
    for key, entry in entries.items():
        mine = [one for one in records if one["fields"]["model"] == key and one["kind"] != "latency"]
        rows = _rows(mine)
        if not rows:
            continue
        lines += ["", *_lines(entry, rows, names_of(mine), _reasons(mine), width=width, seed=seed)]
    if lines:
        lines.append("a cell: task score, and SQNR against FP32")
        if any(record["fields"]["policy"] for record in records):
            lines.append("METHOD-POLICY is INT8, calibrated so")
        words = {record["verdict"] for record in records}
        lines += [text for word, text in _EXPLAINED.items() if word in words]
    return lines


def names_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The runtimes of some records, in order of appearance."""
    return list(dict.fromkeys(record["fields"]["runtime"] for record in records))


def _lines(
    entry: Entry,
    rows: Mapping[str, Mapping[str, Any]],
    runtimes: Sequence[str],
    reasons: Sequence[str],
    *,
    width: int,
    seed: int,
) -> list[str]:
    model = entry.model
    profiles = length_buckets(model).profiles
    data = "synthetic data" if entry.synthetic else "real data"
    score = f", score {model.score.rpartition(':')[2]}" if model.score else ""
    table = new_table(f"{model.key}: {data}, seed {seed}{score}, on {', '.join(runtimes)}")
    table.add_column(f"\n{model.axis_name}", overflow="fold")
    names = _BUCKETS if len(profiles) == len(_BUCKETS) else tuple(str(profile) for profile in profiles)
    for name, profile in zip(names, profiles, strict=True):
        table.add_column(f"{name}\n{profile.min}-{profile.max}", justify="right")
    table.add_column("\nverdict")
    only_built: list[str] = []
    for label, cells in rows.items():
        if set(cells) == {"verdicts"} and set(cells["verdicts"]) <= _NOTHING_TO_SEE:
            if "unknown" in cells["verdicts"]:
                only_built.append(label)
            continue
        table.add_row(label, *(_cell(cells.get(name, {})) for name in names), _worst(cells["verdicts"]))
    parts: list[Table | str] = [table] if table.row_count else []
    parts += [f"{model.key}: {reason}" for reason in dict.fromkeys(reasons)]
    if only_built:
        parts.append(f"{model.key}, built, what runs in INT8 unknown: {'; '.join(only_built)}")
    return plain_lines(*parts, width=width)


def _reasons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why rows are unknown or left out, and what a model's own Q/DQ are; why rows failed stands in the failures."""
    return _ready(records) + [
        f"{record['verdict']}: {reason}"
        for record in records
        if record["verdict"] in {"unknown", "left out", "in float"}
        for reason in record["values"].get("reasons", ())
    ]


def _ready(records: Sequence[Mapping[str, Any]]) -> list[str]:
    about = [record["values"]["ready"] for record in records if "ready" in record["values"]]
    lines = [f"ready is INT8 as the model's own file has it; FP32 is {one['baseline']}" for one in about]
    return lines + [f"warning: {text}" for one in about for text in one["warnings"]]


def _rows(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Label -> bucket -> cell, and ``verdicts``. What all rows have in common is in no label."""
    several = len(names_of(records)) > 1
    layouts = len({record["fields"]["layout"] for record in records}) > 1
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        fields, values = record["fields"], record["values"]
        calibration = "-".join(fields[name] for name in ("method", "policy") if fields[name])
        if fields["route"] not in {None, "qdq"}:
            calibration += f"-{fields['route']}"
        layout = fields["layout"] if layouts else ""
        what = calibration or fields["precision"]  # only INT8 is calibrated
        words = [_short(fields["runtime"]) if several else "", what, layout]
        row = rows.setdefault(" ".join(word for word in words if word), {"verdicts": []})
        row["verdicts"].append(record["verdict"])
        for bucket, cell in values.get("buckets", {}).items():
            row.setdefault(bucket, {}).update(cell)
    return rows


def _short(runtime: str) -> str:
    """``onnxruntime-1.32.0-cpu`` as ``ort 1.32.0``: the column is narrow."""
    family, _, rest = runtime.rpartition("onnxruntime-")
    return f"ort {rest.removesuffix('-cpu')}" if family == "" and rest != runtime else runtime


def _cell(cell: Mapping[str, Any]) -> str:
    forms = (("score", "{:.3f}"), ("sqnr_db", "{:.1f}dB"))
    return " ".join(form.format(cell[name]) for name, form in forms if isinstance(cell.get(name), Real))


def _worst(verdicts: Sequence[str]) -> str:
    """A word that is not known here may mean anything, so it is shown before those that are good."""
    unknown = [word for word in verdicts if word not in _WORST_FIRST]
    bad, good = _WORST_FIRST[:_GOOD_FROM], _WORST_FIRST[_GOOD_FROM:]
    return next((word for word in (*bad, *unknown, *good) if word in verdicts), "")
