"""Plans: kept beside their model, refused when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.mixed.assignment import Assignment
from harness.mixed.plan import Plan, find, is_better, keep, read
from harness.spec.calibration import Dialect

PREPARED = Path("abc-ort1-p1.onnx")


@pytest.fixture
def plan():
    assignment = Assignment(in_float=frozenset({"a"})).with_method("x", "mse")
    return Plan("m", PREPARED.name, Dialect.U8S8, "minmax", assignment, {"x": (-1.5, 0.1)}, {"seed": 3})


def test_what_is_kept_is_found_in_its_dialect_alone(plan, own_cache):
    assert find(PREPARED, Dialect.U8S8) is None
    keep(plan)
    assert find(PREPARED, Dialect.U8S8) == plan
    assert find(PREPARED, Dialect.S8S8) is None


@pytest.mark.parametrize("damage", [
    lambda text: text[:-10], lambda text: text.replace('"version": 1', '"version": 9'), lambda _: "[]", lambda _: "{}",
    lambda text: text.replace("u8s8", "u4s4"), lambda text: text.replace("-1.5", '"low"'), lambda _: "",
])  # fmt: skip
def test_damage_is_named(plan, own_cache, damage):
    path = keep(plan)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError) as refused:
        read(path)
    assert "harness mix" in refused.value.todo


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no plan of mixed precision: FileNotFoundError"):
        read(tmp_path / "plan.json")


def test_a_newer_version_says_which(plan, own_cache):
    path = keep(plan)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UsageError, match="a plan of version 2"):
        find(PREPARED, Dialect.U8S8)


def test_the_newest_search_counts(plan, own_cache):
    keep(plan)
    newer = replace(plan, assignment=Assignment(), evidence={})
    keep(newer)
    assert find(PREPARED, Dialect.U8S8) == newer


def test_what_is_not_finite_comes_back_and_is_json(plan, own_cache):
    path = keep(replace(plan, evidence={"sqnr_db": float("-inf"), "score": float("nan")}))
    json.loads(path.read_text(), parse_constant=pytest.fail)
    found = find(PREPARED, Dialect.U8S8).evidence
    assert (found["sqnr_db"], str(found["score"])) == (float("-inf"), "nan")


@pytest.mark.parametrize(("old", "new", "stays"), [
    ({"met": True}, {"met": False}, True), ({"met": False}, {"met": True}, False),
    ({"met": True}, {"met": True}, False), ({}, {}, False),
    ({"met": True, "met_for_certain": True}, {"met": True}, True),
    ({"met": True, "keep": 0.9, "reached": {"kept": 0.91}}, {"met": True, "keep": 0.9, "reached": {"kept": 0.3}}, True),
])  # fmt: skip
def test_what_met_the_same_bounds_is_not_replaced_by_what_does_not(plan, old, new, stays):
    bounds = {"bounds": {"short": {"score": 0.9}}}
    earlier, later = (replace(plan, evidence={**bounds, **evidence}) for evidence in (old, new))
    assert is_better(earlier, later) is stays
    assert not is_better(None, later)
    assert not is_better(replace(earlier, evidence={**old, "bounds": {}}), later), "something else was asked"
