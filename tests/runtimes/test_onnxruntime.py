from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from harness.runtimes.base import RuntimeFailure
from harness.runtimes.onnxruntime import OnnxRuntime


def _feed(length: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(length).normal(size=(1, 4, length)).astype(np.float32)}


def test_describes_itself_in_plain_data():
    said = OnnxRuntime().describe()
    assert said["version"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in said["providers"]
    assert (said["can_run"], said["can_build"]) == (True, True)


def test_runs_every_length_as_onnxruntime_does(conv):
    engine = OnnxRuntime().load(str(conv), {})
    assert engine.inputs() == [{"name": "x", "dtype": "float32", "shape": [1, 4, None]}]
    plain = onnxruntime.InferenceSession(conv, providers=["CPUExecutionProvider"])
    for length in (1, 7, 64):
        feed = _feed(length)
        np.testing.assert_allclose(engine.run(feed)["y"], plain.run(None, feed)[0], rtol=1e-5)


def test_a_burst_times_each_call(conv):
    durations = OnnxRuntime().load(str(conv), {}).burst(_feed(16), 2, 5)
    assert len(durations) == 5
    assert all(isinstance(ns, int) and ns > 0 for ns in durations)


def test_coverage_tells_int8_from_a_silent_fall_back_to_float(conv, qdq_conv, unfused_conv):
    def coverage(path):
        return OnnxRuntime().load(str(path), {}).coverage()

    assert coverage(conv) == {"int8": 0, "float": 1, "operators": {"Conv": 1}, "in_float": ["c"]}
    assert coverage(qdq_conv) == {"int8": 1, "float": 0, "operators": {"QLinearConv": 1}, "in_float": []}
    fallen_back = coverage(unfused_conv)
    assert (fallen_back["int8"], fallen_back["float"]) == (0, 1)


def test_a_build_is_one_load_and_writes_no_engine(qdq_conv, tmp_path):
    target = tmp_path / "engine"
    facts = OnnxRuntime().build(str(qdq_conv), str(target), {})
    assert facts["bytes"] == qdq_conv.stat().st_size
    assert facts["coverage"]["int8"] == 1
    assert not target.exists()


@pytest.mark.parametrize("call", ["build", "load"])
def test_a_broken_model_is_a_build_failure(tmp_path, call):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf at all")
    arguments = (str(broken), "", {}) if call == "build" else (str(broken), {})
    with pytest.raises(RuntimeFailure) as caught:
        getattr(OnnxRuntime(), call)(*arguments)
    assert (caught.value.kind, caught.value.where) == ("build", str(broken))
    assert "INVALID_PROTOBUF" in caught.value.detail


def test_a_missing_file_is_a_build_failure(tmp_path):
    with pytest.raises(RuntimeFailure, match="no such file"):
        OnnxRuntime().load(str(tmp_path / "none.onnx"), {})


def test_a_missing_provider_is_named_with_those_that_are_there(conv):
    with pytest.raises(RuntimeFailure, match="RocketExecutionProvider") as caught:
        OnnxRuntime().load(str(conv), {"provider": "RocketExecutionProvider"})
    assert caught.value.kind == "environment"
    assert "CPUExecutionProvider" in caught.value.todo


def test_a_failure_while_running_carries_the_runtimes_words(tmp_path):
    gather = onnx.helper.make_node("Gather", ["t", "x"], ["y"])
    graph = onnx.helper.make_graph(
        [gather],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["L"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["L"])],
        [onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "t")],
    )
    path = tmp_path / "gather.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    engine = OnnxRuntime().load(str(path), {})
    assert engine.run({"x": np.array([3, 0])})["y"].tolist() == [3.0, 0.0]
    for call in (engine.run, lambda feed: engine.burst(feed, 0, 1)):
        with pytest.raises(RuntimeFailure) as caught:
            call({"x": np.array([9])})
        assert caught.value.kind == "run"
        assert "out of" in caught.value.detail


def test_layers_and_times_of_a_kept_feed(conv, qdq_conv):
    engine = OnnxRuntime().load(str(qdq_conv), {})
    engine.keep("here", _feed(16))
    told, times = engine.layers("here"), engine.layer_times("here", 4)
    assert [one["Name"] for one in told if one["Name"] not in times] == [], "both tell of one graph"
    assert {len(runs) for runs in times.values()} == {4}
    assert all(end["Dimensions"] is not None for one in told for end in (*one["Inputs"], *one["Outputs"]))
    (product,) = (one for one in told if one["LayerType"] == "QLinearConv")
    weights = [end for end in product["Inputs"] if end.get("Constant") and end["Datatype"] == "int8"]
    assert [end["Dimensions"] for end in weights if len(end["Dimensions"]) == 3] == [list(onnx_weights(qdq_conv))]
    assert next(end["Dimensions"] for end in told[0]["Inputs"]) == [1, 4, 16]
    assert told[0]["Inputs"][0]["Name"] == "x", "in the order in which they run"

    plain = OnnxRuntime().load(str(conv), {})
    assert [one["LayerType"] for one in plain.layers() if "Conv" in one["LayerType"]], "without a feed, without shapes"
    plain.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        plain.layers()


def onnx_weights(path):
    """Dimensions of the weight of the only convolution."""
    return next(one.dims for one in onnx.load(path).graph.initializer if len(one.dims) == 3)
