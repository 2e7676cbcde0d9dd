"""The tables at the end of a run: per model, length bucket x precision/method/policy."""

from __future__ import annotations

import io
from numbers import Real
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from harness.spec.shapes import length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.corpus.catalogue import Entry

__all__ = ["render"]

_BUCKETS = ("short", "middle", "long")
_WORST_FIRST = ("failed", "below bounds", "unknown", "unjudged", "compared", "pass")
_GOOD_FROM = _WORST_FIRST.index("unjudged")


def render(
    records: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry], *, width: int = 100, seed: int = 0
) -> list[str]:
    """One table for each model that has records, as plain lines no wider than ``width``."""
    lines: list[str] = []
    for key, entry in entries.items():
        mine = [record for record in records if record["fields"]["model"] == key]
        rows = _rows(mine)
        if not rows:
            continue
        model = entry.model
        profiles = length_buckets(model).profiles
        data = "synthetic data" if entry.synthetic else "real data"
        table = Table(
            title=f"{key}: {data}, seed {seed}; {model.axis_name} {model.minimum}..{model.maximum}",
            title_justify="left",
        )
        table.add_column("runtime, precision, method-policy, layout", overflow="fold")
        names = _BUCKETS if len(profiles) == len(_BUCKETS) else tuple(str(profile) for profile in profiles)
        for name, profile in zip(names, profiles, strict=True):
            table.add_column(f"{name}\n{profile.min}-{profile.max}", justify="right")
        table.add_column("verdict")
        for label, cells in rows.items():
            table.add_row(label, *(_cell(cells.get(name, {})) for name in names), _worst(cells["verdicts"]))
        stream = io.StringIO()
        Console(file=stream, width=width, no_color=True, highlight=False).print(table)
        lines += ["", *stream.getvalue().rstrip().splitlines()]
    if lines:
        lines.append("cells: latency FP32/INT8 (above 1 is faster) | task score against FP32 | SQNR dB")
    return lines


def _rows(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        fields, values = record["fields"], record["values"]
        words = [fields[name] for name in ("precision", "method", "policy", "layout") if fields[name]]
        label = " ".join([_short(fields["runtime"]), *words])
        row = rows.setdefault(label, {"verdicts": []})
        row["verdicts"].append(record["verdict"])
        for bucket, cell in values.get("buckets", {}).items():
            row.setdefault(bucket, {}).update(cell)
    return rows


def _short(runtime: str) -> str:
    """``onnxruntime-1.32.0-cpu`` as ``ort 1.32.0``: the column is narrow."""
    family, _, rest = runtime.rpartition("onnxruntime-")
    return f"ort {rest.removesuffix('-cpu')}" if family == "" and rest != runtime else runtime


def _cell(cell: Mapping[str, Any]) -> str:
    forms = (("ratio", "{:.2f}x"), ("score", "{:.3f}"), ("sqnr_db", "{:.1f}"))
    return " | ".join(form.format(cell[name]) for name, form in forms if isinstance(cell.get(name), Real))


def _worst(verdicts: Sequence[str]) -> str:
    """A word that is not known here may mean anything, so it is shown before those that are good."""
    unknown = [word for word in verdicts if word not in _WORST_FIRST]
    bad, good = _WORST_FIRST[:_GOOD_FROM], _WORST_FIRST[_GOOD_FROM:]
    return next((word for word in (*bad, *unknown, *good) if word in verdicts), "")
