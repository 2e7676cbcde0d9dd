"""Which routes take a range into which runtime, by its version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec.calibration import Policy, Route
from harness.spec.versions import numbers_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.spec.calibration import Calibration

__all__ = ["ALGORITHMS", "cache_version", "calibrates", "default_routes", "ready_routes", "routes_of"]

ALGORITHMS = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}
"""Method -> TensorRT's own calibrator of that kind, for the route ``calibrator``."""

_FIXED_SHAPE = {Policy.PAD, Policy.TRUNCATE, Policy.WINDOW, Policy.REINTERPRET}
_STRONG_SINCE, _NO_CALIBRATORS_SINCE = 9, 11


def routes_of(runtime: str, version: str) -> tuple[Route, ...]:
    """What a version can take, best known first; its Python API was looked up in dumps of the genuine bindings.

    :param runtime: the family; :param version: ``8.5.3.1``.
    """
    if runtime != "tensorrt":
        return (Route.QDQ,)
    major = numbers_of(version)[0]
    if major >= _NO_CALIBRATORS_SINCE:
        return (Route.QDQ_STRONG,)
    weak = (Route.CACHE, Route.QDQ, Route.CALIBRATOR)
    return (*weak, Route.QDQ_STRONG) if major >= _STRONG_SINCE else weak


def default_routes(runtime: str, version: str) -> tuple[Route, ...]:
    """What a matrix that names no route runs: our ranges as a cache and as Q/DQ, where both are taken."""
    there = routes_of(runtime, version)
    return tuple(route for route in there if route in {Route.CACHE, Route.QDQ}) or there[:1]


def ready_routes(runtime: str, version: str, asked: Collection[Route] = ()) -> tuple[Route, ...]:
    """The ways in which a model that has Q/DQ of its own goes in: of several those asked for, else the first."""
    there = tuple(route for route in routes_of(runtime, version) if route in {Route.QDQ, Route.QDQ_STRONG})
    if len(there) == 1 or not asked:
        return there[:1]
    return tuple(route for route in there if route in asked)


def calibrates(route: Route, calibration: Calibration) -> bool:
    """Whether a calibration can go by a route: TensorRT's own calibrators have two methods and one shape."""
    if calibration.method.name == "mixed":  # what stays in float is written in the graph, ranges are of ragged samples
        return route in {Route.QDQ, Route.QDQ_STRONG} and calibration.policy is Policy.RAGGED
    if route is not Route.CALIBRATOR:
        return True
    return calibration.method.name in ALGORITHMS and calibration.policy in _FIXED_SHAPE


def cache_version(version: str) -> str:
    """As a cache's header writes a version: ``8503`` for 8.5.3.1, ``101600`` for 10.16.0."""
    major, minor, patch, *_ = (*numbers_of(version), 0, 0)
    return f"{major}{minor}{patch:02}" if major < 10 else f"{major}{minor:02}{patch:02}"
