"""The parser's refusals, inputs and outputs of a network, optimization profiles."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.fake_tensorrt import models


def test_inputs_and_outputs(bench):
    network = bench("8.6").parsed(models.conv())
    x, y = network.get_input(0), network.get_output(0)
    assert (network.num_inputs, network.num_outputs, network.num_layers) == (1, 1, 2)
    assert (x.name, x.dtype.name, tuple(x.shape), x.is_shape_tensor) == ("x", "FLOAT", (1, 4, -1), False)
    assert (y.name, tuple(y.shape)) == ("y", (1, 8, -1))
    assert network.get_input(1) is None


@pytest.mark.parametrize(("version", "dtype"), [("8.6", "INT32"), ("10.0", "INT64")])
def test_int64_inputs(bench, version, dtype):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    content = models.model(nodes, {"x": (models.INT64, ["T"])}, {"y": (models.INT64, ["T"])}, {})
    assert bench(version).parsed(content).get_input(0).dtype.name == dtype


def test_a_shape_tensor(bench):
    nodes = [helper.make_node("Reshape", ["x", "n"], ["y"])]
    inputs = {"x": (models.FLOAT, ["T"]), "n": (models.INT64, [2])}
    made = bench("10.0")
    network = made.parsed(models.model(nodes, inputs, {"y": (models.FLOAT, [None, None])}, {}))
    assert [network.get_input(i).is_shape_tensor for i in range(2)] == [False, True]
    profile = made.profile("x", (4,), (8,), (16,))
    assert made.build(network) is None
    assert "n: shape input is missing values in profile 0" in made.errors
    profile.set_shape_input("n", (1, 4), (2, 4), (4, 4))
    engine = made.engine(network)
    assert engine.get_tensor_location("n") == made.trt.TensorLocation.HOST
    assert engine.get_tensor_profile_values(0, "n") == [[1, 4], [2, 4], [4, 4]]
    context, x = engine.create_execution_context(), np.arange(8, dtype=np.float32)
    values = np.array([2, 4])
    memory, target, stream = made.on_device(x), made.driver.mem_alloc(x.nbytes), made.driver.Stream()
    context.set_input_shape("x", (8,))
    for name, address in (("x", int(memory)), ("n", values.ctypes.data), ("y", int(target))):
        assert context.set_tensor_address(name, address)
    assert tuple(context.get_tensor_shape("y")) == (2, 4)
    assert context.execute_async_v3(stream.handle)


def test_an_implicit_batch_cannot_be_parsed_into(bench):
    made = bench("8.6")
    parser = made.trt.OnnxParser(made.network(flags=0), made.log)
    assert not parser.parse(models.conv())
    assert "explicit batch dimension" in parser.get_error(0).desc()
    assert bench("10.0").parsed(models.conv(), flags=0).num_inputs == 1


def test_bytes_that_are_no_model(bench):
    assert "Failed to parse the ONNX model" in bench("8.6").refusal(b"\xff\xff no model")


def test_errors_that_are_not_there(bench):
    made = bench("8.6")
    parser = made.trt.OnnxParser(made.network(), made.log)
    assert parser.parse(models.conv())
    assert parser.num_errors == 0
    assert parser.get_error(0) is None
    assert "_M_range_check" in made.errors


@pytest.mark.parametrize(
    ("version", "words"), [("8.5", "TRT only supports symmetric"), ("10.16", "Non-zero zero point")]
)
def test_zero_points(bench, version, words):
    assert words in bench(version).refusal(models.quantized(zero=3, weight_rank=2))
    assert words in bench(version).refusal(models.quantized(zero=128, dtype="uint8", weight_rank=2))


def test_uint8_with_zero_point_0_is_another_network(bench):
    content = models.quantized(dtype="uint8", weight_rank=2)
    assert "int8 zero points" in bench("8.6").refusal(content)
    made = bench("10.16")
    network = made.parsed(content)
    assert "Defaulting to INT8" in made.warnings
    made.profile("x", (1, 4), (4, 4), (8, 4))
    made.config.set_flag(made.trt.BuilderFlag.INT8)
    engine = made.engine(network)
    loud, less = (np.full((1, 4), value * 0.05, np.float32) for value in (200, 127))
    assert (made.run(engine, loud) == made.run(engine, less)).all()  # saturated at 127


def test_scales_have_to_be_positive(bench):
    assert "Scale coefficients must all be positive" in bench("8.6").refusal(models.quantized(scale=-0.1))


def test_a_quantized_weight_of_a_one_dimensional_convolution(bench):
    words = "input tensor shape misaligns with the input kernel shape"
    assert words in bench("8.5").refusal(models.quantized())
    assert words in bench("8.4").refusal(models.quantized())
    assert bench("8.5").parsed(models.quantized(weight_rank=2)).num_inputs == 1
    assert bench("8.6").parsed(models.quantized()).num_inputs == 1


@pytest.mark.parametrize("version", ["8.5", "11.4"])
def test_operators_that_are_not_supported(bench, version):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    content = models.model(nodes, {"x": (models.FLOAT, ["T"])}, {"y": (models.FLOAT, [])}, {})
    made = bench(version)
    refusal = made.refusal(content)
    assert "DynamicQuantizeLinear" in made.errors
    assert (refusal == "false") is (version == "11.4")
    assert not made.trt.OnnxParser(made.network(), made.log).supports_operator("DynamicQuantizeLinear")


def test_a_graph_whose_shapes_do_not_fit(bench):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = {"w": np.ones((5, 2), np.float32)}
    content = models.model(nodes, {"x": (models.FLOAT, ["T", 4])}, {"y": (models.FLOAT, ["T", 2])}, weights)
    made = bench("8.6")
    made.profile("x", (1, 4), (2, 4), (3, 4))
    assert made.build(made.parsed(content)) is None
    assert "ncompatible dimensions" in made.errors


def test_an_operator_that_onnx_does_not_know(bench):
    nodes = [helper.make_node("FusedThing", ["x"], ["y"], domain="mine")]
    content = models.model(nodes, {"x": (models.FLOAT, ["T"])}, {"y": (models.FLOAT, ["T"])}, {})
    assert "FusedThing" in bench("8.6").refusal(content)


def test_layer_normalization_came_with_8_6(bench):
    weights = {"w": np.ones(4, np.float32)}
    nodes = [helper.make_node("LayerNormalization", ["x", "w"], ["y"])]
    content = models.model(nodes, {"x": (models.FLOAT, ["T", 4])}, {"y": (models.FLOAT, ["T", 4])}, weights)
    assert "LayerNormalization" in bench("8.5").refusal(content)
    assert bench("8.6").parsed(content).num_layers == 1


def test_squeeze_without_axes(bench):
    nodes = [helper.make_node("Squeeze", ["x"], ["y"])]
    content = models.model(nodes, {"x": (models.FLOAT, [1, "T"])}, {"y": (models.FLOAT, ["T"])}, {})
    assert "Cannot infer squeeze dimensions" in bench("8.5").refusal(content)


def test_profiles_that_are_not_in_order(bench):
    """As TensorRT-RTX does it: taken by set_shape, refused by add_optimization_profile."""
    made = bench("10.0")
    for shapes in (((1, 9), (1, 8), (1, 16)), ((1, 2), (1, 17), (1, 16)), ((1, 2), (1, 2, 3), (1, 16))):
        profile = made.builder.create_optimization_profile()
        profile.set_shape("x", *shapes)
        assert not profile
        assert made.config.add_optimization_profile(profile) == -1
    assert made.errors.count("please ensure that the optimization profiles satisfy MIN<=OPT<=MAX") == 6
    with pytest.raises(RuntimeError, match="Shape provided for opt is inconsistent"):
        made.builder.create_optimization_profile().set_shape("x", (1,), (-1,), (2,))
    fine = made.builder.create_optimization_profile()
    fine.set_shape("nobody", (0,), [1], made.trt.Dims((1,)))  # a name that does not exist, and min 0
    assert fine
    assert [tuple(s) for s in fine.get_shape("nobody")] == [(0,), (1,), (1,)]
    assert fine.get_shape("x") == []
