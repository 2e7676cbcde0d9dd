"""What is asked, read from words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.best.goal import Ask, goal_of, read_goal
from harness.errors import UsageError
from harness.spec.model import Axis, Bounds, Model

MODEL = Model("small", (Axis("x", 1),), "frames", 4, 64, 16, bounds=(("*", Bounds(sqnr_db=10)),))


def test_of_the_traffic_and_of_a_bucket():
    goal = read_goal(["speedup=1.5", "long:latency_ms=8"], MODEL)
    assert goal.asks == (Ask("traffic", "speedup", 1.5), Ask("long", "latency_ms", 8.0))
    assert (goal.speedups(), goal.latencies()) == ({"traffic": 1.5}, (Ask("long", "latency_ms", 8.0),))
    assert str(goal) == "speedup=1.5, long:latency_ms=8"


def test_short_of_is_above_1_where_it_is_missed():
    assert Ask("traffic", "speedup", 2.0).short_of(1.0) == 2.0
    assert Ask("traffic", "latency_ms", 2.0).short_of(1.0) == 0.5


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["fast"], "is no goal"),
        (["sqnr_db=15"], "--bound"),
        (["speedpu=2"], "did you mean speedup"),
        (["median:speedup=2"], "no length bucket"),
        (["speedup=x"], "no number"),
        (["speedup=nan"], "above 0"),
        (["speedup=0"], "above 0"),
        (["latency_ms=inf"], "above 0"),
        (["speedup=2", "traffic:speedup=3"], "asked twice"),
    ],
)
def test_what_is_refused(texts, said):
    with pytest.raises(UsageError) as refused:
        read_goal(texts, MODEL)
    assert said in str(refused.value)


def test_the_models_own_speedups_are_the_goal_where_none_is_given():
    model = replace(MODEL, bounds=(("*", Bounds(sqnr_db=10)), ("traffic", Bounds(speedup=1.3))))
    goal, bare = goal_of([], model)
    assert goal.speedups() == {"traffic": 1.3}
    assert bare.speedup_of_traffic() is None
    assert goal_of(["speedup=2"], model)[0].speedups() == {"traffic": 2.0}


def test_without_accuracy_bounds_nothing_would_be_best():
    with pytest.raises(UsageError, match="no bounds"):
        goal_of(["speedup=2"], replace(MODEL, bounds=(("drawn", Bounds(cosine=0.4)),)))
