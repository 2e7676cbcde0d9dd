"""Rules on measured layers: tables of a sound run, and each with one thing that costs time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.explain.layer import Layer, LayerTable, Roofline
from harness.explain.rules import RULES, findings
from harness.spec.calibration import Dialect
from harness.spec.shapes import Layout, Profile
from tests.explain.rules.clean import SPEC, qdq

MEASURED = {kind for kind, one in RULES.items() if one.needs in {"tables", "baseline", "roofline", "traffic"}}
ROOFLINE = Roofline({"fp32": 1e12, "fp16": 2e12, "int8": 4e12}, 1e11)
OPERATORS = ("conv1", "conv2", "query", "key", "value", "out", "up", "down", "logits")


def table(precision, us, *, length=100, more=(), whole=None):
    """Every weighted operator of the small model as a layer of ``us``; and others."""
    layers = [Layer(n, "MatMul", (n,), precision, "compute", us, 20_000_000, 20_000) for n in OPERATORS]
    layers = (*layers, *more)
    return LayerTable("small", length, layers, whole or 1.1 * sum(one.time_us for one in layers))


def changed(one, layer, **values):
    return replace(one, layers=tuple(replace(la, **values) if la.name == layer else la for la in one.layers))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.explain.rules import clean

    return qdq(clean.fp32(), Dialect.S8S8, tmp_path_factory.mktemp("s8s8"))


def found(model, tables, **given):
    given.setdefault("model_spec", SPEC)
    return [one for one in findings(model, tables, **given) if one.kind in MEASURED]


INT8, FP32 = table("int8", 10.0), table("fp32", 30.0)


def test_clean(model):
    layout = Layout("single", (Profile(4, 100, 600),))
    given = {"baseline": [FP32], "roofline": ROOFLINE, "layout": layout, "lengths": [60, 90, 150], "switch_us": 3.0}
    assert found(model, [INT8], **given) == []


def test_float_fallback(model):
    slow = changed(INT8, "down", precision="fp32", time_us=40.0)
    (one,) = found(model, [slow], baseline=[FP32])
    assert (one.kind, one.severity, one.where) == ("float-fallback", "slow", ("down",))
    assert one.evidence == {"count": 1, "of": 9, "precision": "fp32", "time_us": 40.0}
    assert one.cost_us == pytest.approx(30.0)  # at the pace of the others, 10 us
    assert one.todo.startswith("other findings may say why")
    (one,) = found(model, [slow], dialect=Dialect.U8S8)
    assert one.todo.startswith("that is so with Q/DQ in TensorRT's form, which stand on inputs alone")


def test_float_fallback_of_a_layer_of_several_nodes(model):
    slow = changed(INT8, "down", precision="fp16", nodes=("down", "residual2"), name="myelin7")
    (one,) = found(model, [slow], baseline=[FP32])
    assert one.where == ("down",)
    assert one.cost_us is None  # it is no slower than the others


def test_float_operators_are_no_fallback(model):
    more = (
        Layer("softmax", "Softmax", ("softmax",), "fp32", "other", 5.0),
        Layer("qk", "MatMul", ("qk",), "fp32", "compute", 5.0),
    )
    assert found(model, [table("int8", 10.0, more=more)], baseline=[FP32]) == []


def test_memory_bound(model):
    waits = Layer("gelu", "Mul", ("gelu",), "fp32", "other", 40.0, 10_000, 3_000_000)
    (one,) = found(model, [table("int8", 10.0, more=(waits,))], roofline=ROOFLINE)
    assert (one.kind, one.severity, one.where) == ("memory-bound", "note", ("gelu",))
    assert one.evidence["least_us"] == pytest.approx(30.0)
    assert one.evidence["share"] == pytest.approx(40 / 130, abs=1e-3)


@pytest.mark.parametrize("us", [20.0, 200.0])
def test_bytes_from_a_cache_or_other_waiting_are_not_memory(model, us):
    """The bytes take 30 us: a quicker layer did not read memory, and one far slower does not wait for it."""
    other = Layer("gelu", "Mul", ("gelu",), "fp32", "other", us, 10_000, 3_000_000)
    assert found(model, [table("int8", 10.0, more=(other,))], roofline=ROOFLINE) == []


def test_slower_in_int8(model):
    (one,) = found(model, [changed(INT8, "up", time_us=42.0)], baseline=[FP32])
    assert (one.kind, one.severity, one.where) == ("slower-in-int8", "slow", ("up",))
    assert one.cost_us == pytest.approx(12.0)
    assert one.evidence["length"] == 100


def test_slower_goes_by_the_same_nodes(model):
    """A float layer that computes more than the INT8 one is no measure of it."""
    fused = changed(FP32, "up", nodes=("up", "up_bias", "up_relu"), time_us=11.0)
    assert found(model, [changed(INT8, "up", time_us=42.0)], baseline=[fused]) == []


def test_reformats(model):
    more = (
        Layer("q1", "QuantizeLinear", ("q1",), "int8", "quantize", 9.0),
        Layer("r1", "Reformat", (), "fp32", "reformat", 11.0),
    )
    (one,) = found(model, [table("int8", 10.0, more=more)], baseline=[FP32])
    assert (one.kind, one.severity, one.where) == ("reformat-share", "slow", ("r1", "q1"))
    assert one.evidence == {"share": 0.1818, "quantize_us": 9.0, "reformat_us": 11.0, "length": 100}
    assert one.cost_us == pytest.approx(20.0)


def test_reformats_that_the_float_model_has_too(model):
    more = (Layer("r1", "Reformat", (), "fp32", "reformat", 20.0),)
    assert found(model, [table("int8", 10.0, more=more)], baseline=[table("fp32", 30.0, more=more)]) == []


def test_launch_bound(model):
    (one,) = found(model, [replace(INT8, whole_us=300.0)])
    assert (one.kind, one.severity) == ("launch-bound", "slow")
    assert one.cost_us == pytest.approx(210.0)
    assert one.evidence == {"whole_us": 300.0, "layers_us": 90.0, "length": 100}


@pytest.mark.parametrize(("long", "kinds"), [(350.0, ["launch-bound"]), (2000.0, [])])
def test_what_grows_with_the_length_is_no_launch(model, long, kinds):
    tables = [replace(INT8, whole_us=300.0), table("int8", 10.0, length=600, whole=long)]
    assert [one.kind for one in found(model, tables)] == kinds


def test_far_from_the_roofline(model):
    (one,) = found(model, [changed(INT8, "conv1", time_us=90.0)], roofline=ROOFLINE)
    assert (one.kind, one.severity, one.where) == ("far-from-roofline", "note", ("conv1",))
    assert one.evidence["times"] == pytest.approx(18.0)


def test_not_faster(model):
    tables = [table("int8", 10.0, length=length) for length in (10, 100, 600)]
    base = [table("fp32", us, length=length) for us, length in ((30.0, 10), (30.0, 100), (8.0, 600))]
    base[2] = replace(base[2], layers=())  # so that only the whole is compared
    (one,) = found(model, tables, baseline=base)
    assert (one.kind, one.severity, one.where) == ("not-faster", "slow", ("length 600",))
    assert one.evidence == {"lengths": 3, "not_faster": 1, "worst_ratio": 0.8, "at": 600}
    assert one.cost_us == pytest.approx(1.1 * 18)


def test_an_fp16_case_is_not_said_to_be_int8(float_model):
    slow = [replace(table("fp16", 40.0), case="small-tensorrt-8.6.0-fp16-single")]
    assert found(float_model, slow, baseline=[FP32]) == []


def test_far_opt(model):
    layout = Layout("own", (Profile(4, 20, 300), Profile(301, 400, 600)))
    lengths = [100, 110, 120, 130, 310]
    (one,) = found(model, [INT8], layout=layout, lengths=lengths)
    assert (one.kind, one.where) == ("far-opt", ("4-20-300",))
    assert one.evidence["median_length"] == 115
    assert one.evidence["times"] == pytest.approx(5.75)


def test_dear_switch(model):
    layout = Layout("two", (Profile(4, 100, 300), Profile(301, 400, 600)))
    (one,) = found(model, [INT8], layout=layout, lengths=[100, 101, 400, 401], switch_us=50.0)
    assert (one.kind, one.severity) == ("dear-switch", "slow")
    assert one.evidence["changes"] == 0.5
    assert one.cost_us == pytest.approx(25.0)


def test_costs_come_to_static_findings(model):
    """A rule on the graph says what the layers at its nodes cost, where they were measured."""
    import onnx

    from tests.explain.rules.planted import four_outputs

    small = onnx.ModelProto()
    small.CopyFrom(model)
    four_outputs(small)
    given = findings(small, [changed(INT8, "logits", time_us=33.0)], [FP32], model_spec=SPEC)
    cost = next(one.cost_us for one in given if one.kind == "small-operator")
    assert cost == pytest.approx(3.0)
    assert [one.severity for one in given] == sorted(
        (one.severity for one in given), key=["wrong", "slow", "note"].index
    )
