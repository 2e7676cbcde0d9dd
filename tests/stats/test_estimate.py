from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.stats.bootstrap import hierarchical_bootstrap
from harness.stats.estimate import CLOCK_RESOLUTION, against_both, block_logs, burst_value, estimate, traffic
from harness.stats.location import Interval, hodges_lehmann, launch_interval_t, wider
from tests.stats.simulate import Host, launch_estimates, logs_of, times_ns

finite = st.floats(-1, 1, allow_nan=False, width=32)
samples = st.lists(finite, min_size=1, max_size=40)


@given(samples)
def test_hodges_lehmann_is_the_median_of_pairwise_means(values):
    pairs = [(values[i] + values[j]) / 2 for i in range(len(values)) for j in range(i, len(values))]
    assert hodges_lehmann(values) == pytest.approx(np.median(pairs), abs=1e-12)


@given(samples, finite)
def test_hodges_lehmann_moves_with_the_data(values, shift):
    assert hodges_lehmann(np.array(values) + shift) == pytest.approx(hodges_lehmann(values) + shift, abs=1e-9)
    assert hodges_lehmann(-np.array(values)) == pytest.approx(-hodges_lehmann(values), abs=1e-12)


def test_hodges_lehmann_does_not_follow_spikes():
    assert abs(hodges_lehmann([0.0, 0.001, -0.001, 0.002, -0.002, 0.0, 5.0, 7.0])) < 0.01


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]], [1.0, math.inf]])
def test_hodges_lehmann_refuses(values):
    with pytest.raises(DataError):
        hodges_lehmann(values)


def test_burst_values():
    bursts = np.array([[3.0, 1.0, 2.0], [9.0, 4.0, 5.0]])
    assert burst_value(bursts, "min").tolist() == [1, 4]
    assert burst_value(bursts, "median").tolist() == [2, 5]
    assert burst_value([7.0], "min") == 7


@pytest.mark.parametrize("bad", [math.nan, 0, -1.0, math.inf])
def test_bad_times_are_named_by_arm_block_and_run(bad):
    with pytest.raises(DataError, match=r"arm B, block 1, run 2") as caught:
        burst_value([[1, 2, 3], [1, 2, bad]], "min", where="arm B")
    assert "1 of 6" in str(caught.value)
    with pytest.raises(DataError, match="arm candidate, block 1"):
        block_logs([1.0, bad], [1.0, 2.0])
    with pytest.raises(DataError, match="arm baseline copy, block 0"):
        against_both([1.0, 2.0], [1.0, 2.0], [bad, 1.0])


@pytest.mark.parametrize("times", [[], [[]], 3.0])
def test_a_burst_without_runs_is_refused(times):
    with pytest.raises(DataError):
        burst_value(times, "median")


def test_an_unknown_burst_value_is_refused():
    with pytest.raises(DataError, match="min or median"):
        burst_value([1.0], "mean")


def test_arms_with_different_numbers_of_blocks_are_refused():
    with pytest.raises(DataError, match=r"\(3,\) and \(2,\)"):
        block_logs([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(DataError):
        block_logs([], [])


def test_t_interval_against_the_textbook():
    interval = launch_interval_t([0.01, 0.02, 0.03], 0.95)
    assert interval.point == pytest.approx(0.02)
    assert interval.half_width == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)


def test_one_launch_leaves_the_interval_open():
    for interval in (launch_interval_t([0.1], 0.9), hierarchical_bootstrap([[[0.1, 0.2, 0.1]]], 0.9, 1)):
        assert (interval.low, interval.high) == (-math.inf, math.inf)
    one = estimate([[[0.1, 0.1]]], 0.9, 1)
    assert one.interval.high == math.inf
    assert one.degrees == 0
    assert one.standard_error == math.inf


@pytest.mark.parametrize("values", [[], [[]], [[[]]], [[[0.1, math.nan]]], [[[0.1]], []]])
def test_nothing_to_estimate_from_is_refused(values):
    with pytest.raises(DataError):
        estimate(values, 0.9, 1)


@pytest.mark.parametrize("confidence", [0, 1, 1.5, -0.1, math.nan])
def test_confidence_is_checked(confidence):
    with pytest.raises(DataError, match="confidence"):
        launch_interval_t([0.1, 0.2], confidence)
    with pytest.raises(DataError, match="confidence"):
        hierarchical_bootstrap([[[0.1], [0.2]]], confidence, 1)


def test_wider():
    narrow, broad = Interval(-1, 0, 1, 0.9), Interval(-1, 0, 2, 0.9)
    assert wider(narrow, broad) is broad
    assert wider(broad, narrow) is broad


def test_identical_samples_are_as_uncertain_as_the_clock():
    same = estimate([[[0.0] * 6] * 4], 0.9, 1)
    assert same.interval.half_width == pytest.approx(CLOCK_RESOLUTION)
    assert estimate([[[0.0] * 6] * 4], 0.9, 1, resolution=0.01).interval.half_width == pytest.approx(0.01)
    assert same.standard_error > 0


def test_launches_that_agree_by_chance_are_not_believed_beyond_their_blocks():
    blocks = np.random.default_rng(3).normal(0, 0.03, 12)
    lucky = estimate([[blocks, blocks[::-1], np.roll(blocks, 3)]], 0.9, 1)
    assert lucky.launch_sd == pytest.approx(0, abs=1e-12)
    assert lucky.interval.half_width >= 1.6 * 0.03 / math.sqrt(36) * 0.7


def test_counts_spreads_and_point():
    values = [[[0.01, 0.03], [0.03, 0.05]], [[0.05, 0.07], [0.07, 0.09]]]
    result = estimate(values, 0.9, 1)
    assert (result.launches, result.builds, result.blocks, result.degrees) == (4, 2, 8, 1)
    assert result.point == pytest.approx(0.05)
    assert result.ratio == pytest.approx(math.exp(0.05))
    assert result.launch_sd == pytest.approx(0.02 / math.sqrt(2))
    assert result.block_sd == pytest.approx(0.02 / math.sqrt(2))
    assert result.interval.half_width >= launch_interval_t([0.03, 0.07], 0.9).half_width - 1e-12


def test_the_same_seed_gives_the_same_interval():
    values = [list(np.random.default_rng(2).normal(0, 0.02, (5, 12)))]
    assert estimate(values, 0.9, 7) == estimate(values, 0.9, 7)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(-0.2, 0.2))
def test_shift_moves_the_estimate_and_not_its_width(seed, shift):
    values = np.random.default_rng(seed).normal(0, 0.02, (4, 6))
    here, there = estimate([list(values)], 0.9, 1), estimate([list(values + shift)], 0.9, 1)
    assert there.point == pytest.approx(here.point + shift, abs=1e-9)
    assert there.interval.half_width == pytest.approx(here.interval.half_width, abs=1e-9)


def test_traffic_is_the_ratio_of_total_times():
    values = {8: [[[math.log(1.1)] * 3]], 64: [[[math.log(0.9)] * 3]]}
    logs = traffic(values, {8: 1e6, 64: 4e6}, {8: 0.5, 64: 0.5})
    assert logs[0][0] == pytest.approx([math.log((1.1 * 1 + 0.9 * 4) / 5)] * 3)
    assert traffic(values, {8: 1e6, 64: 4e6}, {8: 4, 64: 1})[0][0] == pytest.approx([0.0] * 3, abs=1e-12)


def test_traffic_keeps_builds_and_launches_and_the_blocks_that_all_lengths_have():
    random = np.random.default_rng(1)
    short, long = (
        [[random.normal(0, 0.01, n), random.normal(0, 0.01, 5)], [random.normal(0, 0.01, 4)]] for n in (5, 3)
    )
    logs = traffic({8: short, 64: long}, {8: 1.0, 64: 2.0}, {8: 1, 64: 1})
    assert [[len(values) for values in launches] for launches in logs] == [[3, 5], [4]]


def test_traffic_refuses_lengths_that_disagree():
    one = [[[0.1, 0.1]]]
    with pytest.raises(DataError, match="same lengths"):
        traffic({8: one}, {8: 1.0}, {8: 1, 64: 1})
    with pytest.raises(DataError, match="length 64"):
        traffic({8: one, 64: [[[0.1], [0.2]]]}, {8: 1.0, 64: 1.0}, {8: 1, 64: 1})
    with pytest.raises(DataError, match="weights"):
        traffic({8: one}, {8: 1.0}, {8: 0})
    with pytest.raises(DataError):
        traffic({}, {}, {})


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("launches", "blocks"), [(4, 24), (8, 12), (12, 12)])
def test_t_coverage(both, launches, blocks):
    logs = logs_of(times_ns(Host(), 1.03, (2000, launches, blocks), np.random.default_rng(11)), both=both)
    inside = [(i := launch_interval_t(row, 0.95)).low <= math.log(1.03) <= i.high for row in launch_estimates(logs[0])]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_coverage_of_the_interval_that_rules():
    logs, _ = logs_of(times_ns(Host(), 1.03, (1000, 6, 12), np.random.default_rng(5)), both=True)
    inside = [
        (i := estimate([list(session)], 0.95, seed).interval).low <= math.log(1.03) <= i.high
        for seed, session in enumerate(logs)
    ]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_coverage_over_builds():
    random = np.random.default_rng(8)
    builds = random.normal(0, 0.015, (300, 6, 1, 1)) + random.normal(0, 0.0185, (300, 6, 2, 1))
    logs = builds + random.normal(0, 0.03, (300, 6, 2, 8))
    inside = [
        (i := estimate([list(build) for build in session], 0.95, seed).interval).low <= 0 <= i.high
        for seed, session in enumerate(logs)
    ]
    assert 0.92 <= np.mean(inside) <= 0.985


def test_neither_column_is_shifted_by_spikes_as_a_mean_of_both_baselines_is():
    random = np.random.default_rng(6)
    shape = (3, 800, 24)
    arms = np.exp(random.normal(0, 0.02, shape) + 0.26 * (random.random(shape) < 0.1))
    fair = np.array([[hodges_lehmann(c) for c in against_both(b, a, null).T] for a, null, b in zip(*arms, strict=True)])
    mean = fair.mean(axis=1)
    pooled = np.array([hodges_lehmann(block_logs(b, np.sqrt(a * null))) for a, null, b in zip(*arms, strict=True)])
    assert abs(mean.mean()) < 3 * mean.std() / math.sqrt(800)
    assert pooled.mean() < -5 * pooled.std() / math.sqrt(800)


def test_two_equal_columns_are_one():
    one = np.random.default_rng(6).normal(0, 0.02, (5, 12))
    left, right = estimate([list(one)], 0.9, 1), estimate([[np.column_stack([x, x]) for x in one]], 0.9, 1)
    assert right.point == pytest.approx(left.point)
    assert right.interval.half_width == pytest.approx(left.interval.half_width)
    assert right.launch_sd == pytest.approx(left.launch_sd)
    assert right.blocks == left.blocks


def test_both_columns_name_their_arm():
    with pytest.raises(DataError, match="arm baseline copy, block 1"):
        against_both([1.0, 1.0], [1.0, 1.0], [1.0, math.nan])
