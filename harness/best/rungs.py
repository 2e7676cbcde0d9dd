"""The rungs of a search: what is done with candidates on each, which go no further, and what a step may cost.

Rungs of growing cost: what can be told without running; accuracy on few samples, then on more; speed by short runs of
all that are left, interleaved; a session of each finalist against FP32, and its accuracy on the test corpus, which
nothing before has looked at. Which candidates go up when is :mod:`harness.best.halving`'s.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from harness.best import static
from harness.best.evidence import RUNGS, Candidate
from harness.best.looking import some
from harness.best.steps import Steps
from harness.measure.session import TRAFFIC
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.best.evidence import Speed
    from harness.spec.case import Case

__all__ = ["FEW", "Rungs", "name_of", "plain", "ratio_of"]

FEW = 3
"""Samples a bucket on the first rung that runs any."""

_ETA = 3
_HOPELESS = 2.0
"""On few samples a case goes where it misses the bounds of a bucket by more than twice what they allow: 9.5 dB."""
_SLOWER = 0.9
"""By short runs a case goes where it misses the goal by a tenth."""
_ALIKE = 0.03
"""Short runs do not tell speeds apart that are nearer than this."""
_TOGETHER = 6
"""So many candidates are in a launch of short runs; each has a process, and FP32 is in all of them."""
_STATIC, _FEW, _MORE, _SHORT, _SESSION = RUNGS


class Rungs(Steps):
    """One search's rungs."""

    def _static(self, left: list[Candidate]) -> list[Candidate]:
        self.told(f"{_STATIC}: {len(left)} candidates")

        def look(one: Candidate) -> str:
            if why := static.unfit(self.bench, one.case) or static.behind(one.case, self.tried):
                return why
            wrong, files = self.measures.made(one.case)
            if wrong:
                return wrong
            if files in self._made:
                return f"the same files as {self._made[files]}"
            self._made[files] = name_of(one.case)
            return ""

        return self._each(_STATIC, left, look)

    def _few(self, left: list[Candidate]) -> list[Candidate]:
        return self._accuracy(_FEW, left, some(self.looking, FEW), max(self.settings.kept, -(-len(left) // _ETA)))

    def _more(self, left: list[Candidate]) -> list[Candidate]:
        whole = tuple(range(len(self.looking.corpus)))
        return self._accuracy(_MORE, left, whole, self.settings.kept)

    def _accuracy(self, rung: str, left: list[Candidate], indices: Sequence[int], keep: int) -> list[Candidate]:
        """Run the samples; what is beyond its bounds goes, then all but the ``keep`` most accurate ones.

        What computes less in INT8 is not ranked against what computes all of it: it is slower for its accuracy.
        """
        self.told(f"{rung}: {len(left)} candidates on {len(indices)} samples")

        def look(one: Candidate) -> str:
            one.search, int8 = self.measures.accuracy(one.case, indices)
            if int8 == 0:
                return "no operator runs in INT8"
            return ""

        there = self._within(rung, self._each(rung, self._built(rung, left), look))
        order = sorted((one for one in there if plain(one.case)), key=self._rank)
        for place, one in enumerate(order[keep:], keep + 1):
            best = order[0].search
            shown = f", the first {best.sqnr_db():.1f}" if best else ""
            db = one.search.sqnr_db() if one.search else math.nan
            one.reject(rung, f"place {place} of {len(order)} by accuracy: {db:.1f} dB{shown}")
        return [one for one in there if not one.rejected]

    def _within(self, rung: str, there: list[Candidate]) -> list[Candidate]:
        """Those within their bounds, on few samples those not far beyond them; the two nearest where none is, so that
        it can be said how near.
        """
        limit, said = (_HOPELESS, "far beyond its bounds: ") if rung == _FEW else (0.0, "")
        out = [one for one in there if self._misses(one, limit)]
        spared = sorted(out, key=self._rank)[:2] if len(out) == len(there) else []
        for one in out:
            if one not in spared and one.search:
                one.reject(rung, said + one.search.reasons(self.model)[0])
        return [one for one in there if not one.rejected]

    def _misses(self, one: Candidate, limit: float) -> bool:
        if one.search is None or not one.search.reasons(self.model):
            return False
        return not limit or max(one.search.shortfalls(self.model).values()) > limit

    def _rank(self, one: Candidate) -> tuple[float, float]:
        if one.search is None:
            return math.inf, 0.0
        return one.search.shortfall(self.model), -one.search.sqnr_db()

    def _short(self, left: list[Candidate]) -> list[Candidate]:
        """The finalists: by one launch of up to six at a time, all of them beside FP32."""
        self.told(f"{_SHORT}: {len(left)} candidates")
        left = self._built(_SHORT, left)
        for group in _groups(left, _TOGETHER):
            self._timed_together(group, [one.case for one in group])
        left = [one for one in left if not one.rejected]
        there = [one for one in left if self._short_of(one)[0] <= 1 / _SLOWER]
        spared = [] if there else self._fastest_first(left)[:1]  # so that it can be said how near
        for one in left:
            if one not in there and one not in spared:
                one.reject(_SHORT, self._short_of(one)[1])
        order = self._fastest_first(there) or spared
        for one in order[self.settings.finalists :]:
            ours, theirs = ratio_of(one), ratio_of(order[0])
            alike = f"no faster than {name_of(order[0].case)} ({ours:.2f}x, {theirs:.2f}x), and less accurate"
            slower = f"{ours:.2f}x by short runs, {name_of(order[0].case)} {theirs:.2f}x"
            one.reject(_SHORT, alike if ours >= theirs * (1 - _ALIKE) else slower)
        return order[: self.settings.finalists]

    def _faster(self, left: list[Candidate], winner: Candidate) -> list[Candidate]:
        """Those that short runs show to be faster than the winner, which runs beside them; the fastest first."""
        if left:
            self.told(f"{_SHORT}: {len(left)} candidates beside {name_of(winner.case)}")
        there: list[tuple[float, Candidate]] = []
        for group in _groups(self._built(_SHORT, left), _TOGETHER - 1):
            found = self._timed_together(group, [winner.case, *(one.case for one in group)])
            for one in group if found else []:
                ours, theirs = (found[case.id].ratio[TRAFFIC][1] for case in (one.case, winner.case))
                if ours > theirs * (1 + _ALIKE):
                    there.append((ours / theirs, one))
                else:
                    one.reject(_SHORT, f"{ours:.2f}x by short runs, {name_of(winner.case)} {theirs:.2f}x beside it")
        there.sort(key=lambda pair: -pair[0])
        for by, one in there[self.settings.finalists :]:
            one.reject(_SHORT, f"{by:.2f} times as fast as {name_of(winner.case)}, others {there[0][0]:.2f} times")
        return [one for _, one in there[: self.settings.finalists]]

    def _timed_together(self, group: Sequence[Candidate], cases: Sequence[Case]) -> dict[str, Speed]:
        found = self._step(_SHORT, _SHORT, partial(self.measures.short, cases))
        self.launch_s = self.budget.took(_SHORT)
        if self.builds:  # most of a launch is each arm's start: a session has two of them
            self.launch_s *= max(0.5, 2 / (1 + len(cases)))
        for one in group:
            if found is None:
                self._passed_over(_SHORT, one)
            else:
                one.rung, one.short = _SHORT, found[one.case.id]
        return found or {}

    def _session(self, left: list[Candidate]) -> list[Candidate]:
        if not left and self.goal.latencies() and not self.unfinished:
            left = [self.fp32]
        if left:
            self.told(f"{_SESSION}: {', '.join(name_of(one.case) for one in left)}")
        there = []
        for index, one in enumerate(left):
            if self._judged(one, len(left) - index):
                one.rung = _SESSION
                there.append(one)
            else:
                self._passed_over(_SESSION, one)
                self.passed_over += 1
        return there

    def _judged(self, one: Candidate, still: int) -> bool:
        """A session and the test corpus; False where the budget ends before.

        :param still: how many are to be judged, this one among them.
        """
        if one is not self.fp32:
            one.test = self._step(_SESSION, "test", lambda: self.measures.test(one.case))
            if one.test is None:
                return False
        launch_s = self.launch_s  # about what one of a session takes, too; a session of one proves nothing
        unanswered = self.builds and not self.answered
        share_s = self.budget.left if unanswered else self.of_what_is_left * self.budget.left
        budget_s = (share_s / still if share_s > 3 * launch_s * still else share_s) - launch_s
        if self.builds and budget_s < launch_s:  # finalists come before layouts
            budget_s = self.budget.left - launch_s
        if budget_s < (0.0 if unanswered else launch_s):  # without any answer, one launch is better than none
            self.unfinished = self.unfinished or _SESSION
            return False
        asked = self.goal.speedups()
        began = self.budget.spent
        found = self._step(
            _SESSION, f"{_SESSION} {one.case.id}", lambda: self.measures.session(one.case, asked, budget_s)
        )
        self.session_s = self.budget.spent - began
        if found is None:
            return False
        one.session, baseline = found
        if one is not self.fp32 and self.fp32.session is None:
            self.fp32.session = baseline
        return True

    def _short_of(self, one: Candidate) -> tuple[float, str]:
        """The factor by which the candidate's short runs miss the goal, and where they miss it most."""
        if one.short is None:
            return 0.0, ""
        missed = []
        for ask in self.goal.asks:
            known = one.short.ratio if ask.kind == "speedup" else one.short.ms
            shown = f"{known[ask.bucket][1]:.3g}{'x' if ask.kind == 'speedup' else ' ms'}"
            missed.append((ask.short_of(known[ask.bucket][1]), f"{shown} by short runs, {ask} asked"))
        return max(missed, default=(0.0, ""))

    def _fastest_first(self, some: Sequence[Candidate]) -> list[Candidate]:
        """What is about as fast as the first goes by accuracy."""
        order = sorted(some, key=lambda one: -ratio_of(one))
        if not order:
            return []
        near = [one for one in order if ratio_of(one) >= ratio_of(order[0]) * (1 - _ALIKE)]
        return [*sorted(near, key=self._rank), *order[len(near) :]]


def ratio_of(one: Candidate) -> float:
    """How many times faster than FP32 by short runs, over the traffic; 0 where there were none."""
    return one.short.ratio[TRAFFIC][1] if one.short else 0.0


def plain(case: Case) -> bool:
    """INT8 wherever a runtime has it: cases of one layout and route compute the same, by other ranges."""
    return case.precision is Precision.INT8 and not case.mixed


def name_of(case: Case) -> str:
    """Without model and runtime, which all have in common."""
    return case.id.removeprefix(f"{case.model}-{case.runtime}-")


def _groups(left: Sequence[Candidate], size: int) -> list[Sequence[Candidate]]:
    return [left[start : start + size] for start in range(0, len(left), size)]
