"""Two stages to a verdict: what looks worse is asked again on data of its own, and blocks only if it is worse again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.measure.session import TRAFFIC
from harness.stats.multiple import holm_adjusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.gate.findings import Finding

__all__ = ["flagged", "settled", "unsettled"]

_WHOLE = ("", TRAFFIC)
_DIGEST = re.compile(r"[0-9a-f]{16,}|-\d+-\d+(?=\.log)")


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
    again = list(again)
    second = [_answer(one, again) for one in asked]
    adjusted = holm_adjusted([1.0 if one.p is None else one.p for one in second])
    final = [_final(*both, alpha) for both in zip(asked, second, adjusted, strict=True)]
    late = _only_then(first, again, {finding.key for finding in final})
    keys = {finding.key for finding in (*asked, *late)}
    return [*(one for one in first if one.key not in keys), *final, *late]


def unsettled(first: Iterable[Finding]) -> list[Finding]:
    """What the first stage alone is worth: nothing that has to be asked again is believed yet."""
    return [
        replace(one, word="inconclusive", why=f"not asked again yet: {one.why}") if one.blocks else one for one in first
    ]


def _answer(first: Finding, again: Sequence[Finding]) -> Finding:
    """What the second stage says of a finding: of the same place, else of the whole where that failed, else nothing."""
    same = [one for one in again if one.case == first.case]
    whole = [one for one in same if one.aspect == first.aspect and one.where in _WHOLE]
    failed = [one for one in whole if one.word in {"regression", "invalid", "inconclusive"}]
    for one in ([one for one in same if one.key == first.key] or failed)[:1]:
        return replace(one, where=first.where)
    for one in same:
        if one.aspect == "builds" and one.word != "pass":
            return _silent(first, f"the second stage could not ask: {one.why}")
    return _silent(first, "the second stage did not come to it")  # its length bucket had no sample, say


def _silent(first: Finding, why: str) -> Finding:
    return replace(first, word="inconclusive", why=why, p=1.0, stage=2)


def _only_then(
    first: Sequence[Finding], again: Sequence[Finding], answered: set[tuple[str, str, str]]
) -> list[Finding]:
    """What was counted, not sampled, and wrong in the second stage alone: it stands against the first one's word."""
    known = {finding.key: finding for finding in first}
    return [
        replace(one, word="inconclusive", why=f"the second stage alone found it: {one.why}", p=1.0)
        for one in flagged(again)
        if one.p == 0.0 and one.key not in answered and (one.key not in known or known[one.key].word == "pass")
    ]


def _final(first: Finding, second: Finding, adjusted: float, alpha: float) -> Finding:
    same = _DIGEST.sub("", second.why) == _DIGEST.sub("", first.why)  # files of other samples have other names
    said = f"{second.why}; so did stage 1" if same else f"{second.why}; stage 1: {first.why}"
    if second.word == "regression" and adjusted <= alpha:
        return replace(second, why=f"confirmed (p = {adjusted:.2g} over all): {said}", p=adjusted)
    if second.word == "regression":
        why = f"worse twice, but not at {alpha:.2g} over all (p = {adjusted:.2g}): {said}"
        return replace(second, word="inconclusive", why=why, p=adjusted)
    return replace(second, why=f"not confirmed: {said}", p=adjusted)
