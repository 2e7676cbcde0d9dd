"""Whole searches of a small model in ONNX Runtime: what is planted is found, and nothing is measured twice."""

from __future__ import annotations

import itertools
import json

import onnx
import pytest

from harness.best import timing
from harness.best.candidates import first
from harness.best.goal import Ask, Goal
from harness.best.halving import Settings
from harness.best.looking import Looking
from harness.best.search import Asked, search
from harness.errors import EnvironmentMissing
from harness.explain import explained
from harness.explain.layer import Roofline
from harness.mixed.assignment import Assignment
from harness.mixed.plan import Plan, keep, ranges_of
from harness.modelfile import weighted_nodes
from harness.spec.calibration import Calibration, Method, Policy

BETWEEN_DB = 30.0
"""Plain INT8 reaches 23 to 28 dB in each length bucket."""
FEW = Settings(kept=2, finalists=1, policies=(Policy.RAGGED,))
EASY = Goal((Ask("traffic", "speedup", 0.05),))
"""No noise of a shared machine misses it: how fast INT8 is here is nothing that a test may assert."""
NEVER = Goal((Ask("traffic", "speedup", 1000.0),))


def named(found, part):
    (one,) = (one for one in found.candidates if part in one.case.id)
    return one


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """One for the module: every test but the first begins with what others measured."""
    return tmp_path_factory.mktemp("journal") / "small.jsonl"


@pytest.fixture
def asked(journal):
    def asked(goal=EASY, **given):
        return Asked("small", goal, **{"budget_s": 300.0, "each": 2, "settings": FEW, "journal": journal, **given})

    return asked


@pytest.fixture
def planted(bench):
    """Keeps a plan that leaves the first convolution in float; with ``only``, one that has these ranges."""
    kept = []

    def plant(made, only=None):
        case = first("small", *made.environments.values(), ready=False, mixed=False)[0]
        prepared, dialect = made.prepared("small"), made.dialect(case)
        minmax = Calibration(Method("minmax"), Policy.RAGGED)
        (ranges,) = made.calibrated("small", minmax, made.layout(case), dialect).ranges
        assignment = Assignment() if only else Assignment(in_float=frozenset({"first"}))
        model = onnx.load(prepared)
        own = ranges_of(model, weighted_nodes(model), dialect, {"minmax": ranges}, assignment)
        own = dict.fromkeys(own, only) if only else own
        kept.append(keep(Plan("small", prepared.name, dialect, "minmax", assignment, own)))

    yield plant
    for path in kept:
        path.unlink()


def test_a_bound_that_one_candidate_alone_reaches_finds_it(bench, asked, planted):
    made = bench(sqnr_db=BETWEEN_DB)
    planted(made)
    found = search(made, asked())
    assert (found.word, found.ship) == ("met", named(found, "int8-mixed-")), found.why
    others = [one for one in found.candidates if one.case.precision == "int8" and one is not found.ship]
    assert len(others) == 6
    assert all(one.rejected for one in others)


def test_the_way_up_and_nothing_measured_twice(bench, asked, monkeypatch, tmp_path):
    """99.9 % of the values are without the loud ones, which carry much of the output's power."""
    made = bench(sqnr_db=20.0)
    steps = []
    found = search(made, asked(), steps.append)
    assert found.word == "met", found.why
    assert [one.split(":")[0] for one in steps] == ["static", "few samples", "more samples", "short runs", "session"]
    assert found.ship.test.reasons(made.model("small")) == []
    assert found.ship.session.ratio["traffic"][0] >= 0.05
    rejected = named(found, "int8-percentile99.9-")
    assert rejected.rung == "static"
    assert "on calibration samples" in rejected.rejected
    assert named(found, "fp16").rung == "static"
    assert found.measured > 0
    assert any("harness mix" in line for line in found.notes)

    def never(*_, **__):
        raise AssertionError("measured again")

    for owner, name in ((timing, "session"), (timing, "short_runs"), (Looking, "accuracy")):
        monkeypatch.setattr(owner, name, never)
    again = search(made, asked())
    assert (again.measured, again.kept) == (0, found.measured + found.kept)
    assert again.ship.case == found.ship.case
    assert [one.as_data() for one in again.candidates] == [one.as_data() for one in found.candidates]

    (file,) = (tmp_path / "results").glob("*.jsonl")
    first, _ = (json.loads(line) for line in file.read_text().splitlines())
    assert (first["kind"], first["case"], first["verdict"]) == ("best", found.ship.case.id, "met")
    assert len(first["values"]["candidates"]) == len(found.candidates)


def test_a_goal_that_nothing_reaches_says_how_near_and_what_limits_it(bench, asked, monkeypatch):
    monkeypatch.setattr(explained, "roofline", lambda *_, **__: Roofline({"fp32": 1e11, "int8": 4e11}, 3e10))
    found = search(bench(sqnr_db=20.0), asked(NEVER))
    assert found.word == "not met"
    assert found.ship.test is not None
    assert "1000x asked" in found.why
    assert all(one.severity in {"wrong", "slow"} for one in found.findings)


def test_bounds_that_nothing_reaches_leave_fp32(bench, asked):
    found = search(bench(sqnr_db=90.0), asked(Goal()))
    assert (found.word, found.ship.case.precision) == ("met", "fp32")
    best = max((one for one in found.candidates if one.test), key=lambda one: one.test.sqnr_db())
    assert "below 90" in best.test.reasons(bench(sqnr_db=90.0).model("small"))[0]


def test_a_budget_that_ends_goes_on_with_the_next_call(bench, asked, tmp_path):
    made, path = bench(sqnr_db=20.0), tmp_path / "own.jsonl"
    ticks = itertools.count()
    first = search(made, asked(journal=path, budget_s=32.0, now=lambda: float(next(ticks))))
    assert first.unfinished
    assert first.word == "open"
    assert first.measured > 0
    assert next(ticks) < 42, "no step is begun behind the end"
    assert any("the budget" in one.rejected for one in first.candidates)
    second = search(made, asked(journal=path))
    assert second.unfinished == "", second.notes
    assert second.kept >= first.measured - 1, "short runs of other candidates are others"
    assert second.word == "met"


def test_a_broken_plan_is_rejected_on_a_cheap_rung(bench, asked, planted):
    made = bench(sqnr_db=20.0)
    planted(made, only=(-1e-4, 1e-4))
    found = search(made, asked())
    broken = named(found, "int8-mixed-")
    assert broken.rung in {"static", "few samples"}
    assert broken.rejected
    assert broken.speed is None
    assert found.word == "met"
    assert not any("harness mix" in line for line in found.notes)


def test_a_runtime_that_only_builds_is_refused(bench, asked, environment, monkeypatch):
    made = bench(sqnr_db=20.0)
    monkeypatch.setattr(type(environment), "can_run", property(lambda _: False))
    with pytest.raises(EnvironmentMissing, match="cannot run"):
        search(made, asked())
