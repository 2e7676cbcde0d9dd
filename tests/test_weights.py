from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from harness.calibration import artefacts
from harness.modelfile import prepare
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model
from harness.weights import weight_bytes


def test_weights_are_counted_behind_their_dequantization_and_once(tmp_path):
    """Two convolutions that share weights, and a constant that is no weight."""
    weights = np.random.default_rng(0).standard_normal((4, 4, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], name="first", pads=[1, 1]),
            helper.make_node("Conv", ["h", "w"], ["c"], name="second", pads=[1, 1]),
            helper.make_node("Add", ["c", "big"], ["y"], name="add"),
        ],
        "shared",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, "T"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1000, 4, "T"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros((1000, 4, 1), np.float32), "big")],
    )
    path = tmp_path / "shared.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    prepared = prepare(path, Model("shared", (Axis("x", 2),), "frames", 1, 100, 10))
    assert weight_bytes(prepared, prepared) == weights.nbytes
    ranges = dict.fromkeys(("x", "h", "c", "y"), (-1.0, 1.0))
    for dialect in Dialect:
        assert weight_bytes(artefacts.int8(prepared, ranges, dialect), prepared) == weights.size
    in_float = artefacts.int8(prepared, ranges, Dialect.S8S8, "float")
    assert [t.data_type for t in onnx.load(in_float).graph.initializer if tuple(t.dims) == weights.shape] == [
        onnx.TensorProto.FLOAT
    ]
    assert weight_bytes(in_float, prepared) == weights.size
