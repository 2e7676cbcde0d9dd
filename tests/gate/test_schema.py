"""The published schema: what reports have is in it, and a report with a changed field is none."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from harness.gate import report
from harness.gate.findings import Finding, NotCompared
from harness.gate.gate import Outcome, Settings
from harness.gate.pairs import pair_up
from harness.spec.matrix import Matrix
from harness.workers import Environment
from tests.gate.yard import checked, schema

ROOT = Path(__file__).parents[2]
OLD, NEW = (Environment(f"tensorrt-{v}", "python", "tensorrt", v) for v in ("8.5.3.1", "8.6.0"))
MEASURED = {"sqnr_db": float("inf"), "cosine": 0.9, "score": None, "n": 6}
FINDINGS = [
    Finding("a", "builds", "regression", "no longer builds", p=0.0, values={"error": "refused"}),
    Finding("a", "coverage", "pass", "the same", values={"baseline": [4, None], "candidate": [4, 4]}),
    Finding("a", "accuracy", "minor", "-1 dB", "short", 0.2, values={"baseline": MEASURED, "candidate": MEASURED}),
    Finding("a", "agreement", "pass", "bitwise equal", "short"),
    Finding("a", "latency", "inconclusive", "too wide", "traffic", 0.5, 2,
            {"log_ratio": 0.01, "interval": {"low": float("-inf"), "high": 0.2, "confidence": 0.9}}),
    Finding("a", "cold start", "pass", "as before", values={"baseline_ms": 1.5, "candidate_ms": 1.6}),
    Finding("a", "size", "improved", "smaller", values={"baseline": [9], "candidate": [4], "ratio": 0.44}),
    Finding("a", "warnings", "minor", "1 new", values={"new": ["Missing scale"]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    """A report with every field and every aspect that has values."""
    pairs = pair_up(Matrix(layouts=("single",)), ["vad"], OLD, NEW)
    outcome = Outcome(pairs, FINDINGS, FINDINGS[:1], Settings(), 12.5)
    left = [NotCompared("a", "tail", "the record has none")]
    return report.as_json(outcome, OLD, NEW, FINDINGS, 7, run="r", record="q", not_compared=left)


def places(value, path=()):
    """The path of every field of a report, those of findings' values left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(value, dict):
            yield (*path, key)
        if key not in {"values", "options"}:
            yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def refused(changed):
    with pytest.raises(jsonschema.ValidationError):
        checked(changed)


def test_the_schema_is_one_and_a_whole_report_fits(whole):
    jsonschema.Draft202012Validator.check_schema(schema())
    checked(json.loads(json.dumps(whole)))
    assert len(list(places(whole))) > 80


def test_a_report_with_a_field_too_few_too_many_or_of_another_kind_is_refused(whole):
    for *path, name in places(whole):
        for change in ("gone", "renamed", "another kind"):
            changed = copy.deepcopy(whole)
            parent = at(changed, path)
            value = parent.pop(name)
            if change == "renamed":
                parent[f"{name}_"] = value
            elif change == "another kind":
                parent[name] = {"of": "another kind"} if name not in {"values", "options"} else "text"
            refused(changed)


@pytest.mark.parametrize(
    ("aspect", "values"),
    [
        ("builds", {"error": 3}),
        ("coverage", {"baseline": ["4"]}),
        ("accuracy", {"baseline": {**MEASURED, "n": "six"}}),
        ("accuracy", {"candidate": {"sqnr_db": 1.0}}),
        ("latency", {"interval": {"low": 0.1}}),
        ("latency", {"log_ratio": "fast"}),
        ("cold start", {"baseline_ms": 1.0}),
        ("size", {"baseline": [1], "candidate": [2]}),
        ("warnings", {"new": [1]}),
    ],
)
def test_values_are_what_their_aspect_has(whole, aspect, values):
    (index,) = (index for index, one in enumerate(whole["findings"]) if one["aspect"] == aspect)
    changed = json.loads(json.dumps(whole))
    changed["findings"][index]["values"] = values
    refused(changed)
    checked({**whole, "findings": []})


def test_words_that_mean_nothing_are_refused(whole):
    for path, value in (
        (("verdict",), "fine"),
        (("exit_code",), 2),
        (("schema",), 2),
        (("findings", 0, "word"), "bad"),
    ):
        changed = copy.deepcopy(whole)
        at(changed, path[:-1])[path[-1]] = value
        refused(changed)


def test_the_schema_is_part_of_the_package():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "gate/report.schema.json" in tools["package-data"]["harness"]
    assert json.loads(report.schema_text()) == schema()
