from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.calibration import pipeline
from harness.calibration.pipeline import calibrate, from_observed, observed
from harness.calibration.selection import CANDIDATES
from harness.corpus.samples import Corpus
from harness.errors import CalibrationFailed, LengthOutOfRange
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import Layout, Profile, single

LAYOUT = Layout("three", (Profile(3, 10, 20), Profile(21, 30, 40), Profile(41, 60, 400)))
METHODS = [Method.parse(word) for word in ("minmax", "percentile", "entropy", "mse")]


@pytest.fixture
def corpus(tmp_path, model, samples):
    return Corpus.write(tmp_path / "corpus", model, samples, "drawn")


def lengths_of(samples):
    return [feeds["x"].shape[2] for feeds in samples]


def run(prepared, model, samples, policy, layout=LAYOUT, method=METHODS[0], dialect=Dialect.S8S8, **more):
    calibration = Calibration(method, policy)
    return calibrate(prepared, model, samples, lengths_of(samples), calibration, layout, dialect, **more)


@pytest.mark.parametrize("policy", list(Policy))
def test_what_was_consumed_is_what_was_supplied(prepared, model, samples, policy):
    found = run(prepared, model, samples, policy)
    assert found.consumed == found.seen.batches > 0
    assert found.seen.supplied == len(samples)
    assert sorted(found.seen.lengths) == sorted(lengths_of(samples))
    assert len(found.ranges) == (3 if policy is Policy.PER_PROFILE else 1)
    assert found.profile == (None if policy in {Policy.RAGGED, Policy.PER_PROFILE} else 1)
    assert all(low <= 0 <= high and low < high for ranges in found.ranges for low, high in ranges.values())


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("came", [6, 9])
def test_a_source_that_gives_fewer_or_more_samples_than_lengths_is_found(prepared, model, samples, policy, came):
    other = (samples + samples)[:came]  # of 8
    with pytest.raises(CalibrationFailed, match=r"samples? came, and there should have been") as caught:
        calibrate(
            prepared, model, other, lengths_of(samples), Calibration(METHODS[0], policy), LAYOUT, Dialect.S8S8
        )  # fmt: skip
    if policy is not Policy.PER_PROFILE:
        assert f"{came} samples came, and there should have been 8" in caught.value.what


def test_an_iterator_that_ends_early_is_found_when_observing_a_corpus(prepared, model, corpus, monkeypatch):
    monkeypatch.setattr(Corpus, "__iter__", lambda self: (self[index] for index in range(5)))
    with pytest.raises(CalibrationFailed, match="5 samples came, and there should have been 8"):
        observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)


def test_ragged_minmax_is_the_datas_own(prepared, model, samples):
    found = run(prepared, model, samples, Policy.RAGGED).for_profile(2)
    low, high = (f(f(feeds["x"]) for feeds in samples) for f in (min_of, max_of))
    assert found["x"] == (low, high)


def min_of(values):
    return float(values.min()) if isinstance(values, np.ndarray) else min(values)


def max_of(values):
    return float(values.max()) if isinstance(values, np.ndarray) else max(values)


def test_every_profile_gets_the_ranges_of_its_own_samples(prepared, model, samples):
    samples[-1]["x"] = samples[-1]["x"] * 10  # the longest is the loudest
    found = run(prepared, model, samples, Policy.PER_PROFILE)
    highest = [found.for_profile(index)["x"][1] for index in range(3)]
    own = [[f["x"][..., : p.opt] for f in samples if f["x"].shape[2] in p] for p in LAYOUT.profiles]
    assert highest == [max_of(max_of(x) for x in group) for group in own]
    assert found.ranges[0] == found.for_profile(0) != found.for_profile(2)


def test_one_set_of_ranges_serves_every_profile(prepared, model, samples):
    found = run(prepared, model, samples, Policy.PAD)
    assert found.for_profile(0) is found.for_profile(2)


def test_a_profile_without_samples_is_named(prepared, model, samples):
    short = [feeds for feeds in samples if feeds["x"].shape[2] <= 20]
    with pytest.raises(CalibrationFailed, match="no calibration sample") as caught:
        run(prepared, model, short, Policy.PER_PROFILE)
    assert "tiny, profile 21-30-40" in caught.value.where


def test_truncate_without_a_long_sample_says_so(prepared, model, samples):
    with pytest.raises(CalibrationFailed, match="no calibration sample"):
        run(prepared, model, samples, Policy.TRUNCATE, Layout("long", (Profile(3, 400, 400),)))


def test_a_sample_outside_the_layout_is_refused(prepared, model, samples):
    with pytest.raises(LengthOutOfRange, match="length 60 is outside") as caught:
        run(prepared, model, samples, Policy.RAGGED, Layout("short", (Profile(3, 10, 40),)))
    assert "calibration sample 7" in caught.value.where


def test_a_bad_sample_is_named_with_model_and_profile(prepared, model, samples):
    samples[3]["x"][0, 0, 0] = np.nan
    with pytest.raises(CalibrationFailed, match="NaN") as caught:
        run(prepared, model, samples, Policy.RAGGED)
    assert caught.value.where.startswith("tiny, profile 21-30-40, calibration sample 3, tensor")


def test_progress_counts_batches(prepared, model, samples):
    done = []
    found = run(prepared, model, samples, Policy.WINDOW, on_sample=done.append)
    assert done == list(range(1, found.consumed + 1))


@pytest.mark.parametrize("policy", [Policy.RAGGED, Policy.PAD, Policy.PER_PROFILE])
@pytest.mark.parametrize("dialect", list(Dialect))
def test_kept_observations_give_the_ranges_of_a_direct_calibration(prepared, model, samples, corpus, policy, dialect):
    for _ in range(2):  # made, then kept
        found = observed(prepared, model, corpus, policy, LAYOUT)
        for method in METHODS:
            kept = from_observed(
                found, prepared, model, corpus, corpus.lengths, Calibration(method, policy), LAYOUT, dialect
            )
            assert kept == run(prepared, model, samples, policy, method=method, dialect=dialect)
            assert kept.methods == (method,) * len(kept.ranges)
            assert kept.tried == ()


@pytest.mark.parametrize("policy", [Policy.RAGGED, Policy.PER_PROFILE])
def test_auto_is_the_best_of_the_methods_and_says_what_each_reached(prepared, model, samples, policy):
    found = run(prepared, model, samples, policy, method=Method.parse("auto"))
    assert len(found.methods) == len(found.tried) == len(found.ranges)
    for method, tried in zip(found.methods, found.tried, strict=True):
        assert set(tried) == {str(candidate) for candidate in CANDIDATES}
        assert tried[str(method)] == max(tried.values())
    for index, method in enumerate(found.methods):
        direct = run(prepared, model, samples, policy, method=method)
        assert found.for_profile(index) == direct.for_profile(index)


@pytest.mark.parametrize("policy", [Policy.RAGGED, Policy.PER_PROFILE])
def test_auto_does_not_depend_on_the_order_of_samples(prepared, model, policy, tmp_path):
    draw = np.random.default_rng(5)
    lengths = [3, 20, 21, 40, 41, 60] * 6  # more samples than auto tries, many of one length
    many = [{"x": draw.normal(size=(1, 2, n)).astype(np.float32) * draw.uniform(0.5, 4)} for n in lengths]
    method = Method.parse("auto")
    first = run(prepared, model, many, policy, method=method)
    for seed in range(2):
        shuffled = [many[index] for index in np.random.default_rng(seed).permutation(len(many))]
        other = run(prepared, model, shuffled, policy, method=method)
        assert (other.methods, other.tried, other.ranges) == (first.methods, first.tried, first.ranges)
    kept = Corpus.write(tmp_path / "many", model, shuffled, "drawn")
    found = observed(prepared, model, kept, policy, LAYOUT)
    calibration = Calibration(method, policy)
    read = from_observed(found, prepared, model, kept, kept.lengths, calibration, LAYOUT, Dialect.S8S8)
    assert read.tried == first.tried


def test_auto_reads_only_what_it_tries_from_a_corpus(prepared, model, tmp_path, monkeypatch):
    draw = np.random.default_rng(5)
    many = [{"x": draw.normal(size=(1, 2, n)).astype(np.float32)} for n in range(3, 103)]
    corpus = Corpus.write(tmp_path / "many", model, many, "drawn")
    found = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    read, take = [], Corpus.__getitem__
    monkeypatch.setattr(Corpus, "__getitem__", lambda self, index: (read.append(index), take(self, index))[1])
    auto = Calibration(Method.parse("auto"), Policy.RAGGED)
    from_observed(found, prepared, model, corpus, corpus.lengths, auto, LAYOUT, Dialect.S8S8)
    assert len(read) == len(set(read)) == 24


def test_only_the_tensors_asked_for_get_a_range(prepared, model, samples):
    found = run(prepared, model, samples, Policy.RAGGED, tensors=["x", "y"])
    assert set(found.ranges[0]) == {"x", "y"}


def test_a_second_call_needs_neither_the_model_nor_the_data(prepared, model, corpus, monkeypatch):
    first = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    for file in corpus.folder.glob("*.npz"):
        file.unlink()
    monkeypatch.setattr(pipeline, "observe", lambda *_, **__: pytest.fail("the model was run"))
    second = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    ((a, seen_a), (b, seen_b)) = first[0], second[0]
    assert seen_a == seen_b
    assert a.samples == b.samples
    for name, statistic in a.tensors.items():
        other = b.tensors[name]
        assert (statistic.count, statistic.minimum, statistic.maximum) == (
            other.count,
            other.minimum,
            other.maximum,
        )
        assert np.array_equal(statistic.counts, other.counts)


def test_ragged_is_kept_once_for_all_layouts_of_one_range_and_the_others_by_profile(
    prepared, model, corpus, own_cache, tmp_path
):
    def kept():
        return len(list((tmp_path / "cache" / "observations").glob("*.npz")))

    observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    observed(prepared, model, corpus, Policy.RAGGED, single(model))
    assert kept() == 1
    observed(prepared, model, corpus, Policy.PAD, LAYOUT)
    observed(prepared, model, corpus, Policy.PAD, single(model))
    assert kept() == 3
    observed(prepared, model, corpus, Policy.PER_PROFILE, LAYOUT)
    assert kept() == 6


def test_other_data_is_observed_anew(prepared, model, samples, corpus, tmp_path):
    (before,) = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    louder = [{"x": feeds["x"] * 2} for feeds in samples]
    (after,) = observed(
        prepared, model, Corpus.write(tmp_path / "louder", model, louder, "drawn"), Policy.RAGGED, LAYOUT
    )
    assert after[0].tensors["x"].maximum == 2 * before[0].tensors["x"].maximum


def test_another_pad_value_is_observed_anew(prepared, model, corpus):
    (silent,) = observed(prepared, model, corpus, Policy.PAD, LAYOUT)
    loud = dataclasses.replace(model, pad_values=(("x", 50.0),))
    (padded,) = observed(prepared, loud, corpus, Policy.PAD, LAYOUT)
    assert silent[0].tensors["x"].maximum < padded[0].tensors["x"].maximum == 50.0


@pytest.mark.parametrize("size", [0, 10, 0.5, 0.99])
def test_a_damaged_observation_is_made_anew(prepared, model, corpus, tmp_path, size):
    ((before, _),) = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    (file,) = (tmp_path / "cache" / "observations").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: size if isinstance(size, int) else int(size * len(whole))])
    ((after, _),) = observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    assert after.tensors["x"].maximum == before.tensors["x"].maximum
    assert len(file.read_bytes()) > 0.9 * len(whole)


def test_nothing_half_written_is_left(prepared, model, corpus, own_cache, tmp_path):
    observed(prepared, model, corpus, Policy.RAGGED, LAYOUT)
    assert [path.suffix for path in (tmp_path / "cache" / "observations").iterdir()] == [".npz"]
