"""What a gate finds about one aspect of one case, and what the findings come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BLOCKING", "Aspect", "Blocking", "Finding", "NotCompared", "Word", "exit_code", "overall"]

Blocking = Literal["builds", "coverage", "accuracy", "latency"]
Aspect = Literal[
    Blocking, "agreement", "tail", "cold start", "size", "memory", "build time", "warnings",
]  # fmt: skip
Word = Literal["pass", "improved", "minor", "regression", "inconclusive", "invalid", "allowed"]

BLOCKING: frozenset[Aspect] = frozenset(get_args(Blocking))
"""Aspects whose regression stops an upgrade. The others are told, and are ``minor`` at most."""

_SEVERITY: tuple[Word, ...] = ("regression", "invalid", "inconclusive")
_EXIT: dict[Word, int] = {"regression": 1, "inconclusive": 3, "invalid": 4}


@dataclass(frozen=True)
class Finding:
    """One aspect of one pair, at one place.

    :param case: the pair's name.
    :param where: a length bucket, a layer, ``traffic``; empty for the whole.
    :param why: a sentence with the numbers.
    :param p: of "no worse than tolerated"; 0 for what was counted and not sampled, None where nothing is tested.
    :param stage: 1, or 2 where it was asked again on data and builds of their own.
    :param values: numbers for the report.
    """

    case: str
    aspect: Aspect
    word: Word
    why: str
    where: str = ""
    p: float | None = None
    stage: int = 1
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def blocks(self) -> bool:
        """Whether it stops the upgrade, if it is confirmed."""
        return self.word == "regression" and self.aspect in BLOCKING

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about, whichever stage found it."""
        return self.case, self.aspect, self.where


@dataclass(frozen=True)
class NotCompared:
    """An aspect of a pair about which nothing can be said, and why: a record has only so much."""

    case: str
    aspect: Aspect
    why: str


def overall(findings: Iterable[Finding]) -> Word:
    """The worst of what can block: regression, else invalid, else inconclusive, else pass.

    Where nothing that can block was compared, nothing is proved: inconclusive.
    """
    words = {finding.word for finding in findings if finding.aspect in BLOCKING}
    return next((word for word in _SEVERITY if word in words), "pass" if words else "inconclusive")


def exit_code(word: Word) -> int:
    """0 pass, 1 regression, 3 inconclusive, 4 invalid; 2 and 5 are usage and environment, which end a gate earlier."""
    return _EXIT.get(word, 0)
