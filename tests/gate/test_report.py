from __future__ import annotations

import json

import pytest

from harness.gate import report
from harness.gate.findings import Finding
from harness.gate.gate import Outcome, Settings
from harness.gate.pairs import pair_up
from harness.spec.matrix import Matrix
from harness.workers import Environment

OLD, NEW = (Environment(f"tensorrt-{v}", "python", "tensorrt", v) for v in ("8.5.3.1", "8.6.0"))
PASS = Finding("vad-fp32-single", "builds", "pass", "3 build(s) of each side")
SLOW = Finding("vad-fp16-single", "latency", "regression", "+9 %", "traffic", 0.001, 2, {"log_ratio": float("nan")})
EVIL = Finding("a|<script>`x`-fp32-single", "warnings", "minor", "line one\nline | two & <b>")


def made(*findings):
    pairs = pair_up(Matrix(layouts=("single",)), ["vad"], OLD, NEW)
    outcome = Outcome(pairs, findings, (), Settings(), 12.5)
    return report.as_json(outcome, OLD, NEW, findings, 7)


@pytest.mark.parametrize(
    ("findings", "verdict", "code"),
    [
        ([PASS], "pass", 0),
        ([PASS, EVIL], "pass", 0),
        ([PASS, SLOW], "regression", 1),
        ([PASS, Finding("c", "latency", "inconclusive", "?")], "inconclusive", 3),
        ([SLOW, Finding("c", "latency", "invalid", "?")], "regression", 1),
        ([Finding("c", "latency", "inconclusive", "?"), Finding("d", "latency", "invalid", "?")], "invalid", 4),
        ([PASS, Finding("c", "tail", "inconclusive", "?")], "pass", 0),
        ([Finding("c", "tail", "minor", "?")], "inconclusive", 3),  # nothing that can block was compared
    ],
)
def test_the_answer_is_the_worst_that_can_block(findings, verdict, code):
    told = made(*findings)
    assert (told["verdict"], told["exit_code"]) == (verdict, code)


def test_json_has_the_worst_first_and_no_nan(tmp_path):
    told = made(PASS, SLOW)
    report.write(told, tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert [one["word"] for one in read["findings"]] == ["regression", "pass"]
    assert read["findings"][0]["values"] == {"log_ratio": "NaN"}
    assert (read["schema"], read["seed"], read["baseline"]["version"]) == (1, 7, "8.5.3.1")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_markdown_leads_with_the_answer_and_escapes_what_comes_from_files():
    text = report.markdown(made(PASS, SLOW, EVIL))
    first, *rest = text.splitlines()
    assert first == "## ❌ tensorrt-8.5.3.1 → tensorrt-8.6.0: regression"
    assert "<script>" not in text
    assert "<b>" not in text
    rows = [line for line in rest if line.startswith("| ") and "script" in line]
    assert len(rows) == 1
    assert rows[0].count(" | ") == 4, "a bar or a line end in a name would make other cells"
    assert "What passed" in text


def test_lines_for_a_terminal():
    *found, passed, answer = report.lines(made(PASS, SLOW))
    assert found == ["regression   vad-fp16-single latency traffic: +9 %"]
    assert passed == "1 finding(s) pass"
    assert answer == "tensorrt-8.5.3.1 -> tensorrt-8.6.0: regression: do not move"
