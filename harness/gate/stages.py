"""Two stages to a verdict: what looks worse is asked again on data of its own, and blocks only if it is worse again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.stats.multiple import holm_adjusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.gate.findings import Finding

__all__ = ["flagged", "settled"]

_DIGEST = re.compile(r"[0-9a-f]{16,}")


def flagged(first: Iterable[Finding]) -> list[Finding]:
    """What has to be asked again before it may block."""
    return [finding for finding in first if finding.blocks]


def settled(first: Sequence[Finding], again: Iterable[Finding], alpha: float) -> list[Finding]:
    """The findings of both stages made one.

    A regression is one that both stages found, the second one at ``alpha`` over all that were asked again (Holm): the
    first stage chose them, so its own p-values would be too good.

    :param first: all findings of the first stage.
    :param again: all of the second, which was asked for the pairs of :func:`flagged` findings alone.
    :param alpha: family-wise error rate.
    """
    asked = flagged(first)
    if not asked:
        return list(first)
    found = {finding.key: finding for finding in again}
    second = [found.get(one.key) or _not_asked(one) for one in asked]
    adjusted = holm_adjusted([1.0 if one.p is None else one.p for one in second])
    keys = {finding.key for finding in asked}
    return [
        *(one for one in first if one.key not in keys),
        *(_final(*both, alpha) for both in zip(asked, second, adjusted, strict=True)),
    ]


def _not_asked(first: Finding) -> Finding:
    """The second stage had nothing to say of it: its length bucket had no sample, say."""
    return replace(first, word="inconclusive", why="the second stage did not come to it", p=1.0, stage=2)


def _final(first: Finding, second: Finding, adjusted: float, alpha: float) -> Finding:
    same = _DIGEST.sub("", second.why) == _DIGEST.sub("", first.why)  # files of other samples have other names
    said = f"{second.why}; so did stage 1" if same else f"{second.why}; stage 1: {first.why}"
    if second.word == "regression" and adjusted <= alpha:
        return replace(second, why=f"confirmed (p = {adjusted:.2g} over all): {said}", p=adjusted)
    if second.word == "regression":
        why = f"worse twice, but not at {alpha:.2g} over all (p = {adjusted:.2g}): {said}"
        return replace(second, word="inconclusive", why=why, p=adjusted)
    return replace(second, why=f"not confirmed: {said}", p=adjusted)
