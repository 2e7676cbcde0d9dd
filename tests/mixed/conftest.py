"""A small model with what mixed precision turns on: a residual, an output that is a product's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.calibration.observe import observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import choose
from harness.corpus.samples import Corpus
from harness.mixed.palette import Palette
from harness.modelfile import prepare, weighted_nodes
from harness.spec.calibration import Dialect, Method
from harness.spec.model import Axis, Model

if TYPE_CHECKING:
    from pathlib import Path

MODEL = Model(key="branchy", axes=(Axis("x", 2),), axis_name="frames", minimum=4, maximum=64, opt=16, output="scores")
METHODS = ("mse", "minmax", "percentile99.9")


def branchy(loud: float = 1.0) -> onnx.ModelProto:
    """x [1, 4, L] -> Conv, Relu -> [1, L, 8] -> MatMul "inner" + bias -> Add to what it read -> MatMul "last".

    :param loud: factor on one channel of what "inner" reads; its weights are divided by it, so that FP32 computes the
        same, and one range for the tensor serves no channel well.
    """
    draw = np.random.default_rng(11)
    scale = np.ones(8, np.float32)
    scale[3] = loud
    weights = {
        "w": draw.normal(size=(8, 4, 3)).astype(np.float32) / 3,
        "b": draw.normal(size=8).astype(np.float32) / 4,
        "scale": scale,
        "m": (draw.normal(size=(8, 8)) / 3 / scale[:, None]).astype(np.float32),
        "mb": draw.normal(size=8).astype(np.float32) / 4,
        "l": draw.normal(size=(8, 6)).astype(np.float32) / 3,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("Mul", ["t", "scale"], ["ts"], "scaled"),
        helper.make_node("MatMul", ["ts", "m"], ["p"], "inner"),
        helper.make_node("Add", ["p", "mb"], ["q"], "bias"),
        helper.make_node("Div", ["ts", "scale"], ["back"], "unscaled"),
        helper.make_node("Add", ["q", "back"], ["sum"], "residual"),
        helper.make_node("MatMul", ["sum", "l"], ["scores"], "last"),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "branchy",
        [helper.make_tensor_value_info("x", floats, [1, 4, "L"])],
        [helper.make_tensor_value_info("scores", floats, [1, "L", 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def draws(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    """Samples of 4 to 64 frames."""
    draw = np.random.default_rng(seed)
    return [{"x": draw.normal(size=(1, 4, int(draw.integers(4, 65)))).astype(np.float32)} for _ in range(count)]


@dataclass(frozen=True)
class Made:
    """A prepared model, its nodes, and ranges by several methods in one dialect."""

    prepared: Path
    nodes: list[str]
    ranges: dict[str, dict[str, tuple[float, float]]]
    dialect: Dialect

    def palette(self) -> Palette:
        return Palette.of(self.prepared, self.ranges, self.dialect)


def made(folder: Path, dialect: Dialect, loud: float = 1.0) -> Made:
    path = folder / "branchy.onnx"
    onnx.save(branchy(loud), path)
    prepared = prepare(path, MODEL)
    proto = onnx.load(prepared)
    nodes = weighted_nodes(proto)
    seen = observe(prepared, tensors_to_observe(proto, nodes, Dialect.U8S8), draws(1, 24))
    ranges = {one: choose(seen, Method.parse(one), dialect) for one in METHODS}
    return Made(prepared, nodes, ranges, dialect)


def outputs(model: onnx.ModelProto | Path, samples: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return [session.run(["scores"], feeds)[0] for feeds in samples]


@pytest.fixture(params=list(Dialect), ids=lambda one: one.value)
def dialect(request):
    return request.param


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Nothing that another test has prepared or searched."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(tmp_path, own_cache, dialect):
    return made(tmp_path, dialect)


@pytest.fixture
def corpus(tmp_path):
    return Corpus.write(tmp_path / "corpus", MODEL, draws(2, 30), "test")
