"""The search: which operators to leave in float so that every length bucket is right, at the least time.

In order, each step from what the last one found: the form (what reads and writes floating point beside INT8, operators
whose INT8 kernels are slower anyway), the method of the ranges, rows in parts of their own largest value, ranges tensor
by tensor, then operators by the noise that they make for the time that they save, and back again those that were not
needed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.calibration.rescaling import served
from harness.mixed.assignment import Assignment
from harness.mixed.found import TIES, Candidate, Found
from harness.mixed.sensitivity import measure
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.calibration.rescaling import Rows
    from harness.mixed.evaluate import Evaluator
    from harness.mixed.gains import Gains
    from harness.spec.model import Bounds

__all__ = ["Settings", "estimated_kept", "search"]

_WRITES_FLOAT = {"MatMul", "Gemm"}
"""Operators that ONNX Runtime runs as one INT8 kernel without Q/DQ behind them."""
_METHODS = 3
"""Methods that whole files are tried by on the whole corpus."""
_SHARE = 0.35
"""Of the time that is left, for one operator at a time, and again for ranges tensor by tensor."""
_REACH = 2
"""How many narrower and wider ranges are looked at before a tensor's own one stands."""
_CLEARLY = 2.0
"""Standard errors by which rescaled rows have to be better: each costs time."""
_BEHIND = 1.05
"""A file that is noisier by so much on a third of the samples, and no nearer to its bounds, is not run on the rest."""


@dataclass(frozen=True)
class Settings:
    """What is asked, and how long it may take.

    :param bounds: bucket -> bounds, see :meth:`harness.mixed.outcome.Outcome.shortfall`.
    :param keep: the least share of plain INT8's speed-up over FP32, as long as bounds can be met with it.
    :param budget_s: no file is begun after so many seconds.
    :param small: samples a bucket for one operator at a time; all of the corpus for whole files.
    :param shortlist: operators that are also taken out one at a time.
    :param rows: that are worth rescaling, see :func:`harness.calibration.rows.spreads`.
    """

    bounds: Mapping[str, Bounds]
    keep: float = 0.9
    budget_s: float = 240.0
    small: int = 8
    shortlist: int = 6
    rows: Rows = ()


def estimated_kept(gains: Gains, in_float: Iterable[str]) -> float:
    """Share of the speed-up where nothing can be timed: as if INT8 took half the time of every product."""
    lost = sum(gains.saved[node] for node in in_float) / (abs(gains.total) or 1.0)
    return 1.0 / (1.0 + lost) if lost > -1 else math.inf


def search(
    evaluator: Evaluator,
    gains: Gains,
    settings: Settings,
    kept: Callable[[Assignment], float],
    *,
    clock: Callable[[], float] = time.monotonic,
    on_step: Callable[[str], None] = lambda _: None,
) -> Found:
    """Look for the assignment.

    The same corpus, palette, gains and times give the same one, however often the search is broken off.

    :param kept: assignment -> share of plain INT8's speed-up; what it said once has to stand.
    :raises CalibrationFailed: a file does not run.
    """
    return _Search(evaluator, gains, settings, kept, clock, on_step).run()


class _Search:
    def __init__(
        self,
        evaluator: Evaluator,
        gains: Gains,
        settings: Settings,
        kept: Callable[[Assignment], float],
        clock: Callable[[], float],
        on_step: Callable[[str], None],
    ) -> None:
        self.evaluator, self.gains, self.settings, self.kept = evaluator, gains, settings, kept
        self.on_step, self.palette, self.clock, self.begun = on_step, evaluator.palette, clock, clock()
        self.found = Found(settings.keep)

    def going_on(self) -> bool:
        """Whether there is time left; once there is not, the search is not finished."""
        left = self.clock() - self.begun < self.settings.budget_s
        self.found.finished &= left
        return left

    def within(self, share: float) -> Callable[[], bool]:
        """:meth:`going_on` for one step, which takes a share of the time that is left, so that others get theirs."""
        until = self.clock() + share * (self.begun + self.settings.budget_s - self.clock())
        return lambda: self.clock() < until and self.going_on()

    def run(self) -> Found:
        base = self.tried(Assignment(), "plain")
        base = self.best_of(self.forms(), "form", base)
        few = self.evaluator.some(self.settings.small)
        base = self.best_of(self.quietest(self.other_methods(base.assignment), few), "method", base)
        self.measured(base, few)
        if base.shortfall and self.settings.rows:
            base = self.rescaled(base, few)
        bases: list[Candidate] = []
        while base not in bases and base.shortfall and self.going_on():
            bases.append(base)
            base = self.with_float(self.finer_ranges(base), self.settings.keep, "float")
        if base.missed:
            base = self.with_float(base, 0.0, "slower")
        self.give_back(base)
        return self.found

    def measured(self, base: Candidate, few: Sequence[int]) -> None:
        in_time = self.within(_SHARE)
        found = measure(
            self.evaluator, base.assignment, self.gains.saved, few, self.settings.shortlist, in_time, self.on_step
        )
        if in_time() or not self.found.sensitivities:  # half of a new ranking is worse than all of the last one
            self.found.sensitivities = found

    def forms(self) -> list[Assignment]:
        """What reads and writes floating point beside INT8; operators whose INT8 kernels are the slower ones."""
        outputs = frozenset(n for n, operator in self.palette.operators.items() if operator in _WRITES_FLOAT)
        if self.palette.dialect is Dialect.S8S8:
            outputs = frozenset()  # all of them do already
        readers = frozenset(self.palette.shared_with_float)
        slower = frozenset(node for node, saved in self.gains.saved.items() if saved <= 0)
        if slower >= set(self.gains.saved):
            slower = frozenset()  # with everything in float it is no INT8: ship FP32
        nothing = frozenset[str]()
        return [
            Assignment(in_float, float_outputs - in_float, float_readers)
            for in_float in dict.fromkeys((nothing, slower))
            for float_outputs in dict.fromkeys((nothing, outputs))
            for float_readers in dict.fromkeys((nothing, readers))
        ]

    def other_methods(self, base: Assignment) -> list[Assignment]:
        palette = self.palette.of_rows(base.rows)
        tensors = dict.fromkeys(palette.inputs.values())
        found = []
        for method in list(palette.plain)[1:]:
            assignment = base
            for tensor in tensors:
                assignment = assignment.with_method(tensor, method)
            found.append(assignment)
        return found

    def rescaled(self, base: Candidate, few: Sequence[int]) -> Candidate:
        """One more tensor with rescaled rows, those of the noisiest operators first, as long as that is clearly better.

        Its ranges are by the method that is the least noisy then, and tensor by tensor.
        """
        in_time = self.within(_SHARE)
        order = {one.node: place for place, one in enumerate(self.found.sensitivities)}
        offered = sorted(self.settings.rows, key=lambda row: order.get(row[0], len(order)))
        for row in offered:
            if not base.shortfall or not in_time():
                break
            if served(self.palette.prepared, (row,))[row[0]] <= base.assignment.in_float:
                continue
            self.on_step(f"rows: {row[0]}")
            plain = self.with_rows(base.assignment, tuple(sorted({*base.assignment.rows, row})))
            quiet = self.quietest([plain, *self.other_methods(plain)], few, 1)
            better = self.best_of(quiet, "rows", base, _CLEARLY)
            if better is not base:  # what its ranges can mend costs less than the next rows do
                self.measured(better, few)
                base = self.finer_ranges(better)
        return base

    def with_rows(self, base: Assignment, rows: Rows) -> Assignment:
        """The same with these rows rescaled; which method is best, has to be seen anew."""
        readers = frozenset(self.palette.of_rows(rows).shared_with_float) if base.float_readers else frozenset[str]()
        return replace(base, rows=rows, methods=(), float_readers=readers)

    def without_idle_rows(self, base: Candidate) -> Candidate:
        """Rows that operators in float alone read need no scale of their own."""
        given, in_float = base.assignment, base.assignment.in_float
        busy = served(self.palette.prepared, given.rows)
        rows = tuple(row for row in given.rows if busy.get(row[0], set()) - in_float)
        if rows == given.rows or not self.going_on():
            return base
        before, after = self.palette.of_rows(given.rows), self.palette.of_rows(rows)
        own, first, new = dict(given.methods), next(iter(before.plain)), next(iter(after.plain))
        kept = {tensor: own.get(tensor, first) for tensor in {*before.inputs.values()} & {*after.inputs.values()}}
        methods = tuple(sorted((tensor, method) for tensor, method in kept.items() if method != new))
        one = self.tried(replace(self.with_rows(given, rows), methods=methods), "back")
        return one if one.shortfall <= base.shortfall and one.missed <= base.missed else base

    def quietest(
        self, assignments: Sequence[Assignment], few: Sequence[int], count: int = _METHODS
    ) -> list[Assignment]:
        """Those of least noise on a few samples: what is far off need not be run on all."""
        noise: dict[Assignment, float] = {}
        for number, assignment in enumerate(assignments, 1):
            if not self.going_on():
                break
            self.on_step(f"method: {number} of {len(assignments)} on a few samples")
            noise[assignment] = self.evaluator.outcome(assignment, few).noise()
        return sorted(noise, key=lambda one: noise[one])[:count]

    def best_of(
        self, assignments: Iterable[Assignment], step: str, base: Candidate, evidence: float = 0.0
    ) -> Candidate:
        """The most right one of those that are fast enough."""
        for assignment in assignments:
            if not self.going_on():
                break
            one = self.tried(assignment, step)
            if one.kept >= self.settings.keep and one.is_nearer(base, evidence):
                base = one
        return base

    def raced(self, assignment: Assignment, step: str, base: Candidate) -> Candidate | None:
        """Tried, unless a third of the samples shows already that it is no nearer to the bounds, and noisier."""
        bounds = self.settings.bounds
        theirs, own = self.evaluator.first_part(base.assignment), self.evaluator.first_part(assignment)
        if own.shortfall(bounds) >= theirs.shortfall(bounds) and own.noise() > _BEHIND * theirs.noise():
            return None
        return self.tried(assignment, step)

    def tried(self, assignment: Assignment, step: str) -> Candidate:
        """Run over the whole corpus, and timed; once each."""
        for one in self.found.candidates:
            if one.assignment == assignment:
                return one
        self.on_step(f"{step}: {len(self.found.candidates) + 1} files so far")
        outcome, bounds = self.evaluator.outcome(assignment), self.settings.bounds
        one = Candidate(
            assignment,
            outcome,
            outcome.shortfall(bounds),
            outcome.missed(bounds),
            outcome.short_of(bounds),
            bounds,
            outcome.noise(),
            self.kept(assignment),
            step,
        )
        self.found.candidates.append(one)
        return one

    def finer_ranges(self, base: Candidate) -> Candidate:
        """Tensor by tensor, those of the noisiest operators first: the range that leaves the file the most right.

        From the own range to the next narrower or wider ones, as long as that is better.
        """
        in_time, inputs = self.within(_SHARE), self.palette.of_rows(base.assignment.rows).inputs
        in_int8 = (one.node for one in self.found.sensitivities if one.node not in base.assignment.in_float)
        for tensor in dict.fromkeys(inputs[node] for node in in_int8):
            for way in (-1, 1):
                while base.shortfall and in_time():
                    better = self.next_range(base, tensor, way)
                    if better is None:
                        break
                    base = better
        return base

    def next_range(self, base: Candidate, tensor: str, way: int) -> Candidate | None:
        """A more right file with one of the two ranges that are next in width; None where there is none."""
        palette = self.palette.of_rows(base.assignment.rows)
        own = dict(base.assignment.methods).get(tensor, next(iter(palette.plain)))
        methods = palette.by_width(tensor, own)
        at = methods.index(own)
        for step in range(1, _REACH + 1):
            if 0 <= at + way * step < len(methods) and self.going_on():
                one = self.raced(base.assignment.with_method(tensor, methods[at + way * step]), "ranges", base)
                if one is not None and one.kept >= self.settings.keep and one.is_nearer(base):
                    return one
        return None

    def with_float(self, base: Candidate, keep: float, step: str) -> Candidate:
        """Leave ever more in float, the most noise for the least time first, until all bounds are met."""
        floor = abs(self.gains.total) * 1e-3 or 1e-9
        order = sorted(
            (one for one in self.found.sensitivities if one.node not in base.assignment.in_float),
            key=lambda one: (-one.on / max(one.saved, floor), one.node),
        )
        return self._added(base, [one.node for one in order], keep, step)

    def _added(self, base: Candidate, nodes: Sequence[str], keep: float, step: str) -> Candidate:
        """First all that is fast enough, half of it, a quarter, ...: errors cancel, and many may better what no single
        operator does. Then one by one in growing groups; one that is too slow is halved, one that makes it worse is
        passed over.
        """
        base = self._many_at_once(base, nodes, keep, step)
        nodes = [node for node in nodes if node not in base.assignment.in_float]
        at, size = 0, 1
        while at < len(nodes) and base.shortfall and self.going_on():
            group = nodes[at : at + size]
            assignment = base.assignment.with_float(*group)
            if assignment.in_float >= set(self.gains.saved) or self.kept(assignment) < keep:
                if len(group) > 1:
                    size = max(1, len(group) // 2)
                    continue
                at += 1
                continue
            one = self.raced(assignment, step, base)
            if one is not None and one.is_nearer(base):
                base, size = one, size + 1
            else:
                size = max(1, size - 1)
            at += len(group)
        return base

    def _many_at_once(self, base: Candidate, nodes: Sequence[str], keep: float, step: str) -> Candidate:
        wanted: list[str] = []
        for node in nodes:
            if estimated_kept(self.gains, [*base.assignment.in_float, *wanted, node]) >= keep:
                wanted.append(node)
        best, count = base, len(wanted)
        while count > 1 and best.shortfall and self.going_on():
            assignment = base.assignment.with_float(*wanted[:count])
            if assignment.in_float < set(self.gains.saved) and self.kept(assignment) >= keep:
                one = self.raced(assignment, step, best)
                if one is not None and one.is_nearer(best):
                    best = one
            count //= 2
        return best

    def give_back(self, base: Candidate) -> None:
        """Put back into INT8 what can be without missing a bound, what saves most first."""
        base = self.without_idle_rows(base)
        if base.missed:
            return
        least = TIES * abs(self.gains.total)
        back = sorted(base.assignment.in_float, key=lambda node: (-self.gains.saved[node], node))
        for node in back:
            if self.gains.saved[node] < least or not self.going_on():
                return
            one = self.tried(base.assignment.without_float(node), "back")
            if one.shortfall <= base.shortfall and not one.missed and one.kept > base.kept:
                base = one
