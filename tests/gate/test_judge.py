"""Pairs one by one, as pytest asks for them."""

from __future__ import annotations

import numpy as np

from harness.corpus.own import own_entry
from harness.gate.gate import Gate, Settings
from tests.gate.test_gate import NEW, OLD, lab, planted, scaled

__all__ = ["lab"]


def test_a_pair_is_judged_by_itself_whatever_was_judged_before(lab):
    """The second stage has samples and workers of its own; what comes next has the first ones again."""
    data = lab.folder / "data"
    for number in range(60):  # enough that each seed draws others
        x = np.random.default_rng(number).normal(size=(1, 4, 4 + number)).astype(np.float32)
        np.savez(data / f"more{number}.npz", x=x)
    lab.entry = own_entry(lab.folder / "conv.onnx", axes=["x:2=n"], range_="4:16:64", data=data)
    make = planted(lab, lambda path: scaled(path, 4.0))
    assert make(0).corpus("conv", "test").digest != make(1).corpus("conv", "test").digest
    gate = Gate(make(0), lambda: make(1), lab.sides[OLD], lab.sides[NEW], Settings(budget_s=30, builds=2))
    fp32, int8 = gate.pairs.both
    blocked = [one for one in gate.judge(int8, 2) if one.blocks]
    assert {(one.case, one.aspect, one.stage) for one in blocked} == {(int8.name, "accuracy", 2)}
    assert {one.stage for one in gate.flagged} == {1}
    assert {one.key for one in gate.flagged} >= {one.key for one in blocked}
    found = [one for one in gate.judge(fp32, 2) if one.aspect == "accuracy"]
    assert found
    assert {(one.word, one.stage) for one in found} == {("pass", 1)}
