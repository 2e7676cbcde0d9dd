"""Which cases two environments share, and which only one of them can take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.spec.matrix import expand

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from harness.spec.case import Case
    from harness.spec.matrix import Matrix
    from harness.workers import Environment

__all__ = ["Pair", "Pairs", "pair_up"]


@dataclass(frozen=True)
class Pair:
    """One case on both sides; they differ in the runtime alone."""

    baseline: Case
    candidate: Case

    @property
    def name(self) -> str:
        """The case's id without its runtime: ``text-int8-auto-ragged-cache-single``."""
        return replace(self.baseline, runtime="").id.replace("--", "-")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Pairs:
    """What a gate compares.

    :param both: cases of both sides, models outermost.
    :param only_baseline: cases whose route the candidate does not take; they are reported, and compared by nothing.
    :param only_candidate: the same of the baseline.
    """

    both: tuple[Pair, ...]
    only_baseline: tuple[Case, ...]
    only_candidate: tuple[Case, ...]


def pair_up(
    matrix: Matrix,
    models: Iterable[str],
    baseline: Environment,
    candidate: Environment,
    ready: Collection[str] = (),
) -> Pairs:
    """Every case of the matrix that both sides take, and what is left over on each.

    :param ready: models whose own files have Q/DQ (:func:`harness.spec.matrix.expand`).
    :raises UsageError: a word of the matrix that is none, or INT8 that neither side can take.
    """
    names = (baseline.name, candidate.name)
    families = {one.name: (one.runtime, one.version) for one in (baseline, candidate)}
    cases = expand(matrix, list(models), list(dict.fromkeys(names)), families, ready)
    sides = [{_without_runtime(case): case for case in cases if case.runtime == name} for name in names]
    old, new = sides
    both = tuple(Pair(case, new[key]) for key, case in old.items() if key in new)
    left = tuple(
        tuple(case for key, case in one.items() if key not in other) for one, other in ((old, new), (new, old))
    )
    return Pairs(both, *left)


def _without_runtime(case: Case) -> Case:
    return replace(case, runtime="")
