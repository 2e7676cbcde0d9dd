"""From an interval to a word, a sentence, an exit code and, where nothing is clear, the cheapest next step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.errors import DataError, UsageError
from harness.spec.latency import CAUGHT, TOLERATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.stats.estimate import Estimate
    from harness.stats.location import Interval

__all__ = [
    "EXIT_CODES",
    "Margins",
    "NextStep",
    "Verdict",
    "Word",
    "exit_code",
    "gain_step",
    "judge",
    "judge_gain",
    "judge_session",
    "next_step",
]

Word = Literal["pass", "minor", "regression", "improved", "inconclusive", "invalid", "missed"]

EXIT_CODES: dict[Word, int] = {
    "pass": 0,
    "minor": 0,
    "improved": 0,
    "regression": 1,
    "missed": 1,
    "inconclusive": 3,
    "invalid": 4,
}
"""0: ship; 1: do not; 3: nothing proved; 4: the session cannot be trusted. 2 and 5 stay with usage and environment."""

_SEVERITY: tuple[Word, ...] = ("regression", "missed", "invalid", "inconclusive")


@dataclass(frozen=True)
class Margins:
    """How much slower is tolerated, and how much slower must be caught, as ratios minus 1.

    :raises UsageError: not 0 <= tolerated < caught.
    """

    tolerated: float = TOLERATED
    caught: float = CAUGHT

    def __post_init__(self) -> None:
        if not 0 <= self.tolerated < self.caught < math.inf:
            raise UsageError(
                f"margins {self.tolerated:g} and {self.caught:g}",
                where="latency margins",
                todo="the tolerated margin is at least 0 and below the one that must be caught",
            )

    @property
    def log_tolerated(self) -> float:
        """delta_0 as a log ratio."""
        return math.log1p(self.tolerated)

    @property
    def log_caught(self) -> float:
        """delta_1 as a log ratio."""
        return math.log1p(self.caught)


@dataclass(frozen=True)
class Verdict:
    """A word, why, and the estimate it rests on (None where no estimate could be made)."""

    word: Word
    why: str
    estimate: Estimate | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of this verdict alone: see :data:`EXIT_CODES`."""
        return EXIT_CODES[self.word]


class NextStep(NamedTuple):
    """What to do about an inconclusive session.

    :param launches_needed: launches in all, those already run included; 0 where more launches cannot help.
    :param seconds: time that the launches still to run take; infinite where more launches cannot help.
    """

    advice: str
    launches_needed: int
    seconds: float


def exit_code(words: Iterable[Word]) -> int:
    """Exit code of several verdicts: a regression outranks invalid, invalid outranks inconclusive."""
    seen = set(words)
    return next((EXIT_CODES[word] for word in _SEVERITY if word in seen), 0)


def judge(estimate: Estimate, margins: Margins) -> Verdict:
    """Compare the interval [L, U] with both margins.

    ===============  =============================================
    U < -d0          improved
    L > d0, U >= d1  regression
    d0 < L, U < d1   minor
    U < d1, L <= d0  pass
    else             inconclusive
    ===============  =============================================

    d0 and d1 as log ratios. Passing takes proof that the slowdown is below d1 (two one-sided tests, Schuirmann 1987),
    so an interval that is too wide is inconclusive and never a pass.
    """
    low, high = estimate.interval.low, estimate.interval.high
    d0, d1 = margins.log_tolerated, margins.log_caught
    tolerated, caught = _percent(d0), _percent(d1)
    if high < -d0:
        return Verdict("improved", f"{_measured(estimate)}: faster than before; a new baseline is due", estimate)
    if low > d0 and high >= d1:
        reach = (
            f"{caught} or more for sure"
            if low >= d1
            else f"slower than the {tolerated} that are tolerated, and may reach {caught}"
        )
        why = f"{_measured(estimate)}: {reach}"
        return Verdict("regression", why, estimate)
    if low > d0:
        why = f"{_measured(estimate)}: slower than {tolerated}, but less than the {caught} that must be caught"
        return Verdict("minor", why, estimate)
    if high < d1:
        return Verdict("pass", f"{_measured(estimate)}: below the {caught} that must be caught", estimate)
    if math.isinf(high):
        why = f"{estimate.launches} launch(es) do not show how launches differ; two are the least, four a start"
        return Verdict("inconclusive", why, estimate)
    less = f"{-100 * math.expm1(low):.3g} %"
    other = f"stay within the {tolerated} that are tolerated" if low > -d0 else f"take {less} less"
    why = f"{_measured(estimate)}: too wide an interval: it may take {caught} longer or more, and it may {other}"
    return Verdict("inconclusive", why, estimate)


def judge_session(
    candidate: Estimate, null_control: Estimate | None, invalid_reasons: Sequence[str], margins: Margins
) -> Verdict:
    """The candidate's verdict, unless the session cannot be trusted.

    :param null_control: A' against A, the same code twice: when that differs, so may anything. None: not measured.
    :param invalid_reasons: what else went wrong (throttled clocks, settings that differ), each a clause.
    """
    reasons = list(invalid_reasons)
    if null_control is not None and (null := judge(null_control, margins)).word in {"regression", "improved", "minor"}:
        reasons.append(f"the baseline differs from its own copy: {null.why}")
    if reasons:
        return Verdict("invalid", "; ".join(reasons), candidate)
    return judge(candidate, margins)


def judge_gain(estimate_of_ratio: Estimate, at_least: float = 1.3, confidence: float = 0.95) -> Verdict:
    """Is the first arm at least ``at_least`` times as fast as the second, with one-sided ``confidence``?

    :param estimate_of_ratio: log of (time that should be shorter / time to beat), e.g. INT8 / FP16. Its interval must
        have a two-sided confidence of at least ``2 * confidence - 1``.
    :returns: pass when even the slow end of the interval is fast enough, missed when not even the fast end is,
        else inconclusive.
    :raises DataError: the interval's confidence is too low. UsageError: ``at_least`` is not a positive number.
    """
    interval = estimate_of_ratio.interval
    if not 0 < at_least < math.inf:
        raise UsageError(f"a gain of at least {at_least}", where="a gain assertion", todo="give a ratio, such as 1.3")
    if interval.confidence < 2 * confidence - 1 - 1e-9:
        raise DataError(
            f"an interval of {interval.confidence:.3g} cannot carry a one-sided confidence of {confidence:.3g}",
            where="a gain assertion",
            todo=f"estimate with confidence {2 * confidence - 1:.3g} or more",
        )
    least, most = math.exp(-interval.high), _exp(-interval.low)
    text = (
        f"{math.exp(-estimate_of_ratio.point):.3f}x as fast [{least:.3f}, {most:.3f}] over "
        f"{estimate_of_ratio.launches} launch(es), {at_least:g}x wanted"
    )
    if least >= at_least:
        return Verdict("pass", text, estimate_of_ratio)
    return Verdict("missed" if most < at_least else "inconclusive", text, estimate_of_ratio)


def next_step(estimate: Estimate, margins: Margins, cost_per_launch_s: float) -> NextStep:
    """The cheapest way out of an inconclusive session, and what it costs.

    The half-width shrinks as ``t(n-1) * sd / sqrt(n)`` while the point stays: the least n is sought at which the
    interval leaves one margin behind. A point between the margins, or more than 100 launches, is not worth waiting for.

    :param cost_per_launch_s: seconds for one more launch: start, warm-up and blocks.
    """
    if not estimate.degrees:
        needed = max(4, estimate.launches)
        seconds = (needed - estimate.launches) * cost_per_launch_s
        return NextStep(f"run {needed} launches: one does not show how launches differ", needed, seconds)
    point = estimate.point
    room = max(margins.log_caught - point, point - margins.log_tolerated, -margins.log_tolerated - point)
    return _until(estimate, room, cost_per_launch_s, f"the ratio stays at {_percent(point, sign=True)}")


def gain_step(estimate_of_ratio: Estimate, at_least: float, cost_per_launch_s: float) -> NextStep:
    """The same for a gain that is neither proved nor missed: until the interval leaves ``at_least`` on one side."""
    if not estimate_of_ratio.degrees:
        return next_step(estimate_of_ratio, Margins(), cost_per_launch_s)
    room, ratio = abs(estimate_of_ratio.point + math.log(at_least)), _exp(-estimate_of_ratio.point)
    return _until(estimate_of_ratio, room, cost_per_launch_s, f"it stays {ratio:.3f}x as fast")


def _until(estimate: Estimate, room: float, cost_per_launch_s: float, stays: str) -> NextStep:
    """The least n at which the half-width ``t(n-1) * sd / sqrt(n)`` is below ``room``; n launches, or n builds."""
    from scipy import stats

    several = estimate.builds > 1
    now = estimate.builds if several else estimate.launches
    sd = estimate.standard_error * math.sqrt(now)
    tail = (1 - estimate.interval.confidence) / 2
    for n in range(now + 1, 101):
        if float(stats.t.isf(tail, n - 1)) * sd / math.sqrt(n) < room:
            launches = math.ceil(estimate.launches * n / now)
            seconds = (launches - estimate.launches) * cost_per_launch_s
            more = f"{n - now} more build(s) of both sides, measured in" if several else f"{n - now} more launch(es),"
            return NextStep(f"{more} about {seconds:.0f} s, if {stays}", launches, seconds)
    what = "builds" if several else "launches"
    return NextStep(
        f"{what} differ by {sd:.1%}: more of them do not help in reasonable time; lock clocks, pin cores, quiet the "
        "host, or widen the margins to what selftest says that this machine supports",
        0,
        math.inf,
    )


def _measured(estimate: Estimate) -> str:
    interval: Interval = estimate.interval
    return (
        f"{_percent(estimate.point, sign=True)} [{_percent(interval.low, sign=True)}, "
        f"{_percent(interval.high, sign=True)}] ({interval.confidence:.3g} interval, {estimate.launches} launches, "
        f"{estimate.blocks} blocks)"
    )


def _percent(log_ratio: float, *, sign: bool = False) -> str:
    value = 100 * (_exp(log_ratio) - 1)
    return f"{value:+.2f} %" if sign else f"{value:.3g} %"


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
