"""What a step of a search may cost: shares of the budget, builds that end with it, candidates that are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.best.candidates import POLICIES, floats
from harness.best.evidence import Candidate
from harness.best.journal import Over
from harness.best.measures import Measures
from harness.errors import BuildFailed, HarnessError, HostLost, WorkerHung
from harness.mixed.plan import find as find_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.best.goal import Goal
    from harness.best.journal import Budget, Journal
    from harness.best.looking import Looking
    from harness.spec.calibration import Policy
    from harness.spec.case import Case
    from harness.workbench import Workbench

T = TypeVar("T")

__all__ = ["SLACK_S", "Settings", "Steps"]

SLACK_S = 20.0
"""A build is stopped so many seconds after the budget's end."""


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


class Steps:
    """One search's steps.

    :param told: hears of each rung: its name, and how many candidates it begins with.

    ``shares``: rung -> how much of the budget may be spent when its steps end; ``build_share``: when a build ends.
    ``of_what_is_left``: the share of what is left of the budget that sessions may take. ``stage``: named where the
    budget ends, in place of the rung. ``passed_over``: finalists that the budget had no session for.
    """

    shares: Mapping[str, float]
    build_share = 1.0
    of_what_is_left: float
    stage = ""

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
        self.tried: dict[str, float] = {}
        self._engines: set[Case] = set()
        self._made: dict[tuple[str, ...], str] = {}
        self.unfinished = ""
        self.session_s = self.launch_s = 0.0
        self.passed_over = 0

    @property
    def builds(self) -> bool:
        """Whether the runtime builds engines, for seconds to minutes each; behind profiles, then."""
        return self.environment.runtime != "onnxruntime"

    @property
    def answered(self) -> bool:
        """Whether anything was judged."""
        return any(one.session for one in self.candidates)

    def _each(self, rung: str, left: Sequence[Candidate], look: Callable[[Candidate], str]) -> list[Candidate]:
        """Look at one after the other; those that were looked at and not rejected.

        :param look: why a candidate goes no further; empty where it goes on.
        """
        return [one for one in left if self._looked(rung, one, partial(self._step, rung, rung, partial(look, one)))]

    def _looked(self, rung: str, one: Candidate, step: Callable[[], str | None]) -> bool:
        """Whether a candidate goes on behind a step, which says why not, or None where the budget did not reach."""
        try:
            why = step()
        except HostLost:
            raise
        except HarnessError as error:
            why = f"{type(error).__name__}: {error.what}"
            one.refused = isinstance(error, BuildFailed)
        if why is None:
            self._passed_over(rung, one)
        elif why:
            one.reject(rung, why)
        else:
            one.rung = rung
        return why == ""

    def _passed_over(self, rung: str, one: Candidate) -> None:
        one.rejected = f"not looked at on rung {rung!r}: the budget"

    def _built(self, rung: str, left: Sequence[Candidate]) -> list[Candidate]:
        """Those whose engines are there. A build is a step of its own. FP32's comes first, which all are held against;
        the first one after it may take what the budget has, for without it there is no answer.

        :raises HarnessError: FP32 is refused.
        """
        if not self.builds or not left:
            return list(left)
        if self._build(rung, self.fp32.case, 1.0) is None:
            for one in left:
                self._passed_over(rung, one)
            return []
        there: list[Candidate] = []
        for one in left:
            share = self.build_share if there or self.answered else 1.0
            if self._looked(rung, one, partial(self._build, rung, one.case, share)):
                there.append(one)
        return there

    def _build(self, rung: str, case: Case, share: float) -> str | None:
        """Empty; None where the budget does not reach, or the build outlasts it.

        Engines of more profiles take longer: what one takes is known by their number.
        """
        if case in self._engines:
            return ""
        allowed_s = max(0.0, self.budget.left) + SLACK_S

        def build() -> str:
            self.bench.side(case)
            self._engines.add(case)
            return ""

        try:
            with self.bench.builds_within(allowed_s):
                return self._step(rung, f"build, {len(self.bench.layout(case).profiles)}", build, share)
        except WorkerHung:
            if allowed_s >= self.bench.workers.deadline_s:
                raise
            self.unfinished = self.unfinished or self.stage or rung
            return None

    def _step(self, rung: str, kind: str, work: Callable[[], T], share: float | None = None) -> T | None:
        """What a step gives; None where the budget does not reach for it."""
        try:
            return self.budget.step(kind, work, self.shares[rung] if share is None else share)
        except Over:
            self.unfinished = self.unfinished or self.stage or rung
            return None
