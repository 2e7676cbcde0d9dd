"""A search where there are profiles and routes, on the stand-in for TensorRT: advice is tried, not only given."""

from __future__ import annotations

from contextlib import closing

import pytest

from harness.best import candidates, steps, timing
from harness.best.goal import Goal
from harness.best.halving import Settings
from harness.best.layout_advice import traffic_of
from harness.best.search import Asked, search
from harness.best.shown import commands, layouts_lines
from harness.corpus.own import own_entry
from harness.errors import BuildFailed, HostLost
from harness.results.store import Store
from harness.spec.calibration import Method, Policy, Precision, Route
from harness.spec.matrix import Matrix
from harness.spec.model import Bounds
from harness.spec.shapes import layout_from_text
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter, resettle


@pytest.fixture
def bench(cache, files, tmp_path):
    entry = own_entry(
        str(files / "small.onnx"), axes=["x:2=frames"], range_="16:64:256", data=str(files / "data"),
        bounds=(("*", Bounds(sqnr_db=15.0)),),
    )  # fmt: skip
    python = str(interpreter("8.6.1", tmp_path / "fake"))
    there = Environment("tensorrt-8.6.1", python, "tensorrt", "8.6.1")
    with Workers() as workers, closing(Store(tmp_path / "results").open_run()) as run:
        made = Workbench(
            {"small": entry}, {there.name: there}, workers, run, Matrix(samples=8, tests=1, launches=2, blocks=2), 0
        )
        with closing(made):
            yield made


def test_layouts_and_routes_are_candidates(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "CANDIDATES", (Method("mse"), Method("minmax")))
    model = bench.model("small")
    lengths = [20] * 90 + [240] * 10
    asked = Asked(
        "small", Goal(), each=2, traffic=traffic_of(lengths, model, ordered=True), switch_us=0.0,
        settings=Settings(kept=1, finalists=2, policies=(Policy.RAGGED,)), journal=tmp_path / "journal.jsonl",
    )  # fmt: skip
    found = search(bench, asked)
    assert found.unfinished == "", found.notes
    advice = found.layouts.advice
    assert advice is not None
    assert len(found.layouts.lengths) == len(found.layouts.times_us) >= 12
    layout_from_text(advice.best.text, model)
    tried = {(one.case.layout, one.case.route.value) for one in found.candidates if one.short}
    assert {("single", "cache"), ("buckets3", "cache"), ("single", "qdq"), (advice.best.text, "qdq")} <= tried
    assert "fp16" in {one.case.precision.value for one in found.candidates if one.short}
    assert any(line.startswith(f"layout: --layouts {advice.best.text}") for line in layouts_lines(found.layouts))
    assert found.ship is not None
    *_, check = commands(bench, found.ship, "small.onnx", ["--axis", "x:2=frames"])
    assert f"--layouts {found.ship.case.layout} " in check


class Clock:
    """Seconds that pass where they are said to: a build's, for each profile, and those of what is timed.

    ``seen`` tells what cost any, in order: (what, layout).
    """

    def __init__(self, patch, *, build_s, short_s=5.0, session_s=15.0):
        self.at, self.seen = 0.0, []
        self._engines = set()
        build, short, over, session = Workbench.build, timing.short_runs, timing.over_lengths, timing.session

        def built(bench, case, number=0):
            if case not in self._engines:
                self._engines.add(case)
                self.passes("build", case, build_s * len(bench.layout(case).profiles))
            return build(bench, case, number)

        def short_runs(bench, cases, seed):
            self.passes("short", cases[0], short_s)
            return short(bench, cases, seed)

        def over_lengths(bench, case, lengths, seed):
            self.passes("lengths", case, short_s)
            return over(bench, case, lengths, seed)

        def in_session(bench, case, speedups, budget_s):
            self.passes("session", case, min(session_s, budget_s))
            return session(bench, case, speedups, budget_s)

        patch.setattr(Workbench, "build", built)
        for name, made in (("short_runs", short_runs), ("over_lengths", over_lengths), ("session", in_session)):
            patch.setattr(timing, name, made)

    def __call__(self):
        return self.at

    def passes(self, what, case, seconds):
        self.at += seconds
        self.seen.append((what, case.precision.value, case.layout))


def asked(clock, tmp_path, budget_s):
    return Asked(
        "small", Goal(), budget_s, each=2, settings=Settings(policies=(Policy.RAGGED,)),
        journal=tmp_path / "journal.jsonl", now=clock,
    )  # fmt: skip


def test_where_builds_are_dear_there_is_an_answer_first_and_layouts_come_last(bench, tmp_path, monkeypatch):
    clock = Clock(monkeypatch, build_s=20.0)
    found = search(bench, asked(clock, tmp_path, 150.0))
    assert found.ship is not None, found.why
    judged = [one for one in found.candidates if one.session and one.test]
    assert {one.case.precision.value for one in judged} == {"fp16", "int8"}
    assert found.unfinished == "layouts"
    built = [(precision, layout) for what, precision, layout in clock.seen if what == "build"]
    assert built[:3] == [("fp32", "single"), ("fp16", "single"), ("int8", "single")]
    names = [what for what, *_ in clock.seen]
    last = max(index for index, what in enumerate(names) if what == "session")
    assert "lengths" in names[last:]
    assert "lengths" not in names[:last]
    assert all(layout == "single" for what, _, layout in clock.seen[:last])
    assert clock.at <= 150.0 + 20.0
    others = [one for one in found.candidates if one.rejected.startswith("other ranges change")]
    assert len(others) == 5, "methods that nothing was built for"

    before, clock.at = len(clock.seen), 0.0
    again = search(bench, asked(clock, tmp_path, 900.0))
    assert again.unfinished == "", again.notes
    assert {"short", "build"} <= {what for what, *_ in clock.seen[before:]}
    assert {layout for _, _, layout in clock.seen[before:]} - {"single"}, "layouts were tried"
    assert not any(what == "lengths" for what, *_ in clock.seen[before:]), "measured twice"
    assert {one.case.layout for one in again.candidates if one.short} >= {"single", "buckets3"}


def test_a_budget_of_two_builds_judges_what_int8_has_to_beat(bench, tmp_path, monkeypatch):
    """Each takes more than a third of it."""
    found = search(bench, asked(Clock(monkeypatch, build_s=110.0), tmp_path, 300.0))
    (judged,) = (one for one in found.candidates if one.session and one.test)
    assert judged.case.precision == "fp16"
    assert found.layouts is None or judged.session
    assert found.unfinished


def test_what_builds_leave_is_enough_for_a_session(bench, tmp_path, monkeypatch):
    """Three builds and short runs take 65 s of 90: no two launches fit into what is left, one does."""
    clock = Clock(monkeypatch, build_s=15.0, short_s=20.0, session_s=1.0)
    found = search(bench, asked(clock, tmp_path, 90.0))
    assert [one for one in found.candidates if one.session and one.test]
    assert clock.at <= 90.0


def test_an_answer_outlives_a_launch_that_is_lost_over_layouts(bench, tmp_path, monkeypatch):
    def lost(*_):
        raise HostLost("short runs were lost", where="there")

    clock = Clock(monkeypatch, build_s=1.0)
    monkeypatch.setattr(timing, "over_lengths", lost)
    found = search(bench, asked(clock, tmp_path, 300.0))
    assert found.ship is not None
    assert found.ship.session is not None
    assert found.unfinished == "layouts"
    assert any("short runs were lost" in note for note in found.notes)


def test_a_build_ends_with_the_budget(bench, tmp_path, monkeypatch):
    """Its worker is stopped, which is no error; nothing is shipped."""
    monkeypatch.setattr(steps, "SLACK_S", -59.0)
    resettle(tmp_path / "fake", build_seconds=300.0, gpu="Slow one")
    found = search(bench, asked(lambda: 0.0, tmp_path, 60.0))
    assert (found.word, found.ship, found.unfinished) == ("open", None, "few samples")
    assert found.layouts is None


def test_where_a_builder_refuses_one_route_others_go_by_the_next(bench, tmp_path, monkeypatch):
    """As TensorRT 8.6.0 refused `rec` with a calibration cache and builds it with Q/DQ."""
    built = Workbench.build

    def build(bench, case, number=0):
        if case.route is Route.CACHE and case.precision is Precision.INT8:
            raise BuildFailed("the builder refuses this model", where=case.id)
        return built(bench, case, number)

    monkeypatch.setattr(Workbench, "build", build)
    found = search(bench, asked(Clock(monkeypatch, build_s=1.0), tmp_path, 600.0))
    plain = [one for one in found.candidates if one.case.precision is Precision.INT8]
    (refused,) = (one for one in plain if one.refused)
    assert refused.case.route is Route.CACHE
    assert all(one.rejected for one in plain if one.case.route is Route.CACHE)
    assert any(one.short for one in plain if one.case.route is Route.QDQ)
