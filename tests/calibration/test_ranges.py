from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.calibration.observe import Extremes, Histogram, Observation
from harness.calibration.ranges import choose, entropy_threshold, percentile_threshold, statistic_for
from harness.errors import CalibrationFailed
from harness.spec.calibration import Dialect, Method

METHODS = [Method.parse(word) for word in ("minmax", "percentile99.9", "percentile", "entropy", "mse")]
DRAWN = {
    "normal": lambda draw, n: draw.normal(size=n),
    "shifted": lambda draw, n: draw.normal(3, 1, size=n),
    "relu": lambda draw, n: np.maximum(draw.normal(size=n), 0),
    "negative": lambda draw, n: -np.abs(draw.standard_cauchy(n)),
    "heavy": lambda draw, n: draw.standard_t(2, size=n),
    "sparse": lambda draw, n: np.where(draw.random(n) < 0.7, 0, draw.standard_t(2, size=n)),
    "uniform": lambda draw, n: draw.uniform(-5, 1, size=n),
    "two values": lambda draw, n: draw.choice([-1.0, 3.0], size=n),
    "one outlier": lambda draw, n: np.append(draw.normal(size=n - 1), 1e6),
    "gelu": lambda draw, n: (x := draw.normal(size=n)) * (x > 0) - 0.1 * np.abs(x),
}
CASES = st.tuples(
    st.sampled_from(sorted(DRAWN)),
    st.integers(0, 2**32 - 1),
    st.integers(2, 5_000),
    st.floats(-12, 12),
)


def make(kind, seed, count, octaves):
    return (DRAWN[kind](np.random.default_rng(seed), count) * 2.0**octaves).astype(np.float32)


def range_of(values, method, dialect=Dialect.S8S8, pieces=1):
    statistic = statistic_for(method)()
    for part in np.array_split(values, pieces):
        statistic.add(part)
    return choose(Observation({"t": statistic}, pieces), method, dialect)["t"]


def histogram(values):
    made = Histogram()
    made.add(values)
    return made


def quantized(values, low, high, dialect):
    """What the writer's Q and DQ make of values: float32 scale; zero point 0, or uint8 and asymmetric."""
    x = values.astype(np.float64)
    if dialect is Dialect.S8S8:
        scale = max(-low, high) / 127
        return np.clip(np.rint(x / scale), -128, 127) * scale
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


def error(values, chosen, dialect):
    return float(np.mean((values - quantized(values, *chosen, dialect)) ** 2))


@settings(max_examples=60)
@given(CASES, st.sampled_from(METHODS), st.sampled_from(list(Dialect)), st.integers(2, 9))
def test_order_and_splitting_change_no_range(case, method, dialect, pieces):
    values = make(*case)
    shuffled = np.random.default_rng(1).permutation(values)
    assert range_of(values, method, dialect) == range_of(shuffled, method, dialect, pieces)


@settings(max_examples=80)
@given(CASES, st.sampled_from(METHODS), st.sampled_from(list(Dialect)))
def test_every_range_is_finite_holds_zero_is_not_empty_and_stays_within_the_extremes(case, method, dialect):
    values = make(*case)
    low, high = range_of(values, method, dialect)
    assert np.isfinite([low, high]).all()
    assert low <= 0 <= high
    assert low < high
    if values.any():
        assert low >= min(values.min(), 0)
        assert high <= max(values.max(), 0)


@given(CASES)
def test_minmax_is_exact(case):
    values = make(*case)
    if values.any():
        assert range_of(values, Method("minmax")) == (min(values.min(), 0), max(values.max(), 0))


@settings(max_examples=80)
@given(CASES, st.sampled_from([90.0, 99.0, 99.9, 99.99, 99.999]))
def test_a_percentile_is_within_a_bin_of_the_exact_one(case, percentile):
    values = make(*case)
    exact = float(np.quantile(np.abs(values), percentile / 100, method="inverted_cdf"))
    found = percentile_threshold(histogram(values), percentile)
    if exact:
        assert found == pytest.approx(exact, rel=0.008)
    else:  # more zeros than the share: the extremes stay
        assert found == np.abs(values).max()


@settings(max_examples=40)
@given(CASES)
def test_percentiles_grow_with_the_share(case):
    values = make(*case)
    seen = histogram(values[values != 0])
    if seen.count:
        found = [percentile_threshold(seen, p) for p in (50.5, 90.0, 99.0, 99.9, 99.99, 99.999)]
        assert sorted(found) == found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 4), st.sampled_from([0.0, 0.5, 0.7, 0.95]))
def test_entropy_clips_at_most_one_value_in_ten_thousand(seed, tail, zeros):
    draw = np.random.default_rng(seed)
    count = 200_000
    values = np.where(draw.random(count) < zeros, 0, draw.standard_t(tail, size=count)).astype(np.float32)
    low, high = range_of(values, Method("entropy"))
    bin_wider = 1.008  # the share is read off bins of that width
    assert np.mean((values < low * bin_wider) | (values > high * bin_wider)) <= 1e-4
    assert high <= values.max()
    assert low >= values.min()


def test_entropy_does_clip_where_it_should():
    draw = np.random.default_rng(0)
    values = np.append(draw.normal(size=100_000), [40.0, -50.0]).astype(np.float32)
    low, high = range_of(values, Method("entropy"))
    assert 3.5 < high < 25
    assert -25 < low < -3.5


MANY = st.tuples(st.sampled_from(sorted(DRAWN)), st.integers(0, 2**32 - 1), st.integers(300, 5_000), st.floats(-12, 12))


@pytest.mark.parametrize("dialect", list(Dialect))
@settings(max_examples=40, deadline=None)
@given(case=MANY)
def test_mse_is_no_worse_than_minmax_and_percentile(dialect, case):
    """By the true quantization error of the very values; the search sees bins of 0.8 % of them."""
    values = make(*case)
    mine = error(values, range_of(values, Method("mse"), dialect), dialect)
    for other in METHODS[:3]:
        low, high = chosen = range_of(values, other, dialect)
        resolution = (max(-low, high) * 0.0007) ** 2  # a tenth of what rounding to 127 levels costs
        assert mine <= 1.05 * error(values, chosen, dialect) + resolution


@pytest.mark.parametrize("dialect", list(Dialect))
def test_mse_gives_up_an_outlier_where_that_pays(dialect):
    values = np.append(np.random.default_rng(0).normal(size=500_000), [30.0, -30.0]).astype(np.float32)
    mine, whole = (range_of(values, method, dialect) for method in (Method("mse"), Method("minmax")))
    assert error(values, mine, dialect) < error(values, whole, dialect) / 1.2
    assert 3 < mine[1] < 29


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("dialect", list(Dialect))
class TestEdges:
    def test_zeros(self, method, dialect):
        assert range_of(np.zeros(100, np.float32), method, dialect) == (-1.0, 1.0)

    def test_nothing(self, method, dialect):
        assert range_of(np.zeros(0, np.float32), method, dialect) == (-1.0, 1.0)

    @pytest.mark.parametrize("value", [2.5, -2.5, 1e-30, 3e38, -3e38])
    def test_a_constant(self, method, dialect, value):
        values = np.full(1_000, value, np.float32)
        low, high = range_of(values, method, dialect)
        assert low <= 0 <= high
        largest = max(-low, high)
        assert largest == pytest.approx(abs(float(values[0])), rel=0.05)
        assert (high == 0) == (value < 0)
        assert (low == 0) == (value > 0)

    @pytest.mark.parametrize("value", [1e-45, 1e-41, -3e-40])
    def test_denormals(self, method, dialect, value):
        low, high = range_of(np.full(50, value, np.float32), method, dialect)
        assert np.isfinite([low, high]).all()
        assert low <= 0 <= high
        assert high - low > 1e-33  # a scale below that is 0 in float32

    def test_denormals_among_others(self, method, dialect):
        values = np.concatenate([np.full(990, 1e-41), np.linspace(-1, 1, 10)]).astype(np.float32)
        low, high = range_of(values, method, dialect)
        assert low < high
        assert -1 <= low <= 0 <= high <= 1

    def test_one_huge_outlier_leaves_a_legal_range(self, method, dialect):
        values = np.append(np.random.default_rng(0).normal(size=100_000), 1e30).astype(np.float32)
        low, high = range_of(values, method, dialect)
        assert low < 0 < high <= np.float32(1e30)
        if method.name in {"percentile", "entropy"}:
            assert high < 1e29 or method.name == "entropy"

    def test_only_negative(self, method, dialect):
        values = -np.abs(np.random.default_rng(0).normal(3, 1, size=10_000)).astype(np.float32)
        low, high = range_of(values, method, dialect)
        assert high == 0
        assert values.min() <= low < np.median(values)

    def test_only_positive(self, method, dialect):
        values = np.abs(np.random.default_rng(0).normal(3, 1, size=10_000)).astype(np.float32)
        low, high = range_of(values, method, dialect)
        assert low == 0
        assert np.median(values) < high <= values.max()


def test_a_tensor_that_is_nearly_all_zeros_keeps_what_there_is():
    values = np.append(np.zeros(1_000_000), [0.5, -2.0]).astype(np.float32)
    for method in METHODS:
        low, high = range_of(values, method)
        assert low <= -0.4
        assert high >= 0.4


def test_minmax_needs_extremes_only_and_the_others_say_that_they_need_more():
    assert statistic_for(Method("minmax")) is Extremes
    only = Extremes()
    only.add(np.ones(3, np.float32))
    for method in METHODS[1:]:
        assert statistic_for(method) is Histogram
        with pytest.raises(CalibrationFailed, match="needs a histogram") as caught:
            choose(Observation({"t": only}, 1), method, Dialect.S8S8)
        assert "'t'" in caught.value.where


def test_the_threshold_of_entropy_is_near_the_published_one():
    """A plain normal tensor: a few sigma, the tail clipped."""
    values = np.random.default_rng(0).normal(size=400_000).astype(np.float32)
    assert 3.5 < entropy_threshold(histogram(values)) <= np.abs(values).max()
