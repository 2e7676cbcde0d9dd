"""The search on a small real model: what ruins one operator is found, bounds and speed are kept, nothing runs twice."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.mixed.assignment import Assignment
from harness.mixed.evaluate import Evaluator
from harness.mixed.found import Candidate, Found
from harness.mixed.gains import Gains
from harness.mixed.outcome import One, Outcome
from harness.mixed.search import Settings, _Search, estimated_kept, search
from harness.mixed.sensitivity import Sensitivity
from harness.spec.calibration import Dialect
from harness.spec.model import Bounds
from harness.spec.shapes import bucket_names

from .conftest import METHODS, MODEL, made

GAINS = Gains({"conv": 0.4, "inner": 0.3, "last": 0.3}, "products")
LOUD = 300.0


@pytest.fixture
def loud(tmp_path, own_cache):
    """One channel of what "inner" reads is 300 times the others: INT8 has no codes left for them."""
    return made(tmp_path, Dialect.S8S8, loud=LOUD)


def evaluator(made_, corpus, journal=None):
    return Evaluator(made_.palette(), made_.prepared, MODEL, corpus, "scores", None, journal)


def asked(sqnr_db, **more):
    return Settings({name: Bounds(sqnr_db=sqnr_db) for name in bucket_names(MODEL)}, **{"keep": 0.5, **more})


def kept(assignment):
    return estimated_kept(GAINS, assignment.in_float)


def test_the_operator_that_an_outlier_ruins_stays_in_float(loud, corpus):
    found = search(evaluator(loud, corpus), GAINS, asked(30), kept)
    plain = found.candidates[0]
    assert plain.assignment == Assignment()
    assert plain.missed > 0
    assert found.best.assignment.in_float == {"inner"}
    assert found.best.missed == found.best.shortfall == 0
    assert found.best.kept == pytest.approx(1 / 1.3)
    assert found.finished


def test_one_at_a_time_the_ruined_operator_is_the_loudest(loud, corpus):
    found = search(evaluator(loud, corpus), GAINS, asked(90), kept)
    assert found.sensitivities[0].node == "inner"
    assert found.sensitivities[0].on > 10 * found.sensitivities[1].on
    assert found.sensitivities[0].off < found.sensitivities[1].off


def test_where_plain_int8_is_right_nothing_is_left_in_float(tmp_path, own_cache, corpus):
    found = search(evaluator(made(tmp_path, Dialect.S8S8), corpus), GAINS, asked(15), kept)
    assert not found.best.assignment.in_float
    assert found.best.kept == 1


def test_the_speed_up_is_kept_as_long_as_bounds_can_be_met_with_it(loud, corpus):
    slow = search(evaluator(loud, corpus), GAINS, asked(30, keep=0.9), kept)
    assert slow.best.kept < 0.9  # nothing that keeps 90 % is right
    assert slow.best.missed == 0
    assert all(one.missed for one in slow.candidates if one.kept >= 0.9)


def test_bounds_that_nothing_meets_give_the_nearest(loud, corpus):
    found = search(evaluator(loud, corpus), GAINS, asked(79, keep=0.9), kept)
    assert found.best.missed > 0
    assert all(one.assignment.in_float < set(GAINS.saved) for one in found.candidates), "with all in float it is FP32"
    bounds = {name: Bounds(cosine=1.5) for name in bucket_names(MODEL)}
    impossible = search(evaluator(loud, corpus), GAINS, Settings(bounds), kept)
    assert impossible.best.missed > 0
    assert impossible.best.noise == min(one.noise for one in impossible.candidates)


def test_the_front_is_what_nothing_beats(loud, corpus):
    found = search(evaluator(loud, corpus), GAINS, asked(30), kept)
    front = found.front()
    assert found.best.kept in [one.kept for one in front]
    for one in front:
        assert not any(
            other.shortfall <= one.shortfall and other.noise < one.noise and other.kept > one.kept
            for other in found.candidates
        )


def test_a_search_that_was_broken_off_goes_on(loud, corpus, tmp_path):
    journal = tmp_path / "journal.jsonl"
    first = evaluator(loud, corpus, journal)
    whole = search(first, GAINS, asked(30), kept)
    assert first.runs > 0
    text = journal.read_text().splitlines(keepends=True)
    again = evaluator(loud, corpus, journal)
    assert search(again, GAINS, asked(30), kept).best == whole.best
    assert again.runs == 0
    journal.write_text("".join(text[:-2]) + text[-2][:40])  # killed in the middle of a line
    cut = evaluator(loud, corpus, journal)
    assert search(cut, GAINS, asked(30), kept).best == whole.best
    assert cut.runs == 1, "two of the last file's three parts"
    once_more = evaluator(loud, corpus, journal)
    search(once_more, GAINS, asked(30), kept)
    assert once_more.runs == 0, "what was written behind half a line is there"
    journal.write_bytes(journal.read_bytes() + b"\xff\xfe[]\n7\n")
    damaged = evaluator(loud, corpus, journal)
    search(damaged, GAINS, asked(30), kept)
    assert damaged.runs == 0


def test_one_tensors_range_is_mended_by_its_own_method_alone(tmp_path, own_cache, corpus):
    """Each method is far off for one tensor: neither will do for the whole file, and no operator has to be in float."""
    right = made(tmp_path, Dialect.S8S8)
    far_off = {}
    for method, tensor in (("mse", "ts"), ("minmax", "sum")):
        low, high = right.ranges["mse"][tensor]
        far_off[method] = {**right.ranges["mse"], tensor: (60 * low, 60 * high)}
    found = search(evaluator(replace(right, ranges=far_off), corpus), GAINS, asked(25, keep=1.0), kept)
    assert all(one.missed for one in found.candidates if one.step in {"plain", "method", "form"})
    methods = dict(found.best.assignment.methods)
    assert (methods["ts"], methods.get("sum", "mse")) == ("minmax", "mse")
    assert not found.best.assignment.in_float
    assert found.best.kept == 1
    assert found.best.shortfall == 0


def test_the_same_search_finds_the_same(loud, corpus):
    one, other = (search(evaluator(loud, corpus), GAINS, asked(30), kept) for _ in range(2))
    assert one == other


def test_without_any_time_plain_int8_is_the_answer(loud, corpus):
    first = evaluator(loud, corpus)
    found = search(first, GAINS, asked(30, budget_s=0), kept)
    assert not found.finished
    assert [one.assignment for one in found.candidates] == [Assignment()]
    assert found.best.missed > 0
    assert first.runs == 1


def test_no_file_is_begun_when_the_time_is_up(loud, corpus):
    ticks = iter(range(0, 10_000, 10))
    found = search(evaluator(loud, corpus), GAINS, asked(30, budget_s=15.0), kept, clock=lambda: float(next(ticks)))
    assert not found.finished
    assert [one.step for one in found.candidates] == ["plain"]  # which is always run
    assert found.best is found.candidates[0]


def test_every_method_is_tried(loud, corpus):
    found = search(evaluator(loud, corpus), GAINS, asked(30), kept)
    tried = {method for one in found.candidates for _, method in one.assignment.methods}
    assert tried >= set(METHODS[1:])


def test_what_a_third_of_the_samples_shows_to_be_far_off_is_not_run_on_the_rest(loud, corpus):
    """No method mends an outlier channel, and no range of another tensor does; leaving "inner" in float does."""
    searching = _Search(evaluator(loud, corpus), GAINS, asked(30), kept, lambda: 0.0, lambda _: None)
    base = searching.tried(Assignment(in_float=frozenset({"inner"})), "plain")
    count = len(searching.found.candidates)
    assert searching.raced(Assignment(), "back", base) is None
    assert len(searching.found.candidates) == count
    nearer = searching.raced(Assignment(in_float=frozenset({"inner", "conv"})), "float", base)
    assert nearer is not None
    assert nearer.outcome == searching.evaluator.outcome(nearer.assignment)


def test_no_file_is_run_twice_under_two_names(loud, corpus):
    """In s8s8 every operator writes floating point as it is: that is no other form."""
    searching = _Search(evaluator(loud, corpus), GAINS, asked(30), kept, lambda: 0.0, lambda _: None)
    files = [searching.palette.paint(one).SerializeToString(deterministic=True) for one in searching.forms()]
    assert len(set(files)) == len(files)


def test_ranges_are_walked_until_neither_side_is_better(tmp_path, own_cache, corpus):
    """Five ranges of one tensor, the right one three steps from the first: single steps lead there."""
    right = made(tmp_path, Dialect.S8S8)
    low, high = right.ranges["mse"]["ts"]
    ranges = {f"percentile{90 + step}": {**right.ranges["mse"], "ts": (low * 2.0**power, high * 2.0**power)}
              for step, power in enumerate((3, 0, 4, 1, 2))}  # fmt: skip
    one = evaluator(replace(right, ranges=ranges), corpus)
    searching = _Search(one, GAINS, asked(40), kept, lambda: 0.0, lambda _: None)
    base = searching.tried(Assignment(), "plain")
    searching.found.sensitivities = [Sensitivity("inner", 1.0, None, 0.3)]
    assert dict(searching.finer_ranges(base).assignment.methods) == {"ts": "percentile91"}


def test_which_file_is_the_more_right_one_goes_by_the_evidence():
    """Scores and noise of ten samples, in each file a little off a base's; no base is within its bounds for certain."""
    draw = np.random.default_rng(7)
    scores, noise = draw.normal(0.9, 0.02, 10), 10.0 ** draw.normal(-2, 0.2, 10)
    bounds, turns = {"s": Bounds(score=0.95)}, np.resize([1, -1], 10)

    def one(better=0.0, quieter_db=0.0, *, spread=0.01, kept=1.0):
        powers = noise * 10 ** (-(quieter_db + 10 * spread * turns) / 10)
        rows = zip(powers, scores + better + spread * turns, strict=True)
        out = Outcome({"s": tuple(One(1.0, power, 0.9, 0.1, score, 1.0) for power, score in rows)})
        missing = (out.shortfall(bounds), out.missed(bounds), out.short_of(bounds))
        return Candidate(Assignment(), out, *missing, bounds, out.noise(), kept, "")

    base = one(spread=0.0)
    assert one(0.01, spread=0.001).is_nearer(base)
    assert not base.is_nearer(one(0.01, spread=0.001))
    assert one(-0.001, 1.0).is_nearer(base), "a little less by luck, and clearly quieter"
    assert not one(-0.01, 0.02, spread=0.001).is_nearer(base), "clearly worse, and hardly quieter"
    assert not one(0.003, spread=0.01).is_nearer(base, 2.0), "what costs time has to be clearly better"
    assert one(0.2).is_nearer(base), "within the bounds for certain"
    assert Found(0.9, [one(0.01, spread=0.001, kept=0.5), base, one(-0.001, 1.0)]).best.kept == 1


def test_many_operators_may_better_what_no_single_one_does(loud, corpus):
    searching = _Search(evaluator(loud, corpus), GAINS, asked(70), kept, lambda: 0.0, lambda _: None)
    base = searching.tried(Assignment(), "plain")
    many = searching._many_at_once(base, ["conv", "inner", "last"], 0.55, "float")
    assert many.assignment.in_float == {"conv", "inner"}, (
        "all are fast enough for the half of the speed-up, but not three"
    )
    assert searching._many_at_once(base, ["conv", "inner", "last"], 0.9, "float") is base


def test_what_is_kept_where_some_operators_are_slower_in_int8():
    gains = Gains({"depthwise": -30.0, "product": 40.0, "other": 2.0}, "kernels")
    assert estimated_kept(gains, ["depthwise"]) == math.inf, "in float it saves more than INT8 does in all"
    assert estimated_kept(gains, ["depthwise", "product"]) == pytest.approx(1 / (1 + 10 / 12))
    assert estimated_kept(Gains({"depthwise": -10.0, "product": 20.0}, "kernels"), ["depthwise"]) == math.inf


def test_without_a_score_what_costs_time_has_to_be_clear_by_the_noise():
    def one(sqnr_db):
        rows = {"s": tuple(One(1.0, 10 ** (-db / 10), 0.9, 0.1, None, 1.0) for db in sqnr_db)}
        out, bounds = Outcome(rows), {"s": Bounds(sqnr_db=40)}
        missing = (out.shortfall(bounds), out.missed(bounds), out.short_of(bounds))
        return Candidate(Assignment(), out, *missing, bounds, out.noise(), 1.0, "")

    base, hardly, clearly = one([20, 22, 24]), one([20, 23, 23.5]), one([23, 25.1, 27])
    assert hardly.is_nearer(base)
    assert not hardly.is_nearer(base, 2.0)
    assert clearly.is_nearer(base, 2.0)
