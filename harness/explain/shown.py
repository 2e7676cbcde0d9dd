"""Layer tables on a terminal, in 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.explain.beside import by_role
from harness.explain.layer import ROLES
from harness.report.plain import new_table
from harness.report.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from harness.explain.beside import Beside, Pair
    from harness.explain.layer import Layer, LayerTable, Roofline

__all__ = ["beside_table", "heading", "layer_table", "roofline_line", "sums_table"]

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_ROUND = 100
_SHORTEST = 12


def heading(table: LayerTable, unit: str) -> str:
    """One line: the case, its length, what a run takes, and how much of that the layers are."""
    size = f"{table.size_bytes / 1e6:.1f} MB"
    layers, take = ("1 layer", "takes") if len(table.layers) == 1 else (f"{len(table.layers)} layers", "take")
    if not table.whole_us or table.profiled_us is None:
        return f"{table.case} at {table.length} {unit}: {layers}, no times here, {size}"
    ratio = table.profiled_us / table.whole_us
    return (
        f"{table.case} at {table.length} {unit}: {_time(table.whole_us)} a run, {layers} that {take} {ratio:.2f} of it"
        f" under the profiler, {size}"
    )


def layer_table(table: LayerTable, roofline: Roofline | None, top: int) -> Table:
    """The layers that take longest, ``top`` of them; without times the first ones, in order.

    A layer's name has its kernel's below it, where it has one.
    """
    shown = new_table("")
    timed = table.profiled_us is not None
    shown.add_column("layer", no_wrap=True, overflow="ellipsis", ratio=1)
    shown.add_column("operator", no_wrap=True, overflow="ellipsis", max_width=16)
    shown.add_column("in", no_wrap=True)
    heads = (*(("time", "share") if timed else ()), "ops", "bytes", "ops/B", *(("roof",) if timed else ()))
    for head in heads:
        shown.add_column(head, justify="right", no_wrap=True)
    layers = table.layers
    if timed:
        layers = tuple(sorted(layers, key=lambda one: -(one.time_us or 0.0)))
    for layer in layers[:top]:
        reached = roofline.reached(layer) if roofline is not None else None
        times = (_time(layer.time_us), _percent(table.share(layer))) if timed else ()
        shown.add_row(
            _named(layer), visible(layer.operator), layer.precision, *times,
            _amount(layer.operations), _amount(layer.moved_bytes),
            "" if layer.intensity is None else f"{layer.intensity:.3g}",
            *((_percent(reached),) if timed else ()),
        )  # fmt: skip
    shown.expand = True
    return shown


def sums_table(tables: Sequence[LayerTable]) -> Table:
    """What the layers take by what they are there for: of one table, or of two side by side."""
    shown = new_table("")
    shown.add_column("")
    for head in ("was", "is") if len(tables) > 1 else ("",):
        shown.add_column(head, justify="right")
    sums = [by_role(table) for table in tables]
    for role in ROLES:
        shown.add_row(role, *(_sum(found[role], table.profiled_us) for found, table in zip(sums, tables, strict=True)))
    shown.add_row("all layers", *(_time(table.profiled_us) for table in tables))
    shown.add_row("a whole run", *(_time(table.whole_us) for table in tables))
    return shown


def beside_table(both: Beside, top: int) -> Table:
    """What got slower first, ``top`` of them, then as many of what got faster, the most first."""
    shown = new_table("")
    shown.add_column("nodes of the model, or what was inserted", no_wrap=True, overflow="ellipsis", ratio=1)
    for head in ("was", "is", "was in", "is in"):
        shown.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if head in {"was", "is"} else "left",
                         max_width=None if head in {"was", "is"} else 14)  # fmt: skip
    shown.add_column("change", justify="right", no_wrap=True)
    slower = [pair for pair in both.pairs if pair.change_us > 0][:top]
    faster = [pair for pair in reversed(both.pairs) if pair.change_us < 0][:top]
    for pair in (*slower, *faster):
        shown.add_row(
            _called(pair), _time(pair.baseline_us), _time(pair.candidate_us),
            _how(pair.baseline), _how(pair.candidate), f"{pair.change_us:+.0f}us",
        )  # fmt: skip
    shown.expand = True
    return shown


def roofline_line(roofline: Roofline) -> str:
    """What the host reaches, in one line."""
    peaks = ", ".join(f"{name} {_amount(rate)}op/s" for name, rate in sorted(roofline.operations_per_s.items()))
    caches = max((rate for _, rate in roofline.in_cache), default=roofline.bytes_per_s)
    return (
        f"roof: the best measured here: {peaks}; memory {_amount(roofline.bytes_per_s)}B/s, caches {_amount(caches)}B/s"
    )


def _named(layer: Layer) -> str:
    name = visible(layer.name or layer.operator)  # before its width is counted
    said = {name, layer.operator}
    return f"{name}\n  {visible(layer.kernel)}" if len(layer.kernel) > _SHORTEST and layer.kernel not in said else name


def _called(pair: Pair) -> str:
    if pair.nodes:
        more = f" +{len(pair.nodes) - 1}" if len(pair.nodes) > 1 else ""
        return visible(f"{pair.nodes[0]}{more}")
    return visible(", ".join(layer.name for layer in (*pair.baseline, *pair.candidate)))


def _how(layers: Sequence[Layer]) -> str:
    """Operator and precision of the layer that takes longest."""
    if not layers:
        return "-"
    most = max(layers, key=lambda one: one.time_us or 0.0)
    return visible(f"{most.precision} {most.operator}".strip())


def _sum(us: float, whole: float | None) -> str:
    return f"{_time(us)}  {_percent(us / whole):>4}" if whole else _time(us)


def _time(us: float | None) -> str:
    if us is None:
        return ""
    return f"{us / 1e3:.2f}ms" if us >= 1e4 else f"{us:.0f}us" if us >= _ROUND else f"{us:.1f}us"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}%"


def _amount(number: float | None) -> str:
    if number is None:
        return "?"
    for unit, letter in _UNITS:
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"
