"""Content of any length out of a corpus of natural lengths: plain, deterministic, repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.corpus.samples import valid_length
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Corpus, Feeds
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["Draw", "boundaries", "content", "make"]


@dataclass(frozen=True)
class Draw:
    """The numbers that one sample is made from; printed in full, it is the way to run a failing sample again.

    :param length: of the varying axis, in its elements.
    :param index: which sample of the corpus (taken modulo its size), or the seed of a random one.
    :param offset: element of that sample to begin with.
    :param gain: factor on floating-point inputs that vary.
    """

    length: int
    index: int = 0
    offset: int = 0
    gain: float = 1.0


def content(
    model: Model, corpus: Corpus | Sequence[Feeds], length: int, index: int, offset: int = 0, gain: float = 1.0
) -> Feeds:
    """A sample of exactly ``length``, read around in a circle from one real sample's valid part.

    :param index: taken modulo the corpus; :param offset: modulo the sample.
    :param gain: factor on the floating-point inputs that vary.
    """
    feeds = dict(corpus[index % len(corpus)])
    valid = max(1, valid_length(model, feeds))
    where = (offset + np.arange(length)) % valid
    varying: dict[str, list[int]] = {}
    for axis in model.axes:
        varying.setdefault(axis.input, []).append(axis.dim)
    for name, dims in varying.items():
        array = feeds[name]
        for dim in dims:
            array = np.take(array, where, axis=dim)
        if gain != 1.0 and np.issubdtype(array.dtype, np.floating):
            array = (array * gain).astype(array.dtype)
        feeds[name] = np.ascontiguousarray(array)
    for name in model.length_inputs:
        feeds[name] = np.full_like(feeds[name], length)
    return feeds


def make(draw: Draw, entry: Entry, corpus: Corpus | None) -> Feeds:
    """The sample that ``draw`` stands for: out of the corpus, or random where there is none.

    :raises UsageError: there is neither a corpus nor a way to draw.
    """
    if corpus is not None:
        return content(entry.model, corpus, draw.length, draw.index, draw.offset, draw.gain)
    if entry.draw is None:
        raise UsageError("no corpus to take content from", where=entry.model.key, todo="pass one")
    return entry.draw(draw.length, draw.index)


def boundaries(layout: Layout) -> tuple[int, ...]:
    """Min, opt and max of every profile and the lengths just outside of it, in growing order."""
    lengths = {
        length
        for profile in layout.profiles
        for length in (profile.min - 1, profile.min, profile.opt, profile.max, profile.max + 1)
    }
    return tuple(sorted(lengths))
