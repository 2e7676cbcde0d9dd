from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

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


MARKUP = [
    "![x](http://evil/x.png)", "[a](http://evil)", "[a]: http://evil", "<http://evil>", "http://evil/x", "www.evil.org",
    "*b*", "**b**", "_b_", "__b__", "~~b~~", "`b`", "$b$", ":tada:", "@user", "a@b.org", "#1", "org/name#1", "!1",
    "a\rb", "a\r\nb", "a\n\n# b", "a\u2028b", "a|b", "a\\|b", "\\", "a\\", "&amp;", "<!-- b", "</details>",
    600 * "&", 499 * "a" + "[]",
]  # fmt: skip


def shown(text):
    """As a renderer shows it, all of it plain text: the rows of tables without their heads, and what else there is."""
    rows, others, where = [], [], None
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        assert token.type != "html_block" or token.content.startswith(("<details>", "</details>\n"))
        if token.type in {"th_open", "td_open", "paragraph_open", "heading_open"}:
            where = {"th_open": None, "td_open": rows and rows[-1]}.get(token.type, others)
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            assert {child.type for child in token.children} <= {"text", "text_special"}
            if where is not None:
                where.append("".join(child.content for child in token.children).replace("\u200b", ""))
    return [row for row in rows if row], others


def seen(text):
    return re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text[:500]).strip()


@pytest.mark.parametrize("evil", MARKUP)
def test_nothing_of_a_name_or_an_error_is_markup(evil):
    told = made(Finding(evil, "builds", "regression", evil, evil, 0.0), PASS)
    told["baseline"]["name"], told["only_candidate"] = evil, [evil]
    told["not_compared"] = [{"case": evil, "aspect": "latency", "why": evil}]
    rows, others = shown(report.markdown(told))
    assert rows == [
        ["❌ regression", seen(evil), "builds", seen(evil), seen(evil)],
        ["✅ pass", PASS.case, "builds", "", seen(PASS.why)],
    ]
    assert len(others) == 5, "the title, the answer, what one side lacks, what was not compared in two"
    assert others[0].startswith(f"❌ {seen(evil)}"[:400])


@given(st.text(alphabet=st.sampled_from("ab1 _*`~[]()<>|&!#@:$%^{}\\\r\n-+.=\"'/"), max_size=30))
def test_no_combination_of_signs_is_markup(evil):
    ((row,), _) = shown(report.markdown(made(Finding(evil, "builds", "regression", evil, evil, 0.0))))
    assert row == ["❌ regression", seen(evil), "builds", seen(evil), seen(evil)]


@pytest.mark.parametrize("evil", ["@user", "#1", "name#1", "http://evil", "www.evil.org", ":tada:", "a@b.org", "!1"])
def test_what_is_looked_for_in_what_is_shown_is_not_there(evil):
    """Users, issues and addresses are made links after Markdown is HTML, so that an escape is not enough."""
    text = MarkdownIt("commonmark").render(report.markdown(made(Finding(evil, "builds", "regression", "", "", 0.0))))
    assert evil not in text
    assert re.search("[@#:!]\u200b|www\u200b", text)


def test_names_as_they_are_in_use_stay_legible_where_nobody_renders():
    name = "wave_len-onnxruntime-1.32.0-cpu-int8-percentile99.9-per_profile-buckets3"
    assert f"| {name} |" in report.markdown(made(Finding(name, "builds", "regression", "+9.5 (ratio 1.1)", "", 0.0)))


def test_lines_for_a_terminal():
    *found, passed, answer = report.lines(made(PASS, SLOW))
    assert found == ["regression   vad-fp16-single latency traffic: +9 %"]
    assert passed == "1 finding(s) pass"
    assert answer == "tensorrt-8.5.3.1 -> tensorrt-8.6.0: regression: do not move"


REFUSED = """tensorrt-8.6.0, artefacts/9e97.onnx: the builder refuses this model
  -> name a form
  | IBuilder: Error Code 1: Myelin (CHECK(dtype) failed)
  | second
  | third
  | fourth"""


def test_a_build_that_fails_shows_the_builders_own_reason_and_the_file(tmp_path, monkeypatch):
    """In a terminal, where the file is; in what is published the cache's folder has no place."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path))
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / "9e97.onnx").touch()
    told = made(Finding("vad-fp16-single", "builds", "regression", "no longer builds", values={"error": REFUSED}))
    head, *evidence, _, _ = report.lines(told)
    assert head.endswith("no longer builds")
    assert evidence == [
        "  | IBuilder: Error Code 1: Myelin (CHECK(dtype) failed)", "  | second", "  | third",
        f"  model: {tmp_path}/artefacts/9e97.onnx",
    ]  # fmt: skip
    assert str(tmp_path) not in json.dumps(told) + report.markdown(told)
    (tmp_path / "artefacts" / "9e97.onnx").unlink()
    assert not any("model:" in line for line in report.lines(told))


def test_the_last_line_hides_nothing_that_is_allowed_and_nothing_that_was_not_run():
    allowed = replace(SLOW, word="allowed")
    assert report.lines(made(PASS, allowed))[-1].endswith(
        ": pass: nothing that blocks was found; 1 regression(s) are allowed, and do not block"
    )
    assert "1 regression(s) are allowed" in report.markdown(made(PASS, allowed)).splitlines()[2]
    told = made(PASS)
    assert report.lines(told)[-1].endswith(": pass: nothing that blocks was found")
    for side in ("baseline", "candidate"):
        told[side]["runs"] = False
    assert "; both sides only build here: nothing was run" in report.lines(told)[-1]
    told["candidate"]["runs"] = True
    assert "only build" not in report.lines(told)[-1]


def test_what_is_open_comes_with_what_would_settle_it():
    open_ = Finding("c", "latency", "inconclusive", "?", "traffic", values={
        "ended": "budget", "launches": 2, "seconds": 233.0, "launches_needed": 6, "seconds_needed": 700.0,
    })  # fmt: skip
    told = made(PASS, open_)
    *_, ends, would, draw, _, _ = report.lines(told)
    assert ends == "of 1 session(s) that left something open, 1 by the budget (1200 s for all)"
    assert would.startswith("if the ratios stay as they are, --budget ")
    assert would.endswith("with launches = 12 in a matrix file (--matrix) would settle 1 of 1")
    assert "no promise" in draw
    assert "- of 1 session" in report.markdown(told)
    assert made(PASS)["advice"] == []
