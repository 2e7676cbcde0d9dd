"""``benchmarks/peers.py``: files that others make, of a small model and samples of several lengths."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.corpus.samples import Corpus
from harness.errors import EnvironmentMissing, HarnessError
from harness.modelfile import prepare
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL = Model(key="two", axes=(Axis("x", 2),), axis_name="frames", minimum=4, maximum=90, opt=40)


@pytest.fixture
def peers(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    for name in ("peers", "measuring"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("peers")


@pytest.fixture
def prepared(peers, tmp_path):
    """Two convolutions with biases, a ReLU between them: ``x`` [1, 16, frames]."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((16, 16, 3)).astype(np.float32) / 7 for _ in range(2)]
    biases = [rng.standard_normal(16).astype(np.float32) for _ in range(2)]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0", "b0"], ["c"], pads=[1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Conv", ["r", "w1", "b1"], ["y"], pads=[1, 1]),
        ],
        "two",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 16, "frames"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 16, "frames"])],
        [numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(weights)]
        + [numpy_helper.from_array(a, f"b{i}") for i, a in enumerate(biases)],
    )  # fmt: skip
    file = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return prepare(file, MODEL)


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(1)
    samples = [{"x": rng.standard_normal((1, 16, frames)).astype(np.float32)} for frames in (30, 4, 90, 55)]
    return Corpus.write(tmp_path / "corpus", MODEL, samples, "random")


def sqnr_db(prepared, made, corpus):
    reference, noise = 0.0, 0.0
    sessions = [onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (prepared, made)]
    for feeds in corpus:
        right, other = (session.run(None, feeds)[0] for session in sessions)
        reference, noise = reference + np.sum(right**2), noise + np.sum((right - other) ** 2)
    return 10 * np.log10(reference / noise)


@pytest.mark.parametrize("dialect", Dialect)
def test_onnxruntime_best(peers, prepared, corpus, dialect):
    """Of all its methods' files, the one that is nearest to FP32, in the dialect's form."""
    best = peers.onnxruntime_best(prepared, corpus, dialect)
    all_ = {m: peers.onnxruntime_quantized(prepared, corpus, m, dialect) for m in peers.ONNXRUNTIME_METHODS}
    found = {path: sqnr_db(prepared, path, corpus) for path in all_.values()}
    assert best == max(found, key=found.get)
    assert min(found.values()) < max(found.values()), "methods that differ"
    assert found[best] > 20
    nodes = onnx.load(best).graph.node
    signed = dialect is Dialect.S8S8
    assert [n.op_type for n in nodes].count("QuantizeLinear") == (2 if signed else 4)
    assert set(peers.cost_of(best)) == {"seconds", "method"}


def test_modelopt_is_not_there(peers, prepared, corpus, monkeypatch):
    monkeypatch.setenv("HARNESS_MODELOPT_PYTHON", "/nowhere/python")
    with pytest.raises(EnvironmentMissing, match="tox run -e modelopt"):
        peers.modelopt(prepared, corpus, "max")


def test_modelopt_fails(peers, prepared, corpus, monkeypatch):
    """An interpreter without it: the end of what it printed is in the message, and no file is kept."""
    monkeypatch.setenv("HARNESS_MODELOPT_PYTHON", sys.executable)
    with pytest.raises(HarnessError, match="No module named 'modelopt'"):
        peers.modelopt(prepared, corpus, "max")
    assert not list(Path(os.environ["TRT_INT8_HARNESS_CACHE"], "benchmarks", "peers").iterdir())


def test_modelopt(peers, prepared, corpus, monkeypatch):
    """Samples of four lengths go in; what comes out computes in INT8 and is near FP32; a second call runs nothing."""
    try:
        peers.modelopt_python()
    except EnvironmentMissing as missing:
        pytest.skip(str(missing))
    made = peers.modelopt(prepared, corpus, "entropy")
    assert sqnr_db(prepared, made, corpus) > 15
    cost = peers.cost_of(made)
    assert cost["samples"] == len(corpus)
    assert cost["quantized"] == {"Conv": 2}
    monkeypatch.setenv("HARNESS_MODELOPT_PYTHON", "/nowhere/python")
    assert peers.modelopt(prepared, corpus, "entropy") == made
