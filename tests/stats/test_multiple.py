from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import DataError
from harness.stats.estimate import estimate
from harness.stats.multiple import e_bh, holm, holm_adjusted, regression_p
from harness.stats.verdict import Margins

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_by_hand():
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05).tolist() == [True, False, False, True]


@given(probabilities, st.floats(0.001, 0.5))
def test_holm_is_monotone(p, alpha):
    """In p and in alpha; and between no correction and Bonferroni's."""
    values, adjusted = np.array(p), holm_adjusted(p)
    order = np.argsort(values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (holm(p, alpha) <= holm(p, min(1.0, alpha * 2))).all()
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(1, values * len(p)) + 1e-12).all()


@given(probabilities, st.randoms())
def test_holm_does_not_depend_on_the_order_of_cases(p, random):
    places = list(range(len(p)))
    random.shuffle(places)
    assert holm_adjusted([p[i] for i in places]) == pytest.approx([holm_adjusted(p)[i] for i in places])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_e_bh_by_definition(e, level):
    """The largest k such that k e-values reach K / (k level)."""
    ranked = sorted(e, reverse=True)
    k = max((k for k in range(1, len(e) + 1) if ranked[k - 1] >= len(e) / (k * level)), default=0)
    rejected = e_bh(e, level)
    assert rejected.sum() == k
    assert not k or min(np.array(e)[rejected]) >= max(np.array(e)[~rejected], default=0)


def test_e_bh_takes_infinity():
    assert e_bh([math.inf, 0.0], 0.05).tolist() == [True, False]


def test_family_wise_error_over_many_equal_cases():
    p = np.random.default_rng(1).random((3000, 20))
    assert np.mean([holm(row, 0.05).any() for row in p]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 3000)


def test_regression_p_is_the_t_test_against_the_tolerated_margin():
    random = np.random.default_rng(5)
    launches = random.normal(0.05, 0.02, 6)
    result = estimate([[[x, x] for x in launches]], 0.9, 1)
    wanted = stats.ttest_1samp(launches, math.log1p(0.02), alternative="greater").pvalue
    assert regression_p(result, Margins()) == pytest.approx(wanted, rel=1e-6)


def test_a_single_launch_proves_no_regression():
    assert regression_p(estimate([[[0.5, 0.5]]], 0.9, 1), Margins()) == 1.0


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [math.nan]])
def test_bad_values_are_refused(bad):
    with pytest.raises(DataError):
        holm_adjusted(bad)


@pytest.mark.parametrize("bad", [[-0.1], [math.nan]])
def test_bad_e_values_are_refused(bad):
    with pytest.raises(DataError):
        e_bh(bad, 0.05)
