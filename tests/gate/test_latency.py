from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.gate.latency import findings_of
from harness.gate.pairs import Pair
from harness.measure.arms import NULL, Arm, Design, Input, Question
from harness.measure.launch import Cold, Launch
from harness.measure.session import run_session
from harness.spec.calibration import Precision
from harness.spec.case import Case
from harness.stats.verdict import Margins
from harness.workers import Environment

PAIR = Pair(*(Case("net", runtime, Precision.FP32, None, "single") for runtime in ("old", "new")))
ENVIRONMENT = Environment("onnxruntime-1.32.0-cpu", "python", "onnxruntime", "1.32.0")


def session(slower, looks, *, first_ms=1.0, tail=1.0, seed=0, blocks=24, spread=0.0):
    """Launches of a candidate that is ``slower`` times as slow, and the findings by aspect and place."""
    random = np.random.default_rng(seed)
    arms = [Arm(runtime, ENVIRONMENT, Path("net.onnx")) for runtime in ("old", "new")]
    question = Question(*arms, (Input("short", 16, {}, 0.5), Input("long", 64, {}, 0.5)))

    def burst(mean_ns, longest):
        values = mean_ns * random.lognormal(0, 0.01, 6)
        values[-1] *= longest
        return {"cpu_ns": [int(value) for value in values], "wall_ns": [int(value) for value in values]}

    def measure(*_, **__):
        factors = {"old": 1.0, NULL: 1.0, "new": slower * random.lognormal(0, spread)}
        samples = {
            arm: {name: [burst(mean * factor, tail if arm == "new" else 1.0) for _ in range(blocks)]
                  for name, mean in (("short", 2e5), ("long", 8e5))}
            for arm, factor in factors.items()
        }  # fmt: skip
        cold = {arm: Cold(0.1, int(1e6 * (first_ms if arm == "new" else 1.0)), {}) for arm in factors}
        seconds = {"starting": 0.1, "warming": 0.1, "measuring": 0.1}
        return Launch(samples, cold, seconds, core=None, seed=0, clock="cpu_ns")

    outcome = run_session(question, Design(looks=looks, blocks=blocks), Margins(), seed, measure=measure)
    found = findings_of(PAIR, outcome, Margins(), 1)
    return outcome, {(one.aspect, one.where): one for one in found}


def test_equals_pass_at_every_length_and_over_the_traffic():
    _, found = session(1.0, (3, 6))
    words = {where: one.word for (aspect, where), one in found.items() if aspect == "latency"}
    assert words == {"traffic": "pass", "short": "pass", "long": "pass"}
    assert found["cold start", ""].word == "pass"


def test_a_session_of_one_look_is_ended_by_nothing_else_and_pays_nothing_for_looking():
    several, found = session(1.07, (3, 6, 12))
    assert len(several.launches) == 3
    assert several.stopped_by == "look"
    one, alone = session(1.07, (8,))
    assert (len(one.launches), one.stopped_by) == (8, "look")
    assert found["latency", "traffic"].word == alone["latency", "traffic"].word == "regression"
    assert alone["latency", "traffic"].p < 1e-4 < found["latency", "traffic"].p


@pytest.mark.parametrize(("longest", "word"), [(1.0, "pass"), (2.0, "minor")])
def test_a_longer_tail_is_told_and_does_not_block(longest, word):
    _, found = session(1.0, (6,), tail=longest)
    assert {found["tail", where].word for where in ("short", "long")} == {word}
    assert not found["tail", "short"].blocks
    assert found["latency", "traffic"].word == "pass"


def test_a_tail_of_too_few_runs_is_not_judged():
    _, found = session(1.0, (2,), blocks=2)
    assert not [aspect for aspect, _ in found if aspect == "tail"]


@pytest.mark.parametrize(("first_ms", "word"), [(1.2, "pass"), (3.0, "minor")])
def test_a_cold_start_is_told(first_ms, word):
    _, found = session(1.0, (3,), first_ms=first_ms)
    assert found["cold start", ""].word == word


def test_what_is_open_names_the_limit_that_ended_the_session_and_what_would_do():
    """Launches, seconds of the budget, or a traffic that was clear before its lengths: each wants another answer."""
    outcome, found = session(1.035, (2,), seed=3, spread=0.03)
    traffic = found["latency", "traffic"]
    assert traffic.word == "inconclusive"
    assert "; ended by its 2 launches; to settle it: " in traffic.why
    assert traffic.values["ended"] == "launches"
    assert (traffic.values["launches"], traffic.values["launches_needed"]) >= (2, 3)
    assert traffic.values["seconds_needed"] == pytest.approx(0.3 * traffic.values["launches_needed"], abs=0.06)
    short = replace(outcome, stopped_by="budget", design=Design(looks=(3, 6), blocks=24, budget_s=7))
    (traffic, *_) = findings_of(PAIR, short, Margins(), 1)
    assert "; ended by its 7 s of the budget, after 2 of 6 launches; to settle it: " in traffic.why
    assert traffic.values["ended"] == "budget"
    clear = replace(short, stopped_by="look")
    (traffic, *_) = findings_of(PAIR, clear, Margins(), 1)
    assert traffic.why.endswith("; ended by a clear answer for the traffic, after 2 of 6 launches")
    assert (traffic.values["ended"], traffic.values["seconds_needed"]) == ("traffic", None)
    assert not any("ended" in one.values for one in session(1.0, (3, 6))[1].values())
