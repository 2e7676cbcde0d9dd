"""What is said of a file's own scales: every fault is planted in a sound file of ONNX Runtime's own writer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.calibration.ready import check, check_family
from harness.errors import ModelRefused

INT8 = np.int8


def linear(name, values, scale, zero, axis=None):
    """``values`` int8 before a DequantizeLinear, as a node and initializers."""
    made = {name: values, f"{name}_s": np.asarray(scale, np.float32), f"{name}_z": np.asarray(zero)}
    attributes = {} if axis is None else {"axis": axis}
    return helper.make_node("DequantizeLinear", list(made), [f"{name}_f"], name=f"{name}_dq", **attributes), made


def model(weighted="Conv", axis=0, scales=4, w=(4, 2, 3), between=(), x_zero=0):
    """``x`` through a pair into a weighted operator, whose weights have a scale a channel."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.02, scales).astype(np.float32) if scales > 1 else np.float32(0.01)
    values = rng.integers(-127, 128, w).astype(INT8)
    weight, made = linear("w", values, scale, np.zeros(np.shape(scale), INT8), axis)
    made |= {"x_s": np.float32(0.05), "x_z": np.asarray(x_zero or INT8(0))}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"], name="x_q"),
        helper.make_node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"], name="x_dq"),
        weight,
        *between,
        helper.make_node(weighted, ["x_f", between[-1].output[0] if between else "w_f"], ["y"], name="op"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in made.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put(proto, name, value):
    (tensor,) = (one for one in proto.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    return proto


def kinds(proto):
    return [one.kind for one in check(proto, "net.onnx").remarks]


def test_a_sound_file():
    found = check(model(), "net.onnx")
    assert (found.remarks, found.activations, found.weights, found.per_channel) == ((), 1, 1, 1)
    assert (found.operators, found.left) == (1, 0)
    assert found.smallest < 0.02 < found.largest == pytest.approx(0.05)
    for runtime in ("onnxruntime", "tensorrt", "tensorrt-rtx"):
        check_family(found, runtime, "net.onnx")


@pytest.mark.parametrize(
    ("scale", "says"),
    [(0.0, "the first is 0"), (-0.1, "the first is -0.1"), (math.nan, "nan"), (math.inf, "inf"), (1e-40, "1e-40")],
)
def test_no_scale(scale, says):
    with pytest.raises(ModelRefused, match=rf"QuantizeLinear 'x_q': 1 of 1 scales .*{says}") as error:
        check(put(model(), "x_s", np.float32(scale)), "net.onnx")
    assert error.value.where == "net.onnx"


def test_one_dead_channel():
    with pytest.raises(ModelRefused, match="DequantizeLinear 'w_dq': 1 of 4 scales are not positive"):
        check(put(model(), "w_s", np.array([0.1, 0.0, 0.1, 0.1], np.float32)), "net.onnx")


def test_scales_that_do_not_fit():
    with pytest.raises(ModelRefused, match=r"4 scales along axis 2 of a constant with shape \[4, 2, 3\]"):
        check(model(axis=2), "net.onnx")
    with pytest.raises(ModelRefused, match="4 scales along axis 5"):
        check(model(axis=5), "net.onnx")
    with pytest.raises(ModelRefused, match="4 scales and 3 zero points"):
        check(put(model(), "w_z", np.zeros(3, INT8)), "net.onnx")


FAULTS = {
    "unsigned": (lambda: put(model(), "x_z", np.uint8(0)), "tensorrt"),
    "unsigned, no zero point": (lambda: _without_zero_point(model()), "tensorrt"),
    "zero-point": (lambda: model(x_zero=INT8(3)), "tensorrt"),
    "int32": (lambda: _with_bias(model()), "tensorrt"),
    "type": (lambda: put(put(model(), "w", np.zeros((4, 2, 3), np.int16)), "w_z", np.zeros(4, np.int16)), "tensorrt"),
    "axis": (lambda: model(axis=1, scales=2), "tensorrt"),
    "per-channel-activation": (
        lambda: put(put(model(), "x_s", np.full(2, 0.1, np.float32)), "x_z", np.zeros(2, INT8)),
        "tensorrt",
    ),
    "computed-scale": (lambda: _with_computed_scale(model()), "tensorrt"),
    "rescaled": (lambda: _rescaled(model()), ""),
    "nothing-in-int8": (lambda: _float_input(model()), ""),
}


def _without_zero_point(proto):
    for node in proto.graph.node[:2]:
        del node.input[2]
    return proto


def _with_bias(proto):
    node, made = linear("b", np.zeros(4, np.int32), 0.001, np.int32(0))
    proto.graph.node.insert(0, node)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    proto.graph.node[-1].input.append("b_f")
    return proto


def _with_computed_scale(proto):
    proto.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0))
    for node in proto.graph.node[1:3]:
        node.input[1] = "top"
    return proto


def _rescaled(proto):
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.07), "other"))
    proto.graph.node[1].input[1] = "other"
    return proto


def _float_input(proto):
    proto.graph.node[-1].input[0] = "x"
    return proto


@pytest.mark.parametrize("fault", FAULTS)
def test_planted(fault):
    """Found, alone; it stops TensorRT where TensorRT could not compute it, and no other runtime."""
    make, stops = FAULTS[fault]
    found = check(make(), "net.onnx")
    assert [one.kind for one in found.remarks] == [fault.partition(",")[0]]
    check_family(found, "onnxruntime", "net.onnx")
    assert found.warnings("onnxruntime") == list(found.remarks)
    if stops:
        for runtime in ("tensorrt", "tensorrt-rtx"):
            with pytest.raises(ModelRefused, match=f"{runtime} cannot take these Q/DQ"):
                check_family(found, runtime, "net.onnx")
    else:
        check_family(found, "tensorrt", "net.onnx")


@pytest.mark.parametrize(
    ("weighted", "w", "right"), [("Conv", (4, 2, 3), 0), ("ConvTranspose", (2, 4, 3), 1), ("MatMul", (3, 5), 1)]
)
def test_output_channels(weighted, w, right):
    """The right axis is the operator's own, whatever others are called."""
    assert kinds(model(weighted, axis=right, scales=w[right], w=w)) == []
    assert kinds(model(weighted, axis=1 - right, scales=w[1 - right], w=w)) == ["axis"]
    assert kinds(model(weighted, axis=right - len(w), scales=w[right], w=w)) == []


@pytest.mark.parametrize(("transposed", "right"), [(0, 1), (1, 0)])
def test_gemm(transposed, right):
    proto = model("Gemm", axis=right, scales=(3, 5)[right], w=(3, 5))
    proto.graph.node[-1].attribute.append(helper.make_attribute("transB", transposed))
    assert kinds(proto) == []


def test_through_a_transpose():
    """PyTorch's exporter quantizes a Linear's weights [out, in] and turns them for MatMul."""
    turn = helper.make_node("Transpose", ["w_f"], ["w_t"], perm=[1, 0])
    assert kinds(model("MatMul", axis=0, scales=5, w=(5, 3), between=[turn])) == []
    assert kinds(model("MatMul", axis=1, scales=3, w=(5, 3), between=[turn])) == ["axis"]


def test_many_are_named_in_short():
    proto = put(model(), "x_z", np.uint8(0))
    for number in range(4):
        name = f"q{number}"
        proto.graph.node.append(helper.make_node("QuantizeLinear", ["y", "x_s", "x_z"], [name], name=name))
    (remark, *_) = check(proto, "net.onnx").remarks
    assert str(remark).endswith("QuantizeLinear 'x_q', DequantizeLinear 'x_dq', QuantizeLinear 'q0' and 3 more")


def test_control_flow():
    proto = model()
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("If", ["c"], [], name="branch", then_branch=body, else_branch=body))
    with pytest.raises(ModelRefused, match="control flow: If 'branch'"):
        check(proto, "net.onnx")
