"""A whole gate over real engines whose candidate is slower: both stages have to say so, by times alone."""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.corpus.own import own_entry
from harness.gate.gate import Gate, Settings
from harness.results.store import Store
from harness.spec.latency import LatencyConfig, LatencySettings
from harness.spec.matrix import Matrix
from harness.workers import Workers, find_environments, select

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MATRIX = Matrix(precisions=("fp32",), layouts=("single",), compared=(), samples=3, tests=3, launches=3, blocks=3)
MARGINS = LatencyConfig(LatencySettings(tolerated=0.05, caught=0.10))


@pytest.fixture
def planted(monkeypatch):
    """The benchmark's model of 20 equal layers, and faults for it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted")


@pytest.fixture
def gate(planted, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "net.onnx").write_bytes(planted.model())
    planted.write_samples(tmp_path / "data", 12)
    lengths = ":".join(map(str, planted.LENGTHS))
    entry = own_entry(tmp_path / "net.onnx", axes=["x:1=n"], range_=lengths, data=tmp_path / "data")
    old, *_ = select(find_environments(tmp_path), ["onnxruntime"])
    new = replace(old, name=f"{old.name}@candidate")
    sides = {one.name: one for one in (old, new)}

    def gate(fault, seed):
        with Workers(deadline_s=60) as workers, closing(Store(tmp_path / "results").open_run()) as run:

            def bench(offset):
                given = ({"net": entry}, sides, workers, run, MATRIX, seed + offset, MARGINS)
                return planted.Planted(*given, fault=fault, candidate=new.name)

            with closing(bench(0)) as first:
                return Gate(first, lambda: bench(1), old, new, Settings(budget_s=15)).run()

    return gate


def test_a_candidate_that_is_a_third_slower_is_blocked_by_both_stages(gate, planted):
    layers = 3 * planted.LAYERS // 10
    slower = planted.Fault("latency +30 %", "net-fp32-single", ("latency",), planted._slower(layers))
    outcome = gate(slower, 0)
    if outcome.word == "invalid":  # something else on this machine disturbed a session, which says so
        outcome = gate(slower, 10)
    told = [f"{one.word} {one.aspect} {one.where}: {one.why}" for one in outcome.findings]
    assert outcome.word == "regression", told
    assert {one.where for one in outcome.first if one.blocks} >= {"traffic"}
    blocked = [one for one in outcome.findings if one.blocks]
    assert {(one.aspect, one.stage) for one in blocked} == {("latency", 2)}, told
    assert "traffic" in {one.where for one in blocked}
    assert all(one.why.startswith("confirmed") and "stage 1: +" in one.why for one in blocked), told
    assert {one.word for one in outcome.findings if one.aspect in {"builds", "coverage", "accuracy"}} == {"pass"}
