"""A case: one cell of the matrix, frozen, with an id that reads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.spec.calibration import Calibration, Method, Policy, Precision, Route

__all__ = ["Case", "read_case"]

_CASE = re.compile(
    r"(?P<model>[a-z0-9_]+)-(?P<runtime>(?:tensorrt-rtx|tensorrt|onnxruntime)-.+?)-(?P<precision>fp32|fp16|int8)"
    rf"(?:-(?:(?P<ready>ready)|(?P<method>auto|minmax|entropy|mse|mixed|percentile[\d.]*)-(?P<policy>{'|'.join(Policy)})))?"
    r"(?:-(?P<route>calibrator|cache|qdq_strong))?-(?P<layout>.+)"
)


@dataclass(frozen=True)
class Case:
    """model x runtime x precision x (method x policy x route) x layout.

    :param runtime: ``onnxruntime-1.32.0-cpu``, ``tensorrt-rtx-1.7.1.116``: library, version, device if it matters.
    :param calibration: None unless ``precision`` is INT8; None there, too, where the model's own file has Q/DQ.
    """

    model: str
    runtime: str
    precision: Precision
    calibration: Calibration | None
    layout: str
    route: Route = Route.QDQ

    @property
    def ready(self) -> bool:
        """Whether it runs INT8 as the model's own file has it."""
        return self.precision is Precision.INT8 and self.calibration is None

    @property
    def mixed(self) -> bool:
        """Whether it runs INT8 as a search for mixed precision left it."""
        return self.calibration is not None and self.calibration.method.name == "mixed"

    @property
    def id(self) -> str:
        parts = [self.model, self.runtime, self.precision.value]
        if self.calibration is not None or self.ready:
            parts.append(str(self.calibration or "ready"))
            if self.route is not Route.QDQ:
                parts.append(self.route.value)
        return "-".join([*parts, self.layout])

    def __str__(self) -> str:
        return self.id


def read_case(text: str) -> Case | None:
    """The case whose id this is; None for what is no id."""
    match = _CASE.fullmatch(text)
    if match is None or (match["precision"] == Precision.INT8.value) is not bool(match["method"] or match["ready"]):
        return None
    calibration = Calibration(Method.parse(match["method"]), Policy(match["policy"])) if match["method"] else None
    route = Route(match["route"] or Route.QDQ)
    return Case(match["model"], match["runtime"], Precision(match["precision"]), calibration, match["layout"], route)
