"""Forms made for an older parser are parsed and built by a real one: TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.calibration import artefacts
from harness.errors import BuildFailed
from harness.modelfile import prepare, profiles_for, read_facts
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model
from harness.spec.shapes import Profile
from harness.trt_forms import for_parser, static_batch, with_aliases
from harness.workers import Worker, find_environments

C = 192
MODEL = Model(key="line", axes=(Axis("x", 2),), axis_name="frames", minimum=16, maximum=512, opt=64)
PROFILE = Profile(16, 64, 512)


@pytest.fixture(scope="module")
def worker(pytestconfig, tmp_path_factory):
    named = os.environ.get("HARNESS_TEST_RTX_PYTHON")
    python = Path(named) if named else pytestconfig.rootpath / ".tox" / "rtx17" / "bin" / "python"
    if not python.exists():
        missing = "no TensorRT-RTX environment; install it with: python -m tox run -e rtx17 --notest"
        if os.environ.get("HARNESS_REQUIRE_RTX") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    nowhere = tmp_path_factory.mktemp("no_tox")
    (environment,) = (e for e in find_environments(nowhere, [str(python)]) if e.runtime == "tensorrt-rtx")
    with Worker(environment, deadline_s=300) as running:
        yield running


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


def saved(nodes, weights, shape, path):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def built(worker, path, facts, model=MODEL):
    return worker.build(path, {"profiles": profiles_for(model, facts, [PROFILE])})[0]["bytes"]


def test_a_chain_of_convolutions_keeps_int8_weights(worker, tmp_path, own_cache):
    random = np.random.default_rng(0)
    weights = {f"w{layer}": random.normal(size=(C, C, 3)) / C for layer in range(4)}
    nodes, value = [], "x"
    for layer in range(4):
        to = "y" if layer == 3 else f"c{layer}"
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [to], f"conv{layer}", pads=[1, 1]))
        value = to
        if layer < 3:
            nodes.append(helper.make_node("Relu", [to], [f"r{layer}"], f"relu{layer}"))
            value = f"r{layer}"
    prepared = prepare(saved(nodes, weights, ["N", C, "T"], tmp_path / "m.onnx"), MODEL)
    facts = read_facts(prepared)
    form = for_parser(prepared, "tensorrt", "8.5.3.1", MODEL, facts)
    ranges = dict.fromkeys(("x", "r0", "r1", "r2"), (-4.0, 4.0))
    quantized = artefacts.int8(form, with_aliases(ranges, form), Dialect.S8S8)
    float_bytes, int8_bytes = (built(worker, path, facts) for path in (form, quantized))
    in_float = 4 * C * C * 3 * 4
    # kernel code comes on top: what the two differ by is three of four bytes a weight, if the pairs were understood
    assert float_bytes > in_float
    assert float_bytes - int8_bytes > in_float / 2, (float_bytes, int8_bytes)


def test_layer_normalization_written_out(worker, tmp_path, own_cache):
    nodes = [
        helper.make_node("MatMul", ["x", "m"], ["p"], "product"),
        helper.make_node("LayerNormalization", ["p", "scale", "bias"], ["y"], "norm", axis=-1),
    ]
    weights = {"m": np.eye(8), "scale": np.ones(8), "bias": np.zeros(8)}
    model = Model(key="rows", axes=(Axis("x", 1),), axis_name="rows", minimum=16, maximum=512, opt=64)
    prepared = prepare(saved(nodes, weights, [1, "T", 8], tmp_path / "m.onnx"), model)
    form = for_parser(prepared, "tensorrt", "8.5.3.1", model, read_facts(prepared))
    assert form != prepared
    assert built(worker, form, read_facts(prepared), model) > 0


def test_a_squeeze_without_axes_is_refused_until_the_batch_is_fixed(worker, tmp_path, own_cache):
    nodes = [
        helper.make_node("Squeeze", ["x"], ["s"], "squeeze"),
        helper.make_node("Transpose", ["s"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["t", "m"], ["y"], "product"),
    ]
    path = saved(nodes, {"m": np.eye(8)}, ["N", 8, "T"], tmp_path / "m.onnx")
    facts = read_facts(path)
    with pytest.raises(BuildFailed) as raised:
        built(worker, path, facts)
    assert "axes" in str(raised.value)
    onnx.save(static_batch(onnx.load(path), {("x", 2)}), tmp_path / "fixed.onnx")
    assert built(worker, tmp_path / "fixed.onnx", facts) > 0
