"""Counts what an optimized ONNX graph computes in INT8 and what in floating point.

A worker has numpy and ONNX Runtime, not necessarily ``onnx``; so this reads the few fields it needs from the
protobuf wire format itself, which is frozen. ONNX Runtime's profiler would name the executed operators too, but it
needs a feed and a run, and its events do not say which operand is a weight.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterator

__all__ = ["weighted_operators"]

# Which operands of an operator may be weights, by its position. Products take a weight on either side.
_FLOAT = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "FusedConv": (1,),
    "NhwcConv": (1,),
    "NhwcFusedConv": (1,),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "FusedMatMulActivation": (0, 1),
    "TransposeMatMul": (0, 1),
    "MatMulNBits": (1,),  # weights of few bits, activations in floating point
    "Gemm": (0, 1),
    "FusedGemm": (0, 1),
    "Attention": (1,),  # three products fused into one
}
_INT8 = {
    "QLinearConv": (3,),
    "QLinearConvTranspose": (3,),
    "ConvInteger": (1,),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
    "MatMulInteger": (0, 1),
    "MatMulInteger16": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (1,),
    "QAttention": (1,),
}
# A weight that was not fused into its operator still arrives through one of these.
_PASSES_ON = {
    "DequantizeLinear",
    "QuantizeLinear",
    "Cast",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Identity",
}

# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 7, 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _TENSOR_NAME, _SPARSE_VALUES = 1, 2, 3, 4, 8, 1


def weighted_operators(model: bytes) -> dict[str, Any]:
    """``{int8, float, operators, in_float}`` of a serialized ModelProto.

    Operators with at least one constant weight, counted by what they compute in, ``{operator type: count}``, and the
    names of those that compute in floating point (what they make, where they have none).
    An operator between Q/DQ nodes that no kernel fused computes in floating point, and is counted there.

    :raises ValueError: the bytes are no protobuf message.
    """
    nodes: list[tuple[str, str, list[str], list[str]]] = []
    constants: set[str] = set()
    for number, value in _fields(_only(model, _MODEL_GRAPH)):
        if number == _GRAPH_NODE:
            nodes.append(_node(value))
        elif number == _GRAPH_INITIALIZER:
            constants.add(_only(value, _TENSOR_NAME).decode())
        elif number == _GRAPH_SPARSE:
            constants.add(_only(_only(value, _SPARSE_VALUES), _TENSOR_NAME).decode())
    counts: "Counter[str]" = Counter()
    in_float = []
    for (
        op_type,
        name,
        inputs,
        outputs,
    ) in nodes:  # in topological order, so what passes a weight on comes before its use
        if op_type == "Constant" or (op_type in _PASSES_ON and inputs[:1] and inputs[0] in constants):
            constants.update(outputs)
        operands = _INT8.get(op_type, ()) + _FLOAT.get(op_type, ())
        if any(inputs[i] in constants for i in operands if i < len(inputs)):
            counts[op_type] += 1
            if op_type in _FLOAT:
                in_float.append(name or outputs[0])
    return {
        "int8": sum(n for op_type, n in counts.items() if op_type in _INT8),
        "float": sum(n for op_type, n in counts.items() if op_type in _FLOAT),
        "operators": dict(sorted(counts.items())),
        "in_float": in_float,
    }


def _node(data: bytes) -> tuple[str, str, list[str], list[str]]:
    op_type, name, inputs, outputs = "", "", [], []
    for number, value in _fields(data):
        if number == _NODE_INPUT:
            inputs.append(value.decode())
        elif number == _NODE_OUTPUT:
            outputs.append(value.decode())
        elif number == _NODE_OP_TYPE:
            op_type = value.decode()
        elif number == _NODE_NAME:
            name = value.decode()
    return op_type, name, inputs, outputs


def _only(data: bytes, wanted: int) -> bytes:
    return next((value for number, value in _fields(data) if number == wanted), b"")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, content) of every length-delimited field; numbers are skipped."""
    at, view = 0, memoryview(data)
    while at < len(view):
        key, at = _varint(view, at)
        wire_type = key & 7
        if wire_type == 0:
            _, at = _varint(view, at)
        elif wire_type == 1:
            at += 8
        elif wire_type == 2:
            size, at = _varint(view, at)
            yield key >> 3, bytes(view[at : at + size])
            at += size
        elif wire_type == 5:
            at += 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {at}: no protobuf message")
    if at != len(view):
        raise ValueError("a field reaches beyond the end: no whole protobuf message")


def _varint(view: "memoryview[int]", at: int) -> tuple[int, int]:
    result, shift = 0, 0
    while True:
        if at >= len(view):
            raise ValueError("a number reaches beyond the end: no whole protobuf message")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, at
        shift += 7
