from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.spec.model import Axis, Bounds, Model


def test_a_model_without_an_axis_is_refused():
    with pytest.raises(UsageError, match="no varying axis") as caught:
        Model("m", (), "frames", 1, 10, 5)
    assert "--axis" in caught.value.todo


@pytest.mark.parametrize(("low", "high", "opt"), [(0, 10, 5), (5, 4, 4), (1, 10, 11), (5, 10, 4), (-1, 10, 5)])
def test_a_range_out_of_order_is_refused(low, high, opt):
    with pytest.raises(UsageError, match="not 1 <= min <= opt <= max") as caught:
        Model("m", (Axis("x", 0),), "frames", low, high, opt)
    assert caught.value.where == "m"


def test_padding_is_0_unless_it_is_said():
    model = Model("m", (Axis("x", 0),), "frames", 1, 10, 5, pad_values=(("x", -15.0),))
    assert model.pad_value("x") == -15.0
    assert model.pad_value("mask") == 0.0


def test_bounds_of_a_bucket_or_the_default_or_none():
    tight, loose = Bounds(sqnr_db=20.0), Bounds(sqnr_db=5.0)
    model = Model("m", (Axis("x", 0),), "frames", 1, 10, 5, bounds=(("*", loose), ("short", tight)))
    assert model.bounds_for("short") == tight
    assert model.bounds_for("long") == loose
    assert Model("m", (Axis("x", 0),), "frames", 1, 10, 5).bounds_for("long") == Bounds()


def test_one_drawn_example_is_not_judged_as_a_corpus():
    whole, short, drawn = Bounds(sqnr_db=10), Bounds(cosine=0.2), Bounds(cosine=0.4)
    bounds = (("*", whole), ("short", whole), ("drawn", drawn), ("drawn-short", short))
    model = Model("m", (Axis("x", 0),), "frames", 1, 10, 5, bounds=bounds)
    assert model.bounds_for_draw("short") is short
    assert model.bounds_for_draw("long") is drawn
    alone = Model("m", (Axis("x", 0),), "frames", 1, 10, 5, bounds=bounds[:2])
    assert not alone.bounds_for_draw("short")
    assert alone.bounds_for("short")
