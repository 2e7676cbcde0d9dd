from __future__ import annotations

import pytest

from harness.gate.advice import settling
from harness.gate.findings import Finding
from harness.latency import design_of
from harness.spec.latency import LatencySettings
from harness.spec.matrix import Matrix


def left(case="a", *, ended="budget", launches=6, each=10.0, stage=1):
    """A finding of a session of two launches of ``each`` seconds."""
    needed = None if launches is None else launches * each
    values = {"ended": ended, "launches": 2, "seconds": 2 * each, "launches_needed": launches, "seconds_needed": needed}
    return Finding(case, "latency", "inconclusive", "?", "traffic", stage=stage, values=values)


@pytest.mark.parametrize(
    ("findings", "budget"),
    [
        ([left(each=10.0)], "12m"),  # 12 launches; 4 pairs have 70 % together: 120 * 4 / 0.7 = 686 s
        ([left(each=10.0), left("b", each=20.0)], "23m"),
        ([left(each=10.0, stage=2)], "7m"),  # one pair was asked again, and has 30 %: 400 s
        ([left(each=10.0, stage=2), left("b", each=20.0, stage=2)], "27m"),
        ([left(each=0.1)], "1m"),  # never less than there was
        ([left(launches=9)], "18m"),  # twice nine launches: 180 * 4 / 0.7 = 1029 s
    ],
)
def test_the_budget_that_would_do_goes_by_the_share_of_a_session(findings, budget):
    said = settling(findings, 60.0, 18, 4)
    assert f"are, --budget {budget} would settle {len(findings)} of {len(findings)}" in said[1]
    assert "launches =" not in said[1]


@pytest.mark.parametrize(
    ("needed", "each", "limits"),
    [
        (5, 1.0, "--budget 1m with launches = 12 "),  # 12 * 1 / 0.7 = 17 s
        (6, 10.0, "--budget 3m with launches = 12 "),
        (7, 10.0, "--budget 4m with launches = 14 "),
        (40, 10.0, "--budget 20m with launches = 80 "),
    ],
)
@pytest.mark.parametrize("ended", ["budget", "launches"])
def test_launches_are_advised_with_a_margin_and_with_the_budget_that_they_need(needed, each, limits, ended):
    said = settling([left(ended=ended, launches=needed, each=each)], 10.0, 4, 1)
    assert said[1:] == [
        f"if the ratios stay as they are, {limits}in a matrix file (--matrix) would settle 1 of 1",
        "a retry is a new draw of the machine's noise: an estimate is no promise",
    ]


def test_whoever_does_as_advised_is_not_given_less_than_that():
    """One launch more than the twelve that were advised is no reason to advise thirteen."""
    assert "launches = 26 " in settling([left(ended="launches", launches=13)], 60.0, 12, 1)[1]


def test_one_far_estimate_does_not_decide_for_the_others():
    said = settling([left("a"), left("b", launches=50)], 60.0, 4, 1)
    assert said[1].endswith("--budget 3m with launches = 12 in a matrix file (--matrix) would settle 1 of 2")
    assert said[2] == "1 would need more than 12 launches by the estimate: a quieter machine, or wider margins"
    said = settling([left("a"), left("b", launches=50)], 60.0, 100, 1)
    assert said[1].endswith("--budget 24m would settle 2 of 2")


def test_each_limit_is_counted_and_more_launches_are_asked_for_where_they_were_too_few():
    open_ = [
        left("a", ended="launches", launches=9),
        left("b"),
        left("c", ended="traffic", launches=None),
        left("b"),
    ]
    said = settling(open_, 60.0, 4, 4)
    assert said[0] == (
        "of 3 session(s) that left something open, 1 by the budget (60 s for all), 1 by their number of launches, "
        "1 by a clear answer for the traffic, before single lengths were clear"
    )
    assert said[1].endswith("--budget 18m with launches = 18 in a matrix file (--matrix) would settle 3 of 4")
    (later, _) = said[2:]
    singles = "1 are single lengths of sessions that ended because the traffic was clear: "
    assert later == f"{singles}the same lets it look later"
    assert settling(open_, 60.0, 6, 4)[2] == f"{singles}a quieter machine, or wider margins"


def test_a_later_look_is_not_advised_without_the_budget_that_it_needs():
    open_ = [left(ended="traffic", launches=None, each=3.0)]
    said = settling(open_, 40.0, 4, 6)  # 36 * 6 / 0.7 = 309 s
    assert said[1].endswith("clear: --budget 6m with launches = 12 in a matrix file (--matrix) lets it look later")
    assert said[2:] == ["a retry is a new draw of the machine's noise: an estimate is no promise"]
    assert settling(open_, 40.0, 5, 6)[1:] == [said[1].partition(": ")[0] + ": a quieter machine, or wider margins"]


def test_with_so_many_launches_a_session_looks_later():
    """What is promised of five launches."""
    assert [design_of(Matrix(launches=n), LatencySettings()).looks[0] for n in (4, 5, 12)] == [3, 4, 4]


def test_what_no_budget_settles_is_not_promised_one():
    said = settling([left(launches=None)], 60.0, 4, 1)
    assert said[1] == "1 would not settle in reasonable time: a quieter machine, or wider margins"
    assert len(said) == 2
    twice = Finding("a", "latency", "inconclusive", "worse twice", "traffic", 0.2, 2, {"log_ratio": 0.06})
    assert settling([twice], 60.0, 4, 1) == [
        "1 looked worse and could not be confirmed: --thorough, or a larger --budget"
    ]


def test_nothing_is_said_where_latency_is_clear():
    others = [Finding("a", "accuracy", "inconclusive", "?"), Finding("a", "latency", "pass", "+1 %", "traffic")]
    assert settling(others, 60.0, 4, 1) == []
