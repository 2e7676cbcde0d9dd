"""Some of a finite source's samples, picked over all of them: what a folder lists first is often one speaker's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from harness.corpus.samples import length_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.corpus.samples import Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["LARGEST", "some", "some_of_each"]

LARGEST = 4096
"""Samples of a source that are looked at; a script's stream need not end."""


def some(stream: Callable[[], Iterator[Feeds]], count: int, seed: int) -> tuple[Iterator[Feeds], int]:
    """``count`` samples drawn from the seed, in the source's order, and how many there are.

    The stream is gone through twice, one sample at a time: once to count. All samples where there are no more
    than ``count``.
    """
    total = sum(1 for _ in itertools.islice(stream(), LARGEST))
    return _taken(stream, _drawn(range(total), count, seed)), total


def some_of_each(
    stream: Callable[[], Iterator[Feeds]], model: Model, buckets: Layout, count: int, seed: int
) -> tuple[Iterator[Feeds], int]:
    """As :func:`some`, but ``count`` samples of every length bucket, where it has them."""
    of: list[list[int]] = [[] for _ in buckets.profiles]
    for index, feeds in enumerate(itertools.islice(stream(), LARGEST)):
        of[buckets.dispatch(length_of(model, feeds))].append(index)
    wanted = [index for number, inside in enumerate(of) for index in _drawn(inside, count, seed + number)]
    return _taken(stream, wanted), sum(map(len, of))


def _drawn(indices: Sequence[int], count: int, seed: int) -> list[int]:
    if len(indices) <= count:
        return list(indices)
    places = np.random.Generator(np.random.PCG64(seed)).choice(len(indices), count, replace=False)
    return [indices[place] for place in places]


def _taken(stream: Callable[[], Iterator[Feeds]], indices: Sequence[int]) -> Iterator[Feeds]:
    wanted = set(indices)
    last = max(wanted, default=-1)
    return (feeds for index, feeds in enumerate(itertools.islice(stream(), last + 1)) if index in wanted)
