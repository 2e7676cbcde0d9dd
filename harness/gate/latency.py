"""Is the candidate as fast as before? One session a pair, over all lengths; and what it says of cold starts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import BuildFailed, HostLost, RunFailed, WorkerDied, WorkerHung
from harness.gate.advice import left_open
from harness.gate.findings import Finding
from harness.latency import design_of, margins_of
from harness.measure.arms import Question
from harness.measure.session import TRAFFIC, run_session
from harness.stats.multiple import regression_p
from harness.stats.tails import TooSmall, quantile_order_statistic
from harness.stats.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.gate.pairs import Pair
    from harness.measure.arms import Design
    from harness.measure.session import Outcome
    from harness.spec.case import Case
    from harness.spec.latency import LatencySettings
    from harness.spec.matrix import Matrix
    from harness.stats.estimate import Estimate
    from harness.stats.location import Interval
    from harness.stats.verdict import Margins
    from harness.workbench import Workbench

__all__ = ["compare_latency", "design_at", "findings_of"]

_CONFIRMING = 8
"""Launches of a session of the second stage, at least. They are so many from the start: a session that may end after
any launch pays for it with a p-value as many times as large, and a slowdown of 5 % was not confirmed by it."""
_LONGER_TAIL = 0.1
"""Growth of p95 that is worth a word, as a ratio minus 1, between the near ends of the two intervals."""
_SLOWER_START = 0.5
"""Growth of a cold start that is worth a word, as a ratio minus 1: it is measured once a launch."""


def compare_latency(
    bench: Workbench, pair: Pair, stage: int, seconds: float, heard: Callable[[Outcome], None] = lambda _: None
) -> list[Finding]:
    """Findings for the traffic, for each length bucket, its tail, and for the cold start.

    :param seconds: no launch is begun after so many.
    :param heard: is given the session.
    """
    settings = bench.latency.settings(pair.candidate.model, pair.candidate.runtime)
    margins = margins_of(settings)
    try:
        sides = [replace(bench.side(case), label=case.runtime) for case in (pair.baseline, pair.candidate)]
        question = Question(sides[0], sides[1], bench.inputs(pair.baseline.model))
        design = replace(design_at(stage, bench.matrix, settings), budget_s=seconds)
        outcome = run_session(question, design, margins, bench.seed + stage - 1, start=bench.fresh)
    except HostLost:
        raise
    except (BuildFailed, RunFailed, WorkerDied, WorkerHung) as error:
        return [Finding(pair.name, "latency", "invalid", f"cannot be timed: {error}", TRAFFIC, stage=stage)]
    environment = bench.environment(pair.candidate)
    if outcome.stopped_by == "lost launches" and (why := bench.standins.gone(environment)):
        raise HostLost(f"the host went away while {pair.name} was timed: {why}", where=environment.name)
    heard(outcome)
    return findings_of(pair, outcome, margins, stage)


def design_at(stage: int, matrix: Matrix, settings: LatencySettings) -> Design:
    """How a stage measures: the first ends as soon as it is clear, the second is as long as was said before."""
    design = design_of(matrix, settings)
    return design if stage == 1 else replace(design, looks=(max(_CONFIRMING, matrix.builds, design.looks[-1]),))


def findings_of(pair: Pair, outcome: Outcome, margins: Margins, stage: int) -> list[Finding]:
    """What one session says; its arms are named by their runtimes."""
    return list(_told(pair, outcome, margins, stage))


def _told(pair: Pair, outcome: Outcome, margins: Margins, stage: int) -> Iterator[Finding]:
    def finding(word: Any, why: str, where: str, estimate: Estimate | None) -> Finding:  # noqa: ANN401 - a verdict's
        p = None if estimate is None else min(1.0, ends * regression_p(estimate, margins))
        values: dict[str, Any] = {}
        if estimate is not None:
            values = {"log_ratio": estimate.point, "interval": estimate.interval}
        if word == "inconclusive" and estimate is not None:
            limit, numbers = left_open(outcome, estimate, margins)
            why, values = f"{why}; {limit}", {**values, **numbers}
        return Finding(pair.name, "latency", word, why, where, p, stage, values)

    # A session that goes on until it is clear could have ended after any launch but the first.
    looks = outcome.design.looks
    ends = looks[-1] - 1 if len(looks) > 1 else 1
    whole = outcome.verdict
    yield finding(whole.word, whole.why, TRAFFIC, outcome.traffic)
    if whole.word == "invalid":
        return
    for label, estimate in outcome.per_input.items():
        verdict = judge(estimate, margins)
        yield finding(verdict.word, verdict.why, label, estimate)
        yield from _tail(pair, outcome, label, stage)
    yield from _cold(pair, outcome, stage)


def _tail(pair: Pair, outcome: Outcome, label: str, stage: int) -> Iterator[Finding]:
    """The 95th percentile at one length, by the clock that a user waits by; nothing where there are too few runs."""
    old, new = (_p95(outcome, case, label) for case in (pair.baseline, pair.candidate))
    if isinstance(old, TooSmall) or isinstance(new, TooSmall):
        return
    word: Any = "minor" if new.low > (1 + _LONGER_TAIL) * old.high else "pass"
    before, now = (f"{one.point / 1e6:.3g} ms [{one.low / 1e6:.3g}, {one.high / 1e6:.3g}]" for one in (old, new))
    values = {"baseline_ms": old.point / 1e6, "candidate_ms": new.point / 1e6}
    yield Finding(pair.name, "tail", word, f"p95 {before} before, {now} now", label, stage=stage, values=values)


def _p95(outcome: Outcome, case: Case, label: str) -> Interval | TooSmall:
    clock = "device_ns" if outcome.clock == "device_ns" else "wall_ns"
    bursts = itertools.chain.from_iterable(launch.samples[case.runtime][label] for launch in outcome.launches)
    return quantile_order_statistic([value for burst in bursts for value in burst[clock]], 0.95, 0.95)


def _cold(pair: Pair, outcome: Outcome, stage: int) -> Iterator[Finding]:
    old, new = (_first_run_ms(outcome, case) for case in (pair.baseline, pair.candidate))
    if old and new:
        word: Any = "minor" if new > (1 + _SLOWER_START) * old else "pass"
        why = f"first run {old:.3g} ms before, {new:.3g} ms now (medians over {len(outcome.launches)} launches)"
        yield Finding(pair.name, "cold start", word, why, stage=stage, values={"baseline_ms": old, "candidate_ms": new})


def _first_run_ms(outcome: Outcome, case: Case) -> float:
    values = sorted(launch.cold[case.runtime].first_run_ns for launch in outcome.launches)
    return values[len(values) // 2] / 1e6 if values else 0.0
