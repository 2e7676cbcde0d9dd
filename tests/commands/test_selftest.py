from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest

from harness.cli import main
from harness.errors import RunFailed
from harness.measure import selftest, sequential_gate
from harness.results.index import indexed
from harness.results.store import Store, read_run


@pytest.fixture
def quick(cache, tmp_path, monkeypatch):
    """A session that takes no time: what measuring gives is tested elsewhere."""
    asked = []

    def line(environment, condition, design, margins, seed):
        asked.append((environment.runtime, condition.name, seed))
        return {
            "who": selftest.OURS, "condition": condition.name, "seed": seed, "verdict": "pass", "why": "as fast",
            "seconds": 2.0, "overhead_seconds": 3.0, "launches": 4, "stopped_by": "look", "point": 0.004, "high": 0.03,
        }  # fmt: skip

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(selftest, "session_line", line)
    monkeypatch.setattr(sequential_gate, "available", lambda: False)
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # a second goes by with every look at it
    monkeypatch.setattr("harness.commands.selftest.time", clock)
    return asked


@pytest.mark.parametrize("noise", [True, False])
def test_a_table_margins_and_a_record(quick, noise, tmp_path, capsys):
    assert main(["selftest", "--minutes", "2", "--seed", "4", *["--noise"] * noise]) == 0
    said = capsys.readouterr()
    for text in ("harness", "aa", "this machine supports margins of 0.40% (tolerated)"):
        assert text in said.out
    assert ("aa_noise" in {name for _, name, _ in quick}) == noise
    (path,) = Store(tmp_path / "results").runs()
    assert str(path) in said.err
    (kept,) = read_run(path)
    assert kept["kind"] == "selftest"
    assert kept["values"]["ours"]["aa"]["pass"] == 1.0
    assert len(kept["values"]["sessions"]) == len(quick)
    assert kept["environment"]["worker"]["library"] == "onnxruntime"
    assert kept["seed"] == 4
    assert len(indexed(tmp_path / "results", [path])[0]) == 1


def test_few_sessions_name_no_margins(quick, capsys):
    assert main(["selftest", "--minutes", "0.3", "--seed", "4"]) == 0
    assert "A/A session(s) are too few; 10 at least" in capsys.readouterr().out


def test_json_is_all_that_stdout_gets(quick, capsys):
    assert main(["selftest", "--minutes", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ours"]["aa"]["n"] >= 1
    assert found["design"]["blocks"] >= 1


def test_a_runtime_that_is_not_here(quick, capsys):
    assert main(["selftest", "--runtime", "tensorrt-9.9", "--minutes", "1"]) == 5
    assert "tensorrt-9.9" in capsys.readouterr().err
    assert not quick


def test_no_minutes(quick, capsys):
    assert main(["selftest", "--minutes", "0"]) == 2


def later(monkeypatch, error, at=3):
    """The session after ``at`` others raises."""
    made, number = selftest.session_line, itertools.count()

    def line(*arguments):
        if next(number) == at:
            raise error
        return made(*arguments)

    monkeypatch.setattr(selftest, "session_line", line)


def test_a_session_that_raises_counts_as_invalid(quick, tmp_path, monkeypatch, capsys):
    later(monkeypatch, RunFailed("the model failed", where="chain"))
    assert main(["selftest", "--minutes", "0.5", "--seed", "4"]) == 0
    (kept,) = read_run(Store(tmp_path / "results").runs()[0])
    (invalid,) = [one for one in kept["values"]["sessions"] if one["verdict"] == "invalid"]
    assert "the model failed" in invalid["why"]
    assert len(kept["values"]["sessions"]) == len(quick) + 1
    assert sum(row["invalid"] * row["n"] for row in kept["values"]["ours"].values()) == pytest.approx(1)


def test_the_first_session_that_raises_ends_the_command(quick, monkeypatch, capsys):
    later(monkeypatch, RunFailed("the model failed", where="chain"), at=0)
    assert main(["selftest", "--minutes", "0.5"]) == 1
    assert "the model failed" in capsys.readouterr().err


def test_an_interrupt_keeps_what_was_collected(quick, tmp_path, monkeypatch, capsys):
    later(monkeypatch, KeyboardInterrupt())
    assert main(["selftest", "--minutes", "0.5"]) == 130
    said = capsys.readouterr()
    assert "what was collected is kept" in said.err
    assert "harness: verdicts" in said.out
    (kept,) = read_run(Store(tmp_path / "results").runs()[0])
    assert len(kept["values"]["sessions"]) == 3
    assert kept["values"]["interrupted"] is True


def test_a_gate_that_hangs_is_an_error_with_words(monkeypatch, tmp_path):
    monkeypatch.setattr(sequential_gate, "_DEADLINE_S", 0.01)
    with pytest.raises(RunFailed, match=r"did not end within 0\.01 s"):
        sequential_gate.pytest_benchmark_pair(tmp_path / "a.onnx", tmp_path / "b.onnx")
