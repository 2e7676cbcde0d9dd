"""A session: launches of baseline, null control and candidate, until the answer is clear or the budget is spent."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.errors import UsageError
from harness.measure.arms import NULL, Design, null_of
from harness.measure.clock import judging_clock
from harness.measure.host import throttled
from harness.measure.launch import Launch, LaunchLost, run_launch
from harness.stats.estimate import Estimate, against_both, block_logs, burst_value, estimate, traffic
from harness.stats.rule import Decision, Rule, decide
from harness.stats.verdict import Verdict, gain_step, judge_gain, next_step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.measure.arms import Arm, Clock, Question
    from harness.stats.verdict import Margins
    from harness.workers import Worker

    Floats = NDArray[np.float64]

__all__ = ["TRAFFIC", "Outcome", "run_session"]

_LOST_AT_MOST = 1 / 3


TRAFFIC = "traffic"
"""What a gain is asked of when it is not an input's: the traffic's total time."""


@dataclass(frozen=True)
class Outcome:
    """What a session found, everything needed to trust it, and what it cost.

    :param verdict: of the traffic's total time (of the one input where there is only one).
    :param per_input: input label -> estimate of log(candidate / baseline), at the verdict's confidence.
    :param gains: input label, or ``traffic`` -> is the candidate as many times faster as was asked for?
    :param null: A' against A, traffic-weighted like the verdict.
    :param clock: the clock that judged.
    :param launches: raw samples.
    :param lost: launches that could not be used, and why.
    :param seconds: ``starting``, ``warming``, ``measuring``, summed over launches.
    :param stopped_by: ``look``, ``proposal``, ``budget`` (of launches or of seconds) or ``lost launches``.
    :param advice: the cheapest next step where the verdict, or a gain, is inconclusive.
    """

    verdict: Verdict
    traffic: Estimate | None
    per_input: dict[str, Estimate]
    gains: dict[str, Verdict]
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
            "gains": {label: {"verdict": gain.word, "why": gain.why} for label, gain in self.gains.items()},
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
    """Block log ratios so far: input -> one array a launch, for the candidate and for the null control.

    :param builds: the build that each launch measured.
    """

    question: Question
    candidate: dict[str, list[Floats]]
    null: dict[str, list[Floats]]
    baseline_ns: dict[str, list[float]]
    builds: list[int] = field(default_factory=list)

    @classmethod
    def none(cls, question: Question) -> Self:
        labels = [one.label for one in question.inputs]
        return cls(
            question, {label: [] for label in labels}, {label: [] for label in labels}, {label: [] for label in labels}
        )

    def take_in(self, launch: Launch, clock: Clock) -> None:
        how, question = "median" if clock == "device_ns" else "min", self.question
        self.builds.append(launch.build)
        for one in question.inputs:
            values = {
                label: np.array([float(burst_value(burst[clock], how)) for burst in inputs[one.label]])  # type: ignore[arg-type]
                for label, inputs in launch.samples.items()
            }
            baseline = values[question.baseline.label] / question.baseline.items
            null = values[NULL] / question.baseline.items
            candidate = values[question.candidate.label] / question.candidate.items
            self.candidate[one.label].append(against_both(candidate, baseline, null))
            self.null[one.label].append(block_logs(null, baseline))
            self.baseline_ns[one.label].append(float(np.median(baseline)))

    def by_build(self, launches: Sequence[Floats]) -> list[list[Floats]]:
        return [
            [one for one, of in zip(launches, self.builds, strict=True) if of == build]
            for build in dict.fromkeys(self.builds)
        ]

    def of_traffic(self, logs: Mapping[str, list[Floats]]) -> list[list[Floats]]:
        """Builds of launches of block log ratios of the traffic's total time."""
        counted = {number: one for number, one in enumerate(self.question.inputs) if one.weight}
        if len(counted) == 1:
            return self.by_build(logs[next(iter(counted.values())).label])
        return traffic(
            {number: self.by_build(logs[one.label]) for number, one in counted.items()},
            {number: statistics.median(self.baseline_ns[one.label]) for number, one in counted.items()},
            {number: one.weight for number, one in counted.items()},
        )


def run_session(
    question: Question,
    design: Design,
    margins: Margins,
    seed: int,
    *,
    gains: Mapping[str, float] | None = None,
    start: Callable[[Arm], Worker] | None = None,
    on_launch: Callable[[int, str], None] | None = None,
) -> Outcome:
    """Measure a candidate against a baseline.

    Every launch starts fresh processes for baseline, A' (a second copy of the baseline) and candidate, one launch after
    the other, so that nothing starts while anything is timed. At the looks that ``design`` declares, the interval over
    launches is read at that look's confidence; between looks a stop may be proposed by an e-process a launch
    (:func:`harness.stats.rule.decide`). A session that was asked for gains goes on until they are clear, too.

    :param gains: input label, or ``traffic`` -> how many times faster the candidate has to be. Judged at the verdict's
        confidence, 0.90 two-sided or more: one-sided 0.95.
    :param start: makes a worker for an arm.
    :param on_launch: told the number of launches so far and what is known.
    :raises UsageError: a gain of an input that is not there.
    """
    gains = dict(gains or {})
    for label in set(gains) - {TRAFFIC, *(one.label for one in question.inputs)}:
        raise UsageError(f"a gain at {label!r}, which is no input", where=question.candidate.label)
    arms = (question.baseline, null_of(question.baseline), question.candidate)
    rule = Rule(looks=design.looks, margins=margins)
    seeds = np.random.SeedSequence(seed)
    launches: list[Launch] = []
    lost: list[str] = []
    evidence = _Evidence.none(question)
    clock: Clock = "wall_ns"
    began = time.monotonic()
    decision = Decision(Verdict("inconclusive", "nothing was measured"), None, final=False, stopped_by="budget")
    stopped_by = "budget"
    per_input: dict[str, Estimate] = {}
    judged: dict[str, Verdict] = {}
    reasons: list[str] = []
    while len(launches) < design.looks[-1]:
        if launches and time.monotonic() - began > design.budget_s:
            break
        if len(lost) > max(2, _LOST_AT_MOST * (len(launches) + len(lost))):
            why = f"{len(lost)} of {len(lost) + len(launches)} launches were lost: {lost[-1]}"
            decision = replace(decision, verdict=Verdict("invalid", why, decision.verdict.estimate))
            stopped_by = "lost launches"
            break
        (child,) = seeds.spawn(1)
        build, number = len(launches) % question.baseline.builds, int(child.generate_state(1)[0])
        try:
            launch = run_launch(arms, question.inputs, design, number, build=build, start=start)
        except LaunchLost as error:
            lost.append(str(error))
            continue
        launches.append(launch)
        clock = judging_clock(design.clock, _clocks(launch), one_thread=all(arm.on_one_thread for arm in arms))
        evidence.take_in(launch, clock)
        reasons += [reason for reason in (throttled() if clock == "device_ns" else ()) if reason not in reasons]
        decision = decide(
            evidence.of_traffic(evidence.candidate),
            evidence.of_traffic(evidence.null),
            rule,
            seed=seed,
            invalid_reasons=reasons,
        )
        per_input, judged = _per_input(evidence, decision, rule, gains, seed)
        if on_launch is not None:
            on_launch(len(launches), decision.verdict.why)
        if decision.final and all(gain.word != "inconclusive" for gain in judged.values()):
            stopped_by = decision.stopped_by
            break
    seconds = {name: sum(launch.seconds[name] for launch in launches) for name in ("starting", "warming", "measuring")}
    return Outcome(
        verdict=decision.verdict,
        traffic=decision.verdict.estimate,
        per_input=per_input,
        gains=judged,
        null=decision.null_control,
        clock=clock,
        launches=launches,
        lost=lost,
        seconds=seconds,
        stopped_by=stopped_by,
        seed=seed,
        advice=_advice(decision.verdict, judged, gains, margins, sum(seconds.values()) / max(1, len(launches))),
        design=design,
    )


def _clocks(launch: Launch) -> list[str]:
    offered = [set(burst) for inputs in launch.samples.values() for bursts in inputs.values() for burst in bursts[:1]]
    return sorted(set.intersection(*offered))


def _per_input(
    evidence: _Evidence, decision: Decision, rule: Rule, gains: Mapping[str, float], seed: int
) -> tuple[dict[str, Estimate], dict[str, Verdict]]:
    """Estimates at the verdict's confidence, and what they say of the gains."""
    whole = decision.verdict.estimate
    confidence = max(1 - rule.alpha, whole.interval.confidence if whole else 0.0)
    found = {
        label: estimate(evidence.by_build(launches), confidence, seed) for label, launches in evidence.candidate.items()
    }
    judged = {}
    for label, at_least in gains.items():
        of = whole if label == TRAFFIC else found[label]
        if of is not None:
            invalid = decision.verdict.word == "invalid"
            judged[label] = decision.verdict if invalid else judge_gain(of, at_least, (1 + confidence) / 2)
    return found, judged


def _advice(
    verdict: Verdict, judged: Mapping[str, Verdict], gains: Mapping[str, float], margins: Margins, cost_s: float
) -> str:
    if verdict.word == "inconclusive" and verdict.estimate is not None:
        return next_step(verdict.estimate, margins, cost_s).advice
    steps = [
        gain_step(gain.estimate, gains[label], cost_s)
        for label, gain in judged.items()
        if gain.word == "inconclusive" and gain.estimate is not None
    ]
    return max(steps, key=lambda step: step.seconds).advice if steps else ""
