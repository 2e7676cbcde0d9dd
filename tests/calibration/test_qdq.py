from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.calibration.pipeline import calibrate
from harness.calibration.qdq import quantized_tensors, tensors_to_observe, write_qdq
from harness.errors import CalibrationFailed
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import single

MINMAX = Calibration(Method("minmax"), Policy.RAGGED)


@pytest.fixture
def written(prepared, nodes, model, samples, tmp_path):
    def write(dialect):
        lengths = [feeds["x"].shape[2] for feeds in samples]
        found = calibrate(prepared, model, samples, lengths, MINMAX, single(model), dialect)
        target = tmp_path / "out" / f"{dialect}.onnx"
        write_qdq(prepared, nodes, found.for_profile(0), dialect, target)
        return target

    return write


class Graph:
    """A Q/DQ file, asked in its own terms."""

    def __init__(self, path):
        self.model = onnx.load(path)
        onnx.checker.check_model(self.model, full_check=True)
        self.nodes = list(self.model.graph.node)
        self.values = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.made_by = {name: node for node in self.nodes for name in node.output}

    def of(self, kind):
        return [node for node in self.nodes if node.op_type == kind]

    def named(self, name):
        (node,) = (node for node in self.nodes if node.name == name)
        return node

    def source(self, name):
        """What a DequantizeLinear that makes ``name`` reads: its zero point and the constant or Q before it."""
        dequantize = self.made_by[name]
        assert dequantize.op_type == "DequantizeLinear"
        return dequantize, self.values[dequantize.input[1]], self.values[dequantize.input[2]]


def weights_of(graph):
    for name, channels in (("conv", 4), ("project", 6)):
        node = graph.named(name)
        dequantize, scale, zero = graph.source(node.input[1])
        yield name, channels, dequantize, scale, zero


def test_s8s8_is_what_tensorrt_takes(written):
    graph = Graph(written(Dialect.S8S8))
    for node in graph.of("QuantizeLinear") + graph.of("DequantizeLinear"):
        zero = graph.values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    assert not any(t.data_type == TensorProto.INT32 for t in graph.model.graph.initializer)  # no quantized bias
    assert graph.named("conv").input[2] == "b"
    # Q and DQ on the inputs of weighted nodes, nowhere else
    assert Counter(node.input[0] for node in graph.of("QuantizeLinear")) == {"x": 1, "t": 1}
    consumers = Counter(node.op_type for node in graph.nodes if set(node.input) & set(graph.named("conv").output))
    assert consumers == {"Relu": 1}


def test_u8s8_is_what_x86_kernels_fuse(written):
    graph = Graph(written(Dialect.U8S8))
    for node in graph.of("QuantizeLinear"):
        assert graph.values[node.input[2]].dtype == np.uint8
    dequantize, _, zero = graph.source(graph.named("conv").input[2])
    assert zero.dtype == graph.values[dequantize.input[0]].dtype == np.int32
    quantized = {node.input[0] for node in graph.of("QuantizeLinear")}
    assert {"x", "t", "p"} <= quantized
    assert len(quantized & {"c", "r"}) == 1  # the convolution's output, after the Relu that it swallows


@pytest.mark.parametrize("dialect", list(Dialect))
def test_weights_are_int8_per_output_channel_with_zero_point_0(written, dialect, proto):
    floats = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    graph = Graph(written(dialect))
    for name, channels, dequantize, scale, zero in weights_of(graph):
        weights = graph.values[dequantize.input[0]]
        (axis,) = (a.i for a in dequantize.attribute if a.name == "axis")
        assert weights.dtype == np.int8
        assert axis == {"conv": 0, "project": 1}[name]
        assert scale.shape == zero.shape == (channels,)
        assert not zero.any()
        shape = [1] * weights.ndim
        shape[axis] = channels
        given = floats[{"conv": "w", "project": "m"}[name]]
        worst = np.abs(weights * scale.reshape(shape) - given)
        assert (worst <= 0.51 * scale.reshape(shape)).all()


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_product_of_two_activations_stays_float(written, dialect):
    graph = Graph(written(dialect))
    attend = graph.named("attend")
    assert attend.output[0] == "scores"
    behind = [graph.made_by.get(name) for name in attend.input]
    assert "QuantizeLinear" not in {n.op_type for n in graph.nodes if "scores" in n.input}
    assert all(node.op_type != "DequantizeLinear" for node in behind)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_scales_are_those_of_the_ranges(prepared, nodes, tmp_path, dialect):
    ranges = {"x": (-2.0, 1.0), "t": (0.0, 4.0), "r": (0.0, 4.0), "c": (-4.0, 4.0), "p": (-3.0, 3.0)}
    proto = onnx.load(prepared)
    ranges = {name: ranges[name] for name in tensors_to_observe(proto, nodes, dialect)}
    write_qdq(prepared, nodes, ranges, dialect, tmp_path / "q.onnx")
    graph = Graph(tmp_path / "q.onnx")
    found = {n.input[0]: (graph.values[n.input[1]], graph.values[n.input[2]]) for n in graph.of("QuantizeLinear")}
    if dialect is Dialect.S8S8:
        assert found["x"][0] == pytest.approx(2 / 127)  # what a TensorRT cache of this range says too
        assert found["t"][0] == pytest.approx(4 / 127)
    else:
        assert found["x"][0] == pytest.approx(3 / 255)
        assert found["x"][1] == 170
        assert found["t"][0] == pytest.approx(4 / 255)
        assert found["t"][1] == 0


@pytest.mark.parametrize("dialect", list(Dialect))
def test_it_runs_at_every_length_and_stays_near_fp32(written, prepared, samples, dialect):
    exact, rough = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (prepared, written(dialect))
    )
    for feeds in samples:
        (wanted,), (got,) = exact.run(None, feeds), rough.run(None, feeds)
        assert got.shape == wanted.shape
        noise = np.sum((wanted - got) ** 2, dtype=np.float64)
        assert 10 * np.log10(np.sum(wanted**2, dtype=np.float64) / noise) > 25  # dB
        assert noise > 0  # or nothing was quantized


@pytest.mark.parametrize("dialect", list(Dialect))
def test_without_one_of_the_ranges_nothing_is_written(prepared, nodes, tmp_path, dialect):
    names = tensors_to_observe(onnx.load(prepared), nodes, dialect)
    for missing in names[:2]:
        ranges = {name: (-1.0, 1.0) for name in names if name != missing}
        with pytest.raises(CalibrationFailed, match="writer refused") as caught:
            write_qdq(prepared, nodes, ranges, dialect, tmp_path / "none" / "q.onnx")
        assert missing in caught.value.what
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize(
    "bad", [(np.nan, 1.0), (-1.0, np.inf), (0.0, 0.0), (0.5, 1.0), (-2.0, -1.0), (1.0, -1.0)], ids=str
)
def test_a_range_that_is_none_is_named(prepared, nodes, tmp_path, bad):
    ranges = {"x": (-1.0, 1.0), "t": bad}
    with pytest.raises(CalibrationFailed, match="not finite, empty, or leaves out 0") as caught:
        write_qdq(prepared, nodes, ranges, Dialect.S8S8, tmp_path / "q.onnx")
    assert caught.value.where == "tensor 't'"


def test_what_has_to_be_observed(proto):
    nodes = ["conv", "project"]
    assert tensors_to_observe(proto, nodes, Dialect.S8S8) == ["x", "t"]
    assert tensors_to_observe(proto, nodes, Dialect.U8S8) == ["x", "t", "r", "p"]  # r is what comes of c
    assert tensors_to_observe(proto, ["project"], Dialect.S8S8) == ["t"]


RELU = helper.make_node("Relu", ["c"], ["r"], "relu")
CLIP = helper.make_node("Clip", ["c", "low", "high"], ["r"], "clip")
SIGMOID = helper.make_node("Sigmoid", ["c"], ["s"], "sigmoid")


@pytest.mark.parametrize(
    ("readers", "outputs", "behind"),
    [
        ([RELU], ["r"], "r"),
        ([CLIP], ["r"], "r"),
        ([SIGMOID], ["s"], "c"),
        ([RELU, SIGMOID], ["r", "s"], "c"),  # what is negative goes on into the sigmoid
        ([RELU], ["r", "c"], "c"),  # and here to the user
        ([], ["c"], "c"),
    ],
    ids=["relu", "clip", "sigmoid", "relu and sigmoid", "relu and output", "output"],
)
def test_an_output_takes_the_range_behind_what_cuts_it_off(readers, outputs, behind):
    def infos(names):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]

    conv = helper.make_node("Conv", ["x", "w"], ["c"], "conv")
    model = helper.make_model(helper.make_graph([conv, *readers], "g", infos(["x"]), infos(outputs)))
    assert quantized_tensors(model, ["conv"], Dialect.U8S8) == {"x": "x", "c": behind}
    assert quantized_tensors(model, ["conv"], Dialect.S8S8) == {"x": "x"}


def test_only_the_chosen_nodes_are_quantized(prepared, tmp_path):
    write_qdq(prepared, ["project"], {"t": (-1.0, 1.0)}, Dialect.S8S8, tmp_path / "q.onnx")
    graph = Graph(tmp_path / "q.onnx")
    assert [node.input[0] for node in graph.of("QuantizeLinear")] == ["t"]
    assert graph.named("conv").input[1] == "w"


def test_the_writers_advice_is_not_passed_on(written, caplog, capfd):
    level = logging.getLogger().level
    written(Dialect.U8S8)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().level == level


def test_weights_in_float_compute_the_same(prepared, nodes, samples, tmp_path):
    ranges = {"x": (-2.0, 2.0), "t": (-4.0, 4.0)}
    paths = {}
    for weights in ("int8", "float"):
        paths[weights] = tmp_path / f"{weights}.onnx"
        write_qdq(prepared, nodes, ranges, Dialect.S8S8, paths[weights], weights)
    left, right = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in paths.values()
    )
    for feeds in samples:
        (one,), (other,) = left.run(None, feeds), right.run(None, feeds)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    graph = Graph(paths["float"])
    assert len(graph.of("QuantizeLinear")) == len(graph.of("DequantizeLinear"))
    assert not any(values.dtype == np.int8 and values.ndim > 1 for values in graph.values.values())
