"""What a search came to: which case to ship, whether that meets the goal, and how near it comes where nothing does."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.best.evidence import RUNGS
from harness.best.goal import Ask
from harness.measure.session import TRAFFIC
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.best.evidence import Candidate
    from harness.best.goal import Goal
    from harness.best.layouts import LayoutAdvice
    from harness.explain.finding import Finding
    from harness.spec.model import Model

__all__ = ["Found", "Word", "answer", "chosen", "missing"]

Word = Literal["met", "open", "not met"]
"""The goal is met; it may be, and what was measured does not tell; it is not."""

_ALIKE = 0.05
"""Speeds that are nearer than this, and whose intervals meet, are equal: the more accurate case is taken."""


@dataclass
class Found:
    """A search's answer and its evidence.

    :param candidates: all of them, in the order in which they were tried.
    :param ship: the case to ship; without one that meets the goal, the nearest to it. None where the budget ended
        before anything was judged.
    :param why: of ``word``, a sentence.
    :param unfinished: what the budget did not reach; empty where all rungs were gone through.
    :param findings: what limits the nearest case, where the goal is not met.
    :param measured: values that this command measured; :param kept: that an earlier one had.
    """

    goal: Goal
    candidates: list[Candidate]
    ship: Candidate | None = None
    word: Word = "open"
    why: str = ""
    unfinished: str = ""
    findings: list[Finding] = field(default_factory=list)
    layouts: LayoutAdvice | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    measured: int = 0
    kept: int = 0

    def as_data(self) -> dict[str, Any]:
        return {
            "goal": [asdict(ask) for ask in self.goal.asks],
            "word": self.word,
            "why": self.why,
            "ship": self.ship.case.id if self.ship else None,
            "unfinished": self.unfinished,
            "candidates": [one.as_data() for one in self.candidates],
            "findings": [asdict(one) for one in self.findings],
            "layouts": self.layouts.as_data() if self.layouts else None,
            "notes": self.notes,
            "seconds": self.seconds,
            "measured": self.measured,
            "kept": self.kept,
        }


def answer(candidate: Candidate, ask: Ask) -> Word:
    """Whether a candidate meets one thing that is asked, by the whole interval of its session."""
    speed = candidate.session
    if candidate.case.precision is Precision.FP32 and ask.kind == "speedup":
        return "met" if ask.value <= 1 else "not met"
    if speed is None or speed.word == "invalid":
        return "open"
    known = speed.ratio if ask.kind == "speedup" else speed.ms
    if ask.bucket not in known:
        return "open"
    low, _, high = known[ask.bucket]
    worst, best = (low, high) if ask.kind == "speedup" else (high, low)
    if ask.short_of(worst) <= 1:
        return "met"
    return "not met" if ask.short_of(best) > 1 else "open"


def word_of(candidate: Candidate, goal: Goal, model: Model) -> Word:
    """Whether a candidate is within the bounds on the test corpus and meets all that is asked."""
    if candidate.case.precision is not Precision.FP32:
        if candidate.test is None:
            return "open"
        if candidate.test.reasons(model):
            return "not met"
    asks = goal.asks or (Ask(TRAFFIC, "speedup", 1.0),)  # the fastest has to be faster
    words = [answer(candidate, ask) for ask in asks]
    return "not met" if "not met" in words else "open" if "open" in words else "met"


def chosen(candidates: Sequence[Candidate], goal: Goal, model: Model) -> tuple[Candidate | None, Word]:
    """The fastest of those that meet the goal; else of those that may; else the nearest to it.

    :param candidates: those that came to the last rung.
    """
    there = [one for one in candidates if one.rung == RUNGS[-1] and not one.rejected]
    words = {id(one): word_of(one, goal, model) for one in there}
    met = [one for one in there if words[id(one)] == "met"]
    may = [one for one in there if words[id(one)] == "open"]
    if met and not (may and all(one.case.precision is Precision.FP32 for one in met) and not goal.asks):
        return _fastest(met), "met"
    if may:
        return _fastest(may), "open"
    if not there:
        return None, "open"
    return min(there, key=lambda one: distance(one, goal, model)), "not met"


def distance(candidate: Candidate, goal: Goal, model: Model) -> tuple[float, float]:
    """How far from the goal: bounds that are missed first, then the factor that is missing in speed."""
    right = 0.0 if candidate.test is None else candidate.test.shortfall(model)
    short = max((ask.short_of(_reached(candidate, ask)) for ask in goal.asks), default=-_ratio(candidate))
    return right, short


def missing(candidate: Candidate, goal: Goal, model: Model) -> list[str]:
    """What a candidate lacks, a sentence each, with the numbers."""
    found = [] if candidate.test is None else candidate.test.reasons(model)
    for ask in goal.asks:
        if answer(candidate, ask) == "met":
            continue
        reached = _reached(candidate, ask)
        shown = f"{reached:.2f}x" if ask.kind == "speedup" else f"{reached:.3g} ms"
        asked = f"{ask.value:g}x" if ask.kind == "speedup" else f"{ask.value:g} ms"
        where = "" if ask.bucket == TRAFFIC else f" at {ask.bucket}"
        told = (
            f", {ask.short_of(reached):.2f} times too slow"
            if answer(candidate, ask) == "not met"
            else ", and the interval holds it"
        )
        found.append(f"{shown}{where}, {asked} asked{told}")
    return found


def _fastest(some: Sequence[Candidate]) -> Candidate:
    top = max(some, key=_ratio)
    equal = [one for one in some if _ratio(one) >= _ratio(top) * (1 - _ALIKE) and _most(one) >= _least(top)]
    # By the samples of the search: the test corpus judges, and chooses nothing.
    return max(equal, key=lambda one: one.search.sqnr_db() if one.search else float("inf"))


def _ratio(candidate: Candidate) -> float:
    if candidate.case.precision is Precision.FP32:
        return 1.0
    speed = candidate.speed
    return speed.ratio[TRAFFIC][1] if speed and TRAFFIC in speed.ratio else 0.0


def _least(candidate: Candidate) -> float:
    return candidate.session.ratio[TRAFFIC][0] if candidate.session and TRAFFIC in candidate.session.ratio else 1.0


def _most(candidate: Candidate) -> float:
    return candidate.session.ratio[TRAFFIC][2] if candidate.session and TRAFFIC in candidate.session.ratio else 1.0


def _reached(candidate: Candidate, ask: Ask) -> float:
    if candidate.case.precision is Precision.FP32 and ask.kind == "speedup":
        return 1.0
    speed = candidate.speed
    known = (speed.ratio if ask.kind == "speedup" else speed.ms) if speed else {}
    return known[ask.bucket][1] if ask.bucket in known else (1e-9 if ask.kind == "speedup" else 1e9)
