"""How fast cases are: short interleaved runs of several, and a session of one against FP32."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.best.evidence import Speed
from harness.errors import HostLost
from harness.explain.explained import inputs_at
from harness.latency import Latency, design_of, margins_of
from harness.measure.arms import Design, Question
from harness.measure.launch import LaunchLost, run_launch
from harness.measure.session import TRAFFIC, run_session
from harness.spec.calibration import Precision, Route
from harness.stats.estimate import block_logs, burst_value
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.measure.arms import Clock, Input
    from harness.measure.launch import Launch
    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["SHORT", "fp32_of", "over_lengths", "session", "short_runs", "speed_of_baseline", "speed_of_session"]

SHORT = Design(looks=(2,), blocks=5, burst_ms=5.0, burst_least=2, burst_most=10, warm_runs=3, warm_ms=20.0)
"""One launch of it, all candidates interleaved: enough to tell what is much slower, and to order the rest."""


def fp32_of(case: Case) -> Case:
    return replace(case, precision=Precision.FP32, calibration=None, route=Route.QDQ, layout="single")


def short_runs(bench: Workbench, cases: Sequence[Case], seed: int) -> dict[str, Speed]:
    """Case id -> speed beside FP32, by one launch of all of them.

    The point is a median over blocks, the ends are quartiles: no interval.

    :raises HostLost: the launch was lost.
    """
    base = fp32_of(cases[0])
    arms = [replace(bench.side(one), label=one.id) for one in (base, *cases)]
    inputs = bench.inputs(base.model)
    try:
        with bench.turns.timing(place_of(bench.environment(base))):
            launch = run_launch(arms, inputs, SHORT, seed, start=bench.fresh)
    except LaunchLost as error:
        raise HostLost(f"short runs were lost: {error}", where=bench.environment(base).name) from error
    return {one.id: _speed(launch, base.id, one.id, inputs) for one in cases}


def over_lengths(bench: Workbench, case: Case, lengths: Sequence[int], seed: int) -> list[float]:
    """Medians of a run's time at each length, us, by one launch; behind a layout with one engine for all of them.

    :raises HostLost: the launch was lost.
    """
    inputs, arm = inputs_at(bench, case.model, lengths), bench.side(case)
    try:
        with bench.turns.timing(place_of(bench.environment(case))):
            launch = run_launch([arm], inputs, SHORT, seed, start=bench.fresh)
    except LaunchLost as error:
        raise HostLost(f"short runs were lost: {error}", where=case.id) from error
    return [float(np.median(_values(launch, arm.label, one.label, launch.clock))) / 1e3 for one in inputs]


def session(bench: Workbench, case: Case, speedups: Mapping[str, float], budget_s: float) -> Latency:
    """A full session of the case against FP32 in the same environment.

    :param speedups: bucket or ``traffic`` -> asked. :param budget_s: no launch is begun after so many seconds.
    """
    base, environment = fp32_of(case), bench.environment(case)
    settings = bench.latency.settings(case.model, case.runtime)
    design = design_of(bench.matrix, settings)
    design = replace(design, budget_s=min(budget_s, design.budget_s) if settings.budget_s else budget_s)
    margins = margins_of(settings)
    sides = [replace(bench.side(one), label=one.precision.value) for one in (base, case)]
    if case.precision is Precision.FP32:
        sides[1] = replace(sides[1], label="fp32 again")
    question = Question(sides[0], sides[1], bench.inputs(case.model))
    with bench.turns.timing(place_of(environment)):
        outcome = run_session(question, design, margins, bench.seed, gains=speedups, start=bench.fresh)
    return Latency(question, outcome, margins, base.precision.value)


def speed_of_session(found: Latency) -> Speed:
    """What a session says of the candidate, by the traffic and by bucket."""
    ratio: dict[str, tuple[float, float, float]] = {}
    whole = found.session().get("ratio")
    if whole is not None:
        ratio[TRAFFIC] = _three(whole)
    for one in found.question.inputs:
        cell = found.cell(one.label)
        if "ratio" in cell:
            ratio[one.label] = _three(cell)
    failed = "invalid" if found.outcome.stopped_by == "lost launches" else found.word()
    return Speed(ratio, _ms_of(found, "int8"), failed, found.outcome.verdict.why)


def speed_of_baseline(found: Latency) -> Speed:
    """FP32's own times in a session; it is as fast as itself."""
    ms = _ms_of(found, "baseline")
    return Speed(dict.fromkeys(ms, (1.0, 1.0, 1.0)), ms)


def _ms_of(found: Latency, role: str) -> dict[str, tuple[float, float, float]]:
    inputs = found.question.inputs
    cells = {one.label: found.cell(one.label) for one in inputs}
    ms = {label: _waited(cell[role]) for label, cell in cells.items() if role in cell}
    if len(ms) == len(inputs):
        ms[TRAFFIC] = _of_traffic(ms, inputs)
    return ms


def _three(cell: Mapping[str, Any]) -> tuple[float, float, float]:
    return float(cell["ratio_low"]), float(cell["ratio"]), float(cell["ratio_high"])


def _waited(times: Mapping[str, Any]) -> tuple[float, float, float]:
    """The median as a user waits for it, with its interval; the judging clock's where there are too few runs."""
    known = times.get("p50_ms")
    if known is None:
        return (float(times["median_ms"]),) * 3
    return float(known[0]), float(known[1]), float(known[2])


def _of_traffic(ms: Mapping[str, tuple[float, float, float]], inputs: Sequence[Input]) -> tuple[float, float, float]:
    total = sum(one.weight for one in inputs)
    low, point, high = (sum(ms[one.label][end] * one.weight for one in inputs) / total for end in range(3))
    return low, point, high


def _speed(launch: Launch, base: str, label: str, inputs: Sequence[Input]) -> Speed:
    ratio: dict[str, tuple[float, float, float]] = {}
    ms: dict[str, tuple[float, float, float]] = {}
    ours_total = theirs_total = 0.0
    for one in inputs:
        theirs, ours = (_values(launch, arm, one.label, launch.clock) for arm in (base, label))
        low, point, high = np.quantile(block_logs(ours, theirs), [0.25, 0.5, 0.75])
        ratio[one.label] = math.exp(-high), math.exp(-point), math.exp(-low)
        waited: Clock = "device_ns" if launch.clock == "device_ns" else "wall_ns"
        times = np.quantile(_values(launch, label, one.label, waited), [0.25, 0.5, 0.75]) / 1e6
        ms[one.label] = float(times[0]), float(times[1]), float(times[2])
        theirs_total += one.weight * float(np.median(theirs))
        ours_total += one.weight * float(np.median(theirs)) * math.exp(point)
    spread = [max(high / point, point / low) for low, point, high in ratio.values()]
    whole = theirs_total / ours_total
    ratio[TRAFFIC] = whole / max(spread), whole, whole * max(spread)
    ms[TRAFFIC] = _of_traffic(ms, inputs)
    return Speed(ratio, ms)


def _values(launch: Launch, arm: str, label: str, clock: Clock) -> np.ndarray[Any, np.dtype[np.float64]]:
    how: Literal["median", "min"] = "median" if clock == "device_ns" else "min"
    return np.array([float(burst_value(burst[clock], how)) for burst in launch.samples[arm][label]])
