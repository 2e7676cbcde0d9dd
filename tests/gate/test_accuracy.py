from __future__ import annotations

import math

import numpy as np
import pytest

from harness.accuracy import Score
from harness.gate.accuracy import AccuracyMargins, Drop, Paired, drop_of


def right(reference, candidate):
    """The share of signs that agree."""
    return float(np.mean(np.sign(reference["y"]) == np.sign(candidate["y"]))), 1.0


def outputs(seed, noise=0.0, size=400):
    random = np.random.default_rng(seed)
    truth = random.normal(size=size)
    return {"y": truth}, {"y": truth + noise * random.normal(size=size)}


def paired(old, new, n=8, score=None, spoil=None):
    """``n`` samples of which the baseline has noise ``old`` and the candidate ``new``."""
    one = Paired("case", "y", score)
    for seed in range(n):
        oracle, baseline = outputs(seed, old)
        _, candidate = outputs(seed, old) if new == old else outputs(seed + 1000, new)
        if new != old:
            candidate = {"y": oracle["y"] + (candidate["y"] - outputs(seed + 1000)[0]["y"])}
        if spoil == seed:
            candidate["y"][3] = np.nan
        one.add("short", oracle, baseline, candidate)
    accuracy, agreement = one.findings()
    assert (accuracy.aspect, agreement.aspect, accuracy.where) == ("accuracy", "agreement", "short")
    return accuracy, agreement


def test_bitwise_equal_is_a_pass_without_statistics():
    accuracy, agreement = paired(0.05, 0.05)
    assert (accuracy.word, accuracy.why) == ("pass", "bitwise equal over 8 sample(s)")
    assert "bitwise equal" in agreement.why


@pytest.mark.parametrize(
    ("new", "word"), [(0.05001, "pass"), (0.04, "improved"), (0.06, "regression"), (0.2, "regression")]
)
def test_noise_against_the_oracle_is_compared_sample_by_sample(new, word):
    accuracy, agreement = paired(0.05, new)
    assert accuracy.word == word
    assert accuracy.blocks is (word == "regression")
    assert (accuracy.p < 0.01) is (word == "regression")
    assert "dB" in agreement.why


def test_few_samples_that_differ_prove_nothing():
    assert paired(0.05, 0.058, n=2)[0].word == "inconclusive"


def test_one_sample_proves_nothing():
    accuracy, _ = paired(0.05, 0.2, n=1)
    assert (accuracy.word, accuracy.p) == ("inconclusive", 1.0)


def test_a_nan_that_the_baseline_has_not_blocks_at_once():
    accuracy, _ = paired(0.05, 0.05, spoil=2)
    assert (accuracy.word, accuracy.p) == ("regression", 0.0)
    assert "NaN or infinite in y" in accuracy.why


def test_beyond_what_int8_is_about_nothing_is_worse():
    """120 dB instead of 100 is rounding of FP32."""
    assert paired(1e-6, 1e-5)[0].word == "pass"


def test_either_the_score_or_the_noise_may_have_found_it():
    score = Score("signs", right, lower_is_better=False)
    accuracy, _ = paired(0.05, 1.0, score=score)
    assert accuracy.word == "regression"
    assert "signs fell by" in accuracy.why
    assert "SQNR fell by" in accuracy.why


@pytest.mark.parametrize(
    ("falls", "word"),
    [
        ([0.0] * 4, "pass"),
        ([2.0] * 4, "regression"),
        ([1.0] * 4, "minor"),
        ([-2.0] * 4, "improved"),
        ([2.0], "inconclusive"),
        ([0.0], "pass"),
    ],
)
def test_equal_falls_have_no_spread(falls, word):
    assert drop_of(falls, 0.5).word(0.5, 1.5) == word


def test_the_interval_is_students():
    drop = drop_of([1.0, 2.0, 3.0, 4.0], 0.5)
    half = 3.182446 * math.sqrt(5 / 3) / 2
    assert (drop.mean, drop.n) == (2.5, 4)
    assert drop.low == pytest.approx(2.5 - half, rel=1e-6)
    assert drop.high == pytest.approx(2.5 + half, rel=1e-6)
    assert 0.02 < drop.p < 0.04  # t = 3.098 with 3 degrees of freedom


def test_margins_have_an_order():
    margins = AccuracyMargins()
    assert 0 < margins.tolerated_db < margins.caught_db
    assert 0 < margins.tolerated_score < margins.caught_score
    assert Drop(0, -9, 9, 1.0, 2).word(margins.tolerated_db, margins.caught_db) == "inconclusive"
