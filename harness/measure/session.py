"""A session: launches of baseline, null control and candidate, until the answer is clear or the budget is spent."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from harness.errors import EnvironmentMissing, UsageError
from harness.measure.arms import NULL, Design, null_of
from harness.measure.launch import Launch, LaunchLost, run_launch
from harness.stats.estimate import CLOCK_RESOLUTION, Estimate, against_both, block_logs, burst_value, estimate, traffic
from harness.stats.rule import Decision, Rule, decide, ended
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
    :param seconds: ``starting``, ``warming``, ``measuring``, summed over launches, and ``lost`` in those that were.
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
    tick_ns: dict[str, float] = field(default_factory=dict)
    builds: list[int] = field(default_factory=list)

    @classmethod
    def none(cls, question: Question) -> Self:
        labels = [one.label for one in question.inputs]
        return cls(
            question, {label: [] for label in labels}, {label: [] for label in labels}, {label: [] for label in labels}
        )

    def take_in(self, launch: Launch) -> None:
        clock, question = launch.clock, self.question
        how: Literal["median", "min"] = "median" if clock == "device_ns" else "min"
        self.builds.append(launch.build)
        for one in question.inputs:
            values = {
                label: np.array([float(burst_value(burst[clock], how)) for burst in inputs[one.label]])
                for label, inputs in launch.samples.items()
            }
            baseline = values[question.baseline.label] / question.baseline.items
            null = values[NULL] / question.baseline.items
            candidate = values[question.candidate.label] / question.candidate.items
            self.candidate[one.label].append(against_both(candidate, baseline, null))
            self.null[one.label].append(block_logs(null, baseline))
            self.baseline_ns[one.label].append(float(np.median(baseline)))
            self.tick_ns[one.label] = min(self.tick_ns.get(one.label, math.inf), _tick(launch, one.label, clock))

    def resolution(self, *labels: str) -> float:
        """The clock's tick in the time of one run, as a log ratio: the coarsest of some inputs."""
        relative = [self.tick_ns[label] / statistics.median(self.baseline_ns[label]) for label in labels]
        return max(CLOCK_RESOLUTION, *(one for one in relative if math.isfinite(one)), 0.0)

    @property
    def counted(self) -> list[str]:
        """Inputs that weigh in the traffic."""
        return [one.label for one in self.question.inputs if one.weight]

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
    measure: Callable[..., Launch] = run_launch,
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
    :param measure: what makes a launch, called as :func:`harness.measure.launch.run_launch` is; a simulation draws them
        from recorded ones.
    :raises UsageError: a gain of an input that is not there.
    """
    gains = dict(gains or {})
    for label in set(gains) - {TRAFFIC, *(one.label for one in question.inputs)}:
        raise UsageError(f"a gain at {label!r}, which is no input", where=question.candidate.label)
    running = _Running(question, design, margins, gains, seed, measure)
    stopped_by = ""
    while not stopped_by:
        launch = running.launch(start)
        if launch is not None and on_launch is not None:
            on_launch(len(running.launches), running.decision.verdict.why)
        stopped_by = running.stopped_by()
    return running.outcome(stopped_by)


class _Running:
    """A session that goes on: what it has seen, and what that says."""

    def __init__(
        self, question: Question, design: Design, margins: Margins, gains: Mapping[str, float], seed: int,
        measure: Callable[..., Launch],
    ) -> None:  # fmt: skip
        self._measure = measure
        self.question, self.design, self.margins, self.gains, self.seed = question, design, margins, gains, seed
        # A session that goes on for a gain would see a proposal after every launch, and judge the gain each time.
        rule = Rule(looks=design.looks, margins=margins)
        # A design of one look has its number of launches from the start, and nothing else ends it.
        self.rule = replace(rule, proposal_alpha=0.0) if gains or len(design.looks) == 1 else rule
        self.evidence = _Evidence.none(question)
        self.launches: list[Launch] = []
        self.lost: list[str] = []
        self.lost_s = 0.0
        self.decision = Decision(Verdict("inconclusive", "nothing was measured"), None, final=False, stopped_by="")
        self.per_input: dict[str, Estimate] = {}
        self.judged: dict[str, Verdict] = {}
        self._seeds = np.random.SeedSequence(seed)
        self._began = time.monotonic()

    def launch(self, start: Callable[[Arm], Worker] | None) -> Launch | None:
        """One launch more, taken in and judged; None where it was lost."""
        (child,) = self._seeds.spawn(1)
        arms = (self.question.baseline, null_of(self.question.baseline), self.question.candidate)
        build, number = len(self.launches) % self.question.baseline.builds, int(child.generate_state(1)[0])
        began = time.monotonic()
        try:
            launch = self._measure(arms, self.question.inputs, self.design, number, build=build, start=start)
        except (LaunchLost, EnvironmentMissing) as error:
            if isinstance(error, EnvironmentMissing) and not self.launches:
                raise  # it never was there; later it is a process that did not start
            self.lost.append(str(error))
            self.lost_s += time.monotonic() - began
            return None
        self.launches.append(launch)
        self.evidence.take_in(launch)
        self._judge(self.rule)
        return launch

    def stopped_by(self) -> str:
        """Why the session ends here; empty where it goes on."""
        if len(self.lost) > max(2, _LOST_AT_MOST * (len(self.launches) + len(self.lost))):
            return "lost launches"
        if self.decision.final and all(gain.word != "inconclusive" for gain in self.judged.values()):
            return self.decision.stopped_by
        over = bool(self.launches) and time.monotonic() - self._began > self.design.budget_s
        return "budget" if over or len(self.launches) == self.design.looks[-1] else ""

    def outcome(self, stopped_by: str) -> Outcome:
        launches, lost = self.launches, self.lost
        if stopped_by == "budget" and len(launches) > 1 and len(launches) not in self.rule.looks:
            self._judge(ended(self.rule, len(launches)))
        verdict, judged = self.decision.verdict, self.judged
        if stopped_by == "lost launches":
            why = f"{len(lost)} of {len(lost) + len(launches)} launches were lost: {lost[-1]}"
            verdict = Verdict("invalid", why, verdict.estimate)
        if verdict.word == "invalid":
            judged = dict.fromkeys(self.gains, verdict)
        phases = ("starting", "warming", "measuring")
        seconds = {name: sum(launch.seconds[name] for launch in launches) for name in phases}
        cost_s = sum(seconds.values()) / max(1, len(launches))
        return Outcome(
            verdict=verdict,
            traffic=verdict.estimate,
            per_input=self.per_input,
            gains=judged,
            null=self.decision.null_control,
            clock=launches[-1].clock if launches else "wall_ns",
            launches=launches,
            lost=lost,
            seconds={**seconds, "lost": self.lost_s},
            stopped_by=stopped_by,
            seed=self.seed,
            advice=_advice(verdict, judged, self.gains, self.margins, cost_s),
            design=self.design,
        )

    def _judge(self, rule: Rule) -> None:
        evidence = self.evidence
        reasons = dict.fromkeys(reason for launch in self.launches for reason in launch.throttled)
        self.decision = decide(
            evidence.of_traffic(evidence.candidate),
            evidence.of_traffic(evidence.null),
            rule,
            seed=self.seed,
            invalid_reasons=list(reasons),
            resolution=evidence.resolution(*evidence.counted),
        )
        whole = self.decision.verdict.estimate
        confidence = max(1 - rule.alpha, whole.interval.confidence if whole else 0.0)
        self.per_input = {
            label: estimate(evidence.by_build(logs), confidence, self.seed, resolution=evidence.resolution(label))
            for label, logs in evidence.candidate.items()
        }
        known = {**self.per_input, **({TRAFFIC: whole} if whole else {})}
        self.judged = {
            label: judge_gain(known[label], at_least, (1 + confidence) / 2) for label, at_least in self.gains.items()
        }


def _tick(launch: Launch, label: str, clock: Clock) -> float:
    """The smallest difference between two durations that are not the same, in ns; infinite where all are."""
    durations = [value for inputs in launch.samples.values() for burst in inputs[label] for value in burst[clock]]
    steps = np.diff(np.unique(durations))
    return float(steps.min()) if steps.size else math.inf


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
