"""A summary for a pull request: what is wrong, and the two pictures that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.site.words import SIGNS, level

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from harness.site.overview import Row
    from harness.site.pages import Figure
    from harness.site.upgrade import Gate

__all__ = ["markdown"]

_ROWS = 20
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "\n": " ", "\r": " ", "[": "&#91;",
            "]": "&#93;", "*": "&#42;", "_": "&#95;", "!": "&#33;", "@": "&#64;", "\\": "&#92;"}  # fmt: skip


def markdown(
    rows: Sequence[Row], gates: Sequence[Gate], figures: Mapping[str, Figure], formats: Collection[str]
) -> str:
    """The newest gate, the table of models with the worst first, and two pictures where they were written.

    :param rows: of the overview, the worst first. :param gates: the newest first.
    :param figures: by name. :param formats: that were written; PNG is taken before SVG.
    """
    bad, unproved = (sum(level(row.word) == which for row in rows) for which in ("bad", "open"))
    lines = [f"## INT8: {len(rows)} model and runtime, {bad} failing, {unproved} not proved", ""]
    if gates:
        gate = gates[0]
        lines += [f"Newest gate: {_cell(gate.baseline)} → {_cell(gate.candidate)}: **{_cell(gate.word)}**", ""]
    lines += [
        f"![{_cell(figures[name].title)}](plots/{name}.{ending})\n" for name, ending in _two(gates, figures, formats)
    ]
    lines += ["| | model | runtime | INT8 gain | worst SQNR | changed |", "|---|---|---|---|---|---|"]
    for row in rows[:_ROWS]:
        gain = f"{row.gain[1]:.2f}x [{row.gain[0]:.2f}, {row.gain[2]:.2f}]" if row.gain else ""
        db = f"{row.worst_db:.1f} dB {row.bucket}" if row.worst_db is not None else ""
        cells = (f"{SIGNS[level(row.word)]} {row.word}", row.model, row.runtime, gain, db, "; ".join(row.changes[:2]))
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if len(rows) > _ROWS:
        lines += ["", f"and {len(rows) - _ROWS} more"]
    return "\n".join(lines) + "\n"


def _two(gates: Sequence[Gate], figures: Mapping[str, Figure], formats: Collection[str]) -> list[tuple[str, str]]:
    """The newest gate's ratios, and the gains; without a gate, the first model's times."""
    ending = next((one for one in ("png", "svg") if one in formats), "")
    gate = [name for name in figures if gates and name.endswith("-forest") and gates[0].run in name]
    latency = [name for name in figures if name.endswith("-latency")]
    names = [*gate[:1], *(["gains"] if "gains" in figures else []), *latency[:1]][:2]
    return [(name, ending) for name in names] if ending else []


def _cell(text: str) -> str:
    """Names come from files: nothing of them may be markup, a mention, or end the row."""
    return "".join(_ESCAPED.get(sign, sign) for sign in text[:300])
