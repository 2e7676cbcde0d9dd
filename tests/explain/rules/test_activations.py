"""Rules on what calibration saw: real observations of the small model, and one with an outlier or with louder data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.calibration.observe import Histogram, Observation, observe
from harness.calibration.rows import Spread
from harness.explain.rules import findings
from harness.spec.calibration import Dialect
from tests.explain.rules import clean
from tests.explain.rules.clean import get, put, qdq, seen

KINDS = {"saturated-activation", "outlier-activation"}


def found(model, observation):
    return [one for one in findings(model, observation=observation) if one.kind in KINDS]


@pytest.mark.parametrize("dialect", [None, *Dialect], ids=str)
@pytest.mark.parametrize("method", ["minmax", "percentile99.9", "mse"])
def test_clean(float_model, dialect, method, tmp_path):
    model = float_model if dialect is None else qdq(float_model, dialect, tmp_path, method)
    assert not found(model, seen(float_model))


@pytest.mark.parametrize("dialect", Dialect)
def test_a_scale_that_is_too_small(float_model, dialect, tmp_path):
    model = qdq(float_model, dialect, tmp_path)
    put(model, "n2_scale", get(model, "n2_scale") / 4)
    (one,) = found(model, seen(float_model))
    assert (one.kind, one.severity, one.where) == ("saturated-activation", "wrong", ("n2",))
    statistic = seen(float_model).tensors["n2"]
    values = clean_values(float_model, "n2")
    scale, zero = float(get(model, "n2_scale")), int(get(model, "n2_zero_point"))
    low, high = (-128, 127) if dialect is Dialect.S8S8 else (0, 255)
    exact = np.mean((values > (high - zero) * scale) | (values < (low - zero) * scale))
    assert statistic.count == values.size
    assert one.evidence["share"] == pytest.approx(exact, rel=0.03)


def clean_values(proto, tensor):
    class Keep:
        """A statistic that is all the values."""

        def __init__(self):
            self.count, self.minimum, self.maximum, self.parts = 0, 0.0, 0.0, []

        def add(self, array):
            self.parts.append(array.reshape(-1).copy())

    kept = observe(proto, [tensor], clean.samples(), statistic=Keep).tensors[tensor]
    return np.concatenate(kept.parts)


def with_outlier(proto, times):
    """What was seen, and one value more."""
    observation = seen(proto)
    statistic = observation.tensors["n2"]
    assert isinstance(statistic, Histogram)
    most = max(statistic.maximum, -statistic.minimum)
    draw = np.random.default_rng(0)
    statistic.add(draw.normal(size=40_000).astype(np.float32))
    statistic.add(np.array([times * most], np.float32))
    return observation, times * most


def test_an_outlier_in_a_float_model(float_model):
    observation, largest = with_outlier(float_model, 20)
    (one,) = found(float_model, observation)
    assert (one.kind, one.severity, one.where) == ("outlier-activation", "note", ("n2",))
    assert one.evidence["largest"] == pytest.approx(largest, rel=1e-3)
    assert one.cost_db == pytest.approx(20 * math.log10(one.evidence["ratio"]), abs=0.01)
    assert 12 < one.evidence["ratio"] < 25


@pytest.mark.parametrize(("covered", "kinds"), [(1.0, ["outlier-activation"]), (0.2, [])])
def test_an_outlier_matters_where_the_scale_covers_it(float_model, covered, kinds, tmp_path):
    observation, largest = with_outlier(float_model, 20)
    model = qdq(float_model, Dialect.S8S8, tmp_path)
    put(model, "n2_scale", np.array(largest * covered / 127, np.float32))
    assert [one.kind for one in found(model, observation)] == kinds


def test_what_a_relu_cuts_off_is_no_loss(float_model, tmp_path):
    """In u8s8 a convolution's output has the range behind its ReLU, and half of it lies below."""
    model = qdq(float_model, Dialect.U8S8, tmp_path)
    assert int(get(model, "c1_zero_point")) == 0
    observation = observe(float_model, ["c1"], clean.samples())
    assert observation.tensors["c1"].minimum < -0.5
    assert not found(model, observation)


def test_nothing_seen(float_model):
    assert not found(float_model, Observation({"n2": Histogram()}, 0))


@pytest.mark.parametrize("dialect", [None, *Dialect], ids=str)
def test_rows_of_very_different_size(float_model, dialect, tmp_path):
    model = float_model if dialect is None else qdq(float_model, dialect, tmp_path)
    names = [node.name for node in float_model.graph.node if node.op_type == "MatMul"]
    rows = [Spread(names[0], 2.0, 4.5), Spread(names[1], 3.0, 1.9)]
    (one,) = [one for one in findings(model, rows=rows) if one.kind == "quiet-rows"]
    assert (one.severity, one.where) == ("note", (names[0],))
    assert one.evidence == {"count": 1, "bits": 4.5, "largest": 2.0}
    assert one.cost_db == pytest.approx(27.1, abs=0.1)
    assert not [one for one in findings(model, rows=rows[1:]) if one.kind == "quiet-rows"]


def test_rows_of_an_operator_in_float_are_no_matter(float_model, tmp_path):
    model = qdq(float_model, Dialect.S8S8, tmp_path)
    assert not [one for one in findings(model, rows=[Spread("gone", 2.0, 4.5)]) if one.kind == "quiet-rows"]
