"""The answer: what meets a goal, what may, what is nearest; and bounds as distances."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.accuracy import Comparison
from harness.best.evidence import RUNGS, Accuracy, Candidate, Speed
from harness.best.found import answer, chosen, missing
from harness.best.goal import Ask, Goal
from harness.best.halving import Halving
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.model import Axis, Bounds, Model

MODEL = Model("small", (Axis("x", 1),), "frames", 4, 64, 16, bounds=(("*", Bounds(sqnr_db=20, score=0.9)),))
SEEN = Comparison(sqnr_db=26.0, cosine=0.99, worst=0.1, score=0.95, score_weight=3.0, finite=True)


def seen(**values):
    one = replace(SEEN, **values)
    return Accuracy({"short": one, "middle": SEEN, "long": SEEN})


def candidate(method, ratio, test, ms=2.0, width=0.1):
    case = Case("small", "onnxruntime-1.32.0-cpu", Precision.INT8, Calibration(Method(method), Policy.RAGGED), "single")
    speed = Speed(
        {"traffic": (ratio - width, ratio, ratio + width)}, {"traffic": (ms - width, ms, ms + width)}, "faster"
    )
    return Candidate(case, RUNGS[-1], search=test, test=test, session=speed)


@pytest.fixture
def fp32():
    return Candidate(Case("small", "onnxruntime-1.32.0-cpu", Precision.FP32, None, "single"), RUNGS[-1])


def test_the_fastest_that_meets_the_goal(fp32):
    slow, fast, wrong = (
        candidate("mse", 2.0, seen()),
        candidate("minmax", 3.0, seen()),
        candidate("entropy", 4.0, seen(score=0.5)),
    )
    goal = Goal((Ask("traffic", "speedup", 1.5),))
    assert chosen([fp32, slow, fast, wrong], goal, MODEL) == (fast, "met")
    assert chosen([fp32, slow, fast, wrong], Goal(), MODEL) == (fast, "met")
    assert chosen([fp32, wrong], Goal(), MODEL) == (fp32, "met")


def test_speeds_that_cannot_be_told_apart_go_by_accuracy(fp32):
    fast, right = candidate("minmax", 3.05, seen()), candidate("mse", 3.0, seen(sqnr_db=40.0))
    assert chosen([fp32, fast, right], Goal(), MODEL)[0] is right
    apart = candidate("mse", 3.0, seen(sqnr_db=40.0), width=0.01)
    assert chosen([fp32, candidate("minmax", 3.05, seen(), width=0.01), apart], Goal(), MODEL)[0] is not apart


@pytest.mark.parametrize(("asked", "word"), [(1.8, "met"), (2.0, "open"), (2.2, "not met")])
def test_the_whole_interval_has_to_meet_a_goal(fp32, asked, word):
    one = candidate("mse", 2.0, seen())
    assert answer(one, Ask("traffic", "speedup", asked)) == word
    assert chosen([fp32, one], Goal((Ask("traffic", "speedup", asked),)), MODEL) == (one, word)


@pytest.mark.parametrize(("asked", "word"), [(2.2, "met"), (2.0, "open"), (1.8, "not met")])
def test_so_does_a_latency(fp32, asked, word):
    assert answer(candidate("mse", 2.0, seen()), Ask("traffic", "latency_ms", asked)) == word


def test_nearest_is_what_is_right_before_what_is_fast(fp32):
    right, fast = candidate("mse", 2.0, seen()), candidate("minmax", 9.0, seen(score=0.5))
    goal = Goal((Ask("traffic", "speedup", 8.0),))
    assert chosen([fp32, right, fast], goal, MODEL) == (right, "not met")
    assert missing(right, goal, MODEL) == ["2.00x, 8x asked, 4.00 times too slow"]
    assert "below 0.9" in missing(fast, goal, MODEL)[0]


def test_an_invalid_session_answers_nothing(fp32):
    one = candidate("mse", 3.0, seen())
    one.session = replace(one.session, word="invalid")
    assert answer(one, Ask("traffic", "speedup", 1.5)) == "open"


def test_fp32_may_be_enough(fp32):
    fp32.session = Speed({"traffic": (1.0, 1.0, 1.0)}, {"traffic": (1.0, 1.1, 1.2)})
    assert answer(fp32, Ask("traffic", "latency_ms", 1.5)) == "met"
    assert answer(fp32, Ask("traffic", "speedup", 1.5)) == "not met"


def test_nothing_judged_is_no_answer():
    assert chosen([], Goal(), MODEL) == (None, "open")


@pytest.mark.parametrize(
    ("values", "missed"),
    [
        ({}, 0.0),
        ({"sqnr_db": 14.0}, 10 ** (6 / 20) - 1),  # twice the noise that is allowed: once too much
        ({"score": 0.8}, 1.0),
        ({"score": 0.8, "sqnr_db": 14.0}, 1.0 + 10 ** (6 / 20) - 1),
        ({"sqnr_db": math.nan}, 1e6),
        ({"score": math.nan}, 1e6),
        ({"finite": False, "spoiled": ("y",)}, 1e6),
        ({"sqnr_db": -math.inf}, 1e6),
    ],
)
def test_shortfall(values, missed):
    accuracy = seen(**values)
    assert accuracy.shortfall(MODEL) == pytest.approx(missed, rel=1e-6)
    assert accuracy.shortfalls(MODEL)["short"] == pytest.approx(missed, rel=1e-6)
    assert bool(accuracy.reasons(MODEL)) is bool(missed)
    again = Accuracy.from_data(accuracy.as_data(), lower_is_better=False)
    assert again.shortfall(MODEL) == accuracy.shortfall(MODEL)


def test_a_score_that_is_better_when_lower():
    errors = Accuracy({"short": replace(SEEN, score=0.2)}, lower_is_better=True)
    model = replace(MODEL, bounds=(("*", Bounds(score=0.1)),))
    assert errors.shortfall(model) == pytest.approx(1.0)
    assert errors.reasons(model)


def test_one_launch_proves_nothing(fp32):
    """Its interval goes from 0 to more than can be written."""
    one = candidate("mse", 3.0, seen())
    one.session = replace(one.session, ratio={"traffic": (0.0, 3.0, 1e304)})
    assert chosen([fp32, one], Goal(), MODEL) == (one, "open")
    assert chosen([fp32, one], Goal((Ask("traffic", "speedup", 2.0),)), MODEL) == (one, "open")


@pytest.mark.parametrize(("db", "said"), [(26.0, True), (24.0, True), (19.0, False)])
def test_int8_that_is_as_near_to_fp32_as_fp16_is(db, said, fp32):
    """On an H200 TensorRT 8.6.0 left all of `text` with a calibration cache in FP16, and said nothing."""
    fp16 = Candidate(replace(fp32.case, precision=Precision.FP16), search=seen())
    int8 = candidate("mse", 2.0, Accuracy({"short": replace(SEEN, sqnr_db=db)}))
    assert Halving.as_float(SimpleNamespace(candidates=[fp32, fp16, int8]), int8) is said
    assert not Halving.as_float(SimpleNamespace(candidates=[fp32, fp16, int8]), fp16)
    assert not Halving.as_float(SimpleNamespace(candidates=[fp32, int8]), int8), "nothing to hold it against"
