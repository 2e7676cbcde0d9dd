"""Samples for a search: none that calibration or a test has seen."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest

from fixtures.catalogue import ENTRIES
from harness.corpus.catalogue import Entry
from harness.corpus.own import own_entry
from harness.corpus.samples import Corpus, digest_of, length_of
from harness.errors import DataError
from harness.materials import Materials
from harness.mixed.corpus import counts_by_cost, unseen
from harness.spec.matrix import Matrix
from harness.spec.shapes import length_buckets

from .conftest import MODEL, branchy, draws


def entry(*, endless=True):
    def samples(split, seed):
        first = 100 * seed + (50 if split == "test" else 0)
        found = itertools.count(first) if endless else range(first, first + 3)
        return (one for number in found for one in draws(number, 4))

    return Entry(MODEL, lambda: None, samples, "1")


def digests(samples):
    return {digest_of([one]) for one in samples}


@pytest.fixture
def calibration(tmp_path):
    return Corpus.write(tmp_path / "calibration", MODEL, itertools.islice(entry().samples("calibration", 0), 40), "c")


def test_no_sample_that_calibration_saw(calibration):
    found = list(unseen(entry(), calibration, (6, 6, 6), 0))
    assert not digests(found) & digests(calibration[index] for index in range(len(calibration)))
    assert len(digests(found)) == len(found) == 18


def test_as_many_as_asked_of_each_bucket(calibration):
    buckets = length_buckets(MODEL)
    found = list(unseen(entry(), calibration, (9, 4, 2), 1))
    counts = [0] * 3
    for one in found:
        counts[buckets.dispatch(length_of(MODEL, one))] += 1
    assert counts == [9, 4, 2]


def test_pieces_of_longer_samples_fill_a_bucket_none_twice(calibration):
    def long_ones(split, seed):
        return (one for one in entry().samples(split, seed) if length_of(MODEL, one) > 40)

    found = list(unseen(Entry(MODEL, lambda: None, long_ones, "1"), calibration, (8, 2, 2), 1))
    assert len(found) == len(digests(found)) == 12


def test_nothing_left_is_said(tmp_path):
    finite = entry(endless=False)
    everything = Corpus.write(tmp_path / "all", MODEL, finite.samples("calibration", 0), "all")
    with pytest.raises(DataError, match="calibration took all"):
        unseen(finite, everything, (2, 2, 2), 0)


def test_short_samples_are_cheap_so_there_are_more_of_them():
    short, middle, long = counts_by_cost(entry(), 20)
    assert short > middle == 20 > long >= 10


@pytest.mark.parametrize("key", ["vad", "plc"])
def test_real_speech_shares_no_frame_with_calibration_or_tests(key):
    """Not only no sample: no piece of one."""
    entry = ENTRIES[key]
    axis = entry.model.axes[0]

    def rows(samples):
        frames = (np.moveaxis(feeds[axis.input], axis.dim, 0) for feeds in samples)
        return {row.tobytes() for one in frames for row in one if np.ptp(row) > 1e-6}

    materials = Materials({key: entry}, replace(Matrix(), samples=12, tests=4), 0)
    corpora = {split: materials.corpus(key, split) for split in ("calibration", "test")}
    found = list(unseen(entry, corpora["calibration"], (8, 4, 2), 1))
    assert len(digests(found)) == len(found) == 14
    mine = rows(found)
    for split, corpus in corpora.items():
        assert not mine & rows(corpus[index] for index in range(len(corpus))), split


@pytest.fixture
def own(tmp_path, own_cache):
    """A user's forty samples of the small model."""
    onnx.save(branchy(), tmp_path / "branchy.onnx")
    (tmp_path / "data").mkdir()
    for index, feeds in enumerate(draws(3, 40)):
        np.savez(tmp_path / "data" / f"{index:03}.npz", **feeds)
    return own_entry(tmp_path / "branchy.onnx", axes=["x:2=frames"], range_="4:16:64", data=tmp_path / "data")


def test_a_users_samples_are_shared_out_between_calibration_search_and_tests(own):
    key = own.model.key
    materials = Materials({key: own}, replace(Matrix(), samples=8, tests=5), 0)
    calibration, test = (materials.corpus(key, split) for split in ("calibration", "test"))
    found = list(unseen(own, calibration, (3, 3, 3), 1))
    for corpus in (calibration, test):
        assert not digests(found) & digests(corpus[index] for index in range(len(corpus)))
    assert len(digests(found)) == len(found)
    greedy = Materials({key: own}, replace(Matrix(), samples=100, tests=5), 0).corpus(key, "calibration")
    with pytest.raises(DataError, match="calibration took all") as refused:
        unseen(own, greedy, (3, 3, 3), 1)
    assert "--samples" in refused.value.todo
