"""What ``benchmarks/gate.py`` makes of its lines; the gates themselves are its own matter."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gate(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("gate", "planted"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("gate")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "gate.json")
    return module


def line(name, verdict="pass", **more):
    common = {
        "time": "2026-11-23T00:00:00+00:00",
        "environment": "onnxruntime",
        "cpu": "a CPU",
        "seed": 1,
        "seconds": 9.0,
    }
    return {**common, "gate": name, "verdict": verdict, "said": "", "found": False, **more}


@pytest.fixture
def reported(gate, tmp_path, capsys):
    """The exit code of a report of these lines, what it wrote and what it said of failures."""

    def reported(*lines):
        parts = tmp_path / "parts.jsonl"
        parts.write_text("".join(json.dumps(one) + "\n" for one in lines))
        code = gate.report(parts, 0, 0)
        written = json.loads(gate.RESULTS.read_text()) if gate.RESULTS.exists() else None
        return code, written, capsys.readouterr().err

    return reported


def test_a_gate_that_failed_has_neither_blocked_nor_passed(gate, reported):
    blocked, failed = line(gate.AA, "regression", load=1.0), line(gate.AA, "error", said="WorkerDied: it died")
    fault = next(iter(gate.FAULTS))
    code, told, said = reported(
        line(gate.AA, load=1.0), blocked, failed, failed, line(fault, "regression", found=True), line(fault, "error")
    )
    assert (code, told["aa_gates"], told["aa_blocked"]) == (0, 2, 0.5)
    assert told["aa_verdicts"] == {"pass": 1, "regression": 1}
    assert told["gates_with_faults"][fault] == [1, 1]
    assert told["faults_found"] == 1, "what failed has not been missed"
    assert told["errors"] == {gate.AA: 2, fault: 1}
    assert said.count("no verdict: A/A, seed 1: WorkerDied: it died") == 2


def test_only_failures_are_no_report(gate, reported):
    code, told, said = reported(line(gate.AA, "error"))
    assert (code, told) == (2, None)
    assert "no A/A gate in" in said


def test_each_round_has_thirty_gates_of_equals_that_came_to_a_verdict(gate):
    seen = [gate.AA] * 5  # of an earlier day
    turns = gate._turns(np.random.default_rng(0), lambda: seen, [])
    failures = 0
    while min(seen.count(name) for name in gate.FAULTS) < 2 or failures < 7:
        name = next(turns)
        if name == gate.AA and failures < 7:
            failures += 1
        else:
            seen.append(name)
    # What failed is owed in the next round, beside that round's own.
    assert seen.count(gate.AA) <= gate.AA_SHARE * 2 * len(gate.FAULTS) == 60
    while min(seen.count(name) for name in gate.FAULTS) < 3 or seen.count(gate.AA) < 90:
        seen.append(next(turns))
    assert {name: seen.count(name) for name in (*gate.FAULTS, gate.AA)} == {
        **dict.fromkeys(gate.FAULTS, 3),
        gate.AA: 90,
    }


@pytest.mark.parametrize("only", [["A/A"], ["does not build"]])
def test_one_alone_may_be_asked_for_as_long_as_one_likes(gate, only):
    seen = [gate.AA] * 100
    turns = gate._turns(np.random.default_rng(0), lambda: seen, only)
    assert set(itertools.islice(turns, 50)) == set(only)
