"""Tables as plain data: for ``--json``, and for records, which hold the layers that take longest."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from harness.explain.beside import by_role

if TYPE_CHECKING:
    from harness.explain.beside import Beside, Pair
    from harness.explain.layer import LayerTable, Roofline

__all__ = ["RECORDED_LAYERS", "beside_data", "longest", "roofline_data", "table_data"]

RECORDED_LAYERS = 200


def table_data(table: LayerTable, roofline: Roofline | None = None) -> dict[str, Any]:
    """A table with what follows from it: sums by role, and each layer's share, intensity and nearness to the roof."""
    layers = []
    for layer in table.layers:
        near = None if roofline is None else roofline.reached(layer)
        bound = None if roofline is None else roofline.memory_bound(layer)
        layers.append({
            **asdict(layer), "share": table.share(layer), "intensity": layer.intensity, "roof_reached": near,
            "memory_bound": bound,
        })  # fmt: skip
    return {
        "case": table.case,
        "length": table.length,
        "whole_us": table.whole_us,
        "profiled_us": table.profiled_us,
        "size_bytes": table.size_bytes,
        "log": list(table.log),
        "by_role_us": by_role(table) if table.profiled_us is not None else None,
        "layers": layers,
    }


def beside_data(both: Beside) -> dict[str, Any]:
    """The pairs by their layers' names, what got slower first."""

    def pair(one: Pair) -> dict[str, Any]:
        return {
            "nodes": list(one.nodes),
            "baseline": [layer.name for layer in one.baseline],
            "candidate": [layer.name for layer in one.candidate],
            "baseline_us": one.baseline_us,
            "candidate_us": one.candidate_us,
            "change_us": one.change_us,
        }

    return {
        "baseline": both.baseline.case,
        "candidate": both.candidate.case,
        "pairs": [pair(one) for one in both.pairs],
    }


def roofline_data(roofline: Roofline | None) -> dict[str, Any] | None:
    return None if roofline is None else asdict(roofline)


def longest(table: LayerTable, count: int = RECORDED_LAYERS) -> LayerTable:
    """The table with the layers that take longest alone, in their order; by operations where nothing was timed."""
    ranked = sorted(table.layers, key=lambda one: (-(one.time_us or 0.0), -(one.operations or 0)))
    kept = {id(one) for one in ranked[:count]}
    return replace(table, layers=tuple(one for one in table.layers if id(one) in kept))
