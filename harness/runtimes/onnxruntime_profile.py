"""What ONNX Runtime's profiler and its optimized graph say of each node, in the form of TensorRT's inspector."""

from __future__ import annotations

import json
from typing import Any, Mapping

from .optimized_graph import read_graph

__all__ = ["kernel_times", "layers"]

_SUFFIX = "_kernel_time"


def layers(model: bytes, profile: str, fed: Mapping[str, "tuple[str, list[int]]"]) -> list[dict[str, Any]]:
    """A row a node, in the order in which they ran; those that never ran (none of a run's events) come last.

    ``Name``, ``LayerType`` (operator), ``Domain``, ``Provider``; ``Inputs`` and ``Outputs``: ``Name``, and where known
    ``Datatype`` and ``Dimensions``; a constant input has ``Constant`` true.

    :param model: the optimized graph. :param profile: the profiler's JSON of one run; empty where there was none.
    :param fed: graph input -> its element type and dimensions.
    :raises ValueError: either cannot be read.
    """
    nodes, constants = read_graph(model)
    # The profiler's own name for one that has none, as those of an inlined function have none.
    nodes = [node._replace(name=node.name or f"{node.operator}_{at}") for at, node in enumerate(nodes)]
    events = {name: (at, args) for at, (name, _, args) in reversed(list(enumerate(_kernels(profile))))}
    known = {name: {"Datatype": dtype, "Dimensions": dims} for name, (dtype, dims) in {**fed, **constants}.items()}
    for node in nodes:
        _, said = events.get(node.name, (0, {}))
        shapes = [pair for one in said.get("output_type_shape", ()) for pair in one.items()]
        made = [name for name in node.outputs if name]
        if len(shapes) == len(made):
            known.update(
                {name: {"Datatype": dtype, "Dimensions": dims} for name, (dtype, dims) in zip(made, shapes)}  # noqa: B905 - of one length
            )

    def end(name: str) -> dict[str, Any]:
        return {"Name": name, **known.get(name, {}), **({"Constant": True} if name in constants else {})}

    last = len(events)
    return [
        {
            "Name": node.name,
            "LayerType": node.operator,
            "Domain": node.domain,
            "Provider": events.get(node.name, (last, {}))[1].get("provider", ""),
            "Inputs": [end(name) for name in node.inputs if name],
            "Outputs": [end(name) for name in node.outputs if name],
        }
        for node in sorted(nodes, key=lambda node: events.get(node.name, (1 << 60, {}))[0])
    ]


def kernel_times(profile: str, warmup: int) -> dict[str, list[float]]:
    """Node -> ms of each run behind the first ``warmup`` ones. The profiler counts whole microseconds.

    :raises ValueError: it is no profile.
    """
    times: dict[str, list[float]] = {}
    for name, us, _ in _kernels(profile):
        times.setdefault(name, []).append(us / 1e3)
    return {name: found[warmup:] for name, found in times.items()}


def _kernels(profile: str) -> "list[tuple[str, float, dict[str, Any]]]":
    """Node, us, arguments, of every kernel that ran, in order."""
    events = json.loads(profile) if profile else []
    found = [
        (str(one["name"])[: -len(_SUFFIX)], float(one["dur"]), one.get("args", {}), float(one["ts"]))
        for one in events
        if one.get("cat") == "Node" and str(one.get("name", "")).endswith(_SUFFIX)
    ]
    return [(name, us, args) for name, us, args, _ in sorted(found, key=lambda one: one[3])]
