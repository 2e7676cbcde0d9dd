from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.corpus.spread import LARGEST, some, some_of_each
from harness.spec.model import Axis, Model
from harness.spec.shapes import Layout, Profile

MODEL = Model("m", (Axis("x", 1),), "frames", 1, 100, 10)
BUCKETS = Layout("two", (Profile(1, 5, 10), Profile(11, 50, 100)))


def of_lengths(lengths):
    return lambda: ({"x": np.zeros((1, length), np.float32)} for length in lengths)


def lengths_of(stream):
    return [feeds["x"].shape[1] for feeds in stream]


def test_samples_come_from_all_over_the_source_and_by_the_seed():
    found = {}
    for seed in (0, 1):
        picked, total = some(of_lengths(range(1, 101)), 20, seed)
        found[seed] = lengths_of(picked)
        assert total == 100
        assert len(set(found[seed])) == 20
        assert found[seed] == sorted(found[seed]), "in the source's order"
        assert min(found[seed]) <= 25
        assert max(found[seed]) > 75
    assert found[0] != found[1]
    assert lengths_of(some(of_lengths(range(1, 101)), 20, 0)[0]) == found[0]


@pytest.mark.parametrize("count", [3, 4])
def test_of_a_few_all_are_taken(count):
    picked, total = some(of_lengths([7, 8, 9]), count, 0)
    assert (lengths_of(picked), total) == ([7, 8, 9], 3)


def test_a_stream_without_an_end_ends():
    picked, total = some(of_lengths(itertools.repeat(5)), 4, 0)
    assert total == LARGEST
    assert len(lengths_of(picked)) == 4


def test_every_bucket_has_its_samples():
    picked, total = some_of_each(of_lengths([*[5] * 60, *[50] * 3, *[6] * 60]), MODEL, BUCKETS, 4, 0)
    found = lengths_of(picked)
    assert total == 123
    assert sum(length > 10 for length in found) == 3
    assert sum(length <= 10 for length in found) == 4
    assert found.count(6), "the last ones have their chance, too"
