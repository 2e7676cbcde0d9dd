"""INT8 with float16 for the rest, as files for strongly typed networks have it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.calibration import artefacts
from harness.errors import BuildFailed
from harness.spec.calibration import Dialect

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Conv, Relu, LayerNormalization over time, MatMul; x float32 [1, 4, T]."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(8, 4, 3)), "m": random.normal(size=(8, 6)), "s": np.ones(8), "b": np.zeros(8),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
            helper.make_node("LayerNormalization", ["t", "s", "b"], ["n"], "norm"),
            helper.make_node("MatMul", ["n", "m"], ["y"], "product"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "T", 6])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def qdq(prepared):
    return artefacts.int8(prepared, {"x": (-4.0, 4.0), "n": (-3.0, 3.0)}, Dialect.S8S8)


def types_of(path):
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return model.graph, {**found, **{tensor.name: tensor.data_type for tensor in model.graph.initializer}}


def test_no_cast_comes_between_a_dequantization_and_its_operator(qdq):
    graph, types = types_of(artefacts.beside_fp16(qdq))
    made_by = {name: node for node in graph.node for name in node.output}
    weighted = [node for node in graph.node if node.op_type in {"Conv", "MatMul"}]
    assert len(weighted) == 2
    for node in weighted:
        for name in node.input[:2]:
            assert made_by[name].op_type == "DequantizeLinear"
            assert types[name] == types[made_by[name].input[1]] == TensorProto.FLOAT16
    assert types["x"] == types["y"] == TensorProto.FLOAT
    assert types["t"] == types["n"] == TensorProto.FLOAT16


def test_it_computes_what_the_graph_did_to_half_precision(qdq):
    half = artefacts.beside_fp16(qdq)
    for length in (1, 7, 40):
        x = {"x": np.random.default_rng(length).normal(size=(1, 4, length)).astype(np.float32)}
        (one,), (other,) = (onnxruntime.InferenceSession(str(p), providers=CPU).run(None, x) for p in (qdq, half))
        assert 0 < np.abs(one - other).max() < 0.02 * np.abs(one).max()


def test_it_is_made_once(qdq):
    half = artefacts.beside_fp16(qdq)
    stamp = half.stat().st_mtime_ns
    assert artefacts.beside_fp16(qdq) == half
    assert half.stat().st_mtime_ns == stamp


def test_what_cannot_be_converted_is_told(qdq):
    model = onnx.load(qdq)
    model.graph.node.append(helper.make_node("NoSuchOperator", ["y"], ["z"]))
    with pytest.raises(BuildFailed, match=r"m\.onnx.*not convertible to opset 19"):
        artefacts.with_float16(model, qdq.parent / "m.onnx")
