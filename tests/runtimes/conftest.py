"""Small real models, made with onnx.helper."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def conv_model() -> onnx.ModelProto:
    """x float32 [1, 4, L] -> y float32 [1, 8, L]: one convolution with weights, one product without."""
    weights = np.random.default_rng(0).normal(size=(8, 4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["c", "t"], ["s"]),
        helper.make_node("MatMul", ["s", "c"], ["y"]),
    ]
    return _model(nodes, {"w": weights}, (1, 4, "L"), (1, 8, "L"))


def qdq_conv_model() -> onnx.ModelProto:
    """The convolution alone in u8s8 Q/DQ, with Q/DQ on its output, without which no kernel of the CPU fuses it."""
    weights = np.random.default_rng(0).integers(-127, 128, size=(8, 4, 3), dtype=np.int8)
    nodes = [*_quantized_conv_nodes("c"), *_quantize("c", "y")]
    return _model(nodes, {**_CONSTANTS, "w": weights}, (1, 4, "L"), (1, 8, "L"))


def unfused_conv_model() -> onnx.ModelProto:
    """The same without Q/DQ on the output: the form that TensorRT takes."""
    weights = np.random.default_rng(0).integers(-127, 128, size=(8, 4, 3), dtype=np.int8)
    return _model(_quantized_conv_nodes("y"), {**_CONSTANTS, "w": weights}, (1, 4, "L"), (1, 8, "L"))


_CONSTANTS = {
    "s": np.array(0.05, np.float32),
    "z": np.array(128, np.uint8),
    "ws": np.full(8, 0.01, np.float32),
    "wz": np.zeros(8, np.int8),
}


def _quantize(name: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [result]),
    ]


def _quantized_conv_nodes(result: str) -> list[onnx.NodeProto]:
    return [
        *_quantize("x", "xd"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], [result], pads=[1, 1]),
    ]


def _model(nodes, constants, input_shape, output_shape) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def conv(tmp_path):
    path = tmp_path / "conv.onnx"
    onnx.save(conv_model(), path)
    return path


@pytest.fixture
def qdq_conv(tmp_path):
    path = tmp_path / "qdq.onnx"
    onnx.save(qdq_conv_model(), path)
    return path


@pytest.fixture
def unfused_conv(tmp_path):
    path = tmp_path / "unfused.onnx"
    onnx.save(unfused_conv_model(), path)
    return path
