from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, EnvironmentMissing, RunFailed, UsageError
from harness.measure import selftest, sequential_gate, workload
from harness.measure.arms import Design
from harness.measure.burners import burners
from harness.measure.selftest import (
    CONDITIONS,
    GATE,
    OURS,
    WORDS,
    design_digest,
    interval,
    schedule,
    session_line,
    summary,
    supported_margins,
)
from harness.stats.verdict import Margins
from harness.workers import find_environments


def line(who=OURS, condition="aa", verdict="pass", **more):
    ours = {"launches": 4, "stopped_by": "look", "point": 0.001, "high": 0.02} if who == OURS else {}
    return (
        {"who": who, "condition": condition, "verdict": verdict, "seconds": 3.0, "overhead_seconds": 5.0} | ours | more
    )


@pytest.mark.parametrize("layers", [1, 3, 10])
def test_a_chain_has_its_layers_and_runs(layers):
    path = workload.chain(layers)
    graph = onnx.load(path).graph
    assert Counter(node.op_type for node in graph.node) == {"Gemm": layers, "Relu": layers}
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [64, 128]  # fixed: no profile is needed
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(workload.feeds()))
    assert y.shape == (64, 128)


def test_no_values_of_a_long_chain_are_denormal():
    path = workload.chain(CONDITIONS["plus10"].layers)
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(workload.feeds()))
    assert 0.1 < np.abs(y).max() < 10
    assert np.abs(y[y != 0]).min() > 1e-6


def test_a_chain_is_cached_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path))
    path = workload.chain(2)
    before = path.stat().st_mtime_ns
    assert (workload.chain(2), path.stat().st_mtime_ns) == (path, before)
    assert len({workload.chain(2), workload.chain(3)}) == 2
    content = path.read_bytes()
    path.unlink()
    assert workload.chain(2).read_bytes() == content


def test_a_chain_without_layers():
    with pytest.raises(UsageError, match="a chain of 0 layers"):
        workload.chain(0)


def test_conditions_are_interleaved_and_come_as_often_as_they_weigh():
    drawn = list(itertools.islice(schedule(list(CONDITIONS.values()), 3), 70))
    counts = Counter(one.name for one, _ in drawn)
    assert counts == {"aa": 20, "aa_noise": 10, "plus3": 10, "plus5": 10, "plus10": 10, "plus5_noise": 10}
    rounds = [tuple(one.name for one, _ in drawn[i : i + 7]) for i in range(0, 70, 7)]
    assert len(set(rounds)) > 5
    assert len({seed for _, seed in drawn}) == 70
    assert drawn == list(itertools.islice(schedule(list(CONDITIONS.values()), 3), 70))
    assert drawn != list(itertools.islice(schedule(list(CONDITIONS.values()), 4), 70))


def test_a_design_digest_changes_with_what_decides_and_with_nothing_else(tmp_path, monkeypatch):
    base = design_digest(Design(), Margins())
    assert base == design_digest(Design(), Margins())
    assert base != design_digest(Design(blocks=13), Margins())
    assert base != design_digest(Design(), Margins(0.01, 0.05))
    original = Path(selftest.verdict.__file__)
    for path in original.parent.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(selftest.verdict, "__file__", str(tmp_path / "verdict.py"))
    assert base == design_digest(Design(), Margins())
    source, copied = original.read_text(), tmp_path / "verdict.py"
    copied.write_text(
        source.replace('"""How much slower is tolerated', '"""What slowdown is tolerated') + "\n# a remark\n"
    )
    (tmp_path / "tails.py").write_text("decides = 'nothing'\n")
    assert base == design_digest(Design(), Margins())
    copied.write_text(source.replace("if high < -d0", "if high <= -d0"))
    assert copied.read_text() != source
    assert base != design_digest(Design(), Margins())


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rates_interval_holds_the_rate(counted):
    count, n = counted
    low, high = interval(count, n)
    assert 0 <= low <= count / n <= high <= 1
    mirrored = interval(n - count, n)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_known_intervals():
    assert interval(0, 110) == (0.0, pytest.approx(1 - 0.025 ** (1 / 110)))
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)  # Clopper & Pearson's table
    with pytest.raises(DataError, match="3 of 2"):
        interval(3, 2)


def test_a_summary_counts_every_word_in_n():
    words = ["pass"] * 6 + ["inconclusive", "invalid", "minor", "regression"]
    lines = [line(verdict=word, seconds=float(i), launches=i) for i, word in enumerate(words)]
    found = summary(
        [*lines, line(GATE, verdict="regression"), line(condition="plus5", verdict="regression", point=0.05)]
    )
    aa = found[OURS]["aa"]
    assert aa["n"] == 10
    assert {word: aa[word] for word in WORDS} == {
        "pass": 0.6, "inconclusive": 0.1, "invalid": 0.1, "minor": 0.1, "regression": 0.1, "improved": 0.0
    }  # fmt: skip
    assert (aa["seconds_median"], aa["overhead_seconds_median"], aa["launches_median"]) == (4.5, 5.0, 4.5)
    assert aa["intervals"]["improved"] == [0.0, pytest.approx(0.3085, abs=1e-4)]
    assert aa["stopped_by"] == {"look": 10}
    assert found[OURS]["plus5"]["effect_median"] == pytest.approx(math.expm1(0.05))
    assert found[GATE]["aa"]["regression"] == 1.0
    assert "launches_median" not in found[GATE]["aa"]


def test_a_session_that_measured_nothing_counts():
    aa = summary([line(verdict="invalid", point=None, high=None)])[OURS]["aa"]
    assert (aa["n"], aa["invalid"], aa["effect_median"]) == (1, 1.0, None)


def test_supported_margins_come_from_valid_sessions_on_equal_code():
    points = np.linspace(-0.01, 0.01, 41)
    lines = [line(condition=name, point=float(p), high=float(p) + 0.02) for p in points for name in ("aa", "aa_noise")]
    others = [line(condition="plus5", point=0.05), line(verdict="invalid", point=0.5), line(GATE)]
    found = supported_margins([*lines, *others])
    assert found.sessions == 82
    assert found.tolerated == pytest.approx(0.01, rel=0.06)
    assert found.caught == pytest.approx(math.expm1(0.028), rel=0.02)
    assert supported_margins(others) is None


def test_an_open_interval_supports_no_margin():
    assert math.isinf(supported_margins([line(high=None)]).caught)


def test_one_real_session():
    environment = next(one for one in find_environments(Path.cwd()) if one.runtime == "onnxruntime")
    condition = replace(CONDITIONS["aa_noise"], layers=3)
    found = session_line(environment, condition, Design(looks=(2,), blocks=2, warm_ms=1.0), Margins(), 4)
    assert found["verdict"] in WORDS
    assert (found["who"], found["condition"], found["launches"], found["seed"]) == (OURS, "aa_noise", 2, 4)
    assert summary([found])[OURS]["aa_noise"]["n"] == 1


def test_burners_end_with_the_block():
    with burners(1) as pids:
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert os.getpid() not in pids


@pytest.mark.skipif(not sequential_gate.available(), reason="pytest-benchmark is not installed")
def test_the_gate_sees_a_large_slowdown():
    gate = sequential_gate.pytest_benchmark_pair(workload.chain(1), workload.chain(60))
    assert gate.verdict == "regression"
    assert gate.seconds > 0
    assert gate.overhead_seconds > 0


@pytest.mark.skipif(not sequential_gate.available(), reason="pytest-benchmark is not installed")
def test_a_gate_that_cannot_run_says_why(tmp_path):
    with pytest.raises(RunFailed, match="pytest ended with 1") as raised:
        sequential_gate.pytest_benchmark_pair(tmp_path / "none.onnx", workload.chain(1))
    assert "none.onnx" in str(raised.value)


def test_a_gate_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(sequential_gate, "available", lambda: False)
    with pytest.raises(EnvironmentMissing, match="not installed"):
        sequential_gate.pytest_benchmark_pair(workload.chain(1), workload.chain(1))
