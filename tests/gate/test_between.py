"""Two records against one another: real ones of a GPU, and others with a fault in the second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.gate.accuracy import AccuracyMargins
from harness.gate.between import between, pairs_of
from harness.gate.recorded import read
from harness.results.record import encode
from harness.stats.verdict import Margins
from tests.gate.yard import checked

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "h200-2026-11-23"
OLD, NEW = (REFERENCE / f"probes-{version}.jsonl" for version in ("8.5.3.1", "8.6.0"))
MATMUL = "matmul-int8-auto-ragged-single"


def changed(path, tmp_path, change):
    """The newer record with a change to each of its lines; None leaves the line out."""
    target = tmp_path / "changed.jsonl"
    lines = [change(json.loads(line)) for line in path.read_bytes().splitlines()]
    target.write_bytes(b"".join(encode(one) for one in lines if one))
    return target


def compared(old, new):
    sides = [read(Path("nowhere"), f"record:{path}") for path in (old, new)]
    found, left = between(*sides, AccuracyMargins(), Margins())
    return {(one.case, one.aspect, one.where): one for one in found}, {(one.case, one.aspect): one.why for one in left}


def test_what_ran_on_a_gpu_is_compared():
    found, left = compared(OLD, NEW)
    # 8.6.0 took the cache and ran the convolutions in float, which nothing but the engine says
    fell = found["conv1d-int8-auto-ragged-cache-single", "coverage", ""]
    assert (fell.word, fell.values["candidate"]) == ("regression", [0])
    assert found[MATMUL, "coverage", ""].why == "operators in INT8: 4 before, 4 now, by the worst build of each"
    assert {found[MATMUL, "accuracy", bucket].word for bucket in ("short", "middle", "long")} == {"pass"}
    assert left[MATMUL, "latency"] == "a record has none"
    assert "FP32 is what records" in left["matmul-fp32-single", "accuracy"]


def test_a_record_is_equal_to_itself():
    found, _ = compared(NEW, NEW)
    assert {one.word for one in found.values()} == {"pass"}


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        (lambda one: {**one, "model": {"fp32": "00"}}, (MATMUL, "builds", ""), "two model files"),
        (lambda one: {**one, "corpus": {"test": "00"}}, (MATMUL, "accuracy", ""), "other samples"),
    ],
)
def test_what_is_of_something_else_proves_nothing(tmp_path, change, key, says):
    found, _ = compared(NEW, changed(NEW, tmp_path, change))
    assert found[key].word == "inconclusive"
    assert says in found[key].why


def test_cases_of_one_side_alone_are_listed(tmp_path):
    fewer = changed(NEW, tmp_path, lambda one: one if "matmul" in str(one.get("case")) else None)
    pairs = pairs_of(*(read(Path("nowhere"), f"record:{path}") for path in (NEW, fewer)))
    assert {pair.name.partition("-")[0] for pair in pairs.both} == {"matmul"}
    assert {case.model for case in pairs.only_baseline} == {"conv1d"}
    assert pairs.only_candidate == ()


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    names = [f"record:{path}" for path in (OLD, NEW)]
    assert main(["gate", *names, "--report", "r.json", "--summary", "s.md"]) == 1
    report = checked(json.loads(Path("r.json").read_text()))
    assert (report["historical"], report["verdict"]) == (True, "regression")
    assert [report[side]["record"] for side in ("baseline", "candidate")] == ["probes-8.5.3.1", "probes-8.6.0"]
    assert "fell back to float" in capsys.readouterr().out
    assert "as recorded in probes-8.6.0" in Path("s.md").read_text()
    allow = ["--allow", "conv1d-*=planes are not there yet"]
    assert main(["gate", *names, "--summary", "s.md", *allow]) == 0
    assert main(["gate", names[0], f"record:{REFERENCE / 'wave-8.5.3.1.jsonl'}"]) == 2
