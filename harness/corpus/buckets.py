"""A test corpus that says something about every length: the same number of samples from each length bucket."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.corpus.samples import cut, length_of
from harness.errors import DataError
from harness.spec.shapes import length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Feeds

__all__ = ["PICKING", "by_bucket"]

PICKING = 1
"""Part of a kept corpus's name: raise it when :func:`by_bucket` picks other samples from the same stream."""

_SCANNED_PER_TEST = 40


def by_bucket(entry: Entry, count: int, seed: int) -> Iterator[Feeds]:
    """``count`` test samples of every length bucket, the shortest bucket first.

    Natural samples where 40 times ``count`` hold enough of a bucket's lengths, else also pieces cut from longer
    ones; fewer where there are none.

    :raises DataError: there is no test sample at all.
    """
    model = entry.model
    buckets = length_buckets(model)
    found: list[list[Feeds]] = [[] for _ in buckets.profiles]
    longer: list[Feeds] = []
    for feeds in itertools.islice(entry.samples("test", seed), count * _SCANNED_PER_TEST):
        index = buckets.dispatch(length_of(model, feeds))
        if len(found[index]) < count:
            found[index].append(feeds)
        elif len(longer) < count * len(found):
            longer.append(feeds)
        if all(len(samples) == count for samples in found):
            break
    for index, profile in enumerate(buckets.profiles):
        natural = itertools.chain(longer, *found[index + 1 :])
        pieces = (feeds for feeds in natural if length_of(model, feeds) > profile.max)
        missing = count - len(found[index])
        found[index] += [cut(model, feeds, 0, profile.opt) for feeds in itertools.islice(pieces, missing)]
    if not any(found):
        raise DataError("no test sample", where=model.key, todo="give more data (tests are every second one)")
    return itertools.chain.from_iterable(found)
