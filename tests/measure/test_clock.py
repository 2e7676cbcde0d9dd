from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, UsageError
from harness.measure.clock import checked_burst, judging_clock

ALL = ["cpu_ns", "device_ns", "wall_ns"]
HOST = ["cpu_ns", "wall_ns"]


@pytest.mark.parametrize(
    ("available", "one_thread", "expected"),
    [
        (ALL, True, "device_ns"),
        (ALL, False, "device_ns"),
        (HOST, True, "cpu_ns"),
        (HOST, False, "wall_ns"),  # processor time is of all threads together
        (["wall_ns"], True, "wall_ns"),
    ],
)
def test_which_clock_judges(available, one_thread, expected):
    assert judging_clock(None, available, one_thread=one_thread) == expected


def test_a_clock_that_was_asked_for_wins():
    assert judging_clock("wall_ns", ALL, one_thread=True) == "wall_ns"


def test_a_clock_that_is_not_there():
    with pytest.raises(UsageError) as raised:
        judging_clock("device_ns", HOST, one_thread=True)
    assert "no clock 'device_ns'" in str(raised.value)
    assert "cpu_ns, wall_ns" in str(raised.value)


@given(st.lists(st.integers(1_000, 900_000), min_size=1))
def test_durations_come_back_as_they_are(burst):
    assert checked_burst(burst, "here") == burst


@pytest.mark.parametrize("wrong", [0, -5, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_cannot_be_a_duration(wrong, place):
    burst = [1000, 1100, 1200]
    burst[place] = wrong
    with pytest.raises(DataError) as raised:
        checked_burst(burst, "arm 'b', block 3")
    assert f"a duration of {wrong} ns" in str(raised.value)
    assert "arm 'b', block 3" in str(raised.value)


def test_a_clock_that_jumped():
    assert checked_burst([1000, 500_000_000], "here")  # a long preemption
    with pytest.raises(DataError, match="from 1000 to 500000001 ns"):
        checked_burst([1000, 500_000_001], "here")
    assert checked_burst([600_000, 600_000_000], "here")


def test_an_empty_burst():
    with pytest.raises(DataError, match="without durations"):
        checked_burst([], "here")
