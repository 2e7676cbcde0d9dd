"""What can be shipped: precision, method, policy, layout and route, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.calibration.selection import CANDIDATES
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.routes import calibrates, default_routes, ready_routes, routes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.spec.calibration import Route
    from harness.workers import Environment

__all__ = ["POLICIES", "first", "floats", "widened"]

POLICIES = (Policy.RAGGED, Policy.WINDOW, Policy.PAD, Policy.TRUNCATE, Policy.PER_PROFILE)
"""Cheap ones first: what is seen at natural lengths is seen once for all layouts."""

_ORDER = ("mse", "percentile", "percentile99.999", "percentile99.9", "entropy", "minmax")


def floats(model: str, environment: Environment) -> list[Case]:
    """FP32, which all others are held against, and FP16."""
    return [Case(model, environment.name, one, None, "single") for one in (Precision.FP32, Precision.FP16)]


def first(
    model: str, environment: Environment, *, ready: bool, mixed: bool, policies: Sequence[Policy] = POLICIES
) -> list[Case]:
    """INT8 in one layout by one route: every method under every policy; ``mixed`` where there is a plan, and first.

    :param ready: the model's file has Q/DQ of its own: there is nothing else to choose.
    """
    name, family = environment.name, (environment.runtime, environment.version)
    if ready:
        return [Case(model, name, Precision.INT8, None, "single", route) for route in ready_routes(*family)]
    made = [Calibration(Method("mixed"), Policy.RAGGED)] if mixed else []
    methods = sorted(CANDIDATES, key=lambda one: _ORDER.index(str(one)))
    if (
        environment.runtime == "onnxruntime"
    ):  # it has no profiles: ranges of each would be a file for each, and no faster
        policies = [one for one in policies if one is not Policy.PER_PROFILE]
    made += [Calibration(method, policy) for policy in policies for method in methods]
    return [
        Case(model, name, Precision.INT8, one, layout, _routes(one, family)[0])
        for one in made
        for layout in ("buckets3" if one.policy is Policy.PER_PROFILE else "single",)
    ]


def widened(case: Case, environment: Environment, layouts: Sequence[str]) -> list[Case]:
    """The same ranges in every layout and by every route that the runtime takes them by; the case itself first.

    ONNX Runtime has neither: there it is the case alone.
    """
    family = (environment.runtime, environment.version)
    if environment.runtime == "onnxruntime":
        return [case]
    routes = (case.route,) if case.calibration is None else _routes(case.calibration, family)
    there = (case.layout,) if case.calibration and case.calibration.policy is Policy.PER_PROFILE else layouts
    found = [replace(case, layout=layout, route=route) for route in routes for layout in there]
    return list(dict.fromkeys([case, *found]))


def _routes(calibration: Calibration, family: tuple[str, str]) -> tuple[Route, ...]:
    """Those by which a runtime usually takes such ranges, else any by which it can."""
    usual = tuple(one for one in default_routes(*family) if calibrates(one, calibration))
    return usual or tuple(one for one in routes_of(*family) if calibrates(one, calibration))
