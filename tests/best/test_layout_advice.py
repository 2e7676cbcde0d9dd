"""Layouts cover the range and are never worse than one profile; what far opts cost is what was measured on an H200."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.best.latency_model import H200, H200_SWITCH_US, Curve, FarOpt, Timed, fitted
from harness.best.layout_advice import advice, read_traffic, traffic_of
from harness.errors import DataError, UsageError
from harness.spec.model import Axis, Model
from harness.spec.shapes import layout_from_text

RESULTS = Path(__file__).parents[2] / "results" / "reference"
OPTS = {"conv1d": 1024, "matmul": 512}
MODEL = Model("small", (Axis("x", 1),), "frames", 16, 8192, 1024)


def recorded(name, layout):
    """(model, precision, length) -> median in us and the first run after a change of shape or profile."""
    found = {}
    for line in (RESULTS / name).read_text().splitlines():
        one = json.loads(line)
        fields = one.get("fields", {})
        if one["kind"] != "latency" or fields.get("layout") != layout or fields.get("route") != "cache":
            continue
        for cell in one["values"].get("buckets", {}).values():
            for role, precision in (("baseline", "fp16"), ("int8", "int8")):
                first = cell[role].get("profile_switch_ms", cell[role].get("shape_change_ms"))
                found[fields["model"], precision, cell["length"]] = cell[role]["median_ms"] * 1e3, first * 1e3
    return found


def test_the_constants_are_what_was_measured():
    one = recorded("h200-2026-11-23/first-latency-8.5.3.1.jsonl", "single")
    three = recorded("h200-2026-11-23-second/buckets3-latency-8.5.3.1.jsonl", "buckets3")
    timed = [Timed(at[2], one[at][0], three[at][0], OPTS[at[0]], at[2]) for at in three]
    assert len(timed) == 12
    found = fitted(timed)
    assert vars(found) == pytest.approx(vars(H200), abs=5e-4)
    explained = [
        2
        ** (
            H200.exponent(pair.length, pair.opt_of_several) + H200.several - H200.exponent(pair.length, pair.opt_of_one)
        )
        for pair in timed
    ]
    off = np.abs(np.log([pair.several_us / pair.one_us / by for pair, by in zip(timed, explained, strict=True)]))
    assert np.exp(np.median(off)) < 1.085
    assert np.exp(off.max()) < 1.365
    assert np.mean([three[at][1] - one[at][1] for at in three]) == pytest.approx(H200_SWITCH_US, abs=1)


def test_what_was_planted_is_fitted():
    far = FarOpt(0.2, 0.1, 0.3)
    timed = []
    for length, opt in ((16, 64), (64, 64), (512, 256), (2048, 256), (8192, 4096)):
        several = 100 * 2 ** (far.exponent(length, opt) + far.several)
        timed.append(Timed(length, float(100 * 2 ** far.exponent(length, 1024)), float(several), 1024, opt))
    assert vars(fitted(timed)) == pytest.approx(vars(far))


def test_a_curve_gives_back_what_was_measured():
    layout = layout_from_text("single", MODEL)
    lengths, times = (16, 256, 1024, 8192), (40.0, 41.0, 55.0, 300.0)
    curve = Curve.measured(lengths, times, layout)
    assert curve.time_us(lengths, 1024) == pytest.approx(times)
    assert curve.time_us(8192, 8192) < 300.0


@pytest.mark.parametrize(("lengths", "times"), [((), ()), ((4, 4), (1.0, 1.0)), ((4, 8), (1.0,)), ((4,), (np.nan,))])
def test_a_curve_without_sense_is_refused(lengths, times):
    with pytest.raises(UsageError):
        Curve(lengths, times)


FARS = st.builds(FarOpt, *[st.floats(0, 0.6)] * 3)


@st.composite
def asked(draw):
    low = draw(st.integers(1, 50))
    high = low + draw(st.integers(0, 3000))
    model = Model("small", (Axis("x", 1),), "frames", low, high, draw(st.integers(low, high)))
    lengths = draw(st.lists(st.integers(low, high), min_size=1, max_size=60))
    traffic = traffic_of(lengths, model, ordered=draw(st.booleans()))
    known = sorted({low, high, (low + high) // 2})
    times = draw(st.lists(st.floats(1, 1e6), min_size=len(known), max_size=len(known)))
    return model, traffic, Curve(tuple(known), tuple(times), draw(FARS)), draw(st.floats(0, 1000))


@given(asked())
@settings(max_examples=60, deadline=None)
def test_every_layout_covers_the_range_and_the_best_is_no_worse_than_one_profile(given_):
    model, traffic, curve, switch_us = given_
    found = advice(model, traffic, curve, switch_us)
    for count, plan in enumerate(found.plans, 1):
        assert len(plan.layout.profiles) == count
        again = layout_from_text(plan.text, model)  # refuses gaps, overlaps and what is not covered
        assert again.profiles == plan.layout.profiles
        spent = sum(
            share * curve.time_us(length, again.profiles[again.dispatch(length)].opt, count)
            for length, share in zip(traffic.lengths, traffic.shares, strict=True)
        )
        assert plan.expected_us == pytest.approx(float(spent), rel=1e-6), "it is the time that the model gives"
        assert plan.switches == pytest.approx(traffic.switch_rate(again))
    assert found.best.total_us <= found.single.total_us * (1 + 1e-9)
    assert found.best.total_us == min(plan.total_us for plan in found.plans)
    assert advice(model, traffic, curve, switch_us) == found


def test_two_profiles_are_the_best_of_all_pairs():
    lengths = [16, 20, 40, 90, 700, 900, 1500, 4000]
    traffic = traffic_of(lengths, MODEL)
    curve = Curve((16, 1024, 8192), (10.0, 60.0, 700.0), FarOpt(0.3, 0.15, 0.05))
    found = advice(MODEL, traffic, curve, 0.0).plans[1]
    points = sorted({16, 8192, 1024, *lengths})
    best = min(
        sum(curve.time_us(one, first if one <= end else second, 2) / len(lengths) for one in lengths)
        for end in points[:-1]
        for first, second in itertools.product([p for p in points if p <= end], [p for p in points if p > end])
    )
    assert found.expected_us == pytest.approx(float(best))


def test_the_order_of_the_traffic_decides_whether_a_second_profile_pays():
    lengths = [20] * 500 + [8000] * 500
    mixed = list(itertools.chain.from_iterable(zip(lengths[:500], lengths[500:], strict=True)))
    curve = Curve((16, 8192), (100.0, 5000.0), FarOpt(0.2, 0.2, 0.0))
    sorted_ = advice(MODEL, traffic_of(lengths, MODEL, ordered=True), curve, 5000.0)
    assert len(sorted_.best.layout.profiles) == 2
    turns = advice(MODEL, traffic_of(mixed, MODEL, ordered=True), curve, 5000.0)
    assert len(turns.best.layout.profiles) == 1
    assert len(turns.apart.layout.profiles) == 2, "a context for each profile costs no change"
    assert turns.plans[1].switches == 1.0


def test_opt_goes_where_the_traffic_is():
    found = advice(MODEL, traffic_of([20] * 95 + [8000] * 5, MODEL), Curve((16, 8192), (10.0, 12.0)), H200_SWITCH_US)
    assert found.best.text == "16-20-8192"


def test_traffic_from_a_file(tmp_path):
    path = tmp_path / "lengths.txt"
    path.write_text("# of Monday\n20\n\n 30 \n20 # again\n99999\n")
    traffic = read_traffic(path, MODEL)
    assert (traffic.order, traffic.lengths) == ((20, 30, 20), (20, 30))
    assert traffic.shares == pytest.approx((2 / 3, 1 / 3))
    for text, error in (("20\n-3\n", UsageError), ("2O\n", UsageError), ("3\n", DataError), ("", DataError)):
        path.write_text(text)
        with pytest.raises(error):
            read_traffic(path, MODEL)
    with pytest.raises(UsageError, match="cannot read"):
        read_traffic(tmp_path / "nothing", MODEL)
