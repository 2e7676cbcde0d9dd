from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.buckets import by_bucket
from harness.corpus.catalogue import Entry
from harness.corpus.samples import digest_of, length_of
from harness.errors import DataError
from harness.spec.model import Axis, Model
from harness.spec.shapes import Layout, Profile

BUCKETS = Layout("three", (Profile(1, 5, 10), Profile(11, 15, 20), Profile(21, 30, 90)))
MODEL = Model("m", (Axis("x", 0),), "n", 1, 90, 30, buckets=BUCKETS)


def entry(lengths):
    def samples(split, seed):
        assert split == "test"
        return ({"x": np.full(length, index + 1_000 * seed, np.float32)} for index, length in enumerate(lengths))

    return Entry(MODEL, lambda: None, samples, "1")


def numbers(samples):
    return [(int(feeds["x"][0]), length_of(MODEL, feeds)) for feeds in samples]


def test_as_many_of_every_bucket_and_natural_ones_first():
    assert numbers(by_bucket(entry([50, 5, 60, 15, 6, 7, 16, 70]), 2, 0)) == [
        (1, 5), (4, 6), (3, 15), (6, 16), (0, 50), (2, 60),
    ]  # fmt: skip


def test_rare_lengths_are_cut_to_opt_from_longer_samples():
    assert numbers(by_bucket(entry([50, 60, 70, 15]), 2, 1)) == [
        (1002, 5), (1003, 5), (1003, 15), (1002, 15), (1000, 50), (1001, 60),
    ]  # fmt: skip


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 5))
def test_no_bucket_has_more_and_no_bucket_lacks_what_longer_ones_could_give(lengths, count):
    found = numbers(by_bucket(entry(lengths), count, 0))
    inside = [BUCKETS.dispatch(length) for _, length in found]
    assert inside == sorted(inside)
    for index in range(3):
        could = sum(BUCKETS.dispatch(length) >= index for length in lengths)
        assert inside.count(index) <= count
        if could:  # its own, or one to cut
            assert inside.count(index)


def test_an_endless_source_is_left_in_the_end():
    endless = Entry(MODEL, lambda: None, lambda *_: ({"x": np.ones(5, np.float32)} for _ in itertools.count()), "1")
    assert digest_of(by_bucket(endless, 2, 0)) == digest_of([{"x": np.ones(5, np.float32)}] * 2)


def test_no_test_sample_is_refused():
    with pytest.raises(DataError, match="no test sample") as caught:
        by_bucket(entry([]), 2, 0)
    assert caught.value.where == "m"
