"""The whole decision procedure on simulated sessions whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.errors import UsageError
from harness.stats.rule import Rule, decide, ended
from harness.stats.sequential import obrien_fleming
from harness.stats.verdict import Margins
from tests.stats.simulate import Host, decide_all, logs_of, rates, times_ns

RULE = Rule()
HOST = Host()


def sessions(ratio, count, *, seed, host=HOST, blocks=24, launches=12):
    return logs_of(times_ns(host, ratio, (count, launches, blocks), np.random.default_rng(seed)), both=True)


def run(candidate, null, rule):
    """One session through ``decide``, launch by launch: the word and the launches it took."""
    for n in range(1, rule.looks[-1] + 1):
        decision = decide([list(candidate[:n])], [list(null[:n])], rule, seed=n)
        if decision.final:
            return decision, n
    raise AssertionError("the budget did not end the session")


@pytest.fixture(scope="module")
def operating():
    return {
        ratio: rates(decide_all(*sessions(ratio, count, seed=3), RULE)[0])
        for ratio, count in ((1.0, 3000), (1.051, 3000), (1.10, 1000))
    }


def test_identical_code_is_hardly_ever_called_slower(operating):
    got = operating[1.0]
    assert got["regression"] <= 0.01
    assert got["pass"] >= 0.90
    assert got["invalid"] <= 0.05


def test_five_percent_is_caught(operating):
    assert operating[1.051]["regression"] >= 0.90
    assert operating[1.051]["pass"] <= 0.02


def test_ten_percent_is_caught(operating):
    assert operating[1.10]["regression"] >= 0.99


@pytest.mark.parametrize("proposal_alpha", [0.0, 0.01])
@pytest.mark.parametrize("spending", [Rule().spending, obrien_fleming])
def test_false_alarm_rate_at_the_margins_is_at_most_the_level(proposal_alpha, spending):
    """The worst nulls: just what is tolerated called slower, just what must be caught called less."""
    rule = Rule(spending=spending, proposal_alpha=proposal_alpha)
    count, level = 4000, rule.alpha / 2
    slack = 2 * math.sqrt(level * (1 - level) / count)
    tolerated = rates(decide_all(*sessions(1.02, count, seed=21, blocks=16), rule)[0])
    caught = rates(decide_all(*sessions(1.05, count, seed=22, blocks=16), rule)[0])
    assert tolerated["regression"] + tolerated["minor"] <= level + slack
    assert caught["pass"] + caught["minor"] <= level + slack


def test_noise_and_drift_do_not_make_false_alarms():
    wild = Host(launch_sd=0.03, block_sd=0.06, autocorrelation=0.6, drift_sd=0.05, spike_rate=0.15)
    got = rates(decide_all(*sessions(1.0, 1000, seed=5, host=wild, blocks=16), RULE)[0])
    assert got["regression"] <= 0.01
    assert got["invalid"] <= 0.05


@pytest.mark.parametrize("ratio", [1.0, 1.02, 1.04, 1.05])
def test_the_simulated_procedure_is_the_real_one(ratio):
    """The rates above are those of a t interval alone. The real one takes the wider of two: where the truth is at a
    margin or below, it is never ahead. (Between the margins the wider one may reach what must be caught.)
    """
    candidate, null = sessions(ratio, 40, seed=9, blocks=12)
    words, used = decide_all(candidate, null, RULE)
    real = [run(candidate[i], null[i], RULE) for i in range(len(words))]
    for (decision, n), word, launches in zip(real, words, used, strict=True):
        if decision.verdict.word != word and ratio != 1.04:
            assert n > launches or decision.verdict.word in {"inconclusive", "invalid"}, (decision.verdict.why, word)
    got = rates(np.array([decision.verdict.word for decision, _ in real], object))
    worst = {1.0: ("regression", "minor"), 1.02: ("regression", "minor"), 1.04: (), 1.05: ("pass", "minor")}[ratio]
    assert sum(got[word] for word in worst) <= 0.15  # 5 % and what 40 sessions may be off, at 99.9 %
    assert sum(decision.verdict.word == word for (decision, _), word in zip(real, words, strict=True)) >= 33


def test_a_clear_case_ends_by_proposal_before_the_first_look():
    random = np.random.default_rng(1)
    for shift, word in ((0.10, "regression"), (0.0, "pass"), (-0.10, "improved")):
        logs, null = shift + random.normal(0, 0.003, (12, 12)), random.normal(0, 0.003, (12, 12))
        decision, n = run(logs, null, RULE)
        assert (decision.verdict.word, decision.stopped_by, n) == (word, "proposal", 3)


def test_without_proposals_the_first_look_decides():
    random = np.random.default_rng(1)
    decision, n = run(random.normal(0, 0.003, (12, 12)), random.normal(0, 0.003, (12, 12)), Rule(proposal_alpha=0))
    assert (decision.verdict.word, decision.stopped_by, n) == ("pass", "look", 4)


def test_a_null_control_that_differs_ends_invalid():
    random = np.random.default_rng(1)
    decision, n = run(random.normal(0, 0.003, (12, 12)), random.normal(0.1, 0.003, (12, 12)), RULE)
    assert decision.verdict.word == "invalid"
    assert n <= 4


def test_the_budget_ends_a_session_that_stays_unclear():
    launches = np.tile([[-0.2], [0.2]], (6, 8))
    decision, n = run(launches, launches, RULE)
    assert (decision.verdict.word, decision.stopped_by, n) == ("inconclusive", "budget", 12)


def test_a_reason_ends_the_session_at_the_next_look():
    logs = [list(np.random.default_rng(1).normal(0, 0.1, (4, 6)))]
    decision = decide(logs, logs, RULE, seed=1, invalid_reasons=["clocks were throttled"])
    assert decision.final
    assert decision.verdict.word == "invalid"


@pytest.mark.parametrize(("launches", "looks"), [(2, (2,)), (5, (4, 5)), (7, (4, 6, 7)), (11, (4, 6, 8, 11))])
def test_a_session_that_has_to_end_between_looks_spends_its_level_there(launches, looks):
    last = ended(RULE, launches)
    assert (last.looks, last.proposal_alpha, last.alpha) == (looks, 0.0, RULE.alpha)
    count, level = 3000, RULE.alpha / 2
    candidate, null = sessions(1.02, count, seed=31, blocks=8, launches=launches)
    got = rates(decide_all(candidate, null, last)[0])
    assert got["regression"] + got["minor"] <= level + 2 * math.sqrt(level * (1 - level) / count)


def test_launches_may_belong_to_builds():
    logs = np.random.default_rng(1).normal(0, 0.003, (4, 12))
    decision = decide([[row] for row in logs], None, RULE, seed=1)
    assert decision.final
    assert decision.verdict.estimate.builds == 4
    assert decision.null_control is None


@pytest.mark.parametrize("bad", [{"alpha": 0}, {"alpha": 1}, {"proposal_alpha": 1.0}, {"agree": 1}])
def test_rules_that_cannot_be_are_refused(bad):
    with pytest.raises(UsageError):
        Rule(**bad)


def test_margins_belong_to_the_rule():
    logs = [[np.full(12, 0.03) + np.random.default_rng(i).normal(0, 0.002, 12) for i in range(4)]]
    assert decide(logs, None, Rule(proposal_alpha=0), seed=1).verdict.word == "minor"
    assert decide(logs, None, Rule(margins=Margins(0.05, 0.1)), seed=1).verdict.word == "pass"
