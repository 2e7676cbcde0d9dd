"""Operations and bytes of every node of an ONNX graph at one length.

A product counts two operations, everything else one an element of what it makes. Bytes are those of inputs, weights
and outputs, each once, whatever a cache does; a view (Reshape, Squeeze) moves none. What only picks some of its input
(Gather, Slice) reads as much as it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from harness.sessions import quiet_options

if TYPE_CHECKING:
    from onnx import NodeProto

    from harness.corpus.samples import Feeds

__all__ = [
    "COMPUTE", "PICK", "SMALL", "VIEWS", "Costs", "NodeCost", "Tensor", "costs", "moved_bytes", "operations",
]  # fmt: skip

_BITS = {
    "float": 32, "double": 64, "float16": 16, "bfloat16": 16, "int64": 64, "uint64": 64, "int32": 32, "uint32": 32,
    "int16": 16, "uint16": 16, "int8": 8, "uint8": 8, "bool": 8, "int4": 4, "uint4": 4, "float32": 32, "float64": 64,
    "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "float8e8m0": 8, "float4e2m1": 4,
    "int2": 2, "uint2": 2, "complex64": 64, "complex128": 128,
}  # fmt: skip
_CONVOLUTIONS = {
    "Conv": 1, "FusedConv": 1, "NhwcConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3,
}  # fmt: skip
"""Operator -> which input holds the weights."""
_TRANSPOSED = {"ConvTranspose": 1, "QLinearConvTranspose": 3}
_PRODUCTS = {
    "MatMul": 0, "FusedMatMul": 0, "TransposeMatMul": 0, "FusedMatMulActivation": 0, "MatMulInteger": 0,
    "MatMulNBits": 0, "MatMulInteger16": 0, "MatMulIntegerToFloat": 0, "DynamicQuantizeMatMul": 0,
    "QLinearMatMul": 0, "Gemm": 0, "FusedGemm": 0, "QGemm": 0,
}  # fmt: skip
"""Operator -> the operand on the left."""
_RECURRENT = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
"""Operator -> its gates."""
_ATTENTION = frozenset({"Attention", "QAttention", "MultiHeadAttention", "GroupQueryAttention"})
COMPUTE = frozenset({*_CONVOLUTIONS, *_TRANSPOSED, *_PRODUCTS, *_RECURRENT, *_ATTENTION, "Einsum"})
"""Operators that multiply matrices."""
VIEWS = frozenset({
    "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size", "Constant", "ConstantOfShape",
})  # fmt: skip
"""Operators that need not move what they are given."""
PICK = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Embedding", "EmbedLayerNormalization"})
"""Operators that read as much as they give."""
SMALL = 1024
"""Elements up to which a constant may be a shape, and is left to shape inference."""


@dataclass(frozen=True)
class Tensor:
    """What is known of a tensor: element type by ONNX's name, dimensions."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements."""
        return prod(self.dims)

    @property
    def bytes(self) -> int:
        return ceil(self.size * _BITS.get(self.dtype, 32) / 8)


@dataclass(frozen=True)
class NodeCost:
    """One node's; None where a shape is not known."""

    name: str
    operator: str
    operations: int | None
    moved_bytes: int | None


@dataclass(frozen=True)
class Costs:
    """Of one graph at one length.

    :param nodes: by name, in graph order. :param tensors: by name, as far as they are known.
    """

    nodes: dict[str, NodeCost] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def costs(model: ModelProto, shapes: Mapping[str, Sequence[int]], feeds: Feeds | None = None) -> Costs:
    """What every node computes and moves.

    :param shapes: graph input -> its dimensions.
    :param feeds: where shape inference ends (a shape that depends on data, an operator it does not know), the model is
        run on these once, and shapes are read off its tensors; without them they stay unknown.
    """
    tensors = _inferred(model, shapes)
    made = [name for node in model.graph.node for name in node.output if name]
    missing = [name for name in made if name not in tensors]
    if missing and feeds is not None:
        tensors.update(_fetched(model, missing, feeds))
    nodes = {}
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        read, written = ([tensors.get(one) for one in names] for names in (node.input, node.output))
        counted = operations(node.op_type, read, written, _attributes(node))
        ends = ([tensors.get(one) for one in dict.fromkeys(names) if one] for names in (node.input, node.output))
        nodes[name] = NodeCost(name, node.op_type, counted, moved_bytes(node.op_type, *ends))
    return Costs(nodes, tensors)


def operations(
    operator: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor | None],
    attributes: Mapping[str, Any] | None = None,
) -> int | None:
    """Multiplications and additions of one node; None where a shape that it takes is not known.

    :param inputs: by position; None for one that is left out or not known.
    """
    if operator in VIEWS:
        return 0
    made = outputs[0] if outputs else None
    if operator in _FORMULAS:
        return _FORMULAS[operator](operator, inputs, made, attributes or {})
    if made is None:
        return None
    return made.size if operator in PICK else max(one.size for one in (made, *inputs[:1]) if one is not None)


def moved_bytes(operator: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor | None]) -> int | None:
    """Bytes of what one node reads and writes, each once; None where one of them is not known.

    :param inputs: without those that are left out, and each once.
    """
    if operator in VIEWS:
        return 0
    if any(one is None for one in outputs):
        return None
    written = sum(one.bytes for one in outputs if one is not None)
    if operator in PICK:
        return 2 * written
    if any(one is None for one in inputs):
        return None
    return written + sum(one.bytes for one in inputs if one is not None)


_Said = Mapping[str, Any]
_Inputs = Sequence[Tensor | None]


def _convolution(operator: str, inputs: _Inputs, made: Tensor | None, said: _Said) -> int | None:
    """Weights are [out, in / groups, kernel...]; those of a transposed one, [in, out / groups, kernel...].

    What a kernel would read beyond the ends of its input is not counted.
    """
    read, weights = _at(inputs, 0), _at(inputs, {**_CONVOLUTIONS, **_TRANSPOSED}[operator])
    if weights is None or read is None or not weights.dims or operator.startswith("Nhwc"):
        return None
    if operator in _TRANSPOSED:
        return 2 * read.size * prod(weights.dims[1:])
    if made is None:
        return None
    kernel, sizes, steps = weights.dims[2:], read.dims[2:], made.dims[2:]
    axes = range(min(len(kernel), len(sizes), len(steps)))
    taps = prod(_taps(axis, kernel[axis], sizes[axis], steps[axis], said) for axis in axes)
    return 2 * made.dims[0] * made.dims[1] * weights.dims[1] * taps


def _taps(axis: int, kernel: int, size: int, steps: int, said: _Said) -> int:
    """How often a kernel's elements along one axis meet an element of the input, over all places of the kernel.

    Element k of the kernel at place t reads t * stride - begin + k * dilation: for each k the places are a range.
    """
    stride, dilation = (_of_axis(said.get(name), axis, 1) for name in ("strides", "dilations"))
    pad = str(said.get("auto_pad", "NOTSET"))
    begin = _of_axis(said.get("pads"), axis, 0) if pad == "NOTSET" else 0
    if pad.startswith("SAME"):
        total = max(0, (steps - 1) * stride + (kernel - 1) * dilation + 1 - size)
        begin = total // 2 if pad == "SAME_UPPER" else total - total // 2
    offset = begin - np.arange(kernel) * dilation
    first, last = np.maximum(0, -(-offset // stride)), np.minimum(steps - 1, (size - 1 + offset) // stride)
    return int(np.maximum(0, last - first + 1).sum())


def _of_axis(values: Sequence[int] | None, axis: int, default: int) -> int:
    return int(values[axis]) if values and axis < len(values) else default


def _product(operator: str, inputs: _Inputs, made: Tensor | None, said: _Said) -> int | None:
    left = _at(inputs, _PRODUCTS[operator])
    if made is None or left is None or not left.dims:
        return None
    turned = said.get("transA", 0) and len(left.dims) > 1
    return 2 * made.size * left.dims[-2 if turned else -1]


def _recurrent(operator: str, inputs: _Inputs, _: Tensor | None, __: _Said) -> int | None:
    """Input [steps, batch, width]; weights [directions, gates * hidden, width], recurrence [.., .., hidden]."""
    read, weights, recurrence = (_at(inputs, index) for index in range(3))
    if read is None or weights is None or recurrence is None:
        return None
    if any(len(one.dims) != len(("steps", "batch", "width")) for one in (read, weights, recurrence)):
        return None
    steps, batch, width = read.dims
    hidden = min(recurrence.dims[1:])
    return 2 * weights.dims[0] * steps * batch * _RECURRENT[operator] * hidden * (width + hidden)


def _attention(_: str, inputs: _Inputs, made: Tensor | None, __: _Said) -> int | None:
    """Input [batch, length, width]: two products of activations, and that of its own weights [width, ..] if any."""
    read, second = _at(inputs, 0), _at(inputs, 1)
    ranks = {len(("batch", "length", "width")), len(("batch", "heads", "length", "width"))}
    if made is None or read is None or len(read.dims) not in ranks:
        return None
    length = read.dims[-2]
    own = second is not None and len(second.dims) == len(("width", "projected"))
    projected = 2 * read.size * second.dims[-1] if own and second is not None else 0
    other = length if own or second is None else second.dims[-2]
    return projected + 4 * made.size * other


def _einsum(_: str, inputs: _Inputs, __: Tensor | None, said: _Said) -> int | None:
    left = str(said.get("equation", "")).replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for labels, one in zip(left, inputs, strict=False):
        if one is None or "." in labels or len(labels) != len(one.dims):
            return None
        sizes.update(zip(labels, one.dims, strict=True))
    if not sizes or len(left) > 2:  # the order of several products is the runtime's to choose
        return None
    return len(left) * prod(sizes.values())


_FORMULAS: dict[str, Callable[[str, _Inputs, Tensor | None, _Said], int | None]] = {
    **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED), _convolution),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(_RECURRENT, _recurrent),
    **dict.fromkeys(_ATTENTION, _attention),
    "Einsum": _einsum,
}


def _at(found: Sequence[Tensor | None], index: int) -> Tensor | None:
    return found[index] if index < len(found) else None


def _attributes(node: NodeProto) -> dict[str, Any]:
    wanted = {"transA", "equation", "pads", "strides", "dilations", "auto_pad"}
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute if one.name in wanted}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _inferred(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Every tensor whose shape follows from those of the inputs; large weights travel as their shapes alone."""
    bare = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = bare.graph, model.graph
    graph.name = source.name or "graph"
    graph.node.extend(source.node)
    weights = {one.name: one for one in source.initializer}
    for name, one in weights.items():
        if prod(one.dims) > SMALL:
            graph.input.append(onnx.helper.make_tensor_value_info(name, one.data_type, one.dims))
        else:
            graph.initializer.append(one)
    for value in source.input:
        if value.name not in weights:
            kind = value.type.tensor_type.elem_type
            known = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
            graph.input.append(onnx.helper.make_tensor_value_info(value.name, kind, shapes.get(value.name, known)))
    for value in source.output:
        graph.output.append(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None))
    found = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    tensors = {name: Tensor(_dtype(one.data_type), tuple(one.dims)) for name, one in weights.items()}
    for value in (*found.input, *found.value_info, *found.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            tensors[value.name] = Tensor(_dtype(kind.elem_type), tuple(dim.dim_value for dim in kind.shape.dim))
    return tensors


def _fetched(model: ModelProto, names: Sequence[str], feeds: Feeds) -> dict[str, Tensor]:
    import onnxruntime

    wide = ModelProto()
    wide.CopyFrom(model)
    there = {value.name for value in wide.graph.output}
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(wide.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(list(names), dict(feeds))
    types = {"float32": "float", "float64": "double"}
    return {
        name: Tensor(types.get(str(value.dtype), str(value.dtype)), tuple(value.shape))
        for name, value in zip(names, outputs, strict=True)
        if hasattr(value, "dtype")  # a sequence has none
    }


def _dtype(kind: int) -> str:
    return TensorProto.DataType.Name(kind).lower() if kind else "unknown"
