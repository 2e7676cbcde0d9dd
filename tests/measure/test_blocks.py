"""Recorded durations and a clock that is told the time: nothing here waits or measures."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure import blocks
from harness.measure.blocks import Blocks, interleave, ratio


class Arms:
    """Arms that answer with recorded bursts and write down the order in which they were called."""

    def __init__(self, **durations):
        self.called = []
        self.bursts = {label: self._arm(label, values) for label, values in durations.items()}

    def _arm(self, label, values):
        recorded = itertools.cycle(values)

        def burst():
            self.called.append(label)
            return next(recorded)

        return burst

    def blocks(self):
        size = len(self.bursts)
        return [tuple(self.called[start : start + size]) for start in range(0, len(self.called), size)]


def arms():
    return Arms(fp32=[[30, 31]], int8=[[10, 12]], again=[[30, 29]])


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_every_arm_runs_once_a_block(count, seed):
    recorded = arms()
    run = interleave(recorded.bursts, blocks=count, seed=seed, budget_s=3600)
    assert len(run) == count
    assert run.seed == seed
    assert all(sorted(block) == sorted(recorded.bursts) for block in recorded.blocks())
    assert list(run.samples_ns) == ["fp32", "int8", "again"]
    assert run.samples_ns["int8"] == [[10, 12]] * count


def test_the_order_is_drawn_anew_in_every_block_and_comes_from_the_seed():
    def order(seed):
        recorded = arms()
        interleave(recorded.bursts, blocks=60, seed=seed, budget_s=3600)
        return recorded.blocks()

    assert order(1) == order(1) != order(2)
    assert len(set(order(1))) == 6  # every permutation of three
    assert set(Counter(block[0] for block in order(1))) == {"fp32", "int8", "again"}


def test_the_bursts_stay_with_their_arm_and_block():
    recorded = Arms(a=[[1], [2], [3]], b=[[10], [20], [30]])
    run = interleave(recorded.bursts, blocks=3, seed=0, budget_s=3600)
    assert run.samples_ns == {"a": [[1], [2], [3]], "b": [[10], [20], [30]]}


@pytest.mark.parametrize(
    ("budget_s", "least", "wanted"),
    [
        (0, 5, 5),  # too little from the start: the least there must be
        (45, 5, 5),  # passed by the fifth
        (75, 5, 8),  # the eighth begins at 70 s
        (1_000, 5, 20),
        (0, 50, 20),  # never more than asked for
        (0, 0, 1),  # nothing has passed before the first
    ],
)
def test_no_block_is_begun_after_the_budget_once_the_least_are_there(monkeypatch, budget_s, least, wanted):
    now = itertools.count(0)
    clock = {"s": 0.0}
    monkeypatch.setattr(blocks.time, "monotonic", lambda: clock["s"])

    def block_of_ten_seconds():
        clock["s"] = 10.0 * (next(now) + 1)
        return [1]

    run = interleave({"a": block_of_ten_seconds}, blocks=20, seed=0, budget_s=budget_s, least=least)
    assert len(run) == wanted


def test_no_arms_and_no_blocks():
    assert len(interleave({}, blocks=3, seed=0, budget_s=1)) == 0
    assert len(interleave(arms().bursts, blocks=0, seed=0, budget_s=1)) == 0
    assert len(Blocks({}, 0)) == 0


def test_an_error_of_an_arm_is_not_swallowed():
    def broken():
        raise RuntimeError("CUDA error 700")

    with pytest.raises(RuntimeError, match="700"):
        interleave({"a": broken}, blocks=3, seed=0, budget_s=1)


def test_ratio_of_known_numbers():
    """Block ratios of the minima: 2, 3, 4, 5, 12; the median is 4, the quartiles 3 and 5."""
    run = Blocks(
        {
            "fp32": [[20, 90], [30, 31], [99, 40], [50, 50], [120, 120]],
            "int8": [[10, 11], [70, 10], [10, 10], [10, 99], [10, 500]],
        },
        seed=0,
    )
    found = ratio(run, slow="fp32", fast="int8")
    assert (found.median, found.low, found.high) == pytest.approx((4, 3, 5))
    assert found.blocks == 5
    turned = ratio(run, slow="int8", fast="fp32")
    assert (turned.median, turned.low, turned.high) == pytest.approx((1 / 4, 1 / 5, 1 / 3))


DURATIONS = st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=4), min_size=1, max_size=20)


@given(DURATIONS)
def test_an_arm_is_as_fast_as_itself(recorded):
    run = Blocks({"a": recorded, "b": recorded}, 0)
    assert ratio(run, "a", "b").median == 1.0


@given(DURATIONS, st.floats(0.1, 10), st.integers(0, 1000))
def test_what_slows_a_whole_block_leaves_the_ratio_alone(recorded, factor, seed):
    drift = np.random.default_rng(seed).uniform(1, 50, len(recorded))
    slow = [[value * factor * d for value in burst] for burst, d in zip(recorded, drift, strict=True)]
    fast = [[value * d for value in burst] for burst, d in zip(recorded, drift, strict=True)]
    found = ratio(Blocks({"slow": slow, "fast": fast}, 0), "slow", "fast")
    assert found.median == pytest.approx(factor)
    assert found.low <= found.median * (1 + 1e-12)
    assert found.median <= found.high * (1 + 1e-12)


def test_arms_with_unequal_numbers_of_blocks_are_no_pairs():
    with pytest.raises(ValueError, match="shorter"):
        ratio(Blocks({"a": [[1], [2]], "b": [[1]]}, 0), "a", "b")
