"""What ONNX Runtime warns of by itself is nothing for a person who waits for a verdict."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.calibration.observe import open_session
from harness.sessions import quiet_options

FEEDS = {"x": np.ones((1, 1, 2, 2), np.float32)}


@pytest.fixture
def loud():
    """As ONNX Runtime is unless somebody says otherwise."""
    onnxruntime.set_default_logger_severity(2)
    yield
    onnxruntime.set_default_logger_severity(2)


@pytest.fixture
def warning(tmp_path):
    """A model of which the kernel warns when it is made, and the session when it is run: its output is no [7, 7]."""
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn"
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, "n", "m"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 7, 7])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "warning.onnx")
    return tmp_path / "warning.onnx"


def test_neither_kernels_nor_sessions_warn(loud, warning, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    provider = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(str(warning), providers=provider).run(None, FEEDS)
    said = capfd.readouterr().err
    assert "tf_half_pixel_for_nn" in said, "else this shows nothing"
    assert "Expected shape" in said
    onnxruntime.InferenceSession(str(warning), quiet_options(), providers=provider).run(None, FEEDS)
    onnxruntime.set_default_logger_severity(2)
    open_session(warning, (), threads=1).run(None, FEEDS)
    assert capfd.readouterr().err == ""
