"""Samples for a search: of the calibration split, in every length bucket, and none that calibration has seen."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.corpus.samples import cut, digest_of, length_of
from harness.errors import DataError
from harness.spec.shapes import length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Corpus, Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Profile

__all__ = ["counts_by_cost", "unseen"]

_SCANNED = 60
_MOST = 8


def counts_by_cost(entry: Entry, each: int) -> tuple[int, ...]:
    """Samples a bucket that cost about the same time: more of the short ones, up to eight times ``each``.

    A score over short samples counts fewer decisions, so there have to be more of them for the same interval.
    """
    profiles = length_buckets(entry.model).profiles
    middle = profiles[len(profiles) // 2].opt
    return tuple(min(_MOST * each, max(each // 2, round(each * middle / profile.opt))) for profile in profiles)


def unseen(
    entry: Entry, calibration: Corpus, counts: tuple[int, ...], seed: int, searched: Corpus | None = None
) -> Iterator[Feeds]:
    """``counts`` samples of each length bucket, the shortest bucket first, at natural lengths where there are enough.

    From the calibration split, so that no test sample is among them; what the calibration corpus holds is left out, and
    what ``searched`` does.
    Where a bucket stays short of natural samples, opt-long pieces of longer ones fill it, the first of each first.

    :raises DataError: nothing is left.
    """
    model, buckets = entry.model, length_buckets(entry.model)
    seen = {digest_of([one[index]]) for one in (calibration, searched) if one is not None for index in range(len(one))}
    found: list[list[Feeds]] = [[] for _ in counts]
    longer: list[Feeds] = []
    for feeds in itertools.islice(entry.samples("calibration", seed), sum(counts) * _SCANNED):
        if digest_of([feeds]) in seen:
            continue
        index = buckets.dispatch(length_of(model, feeds))
        if len(found[index]) < counts[index]:
            found[index].append(feeds)
        elif len(longer) < sum(counts):
            longer.append(feeds)
        if all(len(samples) == count for samples, count in zip(found, counts, strict=True)):
            break
    for index, profile in enumerate(buckets.profiles):
        natural = [*longer, *itertools.chain.from_iterable(found[index + 1 :])]
        missing = counts[index] - len(found[index])
        pieces = (one for one in _pieces(model, natural, profile) if digest_of([one]) not in seen)
        found[index] += itertools.islice(pieces, missing)
    if not any(found):
        raise DataError(
            f"no sample is left for the search: calibration took all {len(calibration)} that there are for it",
            where=model.key,
            todo=f"give more data, or fewer calibration samples: --samples {max(1, len(calibration) // 2)}",
        )
    return itertools.chain.from_iterable(found)


def _pieces(model: Model, samples: list[Feeds], profile: Profile) -> Iterator[Feeds]:
    """Opt-long pieces of samples that are longer than the profile takes, none of them twice."""
    longer = [feeds for feeds in samples if length_of(model, feeds) > profile.max]
    most = max((length_of(model, feeds) for feeds in longer), default=0)
    for start in range(0, most, profile.opt):
        for feeds in longer:
            if start + profile.opt <= length_of(model, feeds):
                yield cut(model, feeds, start, start + profile.opt)
