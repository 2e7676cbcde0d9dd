"""Successive halving: many candidates looked at cheaply, few at length (Jamieson and Talwalkar, AISTATS 2016).

Rungs of growing cost: what can be told without running; accuracy on few samples, then on more; speed by short runs of
all that are left, interleaved; a session of each finalist against FP32, and its accuracy on the test corpus, which
nothing before has looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.best import static
from harness.best.candidates import POLICIES, first, floats, widened
from harness.best.evidence import RUNGS, Candidate
from harness.best.journal import Over
from harness.best.looking import some
from harness.best.measures import Measures
from harness.errors import HarnessError, HostLost
from harness.measure.session import TRAFFIC
from harness.mixed.plan import find as find_plan
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.best.goal import Goal
    from harness.best.journal import Budget, Journal
    from harness.best.layouts import LayoutAdvice
    from harness.best.looking import Looking
    from harness.spec.calibration import Policy
    from harness.spec.case import Case
    from harness.workbench import Workbench

T = TypeVar("T")

__all__ = ["FEW", "Halving", "Settings"]

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
_OF_WHAT_IS_LEFT = 0.85
_STATIC, _FEW, _MORE, _SHORT, _SESSION = RUNGS
_SHARE = {_STATIC: 0.35, _FEW: 0.5, _MORE: 0.65, _SHORT: 0.8, _SESSION: 1.0}
"""How much of the budget may be spent when a rung's steps end."""


@dataclass(frozen=True)
class Settings:
    """What a search may do.

    :param kept: how many are timed by short runs; :param finalists: how many have a session.
    :param policies: under which ranges are found.
    :param layouts: that survivors are tried in, where the runtime has profiles.
    """

    kept: int = 4
    finalists: int = 2
    policies: tuple[Policy, ...] = POLICIES
    layouts: tuple[str, ...] = ("single", "buckets3")


class Halving:
    """One search on its way.

    :param told: hears of each rung: its name, and how many candidates it begins with.
    """

    def __init__(
        self,
        bench: Workbench,
        looking: Looking,
        goal: Goal,
        budget: Budget,
        journal: Journal,
        settings: Settings,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.bench, self.looking, self.goal = bench, looking, goal
        self.budget, self.settings, self.told = budget, settings, told
        self.key = looking.key
        self.model = bench.model(self.key)
        (self.environment,) = bench.environments.values()
        self.fp32 = Candidate(floats(self.key, self.environment)[0])
        plan = find_plan(bench.prepared(self.key), bench.dialect(self.fp32.case))
        self.mixed = plan is not None
        self.measures = Measures(bench, looking, journal, "" if plan is None else str(plan.as_data()))
        self.candidates: list[Candidate] = [self.fp32]
        self.layouts: LayoutAdvice | None = None
        self.unfinished = ""

    def run(self, advise: Callable[[Case], LayoutAdvice]) -> list[Candidate]:
        """Go up the rungs as far as the budget reaches; the candidates, FP32 first.

        :param advise: on layouts, for the first case that is left when layouts come in.
        """
        ready = self.bench.entries[self.key].ready is not None
        cases = floats(self.key, self.environment)[1:]
        cases += first(self.key, self.environment, ready=ready, mixed=self.mixed, policies=self.settings.policies)
        self.candidates += map(Candidate, cases)
        left = self.candidates[1:]
        for rung in (self._static, self._few, self._more):
            left = rung(left)
        int8 = [one for one in left if one.case.precision is Precision.INT8 and one.case.layout == "single"]
        best = min(int8, key=self._rank).case if int8 else self.fp32.case
        self.layouts = self._step(_SHORT, "layouts", lambda: advise(best))
        left = self._short(self._widened(left))
        self._session(left)
        self.fp32.rung = _SESSION
        return self.candidates

    # -- rungs --------------------------------------------------------------------------------------------------

    def _static(self, left: list[Candidate]) -> list[Candidate]:
        self.told(f"{_STATIC}: {len(left)} candidates")
        plain = next((one.case for one in left if one.case.calibration and not one.case.mixed), None)
        tried = self._step(_STATIC, "tried", lambda: self.measures.tried(plain)) if plain else None
        made: dict[tuple[str, ...], str] = {}

        def look(one: Candidate) -> str:
            if why := static.unfit(self.bench, one.case) or static.behind(one.case, tried or {}):
                return why
            wrong, files = self.measures.made(one.case)
            if wrong:
                return wrong
            if files in made:
                return f"the same files as {made[files]}"
            made[files] = _name(one.case)
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

        there = self._each(rung, left, look)
        there = self._within(rung, there)
        plain = [one for one in there if _plain(one.case)]
        order = sorted(plain, key=self._rank)
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

    def _widened(self, left: list[Candidate]) -> list[Candidate]:
        """Survivors in every layout, the advised one among them, and by every route: what these change is the time."""
        found, layouts = list(left), [*self.settings.layouts]
        if self.layouts is not None and self.layouts.advice is not None:
            layouts += [self.layouts.advice.best.text, self.layouts.advice.apart.text]
        plain = sorted((one for one in left if _plain(one.case)), key=self._rank)
        for one in [*(one for one in left if not _plain(one.case)), *plain[: self.settings.finalists]]:
            for case in widened(one.case, self.environment, tuple(dict.fromkeys(layouts)))[1:]:
                further = Candidate(case, _MORE, search=one.search)
                further.notes.append(f"accuracy of {_name(one.case)}")
                self.candidates.append(further)
                found.append(further)
        return found

    def _short(self, left: list[Candidate]) -> list[Candidate]:
        self.told(f"{_SHORT}: {len(left)} candidates")
        left = self._each(_SHORT, left, lambda one: self._built(one.case))
        for group in (left[start : start + _TOGETHER] for start in range(0, len(left), _TOGETHER)):
            cases = [one.case for one in group]
            found = self._step(_SHORT, _SHORT, partial(self.measures.short, cases))
            for one in group:
                if found is None:
                    one.rejected = f"not looked at on rung {_SHORT!r}: the budget"
                else:
                    one.short = found[one.case.id]
        left = [one for one in left if not one.rejected]
        there = [one for one in left if self._short_of(one)[0] <= 1 / _SLOWER]
        spared = [] if there else self._fastest_first(left)[:1]  # so that it can be said how near
        for one in left:
            if one not in there and one not in spared:
                one.reject(_SHORT, self._short_of(one)[1])
        order = self._fastest_first(there) or spared
        for one in order[self.settings.finalists :]:
            ours, theirs = _ratio(one), _ratio(order[0])
            alike = f"no faster than {_name(order[0].case)} ({ours:.2f}x, {theirs:.2f}x), and less accurate"
            slower = f"{ours:.2f}x by short runs, {_name(order[0].case)} {theirs:.2f}x"
            one.reject(_SHORT, alike if ours >= theirs * (1 - _ALIKE) else slower)
        return order[: self.settings.finalists]

    def _session(self, left: list[Candidate]) -> list[Candidate]:
        if not left and self.goal.latencies() and not self.unfinished:
            left = [self.fp32]
        if left:
            self.told(f"{_SESSION}: {', '.join(_name(one.case) for one in left)}")
        there = []
        for index, one in enumerate(left):
            if self._judged(one, len(left) - index):
                one.rung = _SESSION
                there.append(one)
            else:
                one.rejected = f"not looked at on rung {_SESSION!r}: the budget"
        return there

    def _judged(self, one: Candidate, still: int) -> bool:
        """A session and the test corpus; False where the budget ends before.

        :param still: how many are to be judged, this one among them.
        """
        if one is not self.fp32:
            one.test = self._step(_SESSION, "test", lambda: self.measures.test(one.case))
            if one.test is None:
                return False
        launch_s = self.budget.took(_SHORT)  # about what one of a session takes, too; a session of one proves nothing
        share_s = _OF_WHAT_IS_LEFT * self.budget.left
        budget_s = (share_s / still if share_s > 3 * launch_s * still else share_s) - launch_s
        if budget_s < launch_s:
            self.unfinished = self.unfinished or _SESSION
            return False
        asked = self.goal.speedups()
        found = self._step(
            _SESSION, f"{_SESSION} {one.case.id}", lambda: self.measures.session(one.case, asked, budget_s)
        )
        if found is None:
            return False
        one.session, baseline = found
        if one is not self.fp32 and self.fp32.session is None:
            self.fp32.session = baseline
        return True

    def _built(self, case: Case) -> str:
        self.bench.side(case)
        return ""

    # -- how they go on -----------------------------------------------------------------------------------------

    def _each(self, rung: str, left: Sequence[Candidate], look: Callable[[Candidate], str]) -> list[Candidate]:
        """Look at one after the other; those that were looked at and not rejected."""
        there = []
        for one in left:
            try:
                why = self._step(rung, rung, partial(look, one))
            except HostLost:
                raise
            except HarnessError as error:
                why = f"{type(error).__name__}: {error.what}"
            if why is None:
                one.rejected = f"not looked at on rung {rung!r}: the budget"
            elif why:
                one.reject(rung, why)
            else:
                one.rung = rung
                there.append(one)
        return there

    def _step(self, rung: str, kind: str, work: Callable[[], T]) -> T | None:
        """What a step gives; None where the budget does not reach for it."""
        try:
            return self.budget.step(kind, work, _SHARE[rung])
        except Over:
            self.unfinished = self.unfinished or rung
            return None

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
        order = sorted(some, key=lambda one: -_ratio(one))
        if not order:
            return []
        near = [one for one in order if _ratio(one) >= _ratio(order[0]) * (1 - _ALIKE)]
        return [*sorted(near, key=self._rank), *order[len(near) :]]


def _ratio(one: Candidate) -> float:
    return one.short.ratio[TRAFFIC][1] if one.short else 0.0


def _plain(case: Case) -> bool:
    return case.precision is Precision.INT8 and not case.mixed


def _name(case: Case) -> str:
    """Without model and runtime, which all have in common."""
    return case.id.removeprefix(f"{case.model}-{case.runtime}-")
