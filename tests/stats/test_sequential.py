from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from harness.errors import DataError
from harness.stats.sequential import (
    PowerSpending,
    launch_word,
    log_e_above,
    log_e_below,
    log_e_value,
    look_confidence,
    obrien_fleming,
    proposal,
)
from harness.stats.verdict import Margins

MARGINS = Margins()


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_log_e_value_is_the_integrated_likelihood_ratio(case):
    hits, n = case
    mixed, _ = integrate.quad(lambda p: 2 * (2 * p) ** hits * (2 * (1 - p)) ** (n - hits), 0.5, 1)
    assert math.exp(log_e_value(hits, n)) == pytest.approx(mixed, rel=1e-6)


def test_unanimous_blocks_that_reach_the_usual_levels():
    assert log_e_value(6, 6) < math.log(20) <= log_e_value(7, 7)
    assert log_e_value(8, 8) < math.log(100) <= log_e_value(9, 9)


def test_an_e_value_starts_at_one_and_is_a_martingale_at_one_half():
    assert log_e_value(0, 0) == pytest.approx(0)
    for n, hits in ((1, 0), (5, 3), (30, 22)):
        step = (math.exp(log_e_value(hits + 1, n + 1)) + math.exp(log_e_value(hits, n + 1))) / 2
        assert step == pytest.approx(math.exp(log_e_value(hits, n)), rel=1e-9)


def test_extremes_stay_numbers_or_minus_infinity():
    assert log_e_value(100_000, 100_000) > 1000
    assert log_e_value(0, 100_000) < -100
    for hits, n in ((-1, 4), (5, 4)):
        with pytest.raises(DataError):
            log_e_value(hits, n)


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01])
def test_ville(alpha):
    """Looking after every block, the share of true nulls that ever reach 1/alpha is at most alpha."""
    hits = np.random.default_rng(1).random((4000, 200)) < 0.5
    ever = log_e_value(np.cumsum(hits, axis=1), np.arange(1, 201)).max(axis=1) >= -math.log(alpha)
    assert ever.mean() <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / 4000)


def test_e_processes_follow_their_side():
    slow = np.full(10, math.log(1.1))
    assert log_e_above(slow, 0.02)[-1] > math.log(100)
    assert log_e_below(slow, 0.05)[-1] < 0
    assert log_e_below(-slow, 0.05)[-1] > math.log(100)
    assert log_e_above([], 0.02).size == 0


@pytest.mark.parametrize(
    ("ratio", "word"), [(1.1, "regression"), (1.0, "pass"), (0.9, "improved"), (1.035, None), (1.05, "regression")]
)
def test_words_of_a_quiet_launch(ratio, word):
    assert launch_word([math.log(ratio)] * 9, MARGINS, 0.01) == word
    assert launch_word([math.log(ratio)] * 8, MARGINS, 0.01) is None


def test_a_proposal_needs_launches_that_agree_and_none_that_objects():
    slow, same, unsure = [0.1] * 12, [0.0] * 12, [0.1, 0.0] * 6
    assert proposal([slow], MARGINS, 0.01) is None
    assert proposal([slow, unsure], MARGINS, 0.01) is None
    assert proposal([slow, slow], MARGINS, 0.01) == "regression"
    assert proposal([slow, slow, unsure], MARGINS, 0.01) == "regression"
    assert proposal([slow, slow, same], MARGINS, 0.01) is None
    assert proposal([slow, slow], MARGINS, 0.01, agree=3) is None
    assert proposal([same, same], MARGINS, 0.01) == "pass"
    assert proposal([], MARGINS, 0.01) is None


def test_obrien_fleming_boundaries_of_the_literature():
    """Five equal looks, one-sided 2.5 %: Lan and DeMets' boundaries, as gsDesign's sfLDOF prints them."""
    z = [stats.norm.isf((1 - look_confidence(i, (2, 4, 6, 8, 10), 0.05)) / 2) for i in range(5)]
    assert z == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.003)


def test_one_look_spends_everything():
    for spending in (obrien_fleming, PowerSpending()):
        assert look_confidence(0, (8,), 0.1, spending=spending) == pytest.approx(0.9)


@pytest.mark.parametrize("looks", [(4, 6, 8), (4, 6, 8, 12), (3, 4, 6, 8)])
@pytest.mark.parametrize("spending", [obrien_fleming, PowerSpending(1.0), PowerSpending(2.0)])
def test_all_looks_together_spend_alpha(looks, spending):
    """Launch means with an unknown variance and t quantiles: the level holds within simulation error and t's own."""
    random = np.random.default_rng(2)
    values = random.normal(0, 0.02, (20_000, looks[-1]))
    crossed = np.zeros(len(values), bool)
    for i, n in enumerate(looks):
        level = look_confidence(i, looks, 0.10, spending=spending)
        t = values[:, :n].mean(axis=1) / values[:, :n].std(axis=1, ddof=1) * math.sqrt(n)
        crossed |= t > stats.t.isf((1 - level) / 2, n - 1)
    assert 0.04 <= crossed.mean() <= 0.058


@pytest.mark.parametrize(
    ("index", "looks"), [(0, ()), (3, (4, 6, 8)), (-1, (4, 6)), (0, (6, 4)), (0, (4, 4)), (0, (1, 2))]
)
def test_looks_that_cannot_be_are_refused(index, looks):
    with pytest.raises(DataError, match="looks"):
        look_confidence(index, looks, 0.1)
