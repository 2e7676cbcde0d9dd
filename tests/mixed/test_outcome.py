"""How far a file is from its bounds; NaN never passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.mixed.outcome import CERTAIN, One, Outcome, interval_of_mean, joined
from harness.spec.model import Bounds


def ones(*scores, noise=0.01):
    return tuple(One(1.0, noise, 0.99, 0.1, score, 1.0) for score in scores)


def test_the_interval_holds_the_mean_and_is_the_same_every_time():
    draw = np.random.default_rng(3)
    values, weights = draw.uniform(size=60), np.ones(60)
    low, high = interval_of_mean(values, weights)
    assert low < values.mean() < high
    assert (low, high) == interval_of_mean(values, weights)


def test_the_interval_covers_as_often_as_it_says():
    draw = np.random.default_rng(4)
    hits = sum(low <= 0.5 <= high for low, high in
               (interval_of_mean(draw.uniform(size=40), np.ones(40)) for _ in range(400)))  # fmt: skip
    assert 0.90 <= hits / 400 <= 0.98


def test_a_score_counts_by_the_worse_end_of_its_interval():
    outcome = Outcome({"short": ones(*[1.0] * 18, 0.5, 0.6)})
    mean = outcome.score("short")
    low, high = outcome.score_interval("short", CERTAIN)
    assert low < outcome.score_interval("short")[0], "wider than what is shown"
    bounds = {"short": Bounds(score=(low + mean) / 2)}
    assert low < mean < high
    assert outcome.missed(bounds) == 0
    assert outcome.shortfall(bounds) == pytest.approx((mean - low) / 2 / (1 - (low + mean) / 2), rel=1e-6)


def test_luck_beside_another_file_is_the_standard_error_of_the_difference_on_the_same_samples():
    bounds = {"short": Bounds(score=0.98), "other": Bounds(score=0.5)}
    draw = np.random.default_rng(5)
    hard, apart = draw.normal(0.8, 0.1, 400), draw.normal(0.0, 0.01, 400)
    one, other = (Outcome({"short": ones(*scores)}) for scores in (hard, hard + apart))
    error = apart.std() / 20 / (1 - 0.98)
    assert one.luck_beside(other, bounds) == pytest.approx(error, rel=0.1), "what is hard for both is no luck"
    assert one.luck_beside(one, bounds) == 0
    assert one.luck_beside(other, {"short": Bounds(sqnr_db=90)}) == 0
    both = {"short": Bounds(score=0.98), "long": Bounds(score=0.98)}
    twice = [Outcome({"short": out.buckets["short"], "long": out.buckets["short"]}) for out in (one, other)]
    assert twice[0].luck_beside(twice[1], both) == pytest.approx(error * 2**0.5, rel=0.1)
    lower = [Outcome(out.buckets, lower_is_better=True) for out in (one, other)]
    assert lower[0].luck_beside(lower[1], {"short": Bounds(score=0.02)}) == pytest.approx(error, rel=0.1)


def test_how_clearly_one_file_is_quieter():
    noise = 10.0 ** np.random.default_rng(6).normal(-2, 0.5, 100)
    loud = Outcome({"short": tuple(One(1.0, one, 0.9, 0.1, 0.5, 1.0) for one in noise)})
    quiet = Outcome({"short": tuple(One(1.0, one * 0.9, 0.9, 0.1, 0.5, 1.0) for one in noise * noise**0.01)})
    assert quiet.quieter_than(loud) > 20, "paired: the same tenth on every sample"
    assert loud.quieter_than(quiet) == -quiet.quieter_than(loud)
    assert loud.quieter_than(loud) == 0
    single = Outcome({"short": loud.buckets["short"][:1]})
    assert single.quieter_than(single) == 0
    assert Outcome({"short": quiet.buckets["short"][:1]}).quieter_than(single) == math.inf
    alike = [Outcome({"short": ones(0.5, 0.5, noise=noise)}) for noise in (0.01, 0.1)]
    assert (alike[0].quieter_than(alike[1]), alike[1].quieter_than(alike[0])) == (math.inf, -math.inf)


def test_the_buckets_that_something_is_missing_in():
    outcome = Outcome({"short": ones(*[1.0] * 18, 0.5, 0.6), "long": ones(*[1.0] * 19, 0.2)})
    assert outcome.short_of({"short": Bounds(score=0.99), "long": Bounds(score=0.5)}) == {"short"}


def test_lower_is_better_turns_it_around():
    rows = ones(*[0.0] * 18, 0.1, 0.1)
    bounds = {"short": Bounds(score=0.02)}
    assert Outcome({"short": rows}, lower_is_better=True).missed(bounds) == 0
    assert Outcome({"short": rows}, lower_is_better=True).shortfall(bounds) > 0
    assert Outcome({"short": ones(*[0.03] * 20)}, lower_is_better=True).missed(bounds) == pytest.approx(0.5)


@pytest.mark.parametrize("bound", [Bounds(sqnr_db=25), Bounds(cosine=0.995), Bounds(worst=0.05), Bounds(score=0.9)])
def test_each_bound_is_looked_at(bound):
    outcome = Outcome({"short": ones(0.5, 0.5)})
    assert outcome.missed({"short": bound}) > 0
    assert outcome.missed({"long": bound}) == 0


def test_nan_never_passes():
    spoiled = One(1.0, math.nan, math.nan, math.nan, math.nan, 1.0)
    for bound in (Bounds(sqnr_db=-100), Bounds(cosine=-1), Bounds(worst=1e9), Bounds(score=0)):
        outcome = Outcome({"short": (*ones(1.0), spoiled)})
        assert outcome.missed({"short": bound}) > 1e3, bound
        assert outcome.shortfall({"short": bound}) > 1e3, bound
    assert spoiled.sqnr_db == -80


def test_a_score_that_is_not_there_never_passes():
    outcome = Outcome({"short": (One(1.0, 0.1, 0.9, 0.1, None, 0.0),)})
    assert outcome.missed({"short": Bounds(score=0.1)}) > 1e3


def test_one_broken_sample_does_not_outvote_the_others():
    calm, flipped = ones(*[1.0] * 20), (*ones(*[1.0] * 19), One(1.0, 2.0, 0.0, 1.0, 0.0, 1.0))
    assert Outcome({"s": flipped}).noise() < 2 * Outcome({"s": calm}).noise()


def test_parts_of_a_corpus_are_joined_bucket_by_bucket():
    parts = [Outcome({"short": ones(0.5), "long": ones(0.25)}, lower_is_better=True),
             Outcome({"short": ones(0.75)}, lower_is_better=True)]  # fmt: skip
    assert joined(parts) == Outcome({"short": ones(0.5, 0.75), "long": ones(0.25)}, lower_is_better=True)


def test_data_and_back():
    outcome = Outcome({"short": ones(0.5, 0.25)}, lower_is_better=True)
    assert Outcome.from_data(outcome.as_data(), lower_is_better=True) == outcome


@pytest.mark.parametrize(("signal", "noise", "db"), [
    (1.0, math.inf, math.nan), (math.nan, 1.0, math.nan), (0.0, 1.0, -math.inf), (0.0, 0.0, math.inf),
    (1.0, 0.0, math.inf),
])  # fmt: skip
def test_noise_without_signal_is_no_perfect_file(signal, noise, db):
    outcome = Outcome({"short": (One(signal, noise, 0.9, 0.1, None, 1.0),)})
    assert outcome.sqnr_db("short") == pytest.approx(db, nan_ok=True)
    missed = outcome.missed({"short": Bounds(sqnr_db=10)})
    assert math.isfinite(missed)
    assert (missed == 0) == (db == math.inf)


def test_scores_that_weigh_nothing_prove_nothing():
    ones = tuple(One(1.0, 0.01, 0.99, 0.1, 0.0, 0.0) for _ in range(5))
    outcome = Outcome({"short": ones}, lower_is_better=True)
    assert all(map(math.isnan, outcome.score_interval("short")))
    assert outcome.shortfall({"short": Bounds(score=0.1)}) > 1e5


def test_draws_that_weigh_nothing_are_no_draws_without_errors():
    """One line of four has letters, and all of them are wrong: a third of the draws has none of it."""
    low, high = interval_of_mean(np.array([5.0, 0, 0, 0]), np.array([5.0, 0, 0, 0]))
    assert (low, high) == (1.0, 1.0)
