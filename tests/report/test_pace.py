from __future__ import annotations

import pytest

from harness.report.pace import Pace


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def kinds(unit):
    return [unit[0]]


@pytest.fixture
def clock():
    return Clock()


def run(pace, clock, **seconds):
    for unit, took in seconds.items():
        pace.begin(unit)
        clock.now += took
        pace.end(unit)


def test_too_little_has_ended_to_tell(clock):
    pace = Pace(["a1", "a2", "a3", "a4"], kinds, clock)
    run(pace, clock, a1=2, a2=2)
    assert (pace.done, pace.left, pace.total, pace.left_s) == (2, 2, 4, None)


def test_what_is_left_lasts_as_long_as_what_is_like_it(clock):
    pace = Pace(["a1", "a2", "a3", "b1", "b2", "c1"], kinds, clock)
    run(pace, clock, a1=1, a2=3, b1=20)
    assert pace.left_s == pytest.approx(2 + 20 + 8)  # a3, b2, and for c1 the mean of all


def test_what_runs_counts_for_the_rest_of_it(clock):
    pace = Pace(["a1", "a2", "a3", "a4"], kinds, clock)
    run(pace, clock, a1=10, a2=10, a3=10)
    pace.begin("a4")
    clock.now += 4
    assert pace.left_s == pytest.approx(6)
    clock.now += 100
    assert pace.left_s == 0
    assert pace.running == ["a4"]


def test_what_was_skipped_tells_nothing(clock):
    pace = Pace(["a1", "a2", "a3", "a4", "a5"], kinds, clock)
    pace.begin("a1")
    pace.end("a1", counts=False)
    run(pace, clock, a2=10, a3=10, a4=10)
    assert pace.left_s == pytest.approx(10)
    assert pace.done == 4


def test_side_by_side(clock):
    pace = Pace([f"a{number}" for number in range(8)], kinds, clock)
    for first, second in (("a0", "a1"), ("a2", "a3")):
        pace.begin(first)
        pace.begin(second)
        clock.now += 10
        pace.end(first)
        pace.end(second)
    assert pace.left_s == pytest.approx(20)


def test_more_work_is_counted_once(clock):
    pace = Pace(["a1"], kinds, clock)
    pace.begin("a1")
    pace.add(["a1", "a2"])
    assert pace.total == 2
    pace.begin("surprise")
    assert pace.total == 3
