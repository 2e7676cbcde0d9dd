"""A run gives an older TensorRT the form that it takes, by every route, and other runtimes the model itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from harness.calibration.cache import CalibrationCache
from harness.corpus.own import own_entry
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case
from harness.trt_forms import aliases
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter, models

MINMAX = Calibration(Method("minmax"), Policy.RAGGED)
PADDED = Calibration(Method("minmax"), Policy.PAD)
OLD, RTX, ORT = "tensorrt-8.5.3.1", "tensorrt-rtx-1.7.1.116", "onnxruntime-1.32.0-cpu"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A convolution and a product over x float32 [N, 4, T], data, and environments of which OLD is the stand-in."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    (tmp_path / "m.onnx").write_bytes(models.conv_and_product(random))
    models.write_samples(tmp_path / "data", random)
    entry = own_entry(tmp_path / "m.onnx", axes=["x:2=n"], range_="4:8:32", data=tmp_path / "data")
    python = str(interpreter("8.5", tmp_path / "venv"))
    environments = {
        OLD: Environment(OLD, python, "tensorrt", "8.5.3.1"),
        RTX: Environment(RTX, python, "tensorrt-rtx", "1.7.1.116"),
        ORT: Environment(ORT, python, "onnxruntime", "1.32.0"),
    }
    with Workers() as workers:
        yield Workbench({"m": entry}, environments, workers, None, SimpleNamespace(samples=4, tests=2), 0)


def case(precision=Precision.FP32, route=Route.QDQ, calibration=MINMAX, runtime=OLD):
    return Case("m", runtime, precision, calibration if precision is Precision.INT8 else None, "single", route)


@pytest.mark.parametrize(
    "chosen",
    [
        case(),
        case(Precision.FP16),
        case(Precision.INT8),
        case(Precision.INT8, Route.CACHE),
        case(Precision.INT8, Route.CALIBRATOR, PADDED),
    ],
    ids=lambda chosen: chosen.id,
)
def test_every_route_builds_the_form_and_runs_it(bench, chosen):
    prepared = bench.prepared("m")
    (path,) = bench.artefacts(chosen)
    graph = onnx.load(path).graph
    (kernel,) = [t for t in graph.initializer if list(t.dims) == [8, 4, 3, 1]]
    assert kernel.data_type == TensorProto.FLOAT  # Q/DQ, too: TensorRT 8 quantizes weights by a node of their own
    quantized = [node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert (kernel.name in quantized) is ("qdq" in chosen.route and chosen.calibration is not None)
    x = bench.corpus("m", "test")[0]
    expected = onnxruntime.InferenceSession(str(prepared)).run(None, x)[0]
    given = bench.served(chosen).run(x)["y"]
    assert np.abs(given - expected).max() < (0.05 if chosen.calibration else 0.01) * np.abs(expected).max()
    if chosen.calibration:
        assert [count["int8"] for count in bench.coverage(chosen, bench.build(chosen))] == [2]


def test_a_cache_has_scales_of_both_names(bench):
    chosen = case(Precision.INT8, Route.CACHE)
    assert aliases(bench.artefacts(chosen)[0]) == {"x_2d": "x", "r_2d": "r"}
    (files,) = bench.calibration_files(chosen)
    scales = CalibrationCache.loads(files["cache"].read_text()).scales
    assert set(scales) == {"x", "x_2d", "c", "t", "y"}
    assert scales["x"] == scales["x_2d"]


@pytest.mark.parametrize("runtime", [RTX, ORT])
def test_other_runtimes_get_the_model(bench, runtime):
    assert bench.artefacts(case(runtime=runtime)) == (bench.prepared("m"),)
    (path,) = bench.artefacts(case(Precision.INT8, runtime=runtime))
    assert TensorProto.INT8 in {
        tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 3
    }
    assert [8, 4, 3] in [list(tensor.dims) for tensor in onnx.load(path).graph.initializer]
