"""Plans: kept beside their model, refused when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.mixed.assignment import Assignment
from harness.mixed.plan import Plan, find, keep, read
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
])  # fmt: skip
def test_damage_is_named(plan, own_cache, damage):
    path = keep(plan)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError) as refused:
        read(path)
    assert "harness mix" in refused.value.todo
