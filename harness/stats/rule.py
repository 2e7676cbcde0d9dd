"""The whole decision of a session after each launch: looks, the sign test's proposal, the null control, the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.stats.estimate import CLOCK_RESOLUTION, estimate
from harness.stats.sequential import PowerSpending, look_confidence, proposal
from harness.stats.verdict import Margins, Verdict, judge, judge_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from harness.stats.estimate import Estimate

    Builds = Sequence[Sequence[ArrayLike]]

__all__ = ["Decision", "Rule", "decide", "ended"]


@dataclass(frozen=True)
class Rule:
    """How a session stops; declared before it starts.

    :param looks: launches at which the interval may decide; the last is the budget.
    :param alpha: two-sided level over all looks: 0.10 is 5 % for "slower than tolerated" and 5 % for "below caught".
    :param spending: how that level is spread over the looks.
    :param proposal_alpha: level of each launch's any-time sign test; 0 switches proposals off.
    :param agree: launches that must say the same before a proposal counts; at least 2.
    :raises UsageError: a value that cannot be what was meant.
    """

    looks: tuple[int, ...] = (4, 6, 8, 12)
    alpha: float = 0.10
    spending: Callable[[float, float], float] = field(default_factory=PowerSpending)
    proposal_alpha: float = 0.01
    agree: int = 3
    margins: Margins = field(default_factory=Margins)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 0 <= self.proposal_alpha < 1 or self.agree < 2:
            raise UsageError(
                f"alpha {self.alpha}, proposal_alpha {self.proposal_alpha}, agree {self.agree}",
                where="the stopping rule",
                todo="levels lie between 0 and 1, and at least 2 launches must agree",
            )
        look_confidence(0, self.looks, self.alpha, spending=self.spending)


@dataclass(frozen=True)
class Decision:
    """Where a session stands.

    :param final: the session ends here.
    :param stopped_by: ``look``, ``proposal``, ``budget`` (the last look, whatever it says), or empty: go on.
    """

    verdict: Verdict
    null_control: Estimate | None
    final: bool
    stopped_by: str


def decide(
    candidate: Builds,
    null_control: Builds | None,
    rule: Rule,
    *,
    seed: int,
    invalid_reasons: Sequence[str] = (),
    resolution: float = CLOCK_RESOLUTION,
) -> Decision:
    """Judge the launches so far. Call it once after every launch, with all launches that were kept.

    At a look the interval has that look's confidence. Between looks the session ends only on a proposal: ``agree``
    launches say the same word by their sign tests, none says another, and the nominal interval (``1 - alpha``) says
    that word too. The last look ends the session in any case. The null control is judged with the same confidence.

    :param candidate: builds of launches of (blocks,) log ratios; :param null_control: A' against A, likewise.
    :param seed: of the bootstrap; :param resolution: see :func:`harness.stats.estimate.estimate`.
    :raises DataError: as :func:`harness.stats.estimate.estimate`.
    """
    launches = sum(len(build) for build in candidate)
    budget = launches >= rule.looks[-1]
    at_look = launches in rule.looks or budget
    index = rule.looks.index(launches) if launches in rule.looks else len(rule.looks) - 1
    level = look_confidence(index, rule.looks, rule.alpha, spending=rule.spending) if at_look else 1 - rule.alpha
    verdict, null = _judged(candidate, null_control, rule, level, seed, invalid_reasons, resolution)
    if at_look and (budget or verdict.word != "inconclusive"):
        decided = verdict.word not in {"inconclusive", "invalid"}
        return Decision(verdict, null, final=True, stopped_by="look" if decided or not budget else "budget")
    if rule.proposal_alpha:
        logs = [values for build in candidate for values in build]
        proposed = proposal(logs, rule.margins, rule.proposal_alpha, agree=rule.agree)
        if proposed is not None:
            level = 1 - rule.alpha
            nominal, nominal_null = _judged(candidate, null_control, rule, level, seed, invalid_reasons, resolution)
            if nominal.estimate is not None and judge(nominal.estimate, rule.margins).word == proposed:
                return Decision(nominal, nominal_null, final=True, stopped_by="proposal")
    return Decision(verdict, null, final=False, stopped_by="")


def ended(rule: Rule, launches: int) -> Rule:
    """The rule of a session that has to end between two looks, because its time is over: this is its last look.

    All of the level is spent by then. The looks before are taken to have spent what they would in so short a session,
    which is more than they did: a little conservative.
    """
    return replace(rule, looks=(*(look for look in rule.looks if look < launches), launches), proposal_alpha=0.0)


def _judged(
    candidate: Builds,
    null_control: Builds | None,
    rule: Rule,
    level: float,
    seed: int,
    reasons: Sequence[str],
    resolution: float,
) -> tuple[Verdict, Estimate | None]:
    null = None if null_control is None else estimate(null_control, level, seed + 1, resolution=resolution)
    found = estimate(candidate, level, seed, resolution=resolution)
    return judge_session(found, null, reasons, rule.margins), null
