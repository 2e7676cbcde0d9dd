"""Counts what an optimized ONNX graph computes in INT8 and what in floating point.

ONNX Runtime's profiler would name the executed operators too, but it needs a feed and a run, and its events do not
say which operand is a weight.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from .protobuf import fields, numbers, only

__all__ = ["INT8_OPERATORS", "Node", "read_graph", "weighted_operators"]

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
INT8_OPERATORS = {
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
"""Operators that compute in INT8 -> which of their operands may be weights."""
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
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_DOMAIN = 1, 2, 3, 4, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _SPARSE_VALUES, _SPARSE_DIMS = 1, 2, 8, 1, 3
_DTYPES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64", 16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip


class Node(NamedTuple):
    """A node as the file has it."""

    operator: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]


def read_graph(model: bytes) -> "tuple[list[Node], dict[str, tuple[str, list[int]]]]":
    """Nodes of a serialized ModelProto in its order; initializer -> its element type and dimensions.

    :raises ValueError: the bytes are no protobuf message.
    """
    nodes: list[Node] = []
    constants: dict[str, tuple[str, list[int]]] = {}
    for number, value in fields(only(model, _MODEL_GRAPH)):
        if number == _GRAPH_NODE:
            nodes.append(_node(value))
        elif number == _GRAPH_INITIALIZER:
            constants[only(value, _TENSOR_NAME).decode()] = (_type(value), numbers(value, _TENSOR_DIMS))
        elif number == _GRAPH_SPARSE:
            values = only(value, _SPARSE_VALUES)
            constants[only(values, _TENSOR_NAME).decode()] = (_type(values), numbers(value, _SPARSE_DIMS))
    return nodes, constants


def weighted_operators(model: bytes) -> dict[str, Any]:
    """``{int8, float, operators, in_float}`` of a serialized ModelProto.

    Operators with at least one constant weight, counted by what they compute in, ``{operator type: count}``, and the
    names of those that compute in floating point (what they make, where they have none).
    An operator between Q/DQ nodes that no kernel fused computes in floating point, and is counted there.

    :raises ValueError: the bytes are no protobuf message.
    """
    nodes, initializers = read_graph(model)
    constants = set(initializers)
    counts: "Counter[str]" = Counter()
    in_float = []
    for node in nodes:  # in topological order, so what passes a weight on comes before its use
        op_type, inputs = node.operator, node.inputs
        if op_type == "Constant" or (op_type in _PASSES_ON and inputs[:1] and inputs[0] in constants):
            constants.update(node.outputs)
        operands = INT8_OPERATORS.get(op_type, ()) + _FLOAT.get(op_type, ())
        if any(inputs[i] in constants for i in operands if i < len(inputs)):
            counts[op_type] += 1
            if op_type in _FLOAT:
                in_float.append(node.name or node.outputs[0])
    return {
        "int8": sum(n for op_type, n in counts.items() if op_type in INT8_OPERATORS),
        "float": sum(n for op_type, n in counts.items() if op_type in _FLOAT),
        "operators": dict(sorted(counts.items())),
        "in_float": in_float,
    }


def _node(data: bytes) -> Node:
    texts: "dict[int, list[str]]" = {}
    for number, value in fields(data):
        if number in {_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_DOMAIN}:
            texts.setdefault(number, []).append(value.decode())
    op_type, domain, name = (texts.get(one, [""])[-1] for one in (_NODE_OP_TYPE, _NODE_DOMAIN, _NODE_NAME))
    return Node(op_type, domain, name, texts.get(_NODE_INPUT, []), texts.get(_NODE_OUTPUT, []))


def _type(tensor: bytes) -> str:
    return _DTYPES.get(next(iter(numbers(tensor, _TENSOR_TYPE)), 0), "unknown")
