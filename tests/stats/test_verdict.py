from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import DataError, UsageError
from harness.stats.estimate import Estimate, estimate
from harness.stats.location import Interval
from harness.stats.verdict import (
    EXIT_CODES,
    Margins,
    exit_code,
    gain_step,
    judge,
    judge_gain,
    judge_session,
    next_step,
)

MARGINS = Margins()


def between(low, high, *, launches=6, confidence=0.9):
    """An estimate whose interval is [low, high] as ratios."""
    left, right = math.log(low), math.log(high)
    point, half = (left + right) / 2, (right - left) / 2
    error = half / stats.t.isf((1 - confidence) / 2, launches - 1)
    sd = error * math.sqrt(launches)
    return Estimate(point, Interval(left, point, right, confidence), launches, 1, 144, sd, 0.03, error, launches - 1)


TABLE = [
    (0.99, 1.01, "pass"),
    (0.97, 1.049, "pass"),
    (0.97, 1.051, "inconclusive"),
    (1.021, 1.049, "minor"),
    (1.021, 1.051, "regression"),
    (1.019, 1.2, "inconclusive"),
    (1.3, 1.4, "regression"),
    (0.9, 0.98, "improved"),
    (0.9, 0.985, "pass"),
    (0.5, 2.0, "inconclusive"),
]


@pytest.mark.parametrize(("low", "high", "word"), TABLE)
def test_the_table(low, high, word):
    verdict = judge(between(low, high), MARGINS)
    assert verdict.word == word
    assert verdict.exit_code == EXIT_CODES[word]
    assert f"{100 * (low - 1):+.2f} %, {100 * (high - 1):+.2f} %" in verdict.why
    assert "6 launches, 144 blocks" in verdict.why


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.97, 1.051, "it may take 5 % longer or more, and it may take 3 % less"),
        (0.5, 2.0, "it may take 5 % longer or more, and it may take 50 % less"),
        (1.019, 1.2, "it may take 5 % longer or more, and it may stay within the 2 % that are tolerated"),
    ],
)
def test_what_is_open_says_what_may_still_be_in_words_that_need_no_sign(low, high, says):
    assert judge(between(low, high), MARGINS).why.endswith(f": too wide an interval: {says}")


def test_touching_a_margin_is_not_beyond_it():
    def exactly(low, high):
        return replace(between(1, 1.1), interval=Interval(low, (low + high) / 2, high, 0.9))

    d0, d1 = MARGINS.log_tolerated, MARGINS.log_caught
    assert judge(exactly(d0, 0.1), MARGINS).word == "inconclusive"
    assert judge(exactly(0.0, d1), MARGINS).word == "inconclusive"
    assert judge(exactly(d0, d1 - 1e-9), MARGINS).word == "pass"
    assert judge(exactly(-0.1, -d0), MARGINS).word == "pass"


@given(st.floats(0.5, 2), st.floats(0.5, 2))
def test_swapping_the_arms_mirrors_the_verdict(a, b):
    low, high = min(a, b), max(a, b)
    assume(high > low * 1.0001)
    here, there = judge(between(low, high), MARGINS).word, judge(between(1 / high, 1 / low), MARGINS).word
    assert (here == "improved") == (there in {"regression", "minor"})
    assert (there == "improved") == (here in {"regression", "minor"})


@given(st.floats(0.5, 2), st.floats(0, 0.3))
def test_a_wider_interval_never_proves_more(centre, width):
    proved = judge(between(centre * math.exp(-width - 0.01), centre * math.exp(width + 0.01)), MARGINS).word
    narrower = judge(between(centre * math.exp(-width / 2 - 0.005), centre * math.exp(width / 2 + 0.005)), MARGINS).word
    assert not (narrower == "inconclusive" and proved != "inconclusive")


def test_one_launch_is_inconclusive_and_says_why():
    verdict = judge(estimate([[[0.5, 0.5, 0.6]]], 0.9, 1), MARGINS)
    assert verdict.word == "inconclusive"
    assert "1 launch(es)" in verdict.why


@pytest.mark.parametrize(
    ("tolerated", "caught"), [(0.05, 0.02), (-0.01, 0.05), (0.05, 0.05), (0.0, math.inf), (math.nan, 1)]
)
def test_margins_are_checked(tolerated, caught):
    with pytest.raises(UsageError, match="margins"):
        Margins(tolerated, caught)


@pytest.mark.parametrize("null", [(1.03, 1.1), (0.8, 0.9), (1.021, 1.04)])
def test_a_null_control_that_differs_makes_the_session_invalid(null):
    verdict = judge_session(between(1.1, 1.2), between(*null), [], MARGINS)
    assert verdict.word == "invalid"
    assert "its own copy" in verdict.why
    assert verdict.estimate is not None


@pytest.mark.parametrize("null", [(0.99, 1.01), (0.5, 2.0), None])
def test_a_quiet_or_unsure_null_control_leaves_the_verdict(null):
    control = None if null is None else between(*null)
    assert judge_session(between(1.1, 1.2), control, [], MARGINS).word == "regression"


def test_a_reason_makes_the_session_invalid():
    verdict = judge_session(between(0.99, 1.01), None, ["clocks were throttled", "threads differ"], MARGINS)
    assert (verdict.word, verdict.why) == ("invalid", "clocks were throttled; threads differ")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.6, 0.7, "pass"), (0.8, 0.9, "missed"), (0.7, 0.8, "inconclusive"), (1.1, 1.2, "missed")],
)
def test_gains(low, high, word):
    verdict = judge_gain(between(low, high), 1.3)
    assert verdict.word == word
    assert f"[{1 / high:.3f}, {1 / low:.3f}]" in verdict.why


def test_gains_with_an_open_interval_are_inconclusive():
    assert judge_gain(estimate([[[-2.0, -2.0]]], 0.9, 1)).word == "inconclusive"


def test_gains_need_an_interval_that_carries_the_confidence():
    with pytest.raises(DataError, match=r"0\.98"):
        judge_gain(between(0.6, 0.7), 1.3, confidence=0.99)
    with pytest.raises(UsageError):
        judge_gain(between(0.6, 0.7), 0)


def test_exit_codes_of_many():
    assert exit_code([]) == 0
    assert exit_code(["pass", "minor", "improved"]) == 0
    assert exit_code(["pass", "inconclusive"]) == 3
    assert exit_code(["inconclusive", "invalid"]) == 4
    assert exit_code(["invalid", "regression", "inconclusive"]) == 1
    assert exit_code(["inconclusive", "missed"]) == 1


def test_next_step_extrapolates_the_half_width():
    step = next_step(between(0.95, 1.06), MARGINS, 2.0)
    now = between(0.95, 1.06)
    sd = now.standard_error * math.sqrt(6)

    def half(n):
        return stats.t.isf(0.05, n - 1) * sd / math.sqrt(n)

    room = MARGINS.log_caught - now.point
    assert half(step.launches_needed) < room <= half(step.launches_needed - 1)
    assert step.seconds == (step.launches_needed - 6) * 2.0
    assert f"{step.launches_needed - 6} more" in step.advice


def test_next_step_for_one_launch_and_for_a_hopeless_host():
    assert next_step(estimate([[[0.1, 0.1]]], 0.9, 1), MARGINS, 2.0)[1:] == (4, 6.0)
    hopeless = next_step(between(0.3, 3.2), MARGINS, 2.0)
    assert hopeless[1:] == (0, math.inf)
    assert "lock clocks" in hopeless.advice


def test_next_step_counts_builds_where_they_are_the_unit():
    """Three builds, -3, 0 and +3 %: launches of these three do not help."""
    few = [[[shift + 0.001 * i] * 4 for i in range(4)] for shift in (-0.03, 0.0, 0.03)]
    step = next_step(estimate(few, 0.9, 1), MARGINS, 2.0)
    assert "more build(s) of both sides" in step.advice
    assert step.launches_needed % 4 == 0
    assert step.seconds == 2.0 * (step.launches_needed - 12)


def test_a_gains_next_step_leaves_the_bound_on_one_side():
    near, far = between(0.60, 0.75), between(0.45, 0.85)
    assert gain_step(near, 1.4, 2.0).launches_needed > near.launches
    assert gain_step(near, 1.4, 2.0).launches_needed > gain_step(near, 1.2, 2.0).launches_needed
    assert gain_step(far, 1.4, 2.0).seconds > gain_step(near, 1.4, 2.0).seconds
    assert "if it stays 1.491x as fast" in gain_step(near, 1.4, 2.0).advice
    assert gain_step(estimate([[[0.1, 0.1]]], 0.9, 1), 1.2, 2.0)[1:] == (4, 6.0)


def test_next_step_is_always_worth_its_launches():
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0.03, 0.04, (4, 8))
        step = next_step(estimate([list(values)], 0.9, seed), MARGINS, 1.0)
        assert step.launches_needed == 0 or step.launches_needed > 4
