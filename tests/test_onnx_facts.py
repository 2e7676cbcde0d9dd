from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.onnx_facts import unsigned_quantizers

INT8, UINT8 = np.int8, np.uint8


def model(*nodes, **weights):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def quantize(*inputs, **attributes):
    return helper.make_node("QuantizeLinear", inputs, ["q"], name="quantize", **attributes)


def dequantize(*inputs):
    return helper.make_node("DequantizeLinear", inputs, ["y"], name="dequantize")


SCALE = np.float32(0.1)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (model(quantize("x", "s", "z"), dequantize("q", "s", "z"), s=SCALE, z=INT8(0)), []),
        (
            model(quantize("x", "s", "z"), dequantize("q", "s", "z"), s=SCALE, z=UINT8(0)),
            ["quantize", "dequantize"],
        ),
        (
            model(quantize("x", "s", "z"), dequantize("q", "s", "z"), s=SCALE, z=np.uint16(9)),
            ["quantize", "dequantize"],
        ),
        (model(constant("z", UINT8(3)), quantize("x", "s", "z"), dequantize("q", "s"), s=SCALE), ["quantize"]),
        (model(constant("z", INT8(0)), quantize("x", "s", "z"), dequantize("q", "s"), s=SCALE), []),
        (model(quantize("x", "s"), dequantize("q", "s"), s=SCALE), ["quantize"]),
        (model(quantize("x", "s", ""), dequantize("q", "s"), s=SCALE), ["quantize"]),
        (model(quantize("x", "s", output_dtype=int(TensorProto.INT8)), dequantize("q", "s"), s=SCALE), []),
        (model(quantize("x", "s", output_dtype=int(TensorProto.UINT8)), dequantize("q", "s"), s=SCALE), ["quantize"]),
        (model(dequantize("w", "s"), s=SCALE, w=np.array([200], UINT8)), ["dequantize"]),
        (model(dequantize("w", "s"), s=SCALE, w=np.array([-100], INT8)), []),
        (model(helper.make_node("Relu", ["x"], ["y"])), []),
    ],
)
def test_what_quantizes_to_unsigned_integers(made, found):
    assert [node.name for node in unsigned_quantizers(made)] == found


def test_one_in_a_branch():
    branch = helper.make_graph(
        [quantize("x", "s"), dequantize("q", "s")],
        "branch",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T"])],
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    made = model(choice, s=SCALE, c=np.bool_(True))
    onnx.checker.check_model(made)
    assert [node.name for node in unsigned_quantizers(made)] == ["quantize"] * 2
