"""From a runtime's rows and times to the layers of a table."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from harness.explain.cost import COMPUTE, PICK, SMALL, moved_bytes, operations
from harness.explain.layer import Layer
from harness.explain.origins import origins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from harness.explain.cost import Costs, Tensor
    from harness.explain.layer import Role
    from harness.explain.origins import End, Row

__all__ = ["layers", "typical_us"]

_STORED = {"fp32": "float", "tf32": "float", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
"""Precision -> the type that weights have then."""


def layers(
    model: ModelProto, counted: Costs, rows: Sequence[Row], times: Mapping[str, Sequence[float]], only: str = ""
) -> tuple[Layer, ...]:
    """A layer a row, in the order of the rows.

    :param model: whose nodes the layers are; with ``counted``, what each of them computes.
    :param times: layer -> ms of its runs; where several rows have one name, their times stand in turn.
    :param only: the one precision that products can have been built in, where there was no choice; else empty.
    """
    inside = _weights(model)
    of_name: dict[str, int] = {}
    for row in rows:
        of_name[row.name] = of_name.get(row.name, 0) + 1
    seen: dict[str, int] = {}
    found = []
    for told in origins(model, rows):
        role = _role(told, counted)
        row = replace(told, precision=told.precision or (only if role == "compute" else ""))
        turn = seen.get(row.name, 0)
        seen[row.name] = turn + 1
        runs = list(times.get(row.name, ()))[turn :: of_name[row.name]]
        found.append(
            Layer(
                name=row.name,
                operator=row.operator or _heaviest(row, counted),
                nodes=row.nodes,
                precision=row.precision,
                role=role,
                time_us=typical_us(runs) if runs else None,
                operations=_operations(row, counted),
                moved_bytes=_moved(row, counted, inside),
                kernel=row.kernel,
            )
        )
    return tuple(found)


def typical_us(runs_ms: Sequence[float]) -> float:
    """The mean of the faster half, us.

    A profiler's clock also counts while another process has the core, which happens to long layers more often than not;
    and a mean is finer than a median where it counts whole microseconds.
    """
    runs = np.sort(np.asarray(runs_ms, float)) * 1e3
    return float(runs[: (len(runs) + 1) // 2].mean())


def _heaviest(row: Row, counted: Costs) -> str:
    """The operator of the node that computes most, for runtimes that call a layer by words of their own.

    In brackets where the node is another layer's, and this one only prepares or ends it.
    """
    mine = [counted.nodes[name] for name in row.nodes if name in counted.nodes]
    if mine:
        return max(mine, key=lambda one: one.operations or 0).operator
    said = next((counted.nodes[name].operator for name in row.words if name in counted.nodes), "")
    return f"({said})" if said else ""


def _role(row: Row, counted: Costs) -> Role:
    """What computes a product among other things is there for it."""
    mine = {counted.nodes[name].operator for name in row.nodes if name in counted.nodes}
    return "compute" if row.role == "other" and mine & COMPUTE else row.role


def _operations(row: Row, counted: Costs) -> int | None:
    if row.nodes:
        each = [counted.nodes[name].operations if name in counted.nodes else None for name in row.nodes]
        return None if None in each else sum(one for one in each if one is not None)
    if row.operator in COMPUTE:
        return None  # its attributes are not told
    return operations(row.operator, [end.tensor for end in row.inputs], [end.tensor for end in row.outputs])


def _moved(row: Row, counted: Costs, inside: Mapping[str, set[str]]) -> int | None:
    """By its own ends, in the types that they really have; else by the model's tensors there.

    A runtime that names no weights has those of the nodes inside of the layer, in the type that it computes in.

    :param inside: node -> its large constants.
    """

    def known(end: End) -> Tensor | None:
        found = end.tensor or counted.tensors.get(end.name)
        return replace(found, dtype=end.dtype) if found and end.dtype and not end.tensor else found

    once = {end.name or index: end for index, end in enumerate(row.inputs)}.values()
    read = [known(end) for end in once]
    if not any(end.constant for end in row.inputs):
        for name in sorted(set().union(*(inside.get(node, set()) for node in row.nodes))):
            weight = counted.tensors.get(name)
            read.append(replace(weight, dtype=_STORED[row.precision]) if weight and row.precision in _STORED else None)
    return moved_bytes(row.operator, read, [known(end) for end in row.outputs])


def _weights(model: ModelProto) -> dict[str, set[str]]:
    """Each node's constants that are no scalars or shapes; of a Gather none, which reads as much as it gives."""
    large = {one.name for one in model.graph.initializer if prod(one.dims) > SMALL}
    names = (node.name or f"{node.op_type}_{index}" for index, node in enumerate(model.graph.node))
    return {
        name: large.intersection(node.input)
        for name, node in zip(names, model.graph.node, strict=True)
        if node.op_type not in PICK
    }
