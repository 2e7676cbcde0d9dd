"""Files that a search ran over the whole corpus: which of two is the more right one, and which one to ship."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.mixed.assignment import Assignment
    from harness.mixed.outcome import Outcome
    from harness.mixed.sensitivity import Sensitivity
    from harness.spec.model import Bounds

__all__ = ["TIES", "Candidate", "Found"]

TIES = 0.02
"""Differences in speed below this are the clock's."""


@dataclass(frozen=True)
class Candidate:
    """One file that was run over the whole corpus.

    :param shortfall: by the worse ends of the scores' intervals; :param missed: by the scores themselves.
    :param short_of: the buckets with a shortfall. :param bounds: that it is about.
    :param kept: share of plain INT8's speed-up, measured, or estimated where nothing can be timed.
    :param step: which step of the search made it.
    """

    assignment: Assignment
    outcome: Outcome
    shortfall: float
    missed: float
    short_of: frozenset[str]
    bounds: Mapping[str, Bounds]
    noise: float
    kept: float
    step: str

    def is_nearer(self, other: Candidate, evidence: float = 0.0) -> bool:
        """Whether it is the more right one: within the bounds for certain, else by its scores, else by the evidence.

        Of what is missing less is better, and of noise; each counts by how many standard errors the two files are apart
        in it on the same samples, and the two are added up. What differs by a few lucky decisions alone is outvoted by
        the noise so, and a noise that says little by the score.

        :param evidence: what the sum of both has to exceed: more than 0 for what costs time.
        """
        for mine, theirs in ((self.shortfall, other.shortfall), (self.missed, other.missed)):
            if bool(mine) != bool(theirs):
                return not mine
        less, luck = other.shortfall - self.shortfall, self.outcome.luck_beside(other.outcome, self.bounds)
        quieter = self.outcome.quieter_than(other.outcome)
        if less and not luck:  # no score is asked for: nothing here is lucky, but what costs time has to be clear
            return less > 0 and (not evidence or quieter > evidence)
        return (less / luck if luck else 0.0) + quieter > evidence


@dataclass
class Found:
    """All files that a search ran over the whole corpus, in order, and what it learned of single operators.

    :param keep: see :class:`harness.mixed.search.Settings`.
    :param finished: False where the time was up before the last step.
    """

    keep: float
    candidates: list[Candidate] = field(default_factory=list)
    sensitivities: list[Sensitivity] = field(default_factory=list)
    finished: bool = True

    @property
    def best(self) -> Candidate:
        """What to ship: among files that keep the speed-up one that is right for certain, else one that is right by its
        scores, else a slower one that is right, else the nearest. Of certain ones the fastest, of equally fast ones
        the least noisy.
        """
        fast = [one for one in self.candidates if one.kept >= self.keep]
        if certain := [one for one in fast if not one.shortfall]:
            return _fastest(certain)
        if by_score := [one for one in fast if not one.missed]:
            return _nearest(by_score)
        if slow := [one for one in self.candidates if not one.missed]:
            return max(slow, key=lambda one: (one.kept, -one.noise))
        return _nearest(self.candidates)

    def front(self) -> list[Candidate]:
        """Pareto's: no other one is both more right and faster; the most right first."""
        found: list[Candidate] = []
        for one in sorted(self.candidates, key=lambda one: (one.shortfall, one.noise)):
            if not found or one.kept > found[-1].kept + 1e-12:
                found.append(one)
        return found


def _nearest(candidates: Sequence[Candidate]) -> Candidate:
    best = min(candidates, key=lambda one: (one.shortfall, one.missed, one.noise))
    level = [one for one in candidates if one is best or one.is_nearer(best)]
    return min(level, key=lambda one: one.outcome.noise(best.short_of))


def _fastest(candidates: Sequence[Candidate]) -> Candidate:
    most = max(one.kept for one in candidates)
    return min((one for one in candidates if one.kept >= most * (1 - TIES)), key=lambda one: one.noise)
