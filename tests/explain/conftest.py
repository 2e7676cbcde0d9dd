"""A small model with everything that a table tells apart, and a bench of it on this interpreter's ONNX Runtime."""

from __future__ import annotations

import sys
from contextlib import closing

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.corpus.own import own_entry
from harness.results.store import Store
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Workers
from harness.workers.environments import of_interpreter


def network():
    """``y = relu(x * c + b) @ w``: x float32 [1, 8, T]; Conv (kernel 3, padded) and ReLU, which are fused, a Transpose,
    a MatMul and an Add."""
    random = np.random.default_rng(0)
    weights = {
        "c": random.standard_normal((16, 8, 3)), "b": random.standard_normal(16), "w": random.standard_normal((16, 32)),
        "d": random.standard_normal(32),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "c", "b"], ["h"], name="conv", pads=[1, 1]),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Transpose", ["r"], ["t"], name="turn", perm=[0, 2, 1]),
            helper.make_node("MatMul", ["t", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "d"], ["s"], name="sum"),
            helper.make_node("Sigmoid", ["s"], ["y"], name="share"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "T", 32])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture
def bench(cache, file, tmp_path):
    entry = own_entry(str(file), axes=["x:2=frames"], range_="4:64", data=None)
    (there,) = (one for one in of_interpreter(sys.executable) if one.name.endswith("-cpu"))
    with closing(Store(tmp_path / "results").open_run()) as run:
        made = Workbench({"small": entry}, {there.name: there}, Workers(), run, Matrix(samples=4, tests=1), 0)
        with closing(made):
            yield made
