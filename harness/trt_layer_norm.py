"""LayerNormalization written out in operators that older parsers know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from harness.graphs import fresh, names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto

__all__ = ["layer_norm_primitives"]

_NEEDLESS_OPSET = 17  # came with LayerNormalization; also the newest one that 8.5's parser names
_LEAST_OPSET = 13  # Q/DQ per channel, Squeeze and Unsqueeze with their axes as an input
_AXES_ARE_INPUTS = 18  # of ReduceMean
_STANDARD = {"", "ai.onnx"}


def layer_norm_primitives(model: ModelProto) -> ModelProto:
    """``model`` with LayerNormalization written out, and its opset as low as the operators that are left allow, 13 at
    least; what needs more than 16 keeps it.

    y = (x - mean) / sqrt(variance + epsilon) * scale + bias, as ONNX defines it. The mean of squares does not fit into
    float16 where x is large: beside INT8, keep these layers in FP32 where accuracy falls.

    :param model: shapes inferred; it is not changed.
    :returns: ``model`` itself where there is none, or none whose axes are known.
    """
    ranks = _ranks(model.graph)
    opset = _opset(model)
    if not any(_normalized_axes(node, ranks) for node in model.graph.node):
        return model
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    taken = names_in(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        axes = _normalized_axes(node, ranks)
        nodes += _written_out(node, axes, opset, graph, taken) if axes else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    _lower_opset(made, opset)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(made)


def _opset(model: ModelProto) -> int:
    return int(max(entry.version for entry in model.opset_import if entry.domain in _STANDARD))


def _ranks(graph: GraphProto) -> dict[str, int]:
    known = (v for v in (*graph.value_info, *graph.input, *graph.output) if v.type.tensor_type.HasField("shape"))
    return {value.name: len(value.type.tensor_type.shape.dim) for value in known}


def _normalized_axes(node: NodeProto, ranks: Mapping[str, int]) -> list[int]:
    """The axes, counted from the end, that a LayerNormalization takes together; empty where they are not known."""
    if node.op_type != "LayerNormalization" or node.domain not in _STANDARD:
        return []
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
    if axis >= 0 and node.input[0] not in ranks:
        return []
    return list(range(axis if axis < 0 else axis - ranks[node.input[0]], 0))


def _written_out(
    node: NodeProto, axes: list[int], opset: int, graph: GraphProto, taken: set[str]
) -> Iterator[NodeProto]:
    x, scale, *bias = [name for name in node.input if name]
    out, mean, inverse = [*node.output, "", ""][:3]
    stem = node.name or out

    def constant(what: str, values: NDArray[Any]) -> str:
        name = fresh(f"{stem}/{what}", taken)
        graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def step(op: str, what: str, *operands: str, to: str = "") -> NodeProto:
        name = fresh(f"{stem}/{what}", taken)
        return helper.make_node(op, list(operands), [to or name], name=name)

    def mean_of(name: str, what: str, to: str = "") -> NodeProto:
        if opset >= _AXES_ARE_INPUTS:
            return step("ReduceMean", what, name, constant(f"{what}_axes", np.array(axes, np.int64)), to=to)
        made = step("ReduceMean", what, name, to=to)
        made.attribute.append(helper.make_attribute("axes", axes))
        return made

    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
    steps = [mean_of(x, "mean", mean)]
    steps.append(step("Sub", "centred", x, steps[-1].output[0]))
    centred = steps[-1].output[0]
    steps.append(step("Mul", "squared", centred, centred))
    steps.append(mean_of(steps[-1].output[0], "variance"))
    steps.append(step("Add", "shifted", steps[-1].output[0], constant("epsilon", np.array(epsilon, np.float32))))
    steps.append(step("Sqrt", "deviation", steps[-1].output[0]))
    if inverse:
        steps.append(step("Reciprocal", "inverse", steps[-1].output[0], to=inverse))
    deviation = steps[5].output[0]
    steps.append(step("Div", "normalized", centred, deviation))
    steps.append(step("Mul", "scaled", steps[-1].output[0], scale, to="" if bias else out))
    if bias:
        steps.append(step("Add", "biased", steps[-1].output[0], bias[0], to=out))
    yield from steps


def _lower_opset(model: ModelProto, opset: int) -> None:
    needed = [
        onnx.defs.get_schema(node.op_type, opset, "").since_version
        for node in model.graph.node
        if node.domain in _STANDARD
    ]
    lowest = max(_LEAST_OPSET, *needed)
    if lowest < _NEEDLESS_OPSET:
        for entry in model.opset_import:
            if entry.domain in _STANDARD:
                entry.version = min(entry.version, lowest)
