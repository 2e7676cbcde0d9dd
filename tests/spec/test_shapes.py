from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LayoutError, LengthOutOfRange
from harness.spec.model import Axis, Model
from harness.spec.shapes import (
    Layout,
    Profile,
    buckets3,
    geometric,
    layout_from_text,
    length_buckets,
    single,
)


def model_of(minimum, maximum, opt=None, buckets=None):
    return Model("m", (Axis("x", 1),), "frames", minimum, maximum, opt or minimum, buckets=buckets)


MODEL = model_of(3, 938, 125)
SEED_BUCKETS = Layout(
    "seed",
    (Profile(1_120, 80_000, 160_000), Profile(160_001, 240_000, 320_000), Profile(320_001, 400_000, 480_000)),
)


@st.composite
def models(draw):
    low, opt, high = sorted(draw(st.lists(st.integers(1, 500_000), min_size=3, max_size=3)))
    return model_of(low, high, opt)


def covered(layout):
    """Every length once, in order, and no other."""
    edges = [layout.minimum - 1]
    for profile in layout.profiles:
        assert profile.min == edges[-1] + 1
        assert profile.min <= profile.opt <= profile.max
        edges.append(profile.max)
    return edges[0] + 1, edges[-1]


@given(models(), st.integers(1, 12))
def test_geometric_covers_any_range_without_a_gap(model, count):
    layout = geometric(model, count)
    assert covered(layout) == (model.minimum, model.maximum)
    assert 1 <= len(layout.profiles) <= count
    if model.maximum - model.minimum + 1 >= 100 * count and model.minimum > 100 * count:
        assert len(layout.profiles) == count
    layout.check_covers(model)


@given(models())
def test_the_named_layouts_cover_the_model(model):
    for layout in (single(model), buckets3(model), length_buckets(model)):
        assert covered(layout) == (model.minimum, model.maximum)
    assert single(model).profiles == (Profile(model.minimum, model.opt, model.maximum),)
    assert buckets3(model).name == length_buckets(model).name == "buckets3"


@given(models(), st.integers(1, 8), st.data())
def test_every_length_goes_to_the_one_profile_that_holds_it(model, count, data):
    layout = geometric(model, count)
    length = data.draw(st.integers(model.minimum, model.maximum))
    assert [index for index, p in enumerate(layout.profiles) if length in p] == [layout.dispatch(length)]


def test_profiles_of_equal_ratio():
    layout = geometric(model_of(10, 10_000), 3)
    assert [str(p) for p in layout.profiles] == ["10-32-100", "101-318-1000", "1001-3164-10000"]


def test_a_range_too_narrow_gets_fewer_profiles():
    assert [str(p) for p in geometric(model_of(5, 6), 4).profiles] == ["5-5-5", "6-6-6"]
    assert [str(p) for p in geometric(model_of(5, 5), 3).profiles] == ["5-5-5"]


def test_a_model_with_buckets_of_its_own_keeps_them():
    model = model_of(1_120, 480_000, 80_000, SEED_BUCKETS)
    assert buckets3(model).profiles == SEED_BUCKETS.profiles == layout_from_text("buckets3", model).profiles


def test_dispatch_at_both_sides_of_every_boundary():
    for index, profile in enumerate(SEED_BUCKETS.profiles):
        assert SEED_BUCKETS.dispatch(profile.min) == SEED_BUCKETS.dispatch(profile.max) == index
    assert SEED_BUCKETS.dispatch(160_000) + 1 == SEED_BUCKETS.dispatch(160_001)


@pytest.mark.parametrize(
    ("length", "nearest"),
    [(0, "1120-80000-160000"), (1_119, "1120-80000-160000"), (480_001, "320001-400000-480000")],
)
def test_a_length_outside_names_the_nearest_profile(length, nearest):
    with pytest.raises(LengthOutOfRange, match=f"length {length} is outside 1120..480000") as caught:
        SEED_BUCKETS.dispatch(length)
    assert f"nearest profile is {nearest}" in caught.value.what
    assert caught.value.where == "layout seed"


@pytest.mark.parametrize(("low", "opt", "high"), [(5, 4, 9), (5, 10, 9), (9, 9, 5), (0, 1, 2), (-3, 1, 2)])
def test_a_profile_out_of_order_is_refused(low, opt, high):
    with pytest.raises(LayoutError, match="not 1 <= min <= opt <= max"):
        Profile(low, opt, high)


@pytest.mark.parametrize(
    ("profiles", "says"),
    [
        ([(1, 5, 10), (12, 15, 20)], "lengths 11..11 fall between"),
        ([(1, 5, 10), (30, 30, 40)], "lengths 11..29 fall between"),
        ([(1, 5, 10), (10, 15, 20)], "overlap or are out of order"),
        ([(11, 15, 20), (1, 5, 10)], "overlap or are out of order"),
        ([(1, 5, 20), (5, 6, 10)], "overlap or are out of order"),
    ],
)
def test_gaps_and_overlaps_are_refused_with_the_way_out(profiles, says):
    with pytest.raises(LayoutError, match=re.escape(says)) as caught:
        Layout("mine", tuple(Profile(*p) for p in profiles))
    assert caught.value.where == "mine"
    assert caught.value.todo == f"start the second one at {profiles[0][2] + 1}"


def test_a_layout_without_profiles():
    with pytest.raises(LayoutError, match="without profiles"):
        Layout("none", ())


def test_a_min_shorter_than_the_model_can_take_is_refused():
    with pytest.raises(LayoutError, match="starts below 3, the shortest input the model takes") as caught:
        layout_from_text("2-125-938", MODEL)
    assert caught.value.todo == "start at 3"
    assert "m, layout 2-125-938" in caught.value.where


@pytest.mark.parametrize("text", ["3-125-900", "4-125-938", "3-10-20,21-30-500"])
def test_a_list_that_leaves_lengths_of_the_model_out_is_refused(text):
    with pytest.raises(LayoutError, match=r"but the model serves 3\.\.938"):
        layout_from_text(text, MODEL)


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("single", "single", 1),
        (" buckets3 ", "buckets3", 3),
        ("geometric5", "geometric5", 5),
        ("geometric(2)", "geometric2", 2),
        ("3-125-938", "3-125-938", 1),
        ("3-50-100, 101-200-300 ,301-500-938", "3-50-100+101-200-300+301-500-938", 3),
        ("3-50-100,101-200-2000", "3-50-100+101-200-2000", 2),
    ],
)
def test_what_a_user_may_write(text, name, count):
    layout = layout_from_text(text, MODEL)
    assert (layout.name, len(layout.profiles)) == (name, count)


@pytest.mark.parametrize(
    ("text", "bad"),
    [("", "''"), ("double", "'double'"), ("3-125", "'3-125'"), ("3-50-100,", "''"), ("3-50-100,x", "'x'"),
     ("geometric", "'geometric'"), ("geometric-2", "'geometric-2'"), ("-3-5-9", "'-3-5-9'")],
)  # fmt: skip
def test_what_is_no_layout_is_named(text, bad):
    with pytest.raises(LayoutError, match="is no profile and no layout name") as caught:
        layout_from_text(text, MODEL)
    assert caught.value.what.startswith(bad)


def test_geometric_of_nothing_is_refused():
    with pytest.raises(LayoutError, match="at least one profile"):
        layout_from_text("geometric0", MODEL)


@given(models(), st.integers(1, 5))
def test_a_layout_written_out_reads_back(model, count):
    layout = geometric(model, count)
    assert layout_from_text(",".join(str(p) for p in layout.profiles), model).profiles == layout.profiles


def test_only_whole_numbers_are_lengths():
    assert 5 in Profile(1, 5, 9)
    assert 5.0 not in Profile(1, 5, 9)
    assert "5" not in Profile(1, 5, 9)


@pytest.mark.parametrize("number", [int, np.int64, np.int32, np.uint8])
def test_a_profile_holds_lengths_of_any_integer_type(number):
    assert [number(length) in Profile(3, 5, 9) for length in (2, 3, 9, 10)] == [False, True, True, False]
    assert SEED_BUCKETS.dispatch(np.int64(200_000)) == 1


@pytest.mark.parametrize("other", [5.0, np.float64(5), "5", None, np.array([5])])
def test_a_profile_holds_nothing_but_integers(other):
    assert other not in Profile(3, 5, 9)
