"""`harness gate` as a user types it, over two stand-ins of TensorRT."""

from __future__ import annotations

import json
import re

import pytest

from harness.cli import main
from harness.errors import HostLost
from harness.gate.gate import Gate
from harness.results.store import read_run
from tests.gate.yard import FP32, INT8, NEW, OLD, SIDES, Yard, checked, schema


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Yard(tmp_path_factory.mktemp("yard"))


@pytest.fixture
def yard(made, monkeypatch, tmp_path):
    """With a cache of the test's own: what a fault is planted for is not there yet."""
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    made.plant()
    return made


def test_a_gate_is_reported_summarized_and_recorded(yard, capsys):
    code = main(["gate", *SIDES, "--report", "report.json"])
    said = capsys.readouterr()
    report = checked(json.loads((yard.folder / "report.json").read_text()))
    assert code == report["exit_code"] != 1, "times say nothing here; nothing else differs"
    run = yard.run_file()
    assert report["cases"] == [FP32, INT8]
    assert report["run"] == run.stem
    assert (report["historical"], report["baseline"]["record"]) == (False, None)
    assert (report["baseline"]["name"], report["candidate"]["name"]) == (OLD, NEW)
    summary = run.with_suffix(".gate.md")
    assert summary.read_text().startswith("## ")
    assert f"summary: {summary}" in said.err
    assert f"0 of 2: {FP32}: build\n" in said.err
    assert re.search(rf"^1 of \d: {INT8}: latency$", said.err, re.MULTILINE)
    *pairs, whole = read_run(run)
    assert {one["kind"] for one in (*pairs, whole)} == {"gate"}
    assert [one["case"] for one in pairs] == [f"conv-{NEW}-fp32-single", f"conv-{NEW}-int8-minmax-ragged-single"]
    assert {one["environment"]["command"] for one in pairs} == {f"harness gate {' '.join(SIDES)} --report report.json"}
    assert [one["values"]["pair"] for one in pairs] == report["cases"]
    assert sum(len(one["values"]["findings"]) for one in pairs) == len(report["findings"])
    assert (whole["verdict"], whole["values"]["exit_code"]) == (report["verdict"], report["exit_code"])
    assert whole["values"]["advice"] == report["advice"]
    assert main(["results", "show", run.stem]) == 0
    assert "2 case(s) against" in capsys.readouterr().out
    assert main(["results", "list", "--kind", "gate"]) == 0
    assert run.stem in capsys.readouterr().out


def test_the_report_for_a_program(yard, capsys):
    yard.plant(crash="build", victim="conv")
    assert main(["gate", *SIDES, "--json"]) == 1
    said = capsys.readouterr()
    report = checked(json.loads(said.out))
    assert (report["verdict"], report["run"]) == ("regression", yard.run_file().stem)
    assert f"next: harness results show {yard.run_file().stem}" in said.err


def test_what_no_longer_builds_blocks_and_the_step_summary_is_added_to(yard, monkeypatch, capsys):
    step = yard.folder / "step.md"
    step.write_text("what another step said\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    yard.plant(crash="build", victim="conv")
    allow = ["--allow", f"{FP32}=known", "--allow", "nobody-*=mistyped"]
    assert main(["gate", *SIDES, "--report", "report.json", *allow]) == 1
    text = step.read_text()
    assert text.startswith("what another step said\n## ")
    assert not yard.run_file().with_suffix(".gate.md").exists()
    report = checked(json.loads((yard.folder / "report.json").read_text()))
    found = {(one["case"], one["aspect"]): one["word"] for one in report["findings"]}
    assert found == {(FP32, "builds"): "allowed", (INT8, "builds"): "regression"}
    assert {one["stage"] for one in report["first_stage"]} == {1}
    verdicts = [one["verdict"] for one in read_run(yard.run_file()) if one["kind"] == "gate"]
    assert verdicts == ["pass", "inconclusive", "pass", "regression", "regression"]
    said = capsys.readouterr()
    assert "no longer builds" in said.out
    assert said.err.count("allowed, and not found: nobody-*: mistyped") == said.err.count("allowed, and not found") == 1
    assert main(["results", "show", yard.run_file().stem]) == 0
    assert "regression builds" in capsys.readouterr().out


def test_a_summary_that_is_named_is_written_there(yard, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    yard.plant(crash="build", victim="conv")
    assert main(["gate", *SIDES, "--summary", str(tmp_path / "mine.md")]) == 1
    assert "❌" in (tmp_path / "mine.md").read_text()
    assert not (tmp_path / "step.md").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["old:tensorrt", "old:tensorrt"], 2, f"old:tensorrt and old:tensorrt are one environment: {OLD}"),
        (["old:tensorrt", "tensorrt-99"], 5, "no runtime matches 'tensorrt-99'"),
        ([*SIDES, "--budget", "soon"], 2, "--budget 'soon' is no time"),
        ([*SIDES, "--allow", "conv"], 2, "is not CASE=reason"),
        ([*SIDES, "--report", "nowhere/report.json"], 2, "nowhere/report.json cannot be written"),
        (["old", SIDES[1]], 2, f"'old' names 2 environments of {OLD}, onnxruntime-"),
        (["old:onnxruntime-0.1", SIDES[1]], 2, "names 0 environments of"),
        ([SIDES[0], "record:newest"], 2, "name two records (record:OLD record:NEW)"),
        (["record:nothing", SIDES[1]], 2, "no run 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(yard, capsys, words, code, says):
    (yard.folder / "results").mkdir(exist_ok=True)
    before = set((yard.folder / "results").iterdir())
    assert main(["gate", *words]) == code
    assert says in capsys.readouterr().err
    assert set((yard.folder / "results").iterdir()) == before


def test_the_schema_is_printed(capsys):
    assert main(["gate", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (HostLost("the connection was lost", where="gpu1"), "gpu1: the connection was lost"),
        (OSError(28, "No space left on device", "engine.plan"), "engine.plan: No space left on device"),
        (RuntimeError("a library's"), "Traceback (most recent call last)"),
    ],
)
def test_a_gate_that_breaks_off_tells_what_it_has_and_gives_no_answer(yard, capsys, monkeypatch, error, says):
    whole = Gate._compared

    def breaks(self, bench, pair, stage, seconds):
        if pair.name == INT8:
            raise error
        return whole(self, bench, pair, stage, seconds, ["accuracy"])  # times are most of what it costs

    monkeypatch.setattr(Gate, "_compared", breaks)
    assert main(["gate", *SIDES, "--report", "broken.json"]) == 5
    assert says in capsys.readouterr().err
    report = checked(json.loads((yard.folder / "broken.json").read_text()))
    assert report["verdict"] == "invalid"
    assert {one["why"] for one in report["findings"] if one["case"] == INT8} == {
        "it was not judged: the run ended before it"
    }
    assert [one["word"] for one in report["findings"] if (one["case"], one["aspect"]) == (FP32, "builds")] == ["pass"]
    first, last = read_run(yard.run_file())
    assert (first["values"]["pair"], last["verdict"]) == (FP32, "invalid")


def test_what_ended_a_worker_is_tried_again_by_the_second_stage(yard, capsys, monkeypatch):
    """A builder that was killed once, for want of memory say, is no regression."""
    again = Gate._asked_again

    def healed(self, asked):
        yard.plant()
        return again(self, asked)

    monkeypatch.setattr(Gate, "_asked_again", healed)
    yard.plant(crash="build", victim="conv")
    assert main(["gate", *SIDES, "--report", "report.json"]) != 1
    report = checked(json.loads((yard.folder / "report.json").read_text()))
    assert {one["aspect"] for one in report["first_stage"]} == {"builds"}
    words = [one["word"] for one in report["findings"] if one["aspect"] == "builds"]
    assert words == ["pass", "pass"], capsys.readouterr().out
