"""Which profiles for this traffic: contiguous ones that cover the range, chosen by dynamic programming.

Boundaries are quantiles of the traffic's lengths; the opt of a profile is the length, among these, at which the time of
what it serves is least (:mod:`harness.best.latency_model`). For each number of profiles the best layout is found, with
what it saves and what changes of profile cost at the rate at which this traffic makes them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.best.latency_model import H200_SWITCH_US
from harness.errors import DataError, UsageError
from harness.spec.shapes import Layout, Profile, layout_from_text, single

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.best.latency_model import Curve
    from harness.spec.model import Model

    Floats = NDArray[np.float64]

__all__ = ["Advice", "Plan", "Traffic", "advice", "read_traffic", "traffic_of"]

MOST = 5
_QUANTILES = 40


@dataclass(frozen=True)
class Traffic:
    """Lengths and how often each comes.

    :param lengths: growing, each once. :param shares: of each, summing to 1.
    :param order: the lengths as they came, where their order means something; empty where it does not.
    """

    lengths: tuple[int, ...]
    shares: tuple[float, ...]
    order: tuple[int, ...] = ()

    def quantile(self, share: float) -> int:
        """The least length such that so much of the traffic is not longer."""
        where = int(np.searchsorted(np.cumsum(self.shares), share - 1e-9))
        return self.lengths[min(where, len(self.lengths) - 1)]

    def switch_rate(self, layout: Layout) -> float:
        """The share of runs that change the profile: counted in the order of the traffic, else in random order."""
        if len(layout.profiles) == 1:
            return 0.0
        if len(self.order) > 1:
            served = [layout.dispatch(length) for length in self.order]
            return sum(a != b for a, b in itertools.pairwise(served)) / (len(served) - 1)
        shares = np.zeros(len(layout.profiles))
        for length, share in zip(self.lengths, self.shares, strict=True):
            shares[layout.dispatch(length)] += share
        return float(1 - (shares**2).sum())


@dataclass(frozen=True)
class Plan:
    """The best layout of so many profiles, under the model.

    :param expected_us: a run of the traffic, on average, without changes of profile.
    :param switches: changes a run; :param switch_us: what they cost a run on average.
    :param saved: of the time of the next smaller layout, without switches, as a ratio.
    """

    layout: Layout
    expected_us: float
    switches: float
    switch_us: float
    saved: float

    @property
    def total_us(self) -> float:
        return self.expected_us + self.switch_us

    @property
    def text(self) -> str:
        """As ``--layouts`` takes it."""
        return ",".join(map(str, self.layout.profiles))


@dataclass(frozen=True)
class Advice:
    """Plans of 1, 2, ... profiles, and which of them to take.

    :param single: the model's own layout of one profile, with its own opt.
    :param best: with one context, so that a change of profile costs; :param apart: with a context for each profile.
    """

    single: Plan
    plans: tuple[Plan, ...]
    best: Plan
    apart: Plan


def advice(model: Model, traffic: Traffic, curve: Curve, switch_us: float = H200_SWITCH_US, most: int = MOST) -> Advice:
    """The best layouts of 1 to ``most`` profiles, and the best of them.

    Further profiles are taken only where they save more than the changes of profile that they bring cost.

    :param switch_us: what a change of profile costs more than a run without one.
    """
    points = _points(traffic, model)
    lengths, shares = np.array(traffic.lengths), np.array(traffic.shares)
    before = single(model)
    own = _plan(before, float(shares @ curve.time_us(lengths, model.opt)), traffic, switch_us, None)
    plans: list[Plan] = []
    for count in range(1, max(1, most) + 1):
        found = _best_of(count, points, model, traffic, curve)
        if found is None:
            break
        layout, expected_us = found
        plans.append(_plan(layout, expected_us, traffic, switch_us, plans[-1] if plans else own))
    best = min(plans, key=lambda plan: plan.total_us)  # the smallest of equal ones
    return Advice(own, tuple(plans), best, min(plans, key=lambda plan: plan.expected_us))


def traffic_of(lengths: Sequence[int], model: Model, *, ordered: bool = False) -> Traffic:
    """Lengths of the model's range as traffic.

    :param ordered: they are as they came.
    :raises DataError: none is in the range.
    """
    inside = [int(length) for length in lengths if model.minimum <= length <= model.maximum]
    if not inside:
        raise DataError(
            f"no length of the traffic is between {model.minimum} and {model.maximum}",
            where=model.key,
            todo="give lengths of the axis that varies",
        )
    values, counts = np.unique(np.array(inside), return_counts=True)
    shares = counts / counts.sum()
    return Traffic(tuple(map(int, values)), tuple(map(float, shares)), tuple(inside) if ordered else ())


def read_traffic(path: Path, model: Model) -> Traffic:
    """A file with one length a line, in the order in which they came; empty lines and ``#`` comments are passed over.

    :raises UsageError: it cannot be read, or a line is no length. :raises DataError: none is in the model's range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the traffic: {error}", where=str(path), todo="one length a line") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word and not (word.isascii() and word.isdigit()):
            raise UsageError(f"{word[:40]!r} is no length", where=f"{path}, line {number}", todo="one length a line")
        if word:
            found.append(int(word))
    return traffic_of(found, model, ordered=True)


def _points(traffic: Traffic, model: Model) -> list[int]:
    """Lengths at which a profile may end, or have its opt: quantiles of the traffic, the ends, the model's opt."""
    quantiles = {traffic.quantile(share) for share in np.linspace(0, 1, _QUANTILES)}
    return sorted({model.minimum, *quantiles, model.opt, model.maximum})


def _best_of(
    count: int, points: Sequence[int], model: Model, traffic: Traffic, curve: Curve
) -> tuple[Layout, float] | None:
    """The layout of ``count`` profiles with the least expected time; None where there are too few lengths."""
    if len(points) - 1 < count:
        return None if count > 1 else (single(model), float(curve.time_us(model.opt, model.opt)))
    costs, opts = _segments(points, traffic, curve, several=count > 1)
    size = len(points)
    least = np.full((count + 1, size), np.inf)
    begun = np.zeros((count + 1, size), int)
    least[1], begun[1] = costs[0], 0
    for number in range(2, count + 1):
        for end in range(number, size):
            # The one before ends at point ``start``; this one begins behind it.
            options = [least[number - 1, start] + costs[start + 1, end] for start in range(end)]
            start = int(np.argmin(options))
            least[number, end], begun[number, end] = options[start], start + 1
    profiles: list[Profile] = []
    end = size - 1
    for number in range(count, 0, -1):
        start = int(begun[number, end])
        low = model.minimum if start == 0 else points[start - 1] + 1
        profiles.append(Profile(low, int(min(max(opts[start, end], low), points[end])), points[end]))
        end = start - 1
    text = ",".join(map(str, reversed(profiles)))
    return layout_from_text(text, model), float(least[count, size - 1])


def _segments(points: Sequence[int], traffic: Traffic, curve: Curve, *, several: bool) -> tuple[Floats, Floats]:
    """[first point, last point] -> expected time of what lies from behind the point before the first to the last, and
    the opt with which it takes that.
    """
    lengths, shares = np.array(traffic.lengths), np.array(traffic.shares)
    grid = np.array(points)
    profiles = 2 if several else 1
    times = np.stack([shares * curve.time_us(lengths, opt, profiles) for opt in grid])  # [opt, length]
    sums = np.concatenate([np.zeros((len(grid), 1)), np.cumsum(times, axis=1)], axis=1)
    ends = np.searchsorted(lengths, grid, side="right")
    size = len(grid)
    costs, opts = np.full((size, size), np.inf), np.zeros((size, size))
    for first in range(size):
        low = 0 if first == 0 else int(ends[first - 1])
        for last in range(first, size):
            inside = sums[first : last + 1, ends[last]] - sums[first : last + 1, low]
            best = int(np.argmin(inside))
            costs[first, last], opts[first, last] = inside[best], grid[first + best]
    return costs, opts


def _plan(layout: Layout, expected_us: float, traffic: Traffic, switch_us: float, before: Plan | None) -> Plan:
    rate = traffic.switch_rate(layout)
    saved = 0.0 if before is None else 1 - expected_us / before.expected_us
    return Plan(layout, expected_us, rate, rate * switch_us, saved)
