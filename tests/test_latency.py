"""What is made of a case's session: weights, looks, words, tails; on workers that replay durations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.latency import Latency, design_of, engines_of, gains_of, inputs_of, margins_of, weights_of
from harness.measure.arms import Design, Question
from harness.measure.session import run_session
from harness.results.record import decode, encode, record
from harness.spec.bounds import read_bounds
from harness.spec.latency import LatencySettings
from harness.spec.matrix import FULL, Matrix
from harness.spec.model import Axis, Model
from harness.spec.shapes import layout_from_text
from harness.stats.multiple import regression_p
from harness.stats.verdict import Margins
from tests.measure.conftest import Lab, arm

MODEL = Model("m", (Axis("x", 0),), "frames", 16, 256, 64)
BOUNDS = ((16, 40), (41, 102), (103, 256))
FEEDS = {name: {"x": np.zeros(4, np.float32)} for name in ("short", "middle", "long")}
FEW = Design(looks=(3,), blocks=4, warm_ms=0.0, burst_least=2)


def timed(effect=-0.5, *, lab=None, bounds=(), weights=(20, 60, 200), design=FEW):
    model = replace(MODEL, bounds=read_bounds(bounds))
    inputs = inputs_of(model, weights_of(model, weights), FEEDS)
    question = Question(arm("fp32"), arm("int8", effect), inputs)
    lab = lab or Lab(1)
    outcome = run_session(question, design, Margins(), 0, gains=gains_of(model), start=lab.start)
    return Latency(question, outcome, Margins(), "fp32")


def test_lengths_weigh_as_often_as_they_come():
    assert weights_of(MODEL, [16, 40, 41, 256]) == {"short": 0.5, "middle": 0.25, "long": 0.25}
    assert weights_of(MODEL, [20]) == {"short": 1.0, "middle": 0.0, "long": 0.0}
    assert weights_of(MODEL, [1, 300]) == weights_of(MODEL, []) == dict.fromkeys(("short", "middle", "long"), 1 / 3)


def test_inputs_stand_at_the_buckets_opt():
    inputs = inputs_of(MODEL, weights_of(MODEL, [20]), FEEDS)
    assert [one.label for one in inputs] == ["short", "middle", "long"]
    assert all(low <= one.length <= high for one, (low, high) in zip(inputs, BOUNDS, strict=True))
    assert [one.weight for one in inputs] == [1.0, 0.0, 0.0]


def test_a_buckets_engine_is_that_of_the_profile_which_admits_its_opt():
    paths = [Path("a"), Path("b"), Path("c")]
    assert engines_of(MODEL, layout_from_text("single", MODEL), paths[:1]) == paths[0]
    assert engines_of(MODEL, layout_from_text("buckets3", MODEL), paths) == dict(zip(FEEDS, paths, strict=True))
    two = layout_from_text("16-20-100,101-200-256", MODEL)
    assert engines_of(MODEL, two, paths[:2]) == {"short": paths[0], "middle": paths[0], "long": paths[1]}


@pytest.mark.parametrize(
    ("launches", "looks"), [(2, (2,)), (3, (3,)), (4, (3, 4)), (5, (4, 5)), (8, (4, 6, 8)), (12, (4, 6, 8, 12))]
)
def test_looks_are_declared_by_the_number_of_launches(launches, looks):
    assert design_of(Matrix(launches=launches), LatencySettings()).looks == looks


def test_the_configuration_wins_over_the_matrix():
    own = design_of(FULL, LatencySettings(budget_s=7, launches=3, blocks=5))
    assert (own.looks, own.blocks, own.budget_s) == ((3,), 5, 7)
    quick = design_of(Matrix(), LatencySettings())
    assert (quick.blocks, quick.budget_s) == (Matrix().blocks, Matrix().budget_s)


def test_margins_are_the_defaults_where_nothing_is_said():
    assert margins_of(LatencySettings()) == Margins(0.02, 0.05)
    assert margins_of(LatencySettings(tolerated=0.0)) == Margins(0.0, 0.05)
    with pytest.raises(UsageError, match=r"margins 0\.06 and 0\.05"):
        margins_of(LatencySettings(tolerated=0.06))


def test_a_clear_gain():
    found = timed(-0.5)
    assert found.word() == found.word("short") == found.verdict() == "faster"
    assert found.problem() == found.problem("short") == ""
    cell = found.cell("middle")
    assert cell["ratio_low"] < 2 < cell["ratio_high"]
    assert cell["weight"] == pytest.approx(1 / 3)
    assert cell["int8"]["median_ms"] == pytest.approx(cell["baseline"]["median_ms"] / 2, rel=0.05)
    assert cell["int8"]["shape_change_ms"] > 0


@pytest.mark.parametrize(("effect", "word"), [(0.5, "slower"), (0.0, "not slower")])
def test_words_for_what_is_not_faster(effect, word):
    assert timed(effect).word() == timed(effect).word("long") == word


def test_how_slow_a_case_is_counts_every_place_where_its_session_could_have_ended():
    found = timed(0.04)
    nominal = regression_p(found.outcome.traffic, Margins())
    assert found.session()["p_slower"] == pytest.approx(min(1, 2 * nominal))  # after 2 or 3 launches
    lab = Lab(1)
    lab.null_effect = 0.3
    assert timed(0.5, lab=lab).session()["p_slower"] == 1, "an invalid session accuses nobody"


def test_an_invalid_session_says_nothing_of_any_bucket():
    lab = Lab(1)
    lab.null_effect = 0.3
    found = timed(-0.5, lab=lab, bounds=["short:speedup=1.1"])
    assert found.word() == found.word("short") == "invalid"
    assert found.verdict("short") == "not proved"
    assert "the baseline differs from its own copy" in found.problem("short")


def test_a_gain_that_is_missed_and_one_that_is_there():
    found = timed(-0.5, bounds=["short:speedup=3", "long:speedup=1.5", "traffic:speedup=2.5"])
    assert found.verdict("short") == found.verdict() == "below bounds"
    assert found.problem("short").startswith("short: missed: 1.997x as fast")
    assert "3x wanted" in found.problem("short")
    assert found.problem().startswith("traffic: missed")
    assert found.verdict("long") == "faster"
    assert found.verdict("middle") == "faster"
    assert found.problem("middle") == ""


def test_a_gain_that_stays_open_is_not_proved_and_says_what_it_takes():
    lab = Lab(1)
    lab.launch_sd = 0.05
    found = timed(-0.5, lab=lab, bounds=["middle:speedup=2"])
    assert found.verdict("middle") == "not proved"
    assert "inconclusive" in found.problem("middle")
    assert "launch" in found.problem("middle").rpartition("; ")[2]


@pytest.mark.parametrize("launches", [1, 2])
def test_a_spent_budget_is_named(launches, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr("harness.measure.session.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    lab = Lab(1)
    lab.launch_sd = 0.05
    design = Design(looks=(3, 4), blocks=4, warm_ms=0.0, budget_s=2 * launches - 1)
    found = timed(-0.5, lab=lab, bounds=["middle:speedup=2"], design=design)
    assert len(found.outcome.launches) == launches
    assert f"budget_s = {2 * launches - 1} ended it after {launches} launch(es)" in found.problem("middle")
    assert ("allow" in found.problem("middle")) == (launches == 1)


def test_tails_are_given_or_the_number_of_samples_that_they_take():
    few = timed(design=replace(FEW, burst_most=2)).cell("short")["int8"]
    assert few["p95"] == "n too small for p95: 24 samples, 130 needed"
    assert few["p99"] == "n too small for p99: 24 samples, 662 needed"
    many = timed(design=replace(FEW, blocks=30, burst_least=8)).cell("short")["int8"]
    low, point, high = many["p99_ms"]
    assert low < point < high
    assert many["p50_ms"][1] < many["p95_ms"][1] < point
    assert "p99" not in many


def test_tails_are_of_what_a_user_waits_also_where_processor_time_judged():
    lab = Lab(1)

    def trouble(label, of, warmup, clocks):
        return {**clocks, "wall_ns": [10 * value for value in clocks["cpu_ns"]]}

    lab.trouble = trouble
    cell = timed(lab=lab, design=replace(FEW, blocks=30, burst_least=8)).cell("short")["int8"]
    assert cell["p50_ms"][1] == pytest.approx(10 * cell["median_ms"], rel=0.01)


def test_a_record_holds_samples_by_bucket_and_the_rest_once():
    found = timed()
    session = decode(encode(record("latency", "r", {"session": found.session()})))["values"]["session"]
    assert "samples" not in str(session["launches"])
    assert [launch["seed"] for launch in session["launches"]] == [one.seed for one in found.outcome.launches]
    raw = found.raw("long")
    assert set(raw) == {"fp32", "int8", "null control"}
    assert raw["int8"][1] == found.outcome.launches[1].samples["int8"]["long"]
    assert found.samples("long") == [value for launch in raw["int8"] for burst in launch for value in burst["cpu_ns"]]
    assert found.settings() == {"threads": 1, "clock": "cpu_ns", "pinned": True}


def test_a_session_of_lost_launches_has_a_record_and_no_numbers():
    lab = Lab(1)
    lab.gives([0], arm="int8", at=1)
    lab.trouble = lambda *_: {"wall_ns": [0]}
    found = timed(lab=lab, bounds=["short:speedup=2"])
    assert found.word() == found.word("short") == "invalid"
    assert found.samples("short") == []
    assert found.cell("short") == {"length": found.question.inputs[0].length, "weight": pytest.approx(1 / 3)}
    assert found.verdict() == found.verdict("short") == found.verdict("long") == "failed"
    assert "launches were lost" in found.problem("short")
    assert "launches were lost" in found.problem("long"), "an engine that does not run fails, asked for a gain or not"
    encode(record("latency", "r", {"session": found.session()}))
