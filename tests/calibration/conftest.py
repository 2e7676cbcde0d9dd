from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.modelfile import prepare, weighted_nodes
from harness.spec.model import Axis, Model

MODEL = Model(key="tiny", axes=(Axis("x", 2),), axis_name="frames", minimum=3, maximum=400, opt=20, output="scores")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Nothing that another test has observed or prepared."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


def tiny_proto() -> onnx.ModelProto:
    """x [1, 2, L] -> Conv with bias, Relu -> MatMul with weights, bias -> y times its own transpose [1, L, L]."""
    draw = np.random.default_rng(7)
    weights = {
        "w": draw.normal(size=(4, 2, 3)).astype(np.float32) * np.array([1, 4, 0.2, 2], np.float32)[:, None, None],
        "b": draw.normal(size=4).astype(np.float32),
        "m": draw.normal(size=(4, 6)).astype(np.float32),
        "mb": draw.normal(size=6).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "m"], ["p"], "project"),
        helper.make_node("Add", ["p", "mb"], ["y"], "bias"),
        helper.make_node("Transpose", ["y"], ["z"], "turn_back", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["y", "z"], ["scores"], "attend"),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", floats, [1, 2, "L"])],
        [helper.make_tensor_value_info("scores", floats, [1, "L", "L"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.fixture
def model():
    return MODEL


@pytest.fixture
def proto():
    return tiny_proto()


@pytest.fixture
def prepared(tmp_path, own_cache):
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_proto(), path)
    return prepare(path, MODEL)


@pytest.fixture
def nodes(prepared):
    return weighted_nodes(onnx.load(prepared))


@pytest.fixture
def samples():
    """Eight samples of eight lengths, 3 to 60."""
    draw = np.random.default_rng(3)
    return [{"x": draw.normal(size=(1, 2, length)).astype(np.float32)} for length in (3, 8, 15, 20, 21, 33, 40, 60)]
