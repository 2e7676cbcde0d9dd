"""Successive halving: many candidates looked at cheaply, few at length (Jamieson and Talwalkar, AISTATS 2016).

Where cases run as they are made (ONNX Runtime), all of them go up the rungs together. Where each is built for seconds
to minutes, the most promising ones go up first, alone, in one layout: there is an answer before anything else is paid
for. Then come other ranges, where those were not right enough; then layouts and routes of what was judged.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from harness.best.candidates import first as in_one_layout
from harness.best.candidates import floats, widened
from harness.best.evidence import RUNGS, Candidate
from harness.best.found import chosen
from harness.best.rungs import Rungs, name_of, plain, ratio_of
from harness.best.steps import Settings
from harness.errors import HarnessError
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.best.layouts import LayoutAdvice
    from harness.spec.case import Case

__all__ = ["Halving", "Settings"]

_STATIC, _FEW, _MORE, _SHORT, _SESSION = RUNGS
_SHARES = {_STATIC: 0.35, _FEW: 0.5, _MORE: 0.65, _SHORT: 0.8, _SESSION: 1.0}
"""How much of the budget may be spent when a rung's steps end, where all candidates go up together."""
_BUILDS_OF_FIRST, _OTHERS = 0.5, 0.6
"""Where engines are built: when builds of the first candidates end, and all that is done with others. What is built
comes to its answer, whatever that leaves to others."""
_OF_WHAT_IS_LEFT = 0.85
_OF_FIRST = 0.6
_AS_FP16_DB = 3.0
_WAVE = 3
"""So many candidates are built before one of them is judged: what is in float, the best ranges, mixed precision."""


class Halving(Rungs):
    """One search on its way."""

    layouts: LayoutAdvice | None = None
    notes: list[str]

    def run(self, advise: Callable[[Case], LayoutAdvice]) -> list[Candidate]:
        """Go up the rungs as far as the budget reaches; the candidates, FP32 first.

        :param advise: on layouts, for the case that is to be shipped.
        """
        self.notes = []
        first = self.first()
        if self.builds:
            self._in_waves(first)
        else:
            self._up(first)
        self.fp32.rung = _SESSION
        judged = self._judged_within()
        try:
            if self.builds and self.passed_over:  # a finalist: what is left is for its session, when it goes on
                return self.candidates
            self._advise(advise, judged)
            if self.builds and judged:
                self._widen(judged)
        except HarnessError as error:  # a launch that was lost, say: what was judged before stands
            if not judged:
                raise
            self.unfinished = self.unfinished or self.stage
            self.notes.append(f"layouts were not tried to the end: {error}")
        return self.candidates

    def first(self) -> list[Candidate]:
        """List all candidates, and try methods on calibration samples; those that go up first."""
        ready = self.bench.entries[self.key].ready is not None
        cases = floats(self.key, self.environment)[1:]
        cases += in_one_layout(
            self.key, self.environment, ready=ready, mixed=self.mixed, policies=self.settings.policies
        )
        self.candidates += map(Candidate, cases)
        self.shares, self.of_what_is_left = _SHARES, _OF_WHAT_IS_LEFT
        of = next((case for case in cases if case.calibration and not case.mixed), None)
        if of is not None:
            self.tried = self._step(_STATIC, "tried", partial(self.measures.tried, of)) or {}
        return self._promising() if self.builds else self.candidates[1:]

    def _up(self, left: list[Candidate]) -> None:
        for rung in (self._static, self._few, self._more, self._short):
            left = rung(left)
        self._session(left)

    # -- where engines are built --------------------------------------------------------------------------------

    def _in_waves(self, wave: list[Candidate]) -> None:
        """The most promising candidates up to their sessions; others only while no INT8 case is within its bounds."""
        rest = sorted((one for one in self.candidates[1:] if one not in wave), key=self._hoped)
        self.shares, self.build_share = dict.fromkeys(RUNGS, 1.0), _BUILDS_OF_FIRST
        self.of_what_is_left = _OF_FIRST
        self._up(wave)
        self.fp32.rung = _SESSION
        self.shares, self.build_share = dict.fromkeys(RUNGS, _OTHERS), _OTHERS
        while rest:
            if enough := self._right_enough():
                for one in rest:
                    one.reject(_STATIC, f"other ranges change how right a case is, not its speed; right is {enough}")
                return
            rest = self._not_refused(rest)
            wave, rest = rest[:_WAVE], rest[_WAVE:]
            for rung in (self._static, self._few, self._more):
                wave = rung(wave)
            self._beside_winner(wave)

    def _promising(self) -> list[Candidate]:
        """FP16, mixed precision, and the ranges that came nearest on calibration samples.

        FP16 comes first: it needs no ranges, and INT8 has to be faster than it. Without ranges of ours (the file brings
        its own), all of them.
        """
        given = self.candidates[1:]
        own = [one for one in given if one.case.precision is not Precision.INT8]
        int8 = [one for one in given if one.case.precision is Precision.INT8]
        mixed = [one for one in int8 if one.case.mixed or one.case.calibration is None]
        order = sorted((one for one in int8 if one not in mixed), key=self._hoped)
        return [*own, *mixed, *order[:1]]

    def _hoped(self, one: Candidate) -> tuple[int, float]:
        """Policies in their order, and methods by what they reached on calibration samples, which cost no build."""
        calibration = one.case.calibration
        if calibration is None:
            return 0, 0.0
        reached = self.tried.get(str(calibration.method), math.nan)
        return self.settings.policies.index(calibration.policy), math.inf if math.isnan(reached) else -reached

    def _not_refused(self, rest: list[Candidate]) -> list[Candidate]:
        """What no builder has refused yet: where one case of a route is, others go by the next route that takes ranges.

        Other ranges are no reason for a builder to think otherwise.
        """
        refused = {one.case.route for one in self.candidates if plain(one.case) and one.refused}
        if not refused:
            return rest
        there: list[Candidate] = []
        for one in rest:
            if one.case.route not in refused:
                there.append(one)
                continue
            one.reject(_STATIC, f"route {one.case.route.value}: the builder refused another case of it")
            others = [
                case for case in widened(one.case, self.environment, (one.case.layout,)) if case.route not in refused
            ]
            further = [Candidate(case) for case in others[:1]]
            self.candidates += further
            there += further
        return there

    def _right_enough(self) -> str:
        """An INT8 case that is within its bounds as far as is known, and was timed; empty where there is none."""
        for one in self.candidates:
            seen = [known for known in (one.search, one.test) if known is not None]
            if (
                plain(one.case)
                and not self.as_float(one)
                and one.short
                and seen
                and not any(known.reasons(self.model) for known in seen)
            ):
                return name_of(one.case)
        return ""

    def as_float(self, one: Candidate) -> bool:
        """Whether an INT8 case is as near to FP32 as FP16 is: then hardly anything of it runs in INT8, whatever the
        engine says of its layers.
        """
        fp16 = next((other.search for other in self.candidates if other.case.precision is Precision.FP16), None)
        if fp16 is None or one.search is None or not plain(one.case):
            return False
        return one.search.sqnr_db() > fp16.sqnr_db() - _AS_FP16_DB

    def _beside_winner(self, left: list[Candidate]) -> None:
        """Judge those that are faster than what would be shipped now; all finalists where that would be FP32."""
        ship, _ = chosen(self.candidates, self.goal, self.model)
        if ship is None or ship is self.fp32 or (ship.test and ship.test.reasons(self.model)):
            self._session(self._short(left) if left else [])
        else:
            self._session(self._faster(left, ship))

    # -- layouts and routes -------------------------------------------------------------------------------------

    def _judged_within(self) -> list[Candidate]:
        """What was judged and is within its bounds: what would be shipped now first, then the fastest."""
        ship, _ = chosen(self.candidates, self.goal, self.model)
        judged = [one for one in self.candidates if one.test and one.session and not one.test.reasons(self.model)]
        return sorted(judged, key=lambda one: (one is not ship, -ratio_of(one)))

    def _advise(self, advise: Callable[[Case], LayoutAdvice], judged: list[Candidate]) -> None:
        """Advice on layouts, for the case that would be shipped; not in an answer's place."""
        if self.builds and self.unfinished and not judged:
            return
        self.shares, self.of_what_is_left, self.stage = dict.fromkeys(RUNGS, 1.0), _OF_WHAT_IS_LEFT, "layouts"
        int8 = [one for one in self.candidates if one.search and plain(one.case) and one.case.layout == "single"]
        best = judged[0] if judged else min(int8, key=self._rank, default=self.fp32)
        if not self.builds:  # nothing is measured for it
            self.layouts = advise(best.case)
            return
        self.told("layouts")
        self.layouts = self._step(_SESSION, "layouts", lambda: advise(best.case))

    def _widen(self, judged: list[Candidate]) -> None:
        """Judged cases in every layout, the advised one among them, and by every route, as far as the budget reaches:
        what these change is the time.
        """
        layouts = [*self.settings.layouts]
        if self.layouts is not None and self.layouts.advice is not None:
            layouts += [self.layouts.advice.best.text, self.layouts.advice.apart.text]
        found = []
        for one in judged:
            for case in widened(one.case, self.environment, tuple(dict.fromkeys(layouts)))[1:]:
                same = case.route == one.case.route  # another one computes other things in INT8
                found.append(Candidate(case, _MORE, search=one.search if same else None))
        self.candidates += found
        kept_s = self.budget.took(_SHORT) + self.session_s  # short runs and a session of the fastest come behind builds
        self.build_share = max(0.0, 1.0 - kept_s / max(self.budget.seconds, 1e-9))
        self._beside_winner(found)
