"""Painted files of a model with a Gemm, shared activations and an output that is read, and of real models.

Against what the writer makes, bit for bit, and against arithmetic.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from fixtures.catalogue import ENTRIES
from harness.calibration.qdq import tensors_to_observe, write_qdq
from harness.explain.rules import findings
from harness.mixed.assignment import Assignment
from harness.mixed.palette import Palette, mixed_file
from harness.mixed.plan import ranges_of
from harness.modelfile import prepare, weighted_nodes
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("conv", "first", "second", "last", "head")
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


@pytest.fixture
def writer(setting, tmp_path):
    """What the writer makes of some nodes with these ranges, every tensor's own."""

    def write(nodes, ranges):
        write_qdq(setting.prepared, nodes, ranges, setting.dialect, tmp_path / "written.onnx")
        return onnx.load(tmp_path / "written.onnx")

    return write


def bits(model, feeds):
    return {name: value.tobytes() for name, value in run(model, feeds).items()}


def check_whole(model):
    """Valid, no Q/DQ that nobody reads, no constant that nobody reads, nothing wrong by the rules."""
    onnx.checker.check_model(model, full_check=True)
    read = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    assert [node.name for node in model.graph.node if not read.intersection(node.output)] == []
    assert [one.name for one in model.graph.initializer if one.name not in read] == []
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            after = [one.op_type for one in model.graph.node if node.output[0] in one.input]
            assert set(after) == {"DequantizeLinear"}, node.name
    assert len(made) == sum(len(node.output) for node in model.graph.node)
    assert [one for one in findings(model) if one.severity == "wrong"] == []


def pairs(model):
    """Tensors that are quantized, as the model names them."""
    constants = {one.name for one in model.graph.initializer}
    names = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"} - constants
    return {name.removesuffix("_QuantizeLinear_Input") for name in names}


def test_no_departure_is_the_plain_file(setting):
    palette = setting.palette
    assert palette.nodes == NODES
    assert palette.paint(Assignment()).SerializeToString(deterministic=True) == palette.plain[
        "minmax"
    ].SerializeToString(deterministic=True)


def test_all_in_float_is_fp32(setting):
    painted, before = setting.palette.paint(Assignment(frozenset(NODES))), onnx.load(setting.prepared)
    check_whole(painted)
    assert {node.op_type for node in painted.graph.node}.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    for feeds in setting.corpus:
        assert bits(painted, feeds) == bits(before, feeds)


@pytest.mark.parametrize(
    "in_float",
    [*itertools.combinations(NODES, 1), ("conv", "last"), ("first", "second"), NODES[1:], NODES[:-1]],
    ids="-".join,
)
def test_operators_in_float_are_what_the_writer_makes_of_the_others(setting, writer, in_float):
    painted = setting.palette.paint(Assignment(frozenset(in_float)))
    check_whole(painted)
    rest = [name for name in NODES if name not in in_float]
    written = writer(rest, setting.by_method["minmax"])
    assert pairs(painted) == pairs(written)
    for feeds in setting.corpus[1:4]:
        assert bits(painted, feeds) == bits(written, feeds)


@pytest.mark.parametrize("tensor", ["x", "t", "a", "b", "e"])
def test_a_tensors_own_method_is_what_the_writer_makes_of_its_range(setting, writer, tensor):
    assignment = Assignment().with_method(tensor, "narrow")
    palette = setting.palette
    painted = palette.paint(assignment)
    check_whole(painted)
    ranges = ranges_of(palette.prepared, palette.nodes, setting.dialect, setting.by_method, assignment)
    assert ranges[tensor] == setting.by_method["narrow"][tensor]
    written = writer(palette.nodes, ranges)
    assert painted.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)


@pytest.mark.parametrize("tensor", ["h", "m", "n", "y"])
def test_a_written_tensors_own_method(setting, writer, tensor):
    assignment = Assignment().with_method(tensor, "narrow")
    palette = setting.palette
    if setting.dialect is Dialect.S8S8:  # which quantizes no outputs
        assert tensor not in pairs(palette.plain["minmax"])
        return
    ranges = ranges_of(palette.prepared, palette.nodes, setting.dialect, setting.by_method, assignment)
    painted, written = palette.paint(assignment), writer(palette.nodes, ranges)
    assert painted.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)


def test_all_of_another_method_and_some_in_float(setting, writer):
    palette, assignment = setting.palette, Assignment(frozenset({"second"}))
    for tensor in setting.by_method["minmax"]:
        if tensor != "r":
            assignment = assignment.with_method(tensor, "narrow")
    if setting.dialect is Dialect.U8S8:
        assignment = assignment.with_method("h", "narrow")
    ranges = ranges_of(palette.prepared, palette.nodes, setting.dialect, setting.by_method, assignment)
    painted = palette.paint(assignment)
    check_whole(painted)
    written = writer([name for name in NODES if name != "second"], ranges)
    for feeds in setting.corpus:
        assert bits(painted, feeds) == bits(written, feeds)


@pytest.mark.parametrize("node", ["first", "last", "head"])
def test_an_operator_that_writes_floating_point(setting, node):
    palette, tensor = setting.palette, {"first": "m", "last": "y", "head": "g"}[node]
    painted = palette.paint(Assignment(float_outputs=frozenset({node})))
    check_whole(painted)
    before = pairs(palette.plain["minmax"])
    assert pairs(painted) == before - {tensor}
    after = {"first": "residual", "last": "mean", "head": "tanh"}[node]
    (reader,) = (one for one in painted.graph.node if one.name == after)
    assert tensor in reader.input
    (itself,) = (one for one in painted.graph.node if one.name == node)
    assert itself.output[0] == tensor
    makers = {name: one.op_type for one in painted.graph.node for name in one.output}
    assert [makers[name] for name in itself.input[:2]] == ["DequantizeLinear"] * 2, "it still computes in INT8"


@pytest.mark.parametrize("in_float", [(), ("second",), ("first",)], ids=str)
def test_a_tensor_that_only_int8_operators_read_quantized(setting, in_float):
    palette = setting.palette
    assert palette.shared_with_float == ("t", "a")
    painted = palette.paint(Assignment(frozenset(in_float), float_readers=frozenset({"a"})))
    check_whole(painted)
    readers = {one.name: list(one.input) for one in painted.graph.node}
    assert "a" in readers["residual2"]
    assert ("a" in readers["second"]) == ("second" in in_float)
    assert "t" not in readers["residual"] or "first" in in_float, "the other tensor is as it was"
    feeds = setting.corpus[2]
    added = readers["residual2"]
    values = run(painted, feeds, list(dict.fromkeys(["a", *added, "b"])), optimized=False)
    np.testing.assert_array_equal(values["b"], values[added[0]] + values[added[1]])
    plain = run(palette.plain["minmax"], feeds, ["a"], optimized=False)
    if not in_float:
        np.testing.assert_array_equal(values["a"], plain["a"])


def test_less_is_quantized_and_less_is_wrong(setting):
    """With all forms of floating point beside INT8 the noise falls, and the operators stay in INT8."""
    before, noise = onnx.load(setting.prepared), {}
    forms = {
        "plain": Assignment(),
        "floats": Assignment(
            float_outputs=frozenset(NODES), float_readers=frozenset(setting.palette.shared_with_float)
        ),
    }
    for name, assignment in forms.items():
        painted = setting.palette.paint(assignment)
        check_whole(painted)
        differences = [run(painted, feeds)["y"] - run(before, feeds)["y"] for feeds in setting.corpus]
        noise[name] = sum(float((one**2).sum()) for one in differences)
    assert 0 < noise["floats"] < noise["plain"]


def test_a_plans_file_is_painted_once(setting, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path))
    palette = setting.palette
    assignment = Assignment(frozenset({"first"}), float_readers=frozenset({"a"})).with_method("b", "narrow")
    ranges = ranges_of(palette.prepared, palette.nodes, setting.dialect, setting.by_method, assignment)
    path = mixed_file(setting.prepared, ranges, assignment, setting.dialect)
    made = path.stat().st_mtime_ns
    assert onnx.load(path).SerializeToString(deterministic=True) == palette.paint(assignment).SerializeToString(
        deterministic=True
    )
    monkeypatch.setattr(Palette, "paint", None)
    assert mixed_file(setting.prepared, ranges, assignment, setting.dialect) == path
    assert path.stat().st_mtime_ns == made
    monkeypatch.undo()
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path))
    assert mixed_file(setting.prepared, ranges, assignment.with_float("last"), setting.dialect) != path
    wider = {**ranges, "b": (-9.0, 9.0)}
    assert mixed_file(setting.prepared, wider, assignment, setting.dialect) != path


def test_weights_in_floating_point_before_a_quantize(setting, tmp_path, monkeypatch):
    """The form that newer TensorRT takes computes the same."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path))
    assignment = Assignment(frozenset({"second"}))
    ranges = setting.by_method["minmax"]
    kept, spread = (
        onnx.load(mixed_file(setting.prepared, ranges, assignment, setting.dialect, weights))
        for weights in ("int8", "float")
    )
    check_whole(kept)
    onnx.checker.check_model(spread, full_check=True)
    feeds = setting.corpus[3]
    for name, value in run(kept, feeds, optimized=False).items():
        np.testing.assert_allclose(run(spread, feeds, optimized=False)[name], value, atol=1e-5)


@pytest.fixture(scope="module", params=["vad", "plc"])
def real(request):
    entry = ENTRIES[request.param]
    path, found = prepare(entry.onnx(), entry.model), {}
    corpus = list(itertools.islice(entry.samples("calibration", 0), 2))
    for dialect in Dialect:
        found[dialect] = Setting(path, dialect, corpus)
    return found


@pytest.mark.parametrize("dialect", list(Dialect), ids=str)
def test_real_models(real, dialect, tmp_path):
    setting = real[dialect]
    palette, nodes = setting.palette, setting.palette.nodes
    assert palette.paint(Assignment()).SerializeToString(deterministic=True) == palette.plain[
        "minmax"
    ].SerializeToString(deterministic=True)
    feeds = setting.corpus[0]
    everything = palette.paint(Assignment(frozenset(nodes)))
    for name, value in run(onnx.load(setting.prepared), feeds).items():
        np.testing.assert_array_equal(run(everything, feeds)[name], value)
    some = frozenset(nodes[1::3])
    painted = palette.paint(Assignment(some))
    check_whole(painted)
    rest = [name for name in nodes if name not in some]
    write_qdq(setting.prepared, rest, setting.by_method["minmax"], dialect, tmp_path / "rest.onnx")
    assert bits(painted, feeds) == bits(onnx.load(tmp_path / "rest.onnx"), feeds)
    forms = palette.paint(
        Assignment(some, frozenset(nodes) - some, frozenset(palette.shared_with_float)).with_method(
            palette.inputs[nodes[0]], "narrow"
        )
    )
    check_whole(forms)
    assert all(np.isfinite(value).all() for value in run(forms, feeds).values())
