"""The search: which operators to leave in float so that every length bucket is right, at the least time.

In order, each step from what the last one found: the form (what reads and writes floating point beside INT8), the
method of the ranges, ranges tensor by tensor, operators whose INT8 kernel is slower anyway, then operators by the noise
that they make for the time that they save, one more at a time, and back again those that were not needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.mixed.assignment import Assignment
from harness.mixed.sensitivity import Sensitivity, measure, quietest_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.mixed.evaluate import Evaluator
    from harness.mixed.gains import Gains
    from harness.mixed.outcome import Outcome
    from harness.spec.model import Bounds

__all__ = ["Candidate", "Found", "Settings", "search"]

_WRITES_FLOAT = {"MatMul", "Gemm"}
"""Operators that ONNX Runtime runs as one INT8 kernel without Q/DQ behind them."""
_NEXT = 1.35


@dataclass(frozen=True)
class Settings:
    """What is asked, and how long it may take.

    :param bounds: bucket -> bounds, see :meth:`harness.mixed.outcome.Outcome.shortfall`.
    :param budget_s: no file is begun after so many seconds.
    :param small: samples a bucket for one operator at a time; all of the corpus for whole files.
    :param shortlist: operators that are also taken out one at a time, and whose ranges are tried by every method.
    """

    bounds: Mapping[str, Bounds]
    budget_s: float = 240.0
    small: int = 8
    shortlist: int = 8


@dataclass(frozen=True)
class Candidate:
    """One file that was run over the whole corpus.

    :param kept: share of what plain INT8 saves that it is estimated to save, by :class:`harness.mixed.gains.Gains`.
    :param step: which step of the search made it.
    """

    assignment: Assignment
    outcome: Outcome
    shortfall: float
    noise: float
    kept: float
    step: str

    @property
    def order(self) -> tuple[float, float]:
        """Smaller is more right."""
        return (self.shortfall, self.noise)


@dataclass
class Found:
    """All files that a search ran over the whole corpus, in order, and what it learned of single operators.

    :param finished: False where the time was up before the last step.
    """

    candidates: list[Candidate] = field(default_factory=list)
    sensitivities: list[Sensitivity] = field(default_factory=list)
    finished: bool = True

    @property
    def best(self) -> Candidate:
        """The one that saves most of those that meet all bounds; where none does, the nearest to them."""
        right = [one for one in self.candidates if not one.shortfall]
        return max(right, key=lambda one: (one.kept, -one.noise)) if right else min(self.candidates, key=_order)

    def front(self) -> list[Candidate]:
        """Pareto's: no other one is both more right and saves more; the most right first."""
        found: list[Candidate] = []
        for one in sorted(self.candidates, key=_order):
            if not found or one.kept > found[-1].kept + 1e-12:
                found.append(one)
        return found


def search(
    evaluator: Evaluator,
    gains: Gains,
    settings: Settings,
    *,
    clock: Callable[[], float] = time.monotonic,
    on_step: Callable[[str], None] = lambda _: None,
) -> Found:
    """Look for the assignment; the same corpus, palette and gains give the same one, however often it is broken off.

    :raises CalibrationFailed: a file does not run.
    """
    return _Search(evaluator, gains, settings, clock, on_step).run()


class _Search:
    def __init__(
        self,
        evaluator: Evaluator,
        gains: Gains,
        settings: Settings,
        clock: Callable[[], float],
        on_step: Callable[[str], None],
    ) -> None:
        self.evaluator, self.gains, self.settings, self.on_step = evaluator, gains, settings, on_step
        self.palette, self.clock, self.begun = evaluator.palette, clock, clock()
        self.found = Found()
        self.slower = frozenset(node for node, saved in gains.saved.items() if saved <= 0)

    def going_on(self) -> bool:
        """Whether there is time left; once there is not, the search is not finished."""
        left = self.clock() - self.begun < self.settings.budget_s
        self.found.finished &= left
        return left

    def run(self) -> Found:
        base = self.best_of(self.forms(), "form")
        base = self.best_of(self.other_methods(base), "method", base)
        few = self.evaluator.some(self.settings.small)
        self.found.sensitivities = measure(
            self.evaluator, base.assignment, self.gains.saved, few, self.settings.shortlist, self.going_on, self.on_step
        )
        loud = [self.palette.inputs[one.node] for one in self.found.sensitivities][: self.settings.shortlist]
        finer = quietest_methods(self.evaluator, base.assignment, dict.fromkeys(loud), few, self.going_on, self.on_step)
        base = self.best_of(iter([finer]), "ranges", base)
        right = self.first_right(base)
        if right is not None:
            self.give_back(right)
        return self.found

    def forms(self) -> Iterator[Assignment]:
        outputs = frozenset(n for n, operator in self.palette.operators.items() if operator in _WRITES_FLOAT)
        readers = frozenset(self.palette.shared_with_float)
        for in_float in (frozenset[str](), self.slower):
            for float_outputs in (frozenset[str](), outputs - in_float):
                for float_readers in (frozenset[str](), readers):
                    yield Assignment(in_float, float_outputs, float_readers)

    def other_methods(self, base: Candidate) -> Iterator[Assignment]:
        tensors = dict.fromkeys(self.palette.inputs.values())
        for method in list(self.palette.plain)[1:]:
            assignment = base.assignment
            for tensor in tensors:
                assignment = assignment.with_method(tensor, method)
            yield assignment

    def best_of(self, assignments: Iterator[Assignment], step: str, base: Candidate | None = None) -> Candidate:
        tried = [base] if base else []
        for assignment in assignments:
            if tried and not self.going_on():
                break
            tried.append(self.tried(assignment, step))
        return min(tried, key=_order)

    def tried(self, assignment: Assignment, step: str) -> Candidate:
        """Run over the whole corpus; once each."""
        for one in self.found.candidates:
            if one.assignment == assignment:
                return one
        self.on_step(f"{step}: {len(self.found.candidates) + 1} files so far")
        outcome = self.evaluator.outcome(assignment)
        saved = sum(s for node, s in self.gains.saved.items() if node not in assignment.in_float)
        kept = saved / self.gains.total if self.gains.total else 0.0
        one = Candidate(assignment, outcome, outcome.shortfall(self.settings.bounds), outcome.noise(), kept, step)
        self.found.candidates.append(one)
        return one

    def first_right(self, base: Candidate) -> Candidate | None:
        """Leave ever more in float, the most noise for the least time first; the first one that meets all bounds."""
        if not base.shortfall:
            return base
        floor = abs(self.gains.total) * 1e-3 or 1e-9
        order = sorted(
            (one for one in self.found.sensitivities if one.node not in base.assignment.in_float),
            key=lambda one: (-one.on / max(one.saved, floor), one.node),
        )
        count = 1
        while count <= len(order):
            if not self.going_on():
                return None
            one = self.tried(base.assignment.with_float(*(s.node for s in order[:count])), "float")
            if not one.shortfall:
                return one
            count = len(order) if count < len(order) < count * _NEXT else max(count + 1, int(count * _NEXT))
        return None

    def give_back(self, right: Candidate) -> None:
        """Put back into INT8 what can be without missing a bound, what saves most first."""
        back = sorted(right.assignment.in_float - self.slower, key=lambda node: (-self.gains.saved[node], node))
        for node in back:
            if not self.going_on():
                return
            one = self.tried(right.assignment.without_float(node), "back")
            if not one.shortfall:
                right = one


def _order(one: Candidate) -> tuple[float, float]:
    return one.order
