"""Samples for a search: none that calibration or a test has seen."""

from __future__ import annotations

import itertools

import pytest

from harness.corpus.catalogue import Entry
from harness.corpus.samples import Corpus, digest_of, length_of
from harness.errors import DataError
from harness.mixed.corpus import counts_by_cost, unseen
from harness.spec.shapes import length_buckets

from .conftest import MODEL, draws


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
