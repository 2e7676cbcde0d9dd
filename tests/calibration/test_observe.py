from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.calibration.observe import BINS, Extremes, Histogram, observe
from harness.errors import CalibrationFailed

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = arrays.arrays(np.float32, st.integers(0, 200), elements=FINITE)


def seen(*parts):
    statistic = Histogram()
    for part in parts:
        statistic.add(part)
    return statistic


def same(a, b):
    return (a.count, a.minimum, a.maximum) == (b.count, b.minimum, b.maximum) and np.array_equal(a.counts, b.counts)


@given(VALUES, st.randoms(use_true_random=False), st.integers(1, 6))
def test_neither_order_nor_splitting_changes_a_statistic(values, random, pieces):
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert same(seen(values), seen(*np.array_split(shuffled, pieces)))


@given(VALUES, VALUES)
def test_histograms_of_two_corpora_add_up(a, b):
    both = seen(a, b)
    assert np.array_equal(both.counts, seen(a).counts + seen(b).counts)
    assert both.counts.sum() == both.count == a.size + b.size


def test_a_histogram_keeps_the_octaves_it_saw_and_its_counts_are_a_copy():
    statistic = seen(np.array([1.0, 1.5, -1.0, 0.0], np.float32))
    assert len(statistic.pages) == 3  # around 1, around -1, and zero
    with pytest.raises(ValueError, match="read-only"):
        statistic.counts[0] = 7
    again = Histogram()
    again.add_counts(statistic.counts)
    assert np.array_equal(again.counts, statistic.counts)


@given(VALUES)
def test_extremes_are_exact_and_both_statistics_agree_on_them(values):
    extremes, histogram = Extremes(), seen(values)
    extremes.add(values)
    assert (extremes.count, extremes.minimum, extremes.maximum) == (
        histogram.count,
        histogram.minimum,
        histogram.maximum,
    )
    if values.size:
        assert (extremes.minimum, extremes.maximum) == (values.min(), values.max())
    else:
        assert extremes.minimum > extremes.maximum


@given(FINITE)
def test_a_value_is_counted_under_the_upper_half_of_its_bits(value):
    (code,) = np.flatnonzero(seen(np.array([value], np.float32)).counts)
    assert code == int(np.array(value, np.float32).view(np.uint32)) >> 16


@pytest.mark.parametrize("turned", [lambda a: a.T, lambda a: a[:, ::-2], lambda a: a[1:, None]])
def test_views_that_are_not_contiguous_are_read_as_what_they_show(turned):
    array = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    assert same(seen(turned(array)), seen(turned(array).copy()))


def test_more_values_than_one_chunk():
    array = np.random.default_rng(0).normal(size=(1 << 18) * 2 + 5).astype(np.float32)
    assert same(seen(array), seen(*np.array_split(array, 7)))
    assert seen(array).counts.shape == (BINS,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("statistic", [Extremes, Histogram])
def test_nan_and_infinity_are_refused_and_not_counted(bad, statistic):
    kept = statistic()
    with pytest.raises(FloatingPointError):
        kept.add(np.array([1.0, bad, 2.0], np.float32))
    assert kept.count == 0


def direct(proto, name, feeds):
    import onnx
    import onnxruntime

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    changed.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], feeds)[0]


def test_what_is_observed_is_what_the_model_computes(proto, samples):
    found = observe(proto, ["x", "r", "p", "scores"], samples)
    assert found.samples == len(samples)
    assert list(found.tensors) == ["x", "r", "p", "scores"]
    for name in ("r", "p"):
        assert same(found.tensors[name], seen(*(direct(proto, name, feeds) for feeds in samples)))
    assert same(found.tensors["x"], seen(*(feeds["x"] for feeds in samples)))
    assert found.tensors["r"].minimum == 0
    assert found.tensors["scores"].count == sum(feeds["x"].shape[2] ** 2 for feeds in samples)


def test_the_order_of_samples_changes_nothing(proto, samples):
    forth, back = (observe(proto, ["r", "y"], order) for order in (samples, samples[::-1]))
    assert all(same(forth.tensors[name], back.tensors[name]) for name in ("r", "y"))


def test_graph_inputs_alone_need_no_run(proto, samples):
    found = observe(proto, ["x"], samples, statistic=Extremes)
    assert found.tensors["x"].count == sum(feeds["x"].size for feeds in samples)


def test_progress_counts_samples(proto, samples):
    done = []
    observe(proto, ["r"], samples, on_sample=done.append)
    assert done == list(range(1, len(samples) + 1))


def test_the_model_given_is_left_as_it_was(proto, samples):
    before = proto.SerializeToString()
    observe(proto, ["r"], samples)
    assert proto.SerializeToString() == before


def test_no_sample_is_an_error_of_its_own(proto):
    with pytest.raises(CalibrationFailed, match="no calibration sample"):
        observe(proto, ["r"], [])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_value_is_named_by_sample_and_tensor(proto, samples, bad):
    samples[2]["x"] = samples[2]["x"].copy()
    samples[2]["x"][0, 1, 4] = bad
    with pytest.raises(CalibrationFailed, match="1 of 30 values are NaN or infinite") as error:
        observe(proto, ["x", "r"], samples)
    assert error.value.where == "calibration sample 2, tensor 'x'"
    with pytest.raises(CalibrationFailed, match="NaN or infinite") as error:
        observe(proto, ["p"], samples)
    assert error.value.where == "calibration sample 2, tensor 'p'"


@pytest.mark.parametrize(
    "feeds",
    [{"y": np.zeros((1, 2, 5), np.float32)}, {"x": np.zeros((1, 3, 5), np.float32)}, {"x": np.zeros((1, 2, 5))}],
    ids=["name", "shape", "dtype"],
)
def test_a_sample_that_does_not_fit_is_named(proto, samples, feeds):
    with pytest.raises(CalibrationFailed, match="does not run") as error:
        observe(proto, ["r"], [samples[0], feeds])
    assert error.value.where == "calibration sample 1"


def test_a_sample_without_an_observed_input_is_named(proto, samples):
    with pytest.raises(CalibrationFailed) as error:
        observe(proto, ["x"], [samples[0], {"y": samples[0]["x"]}])
    assert "calibration sample 1" in error.value.where


def test_no_sample_is_kept(proto):
    """What stays after n samples does not grow with n, and no more than a few are alive at any time."""
    alive = []

    def stream(count):
        draw = np.random.default_rng(0)
        for _ in range(count):
            yield {"x": draw.normal(size=(1, 2, 4_000)).astype(np.float32)}

    def peak(count):
        gc.collect()
        tracemalloc.start()
        try:
            found = observe(proto, ["x", "r", "p"], stream(count), on_sample=alive.append)
            return tracemalloc.get_traced_memory()[1], found
        finally:
            tracemalloc.stop()

    few, _ = peak(4)
    many, found = peak(40)
    assert found.samples == 40
    assert many < few + 64_000  # one more sample kept would be 32 kB of input, 64 kB of r and 96 kB of p


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_any_order_of_arrays_gives_the_same_histogram(order):
    parts = [np.random.default_rng(seed).standard_cauchy(50).astype(np.float32) for seed in range(6)]
    assert same(seen(*parts), seen(*(parts[i] for i in order)))
