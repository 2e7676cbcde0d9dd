"""hypothesis strategies for lengths and content. The only module that imports hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from harness.corpus.content import Draw, boundaries, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Corpus, Feeds
    from harness.spec.shapes import Layout

__all__ = ["boundary_lengths", "draws", "feeds", "lengths"]

_LARGEST_SEED = 2**16


def lengths(layout: Layout) -> st.SearchStrategy[int]:
    """Any length that some profile admits, each profile as likely; shrinks to the shortest."""
    return st.one_of([st.integers(profile.min, profile.max) for profile in layout.profiles])


def boundary_lengths(layout: Layout) -> st.SearchStrategy[int]:
    """Min, opt, max of every profile and the lengths just outside of it; some are admitted by no profile."""
    return st.sampled_from(boundaries(layout))


def draws(layout: Layout, corpus: Corpus | None, gains: Sequence[float] = (1.0,)) -> st.SearchStrategy[Draw]:
    """The numbers of a sample (see :class:`Draw`); shrinks to the shortest length, then to the first content.

    :param corpus: where content will come from; None for random content.
    :param gains: factors to choose from, the simplest first.
    """
    if corpus is None:
        return st.builds(Draw, lengths(layout), st.integers(0, _LARGEST_SEED), st.just(0), st.just(1.0))
    return st.builds(
        Draw,
        lengths(layout),
        st.integers(0, len(corpus) - 1),
        st.integers(0, max(corpus.lengths) - 1),
        st.sampled_from(list(gains)),
    )


def feeds(entry: Entry, layout: Layout, corpus: Corpus | None) -> st.SearchStrategy[Feeds]:
    """Ready samples of lengths that the layout admits. Where a failure must be printed, use :func:`draws`."""
    return draws(layout, corpus).map(lambda draw: make(draw, entry, corpus))
