"""What a search found, for a terminal: the front, what stays in float, whether the bounds are met."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.report.plain import new_table
from harness.report.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from harness.mixed.found import Candidate, Found
    from harness.mixed.plan import Plan
    from harness.mixed.run import Searched

__all__ = ["front_table", "sentences"]

_NAMED = 12


def front_table(found: Found) -> Table:
    """Plain INT8, then Pareto's front: no other file is both more right and faster; the chosen one is marked."""
    buckets = list(found.best.outcome.buckets)
    table = new_table("Plain INT8, and the files that nothing else beats in both speed and rightness")
    for title in ("", "in float", "speed kept", "noise/signal", *buckets, "bounds"):
        table.add_column(title, justify="left" if title in {"", "bounds"} else "right")
    rows = {id(one): one for one in (found.candidates[0], *found.front(), found.best)}
    for one in rows.values():
        mark = "chosen" if one is found.best else "plain" if one is found.candidates[0] else ""
        table.add_row(
            mark,
            str(len(one.assignment.in_float)),
            f"{one.kept:.2f}x",
            f"{10 * math.log10(one.noise):.1f} dB",
            *(_cell(one, bucket) for bucket in buckets),
            "met" if not one.shortfall else "met by score" if not one.missed else "missed",
        )
    return table


def _cell(one: Candidate, bucket: str) -> str:
    score = one.outcome.score(bucket)
    return f"{one.outcome.sqnr_db(bucket):.1f} dB" if score is None else f"{score:.3f}"


def _confirmed(plan: Plan, confirmed: Mapping[str, Any]) -> Iterator[str]:
    bounds = plan.evidence["bounds"]
    for name, one in confirmed["buckets"].items():
        bound = bounds.get(name, {})
        if one["score"] is None:
            asked = f" (asked {bound['sqnr_db']:g})" if "sqnr_db" in bound else ""
            yield f"{visible(name)} {one['sqnr_db']:.1f} dB{asked}"
            continue
        low, high = one["score_interval"]
        asked = f", asked {bound['score']:g}" if "score" in bound else ""
        count = confirmed["samples"][name]
        yield f"{visible(name)} {one['score']:.3f} ({count} samples, {low:.3f} to {high:.3f}{asked})"


def sentences(searched: Searched) -> Iterator[str]:
    """What was chosen, in words."""
    plan, best, found = searched.plan, searched.found.best, searched.found
    count = len(searched.palette.nodes)
    named = sorted(best.assignment.in_float)
    yield (
        f"{len(named)} of {count} operators stay in float"
        + (": " + ", ".join(visible(name) for name in named[:_NAMED]) if named else "")
        + (", ..." if len(named) > _NAMED else "")
    )
    if best.assignment.float_outputs:
        yield f"{len(best.assignment.float_outputs)} compute in INT8 and write floating point, with no Q/DQ behind them"
    if best.assignment.float_readers:
        yield f"{len(best.assignment.float_readers)} tensors are read in floating point by all but INT8 operators"
    if rows := best.assignment.rows:
        yield "rows are divided by their own largest value in front of " + ", ".join(visible(name) for name, _ in rows)
    if best.assignment.methods:
        yield f"{len(best.assignment.methods)} tensors have ranges by another method than {plan.method}"
    if "speedup" in plan.evidence:
        yield (
            f"{plan.evidence['speedup']:.2f} times faster than FP32 over the traffic; "
            f"plain INT8 is {plan.evidence['speedup_plain']:.2f} times faster"
        )
    if best.missed:
        yield "no file meets all bounds; this is the nearest: a longer --budget, a lower --keep, or other bounds"
    elif best.shortfall:
        yield "the bounds are met by the scores, but not by the worse ends of their intervals: more --each tells"
    if (confirmed := plan.evidence.get("confirmed")) is not None:
        yield "on samples that it was not chosen by:"
        yield from (f"  {line}" for line in _confirmed(plan, confirmed))
    if not found.finished:
        yield f"the time was up after {len(found.candidates)} files; the same command goes on from there"
