"""Layout advice for a case where it runs: its times over lengths are measured, its traffic is the corpus or a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.best.latency_model import H200_SWITCH_US, Curve
from harness.best.layout_advice import advice

if TYPE_CHECKING:
    from harness.best.layout_advice import Advice, Plan, Traffic
    from harness.best.measures import Measures
    from harness.spec.case import Case
    from harness.spec.model import Model

__all__ = ["LayoutAdvice", "grid", "layouts_for"]

_GRID = 12
_QUANTILES = (0.05, 0.5, 0.95)
_NO_PROFILES = "ONNX Runtime has no profiles: a layout changes nothing here but the lengths at which times are taken"
_SWITCH_FROM = f"{H200_SWITCH_US:g} us a change of profile, as measured on an H200 with TensorRT 8.5.3.1"
KNOWN_COSTS = (
    "further profiles are built each with tactics of its own: with three, probes of 3 to 4 s took 18 to 72 s, their "
    "engines 2.6 MB for 0.9 and 1.5 for 1.2; a context has memory for the longest input (H200, TensorRT 8.5.3.1)"
)


@dataclass(frozen=True)
class LayoutAdvice:
    """Which layout for this traffic.

    :param why: in a sentence, where there is nothing to advise; then ``advice`` is None.
    :param quantiles: share of the traffic -> the length that so much of it does not exceed.
    :param lengths: where times were measured; :param times_us: these.
    :param costs: what is known of a further profile's costs.
    """

    unit: str
    case: str
    quantiles: dict[float, int]
    why: str = ""
    advice: Advice | None = None
    lengths: tuple[int, ...] = ()
    times_us: tuple[float, ...] = ()
    switch_us: float = H200_SWITCH_US
    switch_from: str = _SWITCH_FROM
    costs: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        plans = [] if self.advice is None else list(self.advice.plans)
        return {
            "case": self.case,
            "traffic": {str(share): length for share, length in self.quantiles.items()},
            "why": self.why,
            "lengths": self.lengths,
            "times_us": self.times_us,
            "switch_us": self.switch_us,
            "single": None if self.advice is None else _data(self.advice.single),
            "plans": [_data(plan) for plan in plans],
            "best": None if self.advice is None else self.advice.best.text,
            "with_a_context_each": None if self.advice is None else self.advice.apart.text,
            "costs": self.costs,
        }


def layouts_for(measures: Measures, case: Case, traffic: Traffic, switch_us: float | None = None) -> LayoutAdvice:
    """Advice for a case, by its times at a dozen lengths behind its own layout.

    :param switch_us: what a change of profile costs; the H200's where it is None.
    """
    model = measures.bench.model(case.model)
    quantiles = {share: traffic.quantile(share) for share in _QUANTILES}
    if measures.bench.environment(case).runtime == "onnxruntime":
        return LayoutAdvice(model.axis_name, case.id, quantiles, _NO_PROFILES)
    lengths = grid(model)
    times = measures.over_lengths(case, lengths)
    curve = Curve.measured(lengths, times, measures.bench.layout(case))
    cost = H200_SWITCH_US if switch_us is None else switch_us
    found = advice(model, traffic, curve, cost)
    said = _SWITCH_FROM if switch_us is None else f"{switch_us:g} us a change of profile, as given"
    return LayoutAdvice(
        model.axis_name, case.id, quantiles, "", found, lengths, tuple(times), cost, said, (KNOWN_COSTS,)
    )


def grid(model: Model) -> tuple[int, ...]:
    """A dozen lengths, evenly spaced on a log scale, both ends and the model's opt among them."""
    spaced = np.geomspace(model.minimum, model.maximum, _GRID).round().astype(int)
    return tuple(sorted({model.minimum, model.opt, model.maximum, *map(int, spaced)}))


def _data(plan: Plan) -> dict[str, Any]:
    return {
        "layout": plan.text,
        "expected_us": plan.expected_us,
        "switches": plan.switches,
        "switch_us": plan.switch_us,
        "total_us": plan.total_us,
        "saved": plan.saved,
    }
