"""A small model with everything that an assignment can change, its ranges by two methods, and its palette."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.calibration.qdq import tensors_to_observe
from harness.mixed.palette import Palette
from harness.modelfile import prepare, weighted_nodes
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model

MODEL = Model(key="mixed", axes=(Axis("x", 2),), axis_name="frames", minimum=4, maximum=64, opt=16, output="y")


def proto() -> onnx.ModelProto:
    """x [1, 4, T] -> conv, Relu, Transpose -> t [1, T, 8]; first(t), a residual Add; second(a), a residual Add;
    last -> y, an output that its mean reads, too; head(mean) -> Tanh -> z [1, 3].
    """
    random = np.random.default_rng(5)
    weights = {
        "k": random.standard_normal((8, 4, 3)) / 3, "c": random.standard_normal(8) / 4,
        "w1": random.standard_normal((8, 8)) / 3, "w2": random.standard_normal((8, 8)) / 3,
        "w3": random.standard_normal((8, 5)) / 3, "w4": random.standard_normal((5, 3)), "b4": random.standard_normal(3),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "k", "c"], ["h"], name="conv", pads=[1, 1]),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Transpose", ["r"], ["t"], name="transpose", perm=[0, 2, 1]),
            helper.make_node("MatMul", ["t", "w1"], ["m"], name="first"),
            helper.make_node("Add", ["t", "m"], ["a"], name="residual"),
            helper.make_node("MatMul", ["a", "w2"], ["n"], name="second"),
            helper.make_node("Add", ["a", "n"], ["b"], name="residual2"),
            helper.make_node("MatMul", ["b", "w3"], ["y"], name="last"),
            helper.make_node("ReduceMean", ["y"], ["e"], name="mean", axes=[1], keepdims=0),
            helper.make_node("Gemm", ["e", "w4", "b4"], ["g"], name="head"),
            helper.make_node("Tanh", ["g"], ["z"], name="tanh"),
        ],
        "mixed",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, "T"])],
        [
            helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, "T", 5]),
            helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 3]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(lengths=(4, 9, 16, 31, 64), seed=1):
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 4, length)).astype(np.float32)} for length in lengths]


def run(model, feeds, more=(), *, optimized=True):
    """Every output by its name; ``more`` tensors beside them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def observed(prepared, dialect, corpus):
    """Smallest and largest value of every tensor that is quantized, 0 among them."""
    model = onnx.load(prepared)
    names = tensors_to_observe(model, weighted_nodes(model), dialect)
    outputs = {one.name for one in model.graph.output} | {one.name for one in model.graph.input}
    found = {}
    for feeds in corpus:
        values = {**feeds, **run(model, feeds, [name for name in names if name not in outputs], optimized=False)}
        for name in names:
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (min(low, float(values[name].min())), max(high, float(values[name].max())))
    return found


@dataclass(frozen=True)
class Setting:
    """A prepared model with ranges by two methods in one dialect."""

    prepared: Path
    dialect: Dialect
    corpus: list[dict[str, np.ndarray]]

    @cached_property
    def by_method(self):
        wide = observed(self.prepared, self.dialect, self.corpus)
        return {"minmax": wide, "narrow": {name: (0.6 * low, 0.6 * high) for name, (low, high) in wide.items()}}

    @cached_property
    def palette(self):
        return Palette.of(self.prepared, self.by_method, self.dialect)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The small model, as every file starts from."""
    folder = tmp_path_factory.mktemp("mixed")
    onnx.save(proto(), folder / "mixed.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_INT8_HARNESS_CACHE", str(folder / "cache"))
        return prepare(folder / "mixed.onnx", MODEL)


@pytest.fixture(scope="session", params=list(Dialect), ids=str)
def setting(request, prepared):
    return Setting(prepared, request.param, samples())
