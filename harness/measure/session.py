"""A session: launches of baseline, null control and candidate, until the answer is clear or the budget is spent."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measure.arms import NULL, Design, null_of
from harness.measure.clock import judging_clock
from harness.measure.host import throttled
from harness.measure.launch import Launch, LaunchLost, run_launch
from harness.stats.estimate import Estimate, against_both, block_logs, burst_value, estimate, traffic
from harness.stats.rule import Rule, decide
from harness.stats.verdict import Verdict, next_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.measure.arms import Arm, Clock, Question
    from harness.stats.verdict import Margins
    from harness.workers import Worker

    Floats = NDArray[np.float64]

__all__ = ["Outcome", "run_session"]

_LOST_AT_MOST = 1 / 3


@dataclass(frozen=True)
class Outcome:
    """What a session found, everything needed to trust it, and what it cost.

    :param verdict: of the traffic's total time (of the one input where there is only one).
    :param per_input: input label -> estimate of log(candidate / baseline).
    :param null: A' against A, traffic-weighted like the verdict.
    :param clock: the clock that judged.
    :param launches: raw samples.
    :param lost: launches that could not be used, and why.
    :param seconds: ``starting``, ``warming``, ``measuring``, summed over launches.
    :param stopped_by: ``look``, ``proposal``, ``budget`` (of launches or of seconds) or ``lost launches``.
    :param advice: the cheapest next step where the verdict is inconclusive.
    """

    verdict: Verdict
    traffic: Estimate | None
    per_input: dict[str, Estimate]
    null: Estimate | None
    clock: Clock
    launches: list[Launch]
    lost: list[str]
    seconds: dict[str, float]
    stopped_by: str
    seed: int
    advice: str = ""
    design: Design = field(default_factory=Design)

    def record(self) -> dict[str, Any]:
        """Plain values for a record: verdict, estimates, costs, and every raw sample."""
        return {
            "verdict": self.verdict.word,
            "why": self.verdict.why,
            "advice": self.advice,
            "clock": self.clock,
            "traffic": self.traffic,
            "inputs": self.per_input,
            "null": self.null,
            "seconds": self.seconds,
            "stopped_by": self.stopped_by,
            "seed": self.seed,
            "design": self.design,
            "lost": self.lost,
            "launches": self.launches,
        }


@dataclass
class _Evidence:
    """Block log ratios so far: input -> one array a launch, for the candidate and for the null control."""

    candidate: dict[str, list[Floats]]
    null: dict[str, list[Floats]]
    baseline_ns: dict[str, list[float]]


def run_session(
    question: Question,
    design: Design,
    margins: Margins,
    seed: int,
    *,
    start: Callable[[Arm], Worker] | None = None,
    on_launch: Callable[[int, str], None] | None = None,
) -> Outcome:
    """Measure a candidate against a baseline.

    Every launch starts fresh processes for baseline, A' (a second copy of the baseline) and candidate. At the looks
    that ``design`` declares, the interval over launches is read at that look's confidence; between looks a stop may be
    proposed by an e-process a launch (:func:`harness.stats.rule.decide`).

    :param start: makes a worker for an arm.
    :param on_launch: told the number of launches so far and what is known.
    """
    arms = (question.baseline, null_of(question.baseline), question.candidate)
    rule = Rule(looks=design.looks, margins=margins)
    seeds = np.random.SeedSequence(seed)
    launches: list[Launch] = []
    lost: list[str] = []
    labels = [one.label for one in question.inputs]
    evidence = _Evidence(
        {label: [] for label in labels}, {label: [] for label in labels}, {label: [] for label in labels}
    )
    clock: Clock = "wall_ns"
    began = time.monotonic()
    verdict, stopped_by = Verdict("inconclusive", "nothing was measured"), "budget"
    known: tuple[Estimate | None, Estimate | None] = (None, None)
    reasons: list[str] = []
    while len(launches) < design.looks[-1]:
        if launches and time.monotonic() - began > design.budget_s:
            break
        if len(lost) > max(2, _LOST_AT_MOST * (len(launches) + len(lost))):
            verdict = Verdict("invalid", f"{len(lost)} of {len(lost) + len(launches)} launches were lost: {lost[-1]}")
            stopped_by = "lost launches"
            break
        (child,) = seeds.spawn(1)
        try:
            launch = run_launch(arms, question.inputs, design, int(child.generate_state(1)[0]), start=start)
        except LaunchLost as error:
            lost.append(str(error))
            continue
        launches.append(launch)
        clock = judging_clock(design.clock, _clocks(launch), question.baseline.settings)
        _take_in(evidence, launch, question, clock)
        reasons += [reason for reason in (throttled() if clock == "device_ns" else ()) if reason not in reasons]
        decision = decide(
            _weighted(evidence.candidate, evidence, question),
            _weighted(evidence.null, evidence, question),
            rule,
            seed=seed,
            invalid_reasons=reasons,
        )
        verdict, known = decision.verdict, (decision.verdict.estimate, decision.null_control)
        if on_launch is not None:
            on_launch(len(launches), verdict.why)
        if decision.final:
            stopped_by = decision.stopped_by
            break
    seconds = {name: sum(launch.seconds[name] for launch in launches) for name in ("starting", "warming", "measuring")}
    advice = ""
    if verdict.word == "inconclusive" and verdict.estimate is not None:
        advice = next_step(verdict.estimate, margins, sum(seconds.values()) / max(1, len(launches))).advice
    return Outcome(
        verdict=verdict,
        traffic=known[0],
        per_input=_per_input(evidence.candidate, 1 - rule.alpha, seed) if launches else {},
        null=known[1],
        clock=clock,
        launches=launches,
        lost=lost,
        seconds=seconds,
        stopped_by=stopped_by,
        seed=seed,
        advice=advice,
        design=design,
    )


def _clocks(launch: Launch) -> list[str]:
    offered = [set(burst) for inputs in launch.samples.values() for bursts in inputs.values() for burst in bursts[:1]]
    return sorted(set.intersection(*offered))


def _take_in(evidence: _Evidence, launch: Launch, question: Question, clock: Clock) -> None:
    how = "median" if clock == "device_ns" else "min"
    for one in question.inputs:
        values = {
            label: np.array([float(burst_value(burst[clock], how)) for burst in inputs[one.label]])  # type: ignore[arg-type]
            for label, inputs in launch.samples.items()
        }
        baseline, null, candidate = values[question.baseline.label], values[NULL], values[question.candidate.label]
        evidence.candidate[one.label].append(against_both(candidate, baseline, null))
        evidence.null[one.label].append(block_logs(null, baseline))
        evidence.baseline_ns[one.label].append(float(np.median(baseline)))


def _weighted(logs: Mapping[str, list[Floats]], evidence: _Evidence, question: Question) -> list[list[Floats]]:
    """Builds of launches of block log ratios of the traffic's total time."""
    if len(question.inputs) == 1:
        return [logs[question.inputs[0].label]]
    by_number = dict(enumerate(question.inputs))
    return traffic(
        {number: [logs[one.label]] for number, one in by_number.items()},
        {number: statistics.median(evidence.baseline_ns[one.label]) for number, one in by_number.items()},
        {number: one.weight for number, one in by_number.items()},
    )


def _per_input(logs: Mapping[str, Sequence[Floats]], confidence: float, seed: int) -> dict[str, Estimate]:
    return {label: estimate([list(launches)], confidence, seed) for label, launches in logs.items()}
