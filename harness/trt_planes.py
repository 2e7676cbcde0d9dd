"""One-dimensional convolutions as two-dimensional ones, and which new tensor stands for which old one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from harness.graphs import drop_unread, fresh, names_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from onnx import GraphProto

__all__ = ["aliases", "convolutions_2d"]

_KEY = "trt_forms.aliases"
_RANK, _ADDED = 3, 3
"""The size 1 is appended: TensorRT's own importer makes [N, C, L, 1] of a one-dimensional convolution's input."""

_UNARY = {
    "Abs", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg", "Relu", "Selu",
    "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
_BINARY = {"Add", "Div", "Mul", "Pow", "Sub"}
_STANDARD = {"", "ai.onnx"}
_PER_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
"""Attributes with one number for each spatial axis -> the added axis's number."""


@dataclass(frozen=True)
class _Plan:
    """Which nodes compute in rank 4.

    :param nodes: their indices in the graph.
    :param given: tensors of rank 3 that need an Unsqueeze.
    :param read: tensors that these nodes make and that others read in rank 3.
    :param planes: tensor -> its name in rank 4; its own where nobody reads it in rank 3.
    """

    nodes: frozenset[int]
    given: frozenset[str]
    read: frozenset[str]
    planes: Mapping[str, str]


def convolutions_2d(model: ModelProto) -> ModelProto:
    """``model`` with every Conv and ConvTranspose of constant three-dimensional weights as one with a kernel (k, 1).

    x [N, C, L] is unsqueezed to [N, C, L, 1] before and squeezed behind. Element-wise operators behind a convolution,
    with a scalar or another convolution's output as their second operand, stay in rank 4, so that a Relu stands right
    behind its convolution and a chain has one pair of Unsqueeze and Squeeze. Nodes keep their names, and so do tensors
    that nobody reads in rank 3 any more; the others are in :func:`aliases`.

    Convolutions whose weights are computed (by a DequantizeLinear, for one) stay: Q/DQ are written afterwards.

    :param model: opset 13 or newer, shapes inferred, no control flow; it is not changed.
    :returns: ``model`` itself where there is no such convolution.
    """
    plan = _planned(model)
    if not plan.nodes:
        return model
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = _weights_in_rank_4(graph, plan)
    axes = fresh("axes_of_2d", names_in(graph))
    graph.initializer.append(numpy_helper.from_array(np.array([_ADDED], np.int64), axes))
    nodes = list(_emitted(graph, plan, weights, axes))
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread(graph)
    _keep_aliases(made, {plane: line for line, plane in plan.planes.items() if plane != line})
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(made)


def aliases(model: ModelProto) -> dict[str, str]:
    """New tensor -> the tensor of the model it was made from that holds the same values, and so has the same range."""
    found = next((entry.value for entry in model.metadata_props if entry.key == _KEY), "{}")
    return dict(json.loads(found))


def _keep_aliases(model: ModelProto, new: Mapping[str, str]) -> None:
    before = aliases(model)
    kept = {**before, **{plane: before.get(line, line) for plane, line in new.items()}}
    for index, entry in reversed(list(enumerate(model.metadata_props))):
        if entry.key == _KEY:
            del model.metadata_props[index]
    model.metadata_props.add(key=_KEY, value=json.dumps(kept))


def _planned(model: ModelProto) -> _Plan:
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: set[int] = set()
    given: set[str] = set()
    made: set[str] = set()
    for index, node in enumerate(graph.node):  # in topological order
        if _is_line_conv(node, constants):
            given.update({node.input[0]} - made)
        elif not _stays_in_rank_4(node, made, given, constants):
            continue
        nodes.add(index)
        made.update(node.output)
    others = [name for index, node in enumerate(graph.node) if index not in nodes for name in node.input]
    read = made & {*others, *(value.name for value in graph.output)}
    taken = names_in(graph)
    planes = {name: fresh(f"{name}_2d", taken) for name in sorted(given | read)}
    return _Plan(
        nodes=frozenset(nodes),
        given=frozenset(given),
        read=frozenset(read),
        planes={**{name: name for name in made}, **planes},
    )


def _is_line_conv(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type not in {"Conv", "ConvTranspose"} or node.domain not in _STANDARD:
        return False
    weights = constants.get(node.input[1])
    return weights is not None and len(weights.dims) == _RANK


def _stays_in_rank_4(
    node: NodeProto, made: Collection[str], given: Collection[str], constants: Mapping[str, TensorProto]
) -> bool:
    if node.domain not in _STANDARD or node.op_type not in _UNARY | _BINARY:
        return False
    operands = [name for name in node.input if name]
    planes = [name for name in operands if name in made]
    if node.op_type in _UNARY:
        return operands[:1] == planes and all(_is_scalar(name, constants) for name in operands[1:])
    return bool(planes) and all(name in made or name in given or _is_scalar(name, constants) for name in operands)


def _is_scalar(name: str, constants: Mapping[str, TensorProto]) -> bool:
    return name in constants and prod(constants[name].dims) == 1 and len(constants[name].dims) <= _RANK


def _weights_in_rank_4(graph: GraphProto, plan: _Plan) -> dict[str, str]:
    """Convolution's weights -> their name in rank 4; the old ones stay where somebody else reads them."""
    lines = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [graph.node[index] for index in plan.nodes if _is_line_conv(graph.node[index], lines)]
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    taken = names_in(graph)
    found: dict[str, str] = {}
    for name, count in sorted(Counter(node.input[1] for node in convolutions).items()):
        found[name] = name
        tensor = lines[name]
        if readers[name] > count:
            found[name] = fresh(f"{name}_2d", taken)
            tensor = graph.initializer.add()
            tensor.CopyFrom(lines[name])
            tensor.name = found[name]
        tensor.dims.append(1)
    return found


def _emitted(graph: GraphProto, plan: _Plan, weights: Mapping[str, str], axes: str) -> Iterator[NodeProto]:
    taken, unsqueezed = names_in(graph), set()
    for index, node in enumerate(graph.node):
        if index not in plan.nodes:
            yield node
            continue
        for name in node.input:
            if name in plan.given and name not in unsqueezed:
                unsqueezed.add(name)
                plane = plan.planes[name]
                yield helper.make_node("Unsqueeze", [name, axes], [plane], name=fresh(f"{plane}_unsqueeze", taken))
        yield _in_rank_4(node, plan, weights)
        for name in node.output:
            if name in plan.read:
                plane = plan.planes[name]
                yield helper.make_node("Squeeze", [plane, axes], [name], name=fresh(f"{plane}_squeeze", taken))


def _in_rank_4(node: NodeProto, plan: _Plan, weights: Mapping[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    made.input[:] = [plan.planes.get(name, name) for name in node.input]
    made.output[:] = [plan.planes.get(name, name) for name in node.output]
    if node.op_type in {"Conv", "ConvTranspose"}:
        made.input[1] = weights[node.input[1]]
        for attribute in made.attribute:
            if attribute.name in _PER_AXIS:
                attribute.ints.append(_PER_AXIS[attribute.name])
            elif attribute.name == "pads":
                begin, end = attribute.ints
                attribute.ints[:] = [begin, 0, end, 0]
    return made
