"""The scales of a file that brings its own Q/DQ, checked before anything is built from it.

What no runtime could compute right is refused. What a family of runtimes cannot take is said of that family: TensorRT's
integers are signed and symmetric, its scales are constants, one for each output channel of a weight and one for all of
an activation (``docs/tensorrt-notes.md``). The rest is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from harness.errors import ModelRefused
from harness.modelfile import WEIGHTED_TYPES
from harness.onnx_facts import called, has_subgraph

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

__all__ = ["Checked", "Graph", "Remark", "check", "check_family"]

_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_INTEGERS = {"int8", "uint8", "int32"}
_SMALLEST = float(np.finfo(np.float32).tiny)
_SHOWN = 3


@dataclass(frozen=True)
class Remark:
    """What is wrong with some scales, but not for every runtime.

    :param kind: ``unsigned``, ``zero-point``, ``int32``, ``axis``, ``per-channel-activation``, ``computed-scale``,
        ``type``, ``blocked``, ``rescaled``, ``nothing-in-int8``: the same for all of a kind.
    :param what: one sentence; :param nodes: every node that it is true of.
    :param todo: what to change.
    :param stops_tensorrt: TensorRT and TensorRT-RTX refuse such a file, or would compute another network.
    """

    kind: str
    what: str
    nodes: tuple[str, ...]
    todo: str
    stops_tensorrt: bool

    def __str__(self) -> str:
        more = f" and {len(self.nodes) - _SHOWN} more" if len(self.nodes) > _SHOWN else ""
        return f"{self.what}: {', '.join(self.nodes[:_SHOWN])}{more}" if self.nodes else self.what


@dataclass(frozen=True)
class Checked:
    """What was read of a file's Q/DQ.

    :param activations: pairs on what is computed; :param weights: constants that are dequantized.
    :param per_channel: how many of the weights have a scale a channel.
    :param operators: Conv, ConvTranspose, Gemm and MatMul whose first two inputs are dequantized.
    :param left: the other ones.
    :param smallest: scale, and :param largest: the largest one; NaN where none is constant.
    """

    activations: int
    weights: int
    per_channel: int
    operators: int
    left: int
    smallest: float
    largest: float
    remarks: tuple[Remark, ...] = ()

    def stops(self, runtime: str) -> list[Remark]:
        """What a family of runtimes cannot take."""
        return [one for one in self.remarks if one.stops_tensorrt and runtime.startswith("tensorrt")]

    def warnings(self, runtime: str) -> list[Remark]:
        """What is worth knowing where the file is taken."""
        return [one for one in self.remarks if one not in self.stops(runtime)]


class Graph:
    """A graph with Q/DQ: who makes a tensor, and which tensors are constant. Subgraphs are not looked into."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.tensors.update((node.output[0], a.t) for a in node.attribute if a.name == "value")

    def quantizers(self) -> Iterator[NodeProto]:
        """Every QuantizeLinear and DequantizeLinear."""
        return (node for node in self.nodes if node.op_type in _PAIR)

    def constant(self, name: str) -> NDArray[Any] | None:
        """A constant's value, through Identity; None for what is computed."""
        while name not in self.tensors and name in self.makers and self.makers[name].op_type == "Identity":
            name = self.makers[name].input[0]
        return numpy_helper.to_array(self.tensors[name]) if name in self.tensors else None

    def scale(self, node: NodeProto) -> NDArray[Any] | None:
        """The scale of a quantizer in float64; None where it is computed."""
        found = self.constant(node.input[1])
        return None if found is None else found.astype(np.float64)

    def zero_point(self, node: NodeProto) -> NDArray[Any] | None:
        """The zero point as it stands there; None where there is none, or it is computed."""
        return self.constant(node.input[2]) if _has_zero_point(node) else None

    def integer(self, node: NodeProto) -> str:
        """The type on the integer side (``int8``); empty where the file does not tell."""
        if _has_zero_point(node):
            zero = self.zero_point(node)
            return "" if zero is None else str(zero.dtype)
        if node.op_type == "QuantizeLinear":  # ONNX operator specification: uint8, but for output_dtype since opset 21
            asked = _attribute(node, "output_dtype", 0)
            return str(helper.tensor_dtype_to_np_dtype(asked)) if asked else "uint8"
        tensor = self.tensors.get(node.input[0])
        if tensor is not None:
            return str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        source = self.makers.get(node.input[0])
        return self.integer(source) if source is not None and source.op_type == "QuantizeLinear" else ""

    def weight(self, node: NodeProto) -> NDArray[Any] | None:
        """The constant that a quantizer works on: its own input, or that of the QuantizeLinear before it."""
        found = self.constant(node.input[0])
        source = self.makers.get(node.input[0])
        if found is None and source is not None and source.op_type == "QuantizeLinear":
            return self.constant(source.input[0])
        return found


def check(model: ModelProto, where: str) -> Checked:
    """Read and check every scale and zero point of a model.

    :param where: the model's file, for messages.
    :raises ModelRefused: a scale that is zero, negative, not finite or subnormal; scales and zero points that do not
        fit each other or the constant that they are for; Q/DQ within control flow.
    """
    for node in model.graph.node:
        if has_subgraph(node):
            raise ModelRefused(
                f"Q/DQ and control flow: {called(node)}", where=where, todo="export it without If, Loop and Scan"
            )
    graph = Graph(model)
    found: dict[str, list[str]] = {}
    scales: list[NDArray[Any]] = []
    activations = weights = per_channel = 0
    for node in graph.quantizers():
        scale = graph.scale(node)
        constant = graph.weight(node)
        if scale is not None:
            _refuse_scale(node, scale, where)
            _refuse_misfit(graph, node, scale, where)
            scales.append(scale.ravel())
        if node.op_type == "DequantizeLinear":
            weights += constant is not None
            activations += constant is None
            per_channel += constant is not None and scale is not None and scale.size > 1
        for kind in _kinds(graph, node, scale, constant):
            found.setdefault(kind, []).append(called(node))
    quantized, left, turned = _operators(graph)
    if turned:
        found["axis"] = turned
    if not quantized:
        found["nothing-in-int8"] = []
    every = np.concatenate(scales) if scales else np.array([np.nan])
    return Checked(
        activations=activations,
        weights=weights,
        per_channel=per_channel,
        operators=quantized,
        left=left,
        smallest=float(every.min()),
        largest=float(every.max()),
        remarks=tuple(_remark(kind, found[kind]) for kind in _SAID if kind in found),
    )


def check_family(checked: Checked, runtime: str, where: str) -> None:
    """Refuse a file that a family of runtimes cannot take.

    :param runtime: ``onnxruntime``, ``tensorrt``, ``tensorrt-rtx``.
    :raises ModelRefused: every reason is named.
    """
    stops = checked.stops(runtime)
    if stops:
        raise ModelRefused(
            f"{runtime} cannot take these Q/DQ: {stops[0]}",
            where=where,
            todo="; ".join(dict.fromkeys(one.todo for one in stops)),
            detail="\n".join(map(str, stops[1:])),
        )


def _remark(kind: str, nodes: list[str]) -> Remark:
    what, todo, stops = _SAID[kind]
    return Remark(kind, what, tuple(nodes), todo, stops)


_SIGNED = "export symmetric int8 for TensorRT: zero points 0, int8 activations, float biases"
_SAID: dict[str, tuple[str, str, bool]] = {
    "unsigned": ("unsigned integers (the form u8s8), which TensorRT takes for signed ones", _SIGNED, True),
    "zero-point": ("zero points other than 0: TensorRT's integers are symmetric", _SIGNED, True),
    "int32": ("int32 before a DequantizeLinear (quantized biases), which TensorRT does not parse", _SIGNED, True),
    "axis": (
        "weights with scales along another axis than the output channels, which no INT8 kernel takes",
        "axis 0 for Conv, 1 for ConvTranspose, the last one for MatMul, 0 for Gemm with transB",
        True,
    ),
    "per-channel-activation": (
        "a scale for each channel of an activation, which no INT8 kernel takes",
        "quantize activations with one scale for all of the tensor",
        True,
    ),
    "computed-scale": (
        "a scale or zero point that is computed and no constant",
        "quantize statically: export scales as constants",
        True,
    ),
    "type": ("integers of another type than int8", "export int8", True),
    "blocked": ("a scale for each block of values, which no INT8 kernel takes", "give one scale a channel", True),
    "rescaled": (
        "a DequantizeLinear with other scales than its QuantizeLinear: values come out multiplied",
        "write one scale into both",
        False,
    ),
    "nothing-in-int8": (
        "no Conv, ConvTranspose, Gemm or MatMul reads two dequantized inputs: nothing computes in INT8",
        "put Q/DQ on the input and the weight of these operators",
        False,
    ),
}  # fmt: skip
"""Kind -> the sentence, what to change, whether it stops TensorRT."""


def _kinds(graph: Graph, node: NodeProto, scale: NDArray[Any] | None, constant: NDArray[Any] | None) -> Iterator[str]:
    zero, integer = graph.zero_point(node), graph.integer(node)
    if scale is None or (zero is None and _has_zero_point(node)):
        yield "computed-scale"
    if integer == "uint8":
        yield "unsigned"
    elif zero is not None and integer in _INTEGERS and zero.any():
        yield "zero-point"
    elif integer == "int32":
        yield "int32"
    elif integer not in _INTEGERS | {""}:
        yield "type"
    if _attribute(node, "block_size", 0):
        yield "blocked"
    elif constant is None and scale is not None and scale.size > 1:
        yield "per-channel-activation"
    source = graph.makers.get(node.input[0])
    if node.op_type == "DequantizeLinear" and source is not None and source.op_type == "QuantizeLinear":
        theirs = graph.scale(source)
        if scale is not None and theirs is not None and not np.array_equal(scale, theirs):
            yield "rescaled"


def _refuse_scale(node: NodeProto, scale: NDArray[Any], where: str) -> None:
    bad = scale[~(np.isfinite(scale) & (scale >= _SMALLEST))].ravel()
    if bad.size or not scale.size:
        first = f", the first is {bad[0]:.3g}" if bad.size else ""
        said = f"{bad.size} of {scale.size} scales are not positive and finite{first}"
        raise ModelRefused(
            f"{called(node)}: {said if scale.size else 'no scale at all'}",
            where=where,
            todo="calibrate or train it again: a channel or tensor that was always 0 needs a scale all the same",
        )


def _refuse_misfit(graph: Graph, node: NodeProto, scale: NDArray[Any], where: str) -> None:
    zero, constant, axis = graph.zero_point(node), graph.weight(node), _attribute(node, "axis", 1)
    todo = "export it again: the file breaks the ONNX operator specification"
    if zero is not None and zero.size != scale.size:
        raise ModelRefused(f"{called(node)}: {scale.size} scales and {zero.size} zero points", where=where, todo=todo)
    if constant is None or scale.size == 1 or _attribute(node, "block_size", 0):
        return
    if not -constant.ndim <= axis < constant.ndim or constant.shape[axis] != scale.size:
        raise ModelRefused(
            f"{called(node)}: {scale.size} scales along axis {axis} of a constant with shape {list(constant.shape)}",
            where=where,
            todo=todo,
        )


def _operators(graph: Graph) -> tuple[int, int, list[str]]:
    """How many weighted operators read two dequantized inputs, how many do not; those whose weights' axis is wrong."""
    quantized, left, turned = 0, 0, []
    for node in graph.nodes:
        if node.op_type not in WEIGHTED_TYPES or node.domain not in {"", "ai.onnx"}:
            continue
        sources = [_dequantizer(graph, name) for name in node.input[:2]]
        if any(source is None for source in sources):
            left += 1
            continue
        quantized += 1
        maker, order = sources[1] or (None, None)
        scale = graph.scale(maker) if maker is not None else None
        constant = graph.weight(maker) if maker is not None else None
        if maker is None or scale is None or constant is None or scale.size == 1 or _attribute(maker, "block_size", 0):
            continue
        axis = _attribute(maker, "axis", 1) % constant.ndim
        if order is not None:
            axis = (order or list(range(constant.ndim))[::-1]).index(axis)
        if axis != _output_axis(node, constant.ndim):
            turned.append(called(node))
    return quantized, left, turned


def _dequantizer(graph: Graph, name: str) -> tuple[NodeProto, list[int] | None] | None:
    """The DequantizeLinear that a tensor comes from, and the order of a Transpose between, if there is one."""
    node, order = graph.makers.get(name), None
    if node is not None and node.op_type == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
        node = graph.makers.get(node.input[0])
    return (node, order) if node is not None and node.op_type == "DequantizeLinear" else None


def _output_axis(node: NodeProto, ndim: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transB", 0) else 1
    return ndim - 1


def _has_zero_point(node: NodeProto) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)
