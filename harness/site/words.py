"""The words of verdicts: which are bad, and how they are shown. A sign and the word itself, never a colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SIGNS", "level", "rank", "worst"]

_WORST_FIRST = (
    "failed", "fail", "regression", "below bounds", "not proved", "slower", "invalid", "inconclusive", "unknown",
    "unbounded", "unjudged", "minor", "more than chance", "not met", "open",
    "left out", "in float", "shown wrong", "compared", "built", "allowed", "not slower", "pass",
    "improved", "faster", "as expected", "met", "",
)  # fmt: skip
_BAD = {"failed", "fail", "regression", "below bounds", "not proved"}
_OPEN = {
    "slower",
    "invalid",
    "inconclusive",
    "unknown",
    "unbounded",
    "unjudged",
    "minor",
    "more than chance",
    "not met",
    "open",
}
_GOOD = {"pass", "improved", "faster", "not slower", "built", "as expected", "met"}
_UNHEARD = _WORST_FIRST.index("unknown")

SIGNS = {"bad": "✗", "open": "?", "good": "✓", "plain": "-"}
"""Level of a word -> the sign that stands before it."""


def rank(word: str) -> int:
    """0 for the worst. A word that is not known here may mean anything, and stands with ``unknown``."""
    return _WORST_FIRST.index(word) if word in _WORST_FIRST else _UNHEARD


def worst(words: Iterable[str]) -> str:
    """The worst of some words; empty where there is none."""
    return min(words, key=rank, default="")


def level(word: str) -> str:
    """``bad``, ``open`` (nothing is proved), ``good`` or ``plain`` (nothing was judged)."""
    if word in _BAD:
        return "bad"
    if word in _GOOD:
        return "good"
    return "open" if word in _OPEN or word not in _WORST_FIRST else "plain"
