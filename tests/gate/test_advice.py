from __future__ import annotations

import pytest

from harness.gate.advice import settling
from harness.gate.findings import Finding
from harness.latency import design_of
from harness.spec.latency import LatencySettings
from harness.spec.matrix import Matrix


def left(case="a", *, ended="budget", launches=6, seconds=35.0, stage=1):
    values = {"ended": ended, "launches": 2, "launches_needed": launches, "seconds_needed": seconds}
    return Finding(case, "latency", "inconclusive", "?", "traffic", stage=stage, values=values)


@pytest.mark.parametrize(
    ("findings", "budget"),
    [
        ([left(seconds=35.0)], "4m"),  # 4 pairs have 70 % together: 35 * 4 / 0.7 = 200 s
        ([left(seconds=35.0), left("b", seconds=70.0)], "7m"),
        ([left(seconds=35.0, stage=2)], "2m"),  # one pair was asked again, and has 30 %: 117 s
        ([left(seconds=35.0, stage=2), left("b", seconds=70.0, stage=2)], "8m"),
        ([left(seconds=0.1)], "1m"),  # never less than there was
    ],
)
def test_the_budget_that_would_do_goes_by_the_share_of_a_session(findings, budget):
    said = settling(findings, 60.0, 6, 4)
    assert f"--budget {budget} would settle {len(findings)} of {len(findings)}" in said[1]
    assert "launches =" not in said[1]


def test_each_limit_is_counted_and_more_launches_are_asked_for_where_they_were_too_few():
    open_ = [
        left("a", ended="launches", launches=9),
        left("b"),
        left("c", ended="traffic", launches=None, seconds=None),
        left("b"),
    ]
    said = settling(open_, 60.0, 4, 4)
    assert said[0] == (
        "of 3 session(s) that left something open, 1 by the budget (60 s for all), 1 by their number of launches, "
        "1 by a clear answer for the traffic, before single lengths were clear"
    )
    assert said[1].endswith("and launches = 9 in a matrix file (--matrix) would settle 3 of 4")
    (later,) = said[2:]
    assert later.startswith("1 are single lengths of sessions that ended because the traffic was clear: launches = 5 ")
    assert settling(open_, 60.0, 6, 4)[2].endswith("clear: a quieter machine, or wider margins")


def test_with_so_many_launches_a_session_looks_later():
    """What is promised of five launches."""
    assert [design_of(Matrix(launches=n), LatencySettings()).looks[0] for n in (4, 5, 12)] == [3, 4, 4]


def test_what_no_budget_settles_is_not_promised_one():
    said = settling([left(launches=None, seconds=None)], 60.0, 4, 1)
    assert said[1] == "1 would not settle in reasonable time: a quieter machine, or wider margins"
    assert len(said) == 2
    twice = Finding("a", "latency", "inconclusive", "worse twice", "traffic", 0.2, 2, {"log_ratio": 0.06})
    assert settling([twice], 60.0, 4, 1) == [
        "1 looked worse and could not be confirmed: --thorough, or a larger --budget"
    ]


def test_nothing_is_said_where_latency_is_clear():
    others = [Finding("a", "accuracy", "inconclusive", "?"), Finding("a", "latency", "pass", "+1 %", "traffic")]
    assert settling(others, 60.0, 4, 1) == []
