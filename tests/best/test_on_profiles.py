"""A search where there are profiles and routes, on the stand-in for TensorRT: advice is tried, not only given."""

from __future__ import annotations

from contextlib import closing

import pytest

from harness.best import candidates
from harness.best.goal import Goal
from harness.best.halving import Settings
from harness.best.layout_advice import traffic_of
from harness.best.search import Asked, search
from harness.best.shown import commands, layouts_lines
from harness.corpus.own import own_entry
from harness.results.store import Store
from harness.spec.calibration import Method, Policy
from harness.spec.matrix import Matrix
from harness.spec.model import Bounds
from harness.spec.shapes import layout_from_text
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter


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
        settings=Settings(kept=1, finalists=1, policies=(Policy.RAGGED,)), journal=tmp_path / "journal.jsonl",
    )  # fmt: skip
    found = search(bench, asked)
    assert found.unfinished == ""
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
