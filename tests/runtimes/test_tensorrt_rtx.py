"""What real TensorRT-RTX is told of a length input whose values decide a shape."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.calibration.pipeline import calibrate
from harness.calibration.qdq import write_qdq
from harness.errors import UsageError
from harness.modelfile import prepare, profiles_for, read_facts, weighted_nodes
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.model import Axis, Model
from harness.spec.shapes import single
from harness.workers import Worker, find_environments

MODEL = Model("masked", (Axis("xs", 1),), "samples", 16, 400, 100, length_inputs=("xlen",))


@pytest.fixture
def worker(pytestconfig, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    named = os.environ.get("HARNESS_TEST_RTX_PYTHON")
    python = Path(named) if named else pytestconfig.rootpath / ".tox" / "rtx17" / "bin" / "python"
    if not python.exists():
        missing = "no TensorRT-RTX environment; install it with: python -m tox run -e rtx17 --notest"
        if os.environ.get("HARNESS_REQUIRE_RTX") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    (environment,) = (e for e in find_environments(tmp_path, [str(python)]) if e.runtime == "tensorrt-rtx")
    with Worker(environment, deadline_s=120) as running:
        yield running


@pytest.fixture
def masked(tmp_path):
    """xs float32 [1, L], xlen int64 [1] -> y float32 [1, 2, L]: masked by Range(0, max(xlen)), as make_pad_mask is."""
    random = np.random.default_rng(0)
    constants = {
        "w": random.standard_normal((4, 1, 3)).astype(np.float32),
        "v": random.standard_normal((2, 4, 3)).astype(np.float32),
        "zero": np.array(0),
        "one": np.array(1),
        "first": np.array([0]),
        "second": np.array([1]),
    }
    make = helper.make_node
    graph = helper.make_graph(
        [
            make("Unsqueeze", ["xs", "second"], ["signal"]),
            make("Conv", ["signal", "w"], ["c"], pads=[1, 1]),
            make("ReduceMax", ["xlen"], ["longest"], keepdims=0),
            make("Range", ["zero", "longest", "one"], ["steps"]),
            make("Unsqueeze", ["steps", "first"], ["row"]),
            make("Unsqueeze", ["xlen", "second"], ["column"]),
            make("Less", ["row", "column"], ["valid"]),
            make("Unsqueeze", ["valid", "second"], ["mask"]),
            make("Cast", ["mask"], ["factor"], to=TensorProto.FLOAT),
            make("Mul", ["c", "factor"], ["kept"]),
            make("Conv", ["kept", "v"], ["y"], pads=[1, 1]),
        ],
        "masked",
        [
            helper.make_tensor_value_info("xs", TensorProto.FLOAT, [1, "L"]),
            helper.make_tensor_value_info("xlen", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "L"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = tmp_path / "masked.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def quantized(prepared, target):
    random = np.random.default_rng(1)
    lengths = [20, 150, 400]
    samples = [
        {"xs": random.standard_normal((1, length)).astype(np.float32), "xlen": np.array([length])} for length in lengths
    ]
    calibration = Calibration(Method("minmax"), Policy.RAGGED)
    found = calibrate(prepared, MODEL, samples, lengths, calibration, single(MODEL), Dialect.S8S8)
    write_qdq(prepared, weighted_nodes(onnx.load(prepared)), found.for_profile(0), Dialect.S8S8, target)
    return target


def test_a_length_that_decides_a_shape_builds_as_fp32_and_s8s8(worker, masked, tmp_path):
    prepared = prepare(masked, MODEL)
    profiles = profiles_for(MODEL, read_facts(prepared), single(MODEL).profiles)
    for file in (prepared, quantized(prepared, tmp_path / "s8s8.onnx")):
        facts, engine = worker.build(file, {"profiles": profiles})
        assert engine.stat().st_size == facts["bytes"] > 0


def test_without_values_it_says_how_to_give_them(worker, masked):
    shapes = {"xs": [[1, 16], [1, 100], [1, 400]], "xlen": [[1], [1], [1]]}
    with pytest.raises(UsageError) as caught:
        worker.build(masked, {"profiles": [shapes]})
    assert caught.match("the values of input 'xlen' decide a shape")
    assert caught.match("--length-input xlen=NAME")
