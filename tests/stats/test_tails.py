from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import DataError
from harness.stats.tails import TooSmall, quantile_floor, quantile_order_statistic


@pytest.mark.parametrize(("q", "floor"), [(0.9, 64), (0.95, 130), (0.99, 662), (0.01, 662)])
def test_floors_of_mlperf(q, floor):
    assert quantile_floor(q) == floor


def test_floor_is_the_least_number_that_holds():
    for q in (0.5, 0.9, 0.97, 0.99):
        n, tail = quantile_floor(q), 1 - q
        assert stats.binom.cdf(1, n, tail) <= 0.01 < stats.binom.cdf(1, n - 1, tail)


def test_n_too_small_says_what_is_needed():
    answer = quantile_order_statistic(np.arange(1, 662), 0.99, 0.9)
    assert answer == TooSmall(0.99, 661, 662)
    assert str(answer) == "n too small for p99: 661 samples, 662 needed"


def test_a_rank_that_the_sample_does_not_have_is_too_small():
    answer = quantile_order_statistic(np.arange(1, 701), 0.99, 0.9999)
    assert isinstance(answer, TooSmall)
    assert not isinstance(quantile_order_statistic(np.arange(1, answer.needed + 1), 0.99, 0.9999), TooSmall)


@given(st.integers(662, 3000), st.sampled_from([0.9, 0.95, 0.99]), st.sampled_from([0.8, 0.9, 0.95]))
def test_binomial_bounds(n, q, confidence):
    """Ranks 1..n as samples: the bounds are ranks, and their exact coverage is at least nominal, and tight."""
    got = quantile_order_statistic(np.arange(1.0, n + 1), q, confidence)
    low, high = int(got.low), int(got.high)
    assert got.low <= got.point <= got.high
    covered = stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q)
    assert covered >= confidence - 1e-9
    outside = (1 - confidence) / 2
    assert stats.binom.cdf(low, n, q) >= outside - 1e-9
    assert stats.binom.sf(high - 2, n, q) >= outside - 1e-9


def test_cover_by_simulation():
    random = np.random.default_rng(4)
    truth = math.exp(stats.norm.ppf(0.95) * 0.3)
    bounds = [quantile_order_statistic(np.exp(random.normal(0, 0.3, 400)), 0.95, 0.9) for _ in range(800)]
    assert 0.88 <= np.mean([b.low <= truth <= b.high for b in bounds]) <= 0.96


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0, math.inf])
def test_bad_samples_are_refused(bad):
    with pytest.raises(DataError):
        quantile_order_statistic([1.0] * 700 + [bad], 0.99, 0.9)


@pytest.mark.parametrize(("q", "confidence"), [(0, 0.9), (1, 0.9), (0.9, 0), (0.9, 1)])
def test_bad_levels_are_refused(q, confidence):
    with pytest.raises(DataError):
        quantile_order_statistic([1.0] * 700, q, confidence)
