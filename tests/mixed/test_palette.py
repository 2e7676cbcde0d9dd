"""Files painted by rewiring compute what files of the writer compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from harness.calibration.qdq import write_qdq
from harness.errors import UsageError
from harness.explain.rules import findings
from harness.mixed.assignment import Assignment
from harness.mixed.palette import mixed_file
from harness.mixed.plan import ranges_of
from harness.spec.calibration import Dialect

from .conftest import draws, outputs

SAMPLES = draws(5, 4)
SUBSETS = [{"conv"}, {"inner"}, {"last"}, {"conv", "inner"}, {"inner", "last"}]


def same(one, other):
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def quantizers(model):
    return sorted(node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear")


def test_nothing_in_float_is_the_plain_file(small, tmp_path):
    target = tmp_path / "plain.onnx"
    write_qdq(small.prepared, small.nodes, small.ranges["mse"], small.dialect, target)
    assert same(outputs(small.palette().paint(Assignment()), SAMPLES), outputs(target, SAMPLES))


def test_all_in_float_is_fp32(small):
    painted = small.palette().paint(Assignment(in_float=frozenset(small.nodes)))
    assert not quantizers(painted)
    assert same(outputs(painted, SAMPLES), outputs(small.prepared, SAMPLES))


@pytest.mark.parametrize("left", SUBSETS, ids=lambda one: "+".join(sorted(one)))
def test_some_in_float_is_what_the_writer_makes_of_the_others(small, tmp_path, left):
    target = tmp_path / "others.onnx"
    rest = [node for node in small.nodes if node not in left]
    write_qdq(small.prepared, rest, small.ranges["mse"], small.dialect, target)
    painted = small.palette().paint(Assignment(in_float=frozenset(left)))
    onnx.checker.check_model(painted, full_check=True)
    assert same(outputs(painted, SAMPLES), outputs(target, SAMPLES))


@pytest.mark.parametrize("tensor", ["x", "ts", "sum"])
def test_a_tensor_by_another_method_is_what_the_writer_makes_of_those_ranges(small, tmp_path, tensor):
    palette, target = small.palette(), tmp_path / "other.onnx"
    assignment = Assignment().with_method(tensor, "minmax")
    ranges = ranges_of(palette.prepared, palette.nodes, small.dialect, small.ranges, assignment)
    assert ranges[tensor] == small.ranges["minmax"][tensor]
    write_qdq(small.prepared, small.nodes, ranges, small.dialect, target)
    assert same(outputs(palette.paint(assignment), SAMPLES), outputs(target, SAMPLES))


def test_what_is_read_beside_int8_can_be_read_in_float(small):
    palette = small.palette()
    assert palette.shared_with_float == ("ts",)
    painted = palette.paint(Assignment(float_readers=frozenset({"ts"})))
    (unscaled,) = (node for node in painted.graph.node if node.name == "unscaled")
    (inner,) = (node for node in painted.graph.node if node.name == "inner")
    assert unscaled.input[0] == "ts"
    assert inner.input[0] != "ts"
    assert quantizers(painted) == quantizers(palette.paint(Assignment()))


def test_outputs_can_stay_in_float(tmp_path, own_cache):
    from .conftest import made

    small = made(tmp_path, Dialect.U8S8)
    palette = small.palette()
    before = outputs(palette.paint(Assignment()), SAMPLES)
    painted = palette.paint(Assignment(float_outputs=frozenset({"inner", "last"})))
    onnx.checker.check_model(painted, full_check=True)
    assert [value.name for value in painted.graph.output] == ["scores"]
    assert len(quantizers(painted)) == len(quantizers(palette.paint(Assignment()))) - 2
    exact = outputs(small.prepared, SAMPLES)
    worst = [max(float(np.abs(a - b).max()) for a, b in zip(exact, one, strict=True))
             for one in (before, outputs(painted, SAMPLES))]  # fmt: skip
    assert worst[1] < worst[0]


@pytest.mark.parametrize("assignment", [
    Assignment(),
    Assignment(in_float=frozenset({"conv"})),
    Assignment(in_float=frozenset({"inner"}), float_readers=frozenset({"ts"})),
    Assignment(float_outputs=frozenset({"last"}), float_readers=frozenset({"ts"})),
])  # fmt: skip
def test_no_rule_finds_anything_wrong_with_what_is_painted(small, assignment):
    wrong = [one for one in findings(small.palette().paint(assignment)) if one.severity == "wrong"]
    assert not wrong


@pytest.mark.parametrize(("assignment", "named"), [
    (Assignment(in_float=frozenset({"gone"})), "no weighted node 'gone'"),
    (Assignment(float_outputs=frozenset({"relu"})), "no weighted node 'relu'"),
    (Assignment(float_readers=frozenset({"gone"})), "no quantized tensor 'gone'"),
    (Assignment(methods=(("ts", "guess"),)), "no method 'guess'"),
])  # fmt: skip
def test_what_is_not_there_is_named(small, assignment, named):
    with pytest.raises(UsageError, match=named):
        small.palette().paint(assignment)


def test_a_file_is_kept_and_is_what_the_search_painted(small):
    palette = small.palette()
    assignment = Assignment(in_float=frozenset({"conv"})).with_method("ts", "percentile99.9")
    ranges = ranges_of(palette.prepared, palette.nodes, small.dialect, small.ranges, assignment)
    file = mixed_file(small.prepared, ranges, assignment, small.dialect)
    written = file.stat().st_mtime_ns
    assert same(outputs(file, SAMPLES), outputs(palette.paint(assignment), SAMPLES))
    assert mixed_file(small.prepared, ranges, assignment, small.dialect) == file
    assert file.stat().st_mtime_ns == written


def test_data_and_back():
    assignment = Assignment(frozenset("ab"), frozenset("c"), frozenset("t")).with_method("t", "mse")
    assert Assignment.from_data(assignment.as_data()) == assignment
