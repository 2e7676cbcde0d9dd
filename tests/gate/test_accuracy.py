from __future__ import annotations

import math

import numpy as np
import pytest

from harness.accuracy import Score
from harness.gate.accuracy import AccuracyMargins, Drop, Paired, drop_of, worst_of
from harness.gate.findings import Finding


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
    accuracy, _ = paired(0.05, 0.08, n=1)
    assert (accuracy.word, accuracy.p) == ("inconclusive", 1.0)


def test_what_went_wrong_at_some_samples_alone_is_not_lost_in_the_spread():
    """Of six samples three fell by 12 dB: their mean's interval reaches below 0."""
    one = Paired("case", "y", None)
    for seed in range(6):
        oracle, baseline = outputs(seed, 0.05)
        _, worse = outputs(seed, 0.2)
        one.add("short", oracle, baseline, worse if seed % 2 else baseline)
    accuracy = next(one.findings())
    assert drop_of([0.0, 12.0] * 3, 0.5).low < 0
    assert (accuracy.word, accuracy.p) == ("regression", 0.0)
    assert accuracy.why.startswith("a sample's SQNR fell by +12")


def test_a_nan_that_the_baseline_has_not_blocks_at_once():
    accuracy, _ = paired(0.05, 0.05, spoil=2)
    assert (accuracy.word, accuracy.p) == ("regression", 0.0)
    assert "NaN or infinite in y" in accuracy.why


def sides(old=None, new=None):
    """One sample, of which a side has other outputs."""
    one = Paired("case", "y", None)
    oracle, outputs_ = outputs(0, 0.05)
    one.add("short", oracle, outputs_ if old is None else old, outputs_ if new is None else new)
    return list(one.findings())


@pytest.mark.parametrize("broken", [{}, {"y": np.zeros(3)}])
def test_outputs_that_cannot_be_compared_are_their_sides_fault(broken):
    (lost,) = sides(new=broken)
    assert (lost.word, lost.p, lost.blocks) == ("regression", 0.0, True)
    (gained,) = sides(old=broken)
    assert (gained.word, gained.blocks) == ("improved", False)
    (neither,) = sides(old=broken, new=broken)
    assert neither.word == "inconclusive"


def test_a_side_that_does_not_run_is_judged_by_which_it_is():
    words = {}
    for refused in (["baseline"], ["candidate"], ["baseline", "candidate"]):
        one = Paired("case", "y", None)
        for side in refused:
            one.refuse(side, "does not run: length 9")
        assert one.over
        (words[tuple(refused)],) = (finding.word for finding in one.findings())
    assert list(words.values()) == ["improved", "regression", "inconclusive"]


def first_of(_, candidate):
    """The first value, as a score."""
    return float(candidate["y"][0]), 1.0


def test_the_p_value_is_of_what_is_a_regression():
    """SQNR fell by 2 dB, unsurely; the score fell a little, surely: what blocks is the first, at its own p-value."""
    one = Paired("case", "y", Score("first", first_of, lower_is_better=False))
    falls, small = [2.6, 1.2, 2.4, 1.0], 0.012
    random = np.random.default_rng(0)
    for fall in falls:
        oracle = {"y": np.concatenate([[1.0], random.normal(size=4000)])}
        noise = random.normal(size=4000)
        old, new = oracle["y"].copy(), oracle["y"].copy()
        old[1:] += 0.05 * noise
        new[1:] += 0.05 * 10 ** (fall / 20) * noise
        new[0] -= small
        one.add("short", oracle, {"y": old}, {"y": new})
    accuracy = next(one.findings())
    alone = drop_of(falls, 0.5)
    assert accuracy.word == "regression"
    assert accuracy.p == pytest.approx(2 * alone.p, rel=0.2)


def test_of_several_builds_the_worst_counts():
    good, bad = (
        Finding("case", "accuracy", word, word, "short", p) for word, p in (("pass", 0.9), ("regression", 1e-4))
    )
    (one,) = worst_of([[good], [bad], [good]])
    assert (one.word, one.p) == ("regression", pytest.approx(3e-4))
    assert one.why == "regression (the worst of 3 builds)"
    assert worst_of([[good]]) == [good]


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
