"""Small ONNX models, each with what one rule of TensorRT is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
C, OUT = 4, 8


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: dict[str, Any]) -> bytes:
    """A serialized model; inputs and outputs are ``{name: (element type, shape)}``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(content.SerializeToString())


def conv() -> bytes:
    """x [1, 4, T] -> Conv, Relu -> y [1, 8, T]: the varying axis is the innermost."""
    weight = np.random.default_rng(0).normal(size=(OUT, C, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    return model(nodes, {"x": (FLOAT, [1, C, "T"])}, {"y": (FLOAT, [1, OUT, "T"])}, {"w": weight})


def matmul() -> bytes:
    """x [T, 4] -> MatMul -> y [T, 8]: the varying axis is the outermost."""
    weight = np.random.default_rng(0).normal(size=(C, OUT)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    return model(nodes, {"x": (FLOAT, ["T", C])}, {"y": (FLOAT, ["T", OUT])}, {"w": weight})


def conv_and_product(random: np.random.Generator) -> bytes:
    """x [N, 4, T] -> Conv, Relu, Transpose, MatMul -> y [N, T, 5]: one operator of each kind, its batch open."""
    weights = {"w": random.normal(size=(OUT, C, 3)), "m": random.normal(size=(OUT, 5))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "m"], ["y"], "product"),
    ]
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    return model(nodes, {"x": (FLOAT, ["N", C, "T"])}, {"y": (FLOAT, ["N", "T", 5])}, floats)


def write_samples(folder: Path, random: np.random.Generator) -> None:
    """Six samples ``x`` float32 [1, 4, length] of six lengths, an ``.npz`` each, in a new folder."""
    folder.mkdir()
    for length in (5, 8, 11, 14, 20, 30):
        np.savez(folder / f"{length}.npz", x=random.normal(size=(1, C, length)).astype(np.float32))


def nonzero() -> bytes:
    """x [1, 4, T] -> y [3, ?] int64: how many are not zero is known only afterwards."""
    return model(
        [helper.make_node("NonZero", ["x"], ["y"])], {"x": (FLOAT, [1, C, "T"])}, {"y": (INT64, [3, None])}, {}
    )


def quantized(zero: int = 0, dtype: str = "int8", scale: float = 0.05, weight_rank: int = 3) -> bytes:
    """Q/DQ at both operands of a Conv (rank 3) or a MatMul (rank 2)."""
    generator = np.random.default_rng(0)
    shape = (OUT, C, 3) if weight_rank == 3 else (C, OUT)
    weights = {
        "s": np.array(scale, np.float32),
        "z": np.array(zero, dtype),
        "q": generator.integers(-127, 128, shape, np.int8),
        "ws": np.array(0.01, np.float32),
        "wz": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="xq"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="xdq"),
        helper.make_node("DequantizeLinear", ["q", "ws", "wz"], ["wd"], name="wdq"),
        helper.make_node("Conv", ["xd", "wd"], ["y"], name="conv", pads=[1, 1])
        if weight_rank == 3
        else helper.make_node("MatMul", ["xd", "wd"], ["y"], name="product"),
    ]
    ends: dict[int, tuple[list[Any], list[Any]]] = {
        3: ([1, C, "T"], [1, OUT, "T"]),
        2: (["T", C], ["T", OUT]),
    }
    x, y = ends[weight_rank]
    return model(nodes, {"x": (FLOAT, x)}, {"y": (FLOAT, y)}, weights)
