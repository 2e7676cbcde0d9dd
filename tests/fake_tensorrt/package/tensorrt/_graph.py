"""What the stand-in reads off an ONNX graph, and the changes that stand for a precision."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_DATA_DEPENDENT = ("NonZero", "Compress", "NonMaxSuppression", "Unique")
_SHAPE_OPERANDS = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2), "ConstantOfShape": (0,), "Range": (0, 1, 2),
    "Resize": (3,), "Pad": (1,), "TopK": (1,),
}  # fmt: skip
_PASSING = ("Cast", "Concat", "Gather", "Unsqueeze", "Squeeze", "Add", "Sub", "Mul", "Div", "Identity", "Min", "Max")
_LAYER_TYPES = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY",
    "Relu": "ACTIVATION", "Sigmoid": "ACTIVATION", "Tanh": "ACTIVATION", "Softmax": "SOFTMAX", "Add": "ELEMENTWISE",
    "Mul": "ELEMENTWISE", "Sub": "ELEMENTWISE", "Div": "ELEMENTWISE", "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE", "Gather": "GATHER", "Concat": "CONCATENATION", "Slice": "SLICE",
    "ReduceMean": "REDUCE", "Shape": "SHAPE", "NonZero": "NON_ZERO", "LayerNormalization": "NORMALIZATION",
}  # fmt: skip


def layer_type(op_type: str) -> str:
    return _LAYER_TYPES.get(op_type, "SHUFFLE")


def named(model: Any) -> Iterator[tuple[Any, str]]:
    """Every node that is a layer, with the layer's name."""
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Constant":
            yield node, _name(index, node)


def _name(index: int, node: Any) -> str:
    return node.name or f"{node.op_type}_{index}"


def with_initializers(model: Any) -> Any:
    """The same model with its Constant nodes turned into initializers: a weight is a weight wherever it stands."""
    kept = []
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
            continue
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def shapes(model: Any) -> dict[str, tuple[int, list[int | None]]]:
    """Tensor -> (ONNX element type, dims with None for what varies), of all that shape inference knows."""
    found = {}
    for value in (*model.graph.value_info, *model.graph.output, *model.graph.input):
        tensor = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        found[value.name] = (tensor.elem_type, dims)
    for tensor in model.graph.initializer:
        found[tensor.name] = (tensor.data_type, list(tensor.dims))
    return found


def fixed(model: Any, at: Mapping[str, Any]) -> dict[str, tuple[int, list[int | None]]]:
    """:func:`shapes` of the model with its inputs at these shapes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        if value.name in at:
            for dim, size in zip(value.type.tensor_type.shape.dim, at[value.name], strict=True):
                dim.Clear()
                dim.dim_value = int(size)
    for value in copy.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()
    return shapes(onnx.shape_inference.infer_shapes(copy, data_prop=True))


def activation_bytes(model: Any, at: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of all node outputs with the inputs at these shapes, and of the largest one."""
    known = fixed(model, at)
    sizes = [0]
    for node in model.graph.node:
        for output in node.output:
            kind, dims = known.get(output, (1, []))
            if all(isinstance(d, int) for d in dims):
                sizes.append(int(np.prod(dims, dtype=np.int64)) * _item_bytes(kind))
    return sum(sizes), max(sizes)


def weight_bytes(model: Any) -> int:
    return sum(int(np.prod(t.dims, dtype=np.int64)) * _item_bytes(t.data_type) for t in model.graph.initializer)


def _item_bytes(kind: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 4


def shape_inputs(model: Any) -> set[str]:
    """Integer inputs whose values decide a shape."""
    wanted = {
        node.input[i] for node in model.graph.node for i in _SHAPE_OPERANDS.get(node.op_type, ()) if i < len(node.input)
    }
    for node in reversed(model.graph.node):
        if node.op_type in _PASSING and set(node.output) & wanted:
            wanted.update(node.input)
    integer = (TensorProto.INT32, TensorProto.INT64)
    return {v.name for v in model.graph.input if v.name in wanted and v.type.tensor_type.elem_type in integer}


def data_dependent_outputs(model: Any) -> set[str]:
    """Outputs whose shape is known only after the network ran: varying, and below one of the operators that do it."""
    tainted: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _DATA_DEPENDENT or set(node.input) & tainted:
            tainted.update(node.output)
    known = shapes(model)
    return {v.name for v in model.graph.output if v.name in tainted and None in known[v.name][1]}


def is_quantized(model: Any) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def float_tensors(model: Any) -> list[str]:
    """Inputs and node outputs of type float, in the graph's order, without constants."""
    known = shapes(model)
    constant = {t.name for t in model.graph.initializer}
    names = [v.name for v in model.graph.input if v.name not in constant]
    names += [o for node in model.graph.node if node.op_type != "Constant" for o in node.output if o]
    return [n for n in names if known.get(n, (0, []))[0] == TensorProto.FLOAT]


def observed(model: Any) -> Any:
    """The model with every float tensor an output, so that a calibration can look at it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {v.name for v in (*copy.graph.output, *copy.graph.input)}
    for name in float_tensors(model):
        if name not in there:
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return copy


def with_scales(model: Any, scales: Mapping[str, float]) -> tuple[Any, list[str], list[str]]:
    """The model that an INT8 engine of these scales stands for.

    Every weighted operator whose activation inputs have a scale reads them through Q/DQ; its constant weights are
    rounded per output channel (largest magnitude / 127).

    :returns: the model, names of the quantized layers, tensors whose scale is missing.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {t.name: t for t in copy.graph.initializer}
    nodes: list[Any] = []
    quantized: list[str] = []
    missing: list[str] = []
    rounded: dict[str, str] = {}
    for index, node in enumerate(list(copy.graph.node)):
        if node.op_type in WEIGHTED and node.input[0] not in weights:
            activations = [i for i in range(2) if node.input[i] not in weights]
            lacking = [node.input[i] for i in activations if node.input[i] not in scales]
            missing += lacking
            if not lacking:
                for position in activations:
                    name = node.input[position]
                    if name not in rounded:
                        rounded[name] = f"{name}__int8"
                        nodes += _pair(copy, name, scales[name], rounded[name])
                    node.input[position] = rounded[name]
                if 1 not in activations:
                    axis = 0 if node.op_type == "Conv" else -1
                    fresh = f"{node.input[1]}__int8_{len(quantized)}"
                    copy.graph.initializer.append(
                        numpy_helper.from_array(_rounded(numpy_helper.to_array(weights[node.input[1]]), axis), fresh)
                    )
                    node.input[1] = fresh
                quantized.append(_name(index, node))
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    _drop_unused(copy)
    return copy, quantized, list(dict.fromkeys(missing))


def with_half_weights(model: Any) -> Any:
    """The model with its float weights rounded to FP16: what stands for the FP16 flag."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                half = np.clip(values, -65504, 65504).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    return copy


def _pair(model: Any, name: str, scale: float, output: str) -> list[Any]:
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array(scale or 1.0, np.float32), f"{output}_scale"),
        numpy_helper.from_array(np.array(0, np.int8), f"{output}_zero"),
    ])  # fmt: skip
    behind = [f"{output}_scale", f"{output}_zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *behind], [f"{output}_q"], name=f"{output}_quantize"),
        helper.make_node("DequantizeLinear", [f"{output}_q", *behind], [output], name=f"{output}_dequantize"),
    ]


def _rounded(values: Any, axis: int) -> Any:
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest == 0, 1, largest / np.float32(127)).astype(np.float32)
    return (np.clip(np.rint(values / scale), -127, 127) * scale).astype(np.float32)


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input} | {v.name for v in model.graph.output}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
