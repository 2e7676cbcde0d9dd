"""Files with Q/DQ of their own: the float graph in them, and the form that a runtime takes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.calibration.artefacts import int8
from harness.errors import ModelRefused, UsageError
from harness.modelfile import prepare
from harness.onnx_facts import read_facts
from harness.ready import check_same_interface, checked, float_form, for_runtime, is_ready, without_qdq
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model
from harness.weights import weight_bytes

MODEL = Model(key="small", axes=(Axis("x", 2),), axis_name="T", minimum=8, maximum=64, opt=20)
RANGES = {"x": (-4.0, 4.0), "r": (0.0, 12.0), "h": (-12.0, 12.0), "y": (-10.0, 10.0)}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=Dialect)
def quantized(request, own_model):
    return int8(prepare(own_model, MODEL), RANGES, request.param)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(2).standard_normal((1, 1, 40)).astype(np.float32)}


def test_what_is_ready(own_model, quantized):
    assert is_ready(read_facts(quantized))
    assert not is_ready(read_facts(own_model))


def test_float_form(own_model, quantized, feeds):
    """No Q/DQ are left, weights are what the integers stand for, and it computes FP32 less their rounding."""
    made = float_form(quantized)
    assert not is_ready(read_facts(made))
    kept = {n.op_type for n in onnx.load(made).graph.node}
    assert kept - {"Identity"} == {"Conv", "Relu"}  # one keeps the name of an output that had Q/DQ
    right, ours = run(own_model, feeds), run(made, feeds)
    error = np.sqrt(np.mean((right - ours) ** 2) / np.mean(right**2))
    assert 1e-4 < error < 0.01
    weights = [numpy_helper.to_array(t) for t in onnx.load(made).graph.initializer]
    (second,) = (w for w in weights if w.shape == (64, 64, 9))
    steps = second / (np.abs(second).max(axis=(1, 2), keepdims=True) / 127)
    assert np.abs(steps - np.round(steps)).max() < 1e-4
    prepare(made, MODEL)


def test_an_output_of_its_own_pair_keeps_its_name(own_model, feeds):
    made = without_qdq(onnx.load(int8(prepare(own_model, MODEL), RANGES, Dialect.U8S8)), "x")
    assert [value.name for value in made.graph.output] == ["y"]
    assert run(made.SerializeToString(), feeds).shape == (1, 64, 40)


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_form_for_tensorrt(own_model, version, feeds):
    """The same numbers to the last bit; before 10 weights are stored in float, and quantized in the model."""
    path = int8(prepare(own_model, MODEL), RANGES, Dialect.S8S8)
    made = for_runtime(path, "tensorrt", version, MODEL)
    assert np.array_equal(run(path, feeds), run(made, feeds))
    graph = onnx.load(made).graph
    stored = {n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    in_float = not stored & {tensor.name for tensor in graph.initializer}
    assert in_float == (version == "8.6.0")
    assert all(any(a.name == "kernel_shape" for a in n.attribute) for n in graph.node if n.op_type == "Conv")
    assert weight_bytes(made, None) == 64 * 9 + 64 * 64 * 9 == weight_bytes(own_model, None) / 4
    checked(made)


def test_other_runtimes_take_the_file_itself(quantized):
    assert for_runtime(quantized, "onnxruntime", "1.32.0", MODEL) == quantized


def test_external_data_come_along(quantized, tmp_path, feeds):
    apart = tmp_path / "apart" / "model.onnx"
    apart.parent.mkdir()
    onnx.save(
        onnx.load(quantized), apart, save_as_external_data=True, location="weights.bin", size_threshold=64,
    )  # fmt: skip
    made = for_runtime(apart, "onnxruntime", "1.32.0", MODEL)
    assert made != apart
    assert np.array_equal(run(made, feeds), run(quantized, feeds))


def chain(*nodes, outputs=("y",), element=onnx.TensorProto.FLOAT):
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "chain",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, "T"])],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in {"s": np.float32(0.1), "t": np.float32(0.2), "z": np.int8(0)}.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


Q, DQ = ("QuantizeLinear", ["x", "s", "z"], ["q"]), ("DequantizeLinear", ["q", "s", "z"], ["y"])


def test_what_only_moves_integers_moves_floats():
    turned = chain(Q, ("Transpose", ["q"], ["p"]), ("DequantizeLinear", ["p", "s", "z"], ["f"]), ("Relu", ["f"], ["y"]))
    x = np.random.default_rng(0).standard_normal((1, 4, 5)).astype(np.float32)
    made = without_qdq(turned, "chain.onnx")
    assert np.array_equal(run(made.SerializeToString(), {"x": x}), np.maximum(x.T, 0))


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (chain(Q, ("DequantizeLinear", ["q", "t", "z"], ["y"])), "has other scales than"),
        (chain(Q, DQ, ("Sign", ["q"], ["w"]), outputs=("y",)), "computes on quantized integers"),
        (chain(Q, outputs=("q",), element=onnx.TensorProto.INT8), "the output 'q' is quantized"),
        (chain(("Cast", ["x"], ["q"]), DQ), "computes on quantized integers"),
    ],
)
def test_no_pairs(proto, says):
    with pytest.raises(ModelRefused, match=says) as error:
        without_qdq(proto, "chain.onnx")
    assert "--float" in error.value.todo


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        (np.float32(np.nan), "not positive and finite, the first is nan"),
        (np.zeros(0, np.float32), "no scale at all"),
        (np.full((64, 9), 0.01, np.float32), "scales along axis 0 of a constant"),
        (np.full(7, 0.01, np.float32), "7 scales along axis 0"),
    ],
)
def test_scales_that_do_not_fit_are_named_before_anything_is_computed_with_them(quantized, tmp_path, scale, says):
    model = onnx.load(quantized)
    weight = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith("_quantized"))
    for place, values in ((1, scale), (2, np.zeros(np.shape(scale), np.int8))):
        stored = next(one for one in model.graph.initializer if one.name == weight.input[place])
        stored.CopyFrom(numpy_helper.from_array(np.asarray(values), weight.input[place]))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelRefused, match=says):
        float_form(tmp_path / "odd.onnx")


def test_another_interface(quantized, tmp_path):
    model = onnx.load(quantized)
    model.graph.input[0].name = "signal"
    for node in model.graph.node:
        node.input[:] = ["signal" if name == "x" else name for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"its inputs are signal: .*; those of .* are x: "):
        check_same_interface(read_facts(quantized), read_facts(tmp_path / "other.onnx"))
