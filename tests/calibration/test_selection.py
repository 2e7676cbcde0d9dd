from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.calibration.observe import observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import choose
from harness.calibration.selection import CANDIDATES, best_method, spread_over_lengths
from harness.errors import CalibrationFailed
from harness.spec.calibration import Dialect, Method


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=60))
def test_the_samples_tried_are_spread_over_lengths(lengths):
    picked = spread_over_lengths(lengths, [""] * len(lengths))
    assert len(picked) == len(set(picked)) == min(24, len(lengths))
    chosen = [lengths[index] for index in picked]
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (min(lengths), max(lengths)) or len(lengths) == 1


def test_no_samples_are_none():
    assert spread_over_lengths([], []) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.uuids().map(str)), min_size=1, max_size=60), st.randoms())
def test_the_choice_does_not_depend_on_the_order(samples, random):
    def chosen(samples):
        return [samples[index] for index in spread_over_lengths(*zip(*samples, strict=True))]

    assert chosen(random.sample(samples, len(samples))) == chosen(samples)


@pytest.fixture
def choice(prepared, proto, nodes):
    def choose_from(samples, dialect=Dialect.S8S8):
        observation = observe(proto, tensors_to_observe(proto, nodes, dialect), samples)
        return best_method(prepared, nodes, observation, dialect, samples, "scores")

    return choose_from


@pytest.mark.parametrize("dialect", list(Dialect))
def test_every_candidate_is_tried_and_the_winner_is_nearly_the_best(choice, samples, dialect):
    method, reached = choice(samples, dialect)
    assert list(reached) == [str(candidate) for candidate in CANDIDATES]
    assert reached[str(method)] >= max(reached.values()) - 1.0
    assert all(np.isfinite(list(reached.values())))


@pytest.mark.parametrize(("gain", "winner"), [(0.0, "mse"), (0.9, "mse"), (1.1, "entropy")])
def test_a_challenger_must_be_clearly_better_than_mse(choice, samples, monkeypatch, gain, winner):
    values = {"mse": 10.0, "entropy": 10.0 + gain}
    scores = iter(values.get(str(candidate), 5.0) for candidate in CANDIDATES)
    monkeypatch.setattr("harness.calibration.selection._mean_sqnr_db", lambda *_: next(scores))
    assert str(choice(samples)[0]) == winner


def test_one_method_for_the_same_samples(choice, samples):
    assert choice(samples) == choice(samples)


def test_outputs_that_are_not_finite_are_refused(choice, samples, monkeypatch):
    monkeypatch.setattr("harness.calibration.selection._mean_sqnr_db", lambda *_: float("nan"))
    with pytest.raises(CalibrationFailed, match="no method gives finite outputs"):
        choice(samples)


def test_auto_itself_is_no_rule(proto, samples):
    with pytest.raises(CalibrationFailed, match="auto is no rule"):
        choose(observe(proto, ["x"], samples), Method("auto"), Dialect.S8S8)
