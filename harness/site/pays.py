"""From which length on INT8 pays, of what was timed: a crossing of curves, and sentences."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Timed", "about", "crossover", "pays", "ratios_of"]

_SENTENCES = 6


@dataclass(frozen=True)
class Timed:
    """One case at one length: times in ms as low end, median, high end, and how many times faster INT8 is.

    :param series: the case's label. :param baseline: the precision that it is compared with.
    :param ratio: None, too, where the session was ``invalid``: its times are told, and prove nothing.
    """

    series: str
    baseline: str
    bucket: str
    length: float
    int8_ms: tuple[float, float, float]
    baseline_ms: tuple[float, float, float]
    ratio: tuple[float, float, float] | None
    weight: float | None
    invalid: bool = False


def ratios_of(points: Sequence[Timed], series: str) -> list[tuple[float, float]]:
    """Length and ratio of one case."""
    return sorted((point.length, point.ratio[1]) for point in points if point.series == series and point.ratio)


def crossover(ratios: Sequence[tuple[float, float]]) -> float | None:
    """From which length on INT8 is faster, by straight lines between the logarithms of lengths and of ratios.

    :param ratios: lengths, rising, and how many times faster INT8 is there.
    :return: None where it is faster, or slower, at every length, or is not faster at the longest.
    """
    if not ratios or ratios[-1][1] <= 1:
        return None
    for (shorter, before), (longer, after) in reversed(list(itertools.pairwise(ratios))):
        if before <= 1:
            share = -math.log(before) / (math.log(after) - math.log(before))
            return math.exp(math.log(shorter) + share * (math.log(longer) - math.log(shorter)))
    return None


def pays(points: Sequence[Timed], unit: str) -> list[str]:
    """A sentence for each timed case: from which length on INT8 pays.

    :param unit: what a length counts.
    """
    found = []
    for series in list(dict.fromkeys(point.series for point in points))[:_SENTENCES]:
        ratios = ratios_of(points, series)
        if ratios:
            counted = f"{_counted(length for length, _ in ratios)}{f' {unit}' if unit else ''}"
            mine = [point for point in points if point.series == series and point.ratio]
            unclear = sorted(one.length for one in mine if one.ratio and one.ratio[0] <= 1 <= one.ratio[2])
            proved = f"; not proved at {_counted(unclear)}" if unclear else ""
            found.append(f"{series}: {_paying(ratios, unit)} (measured at {counted}{proved})")
    return found


def _counted(lengths: Iterable[float]) -> str:
    return ", ".join(f"{length:,.0f}" for length in lengths)


def _paying(ratios: Sequence[tuple[float, float]], unit: str) -> str:
    if all(ratio > 1 for _, ratio in ratios):
        return "INT8 is faster at every length"
    if all(ratio <= 1 for _, ratio in ratios):
        return "INT8 is faster at no length"
    last = max(number for number, (_, ratio) in enumerate(ratios) if ratio > 1)
    at = crossover(ratios[: last + 1])
    if last == len(ratios) - 1:
        return f"INT8 pays from {about(at or 0, unit)} on"
    end = crossover([(length, 1 / ratio) for length, ratio in ratios[last : last + 2]]) or ratios[last + 1][0]
    return f"INT8 pays {f'from {about(at, unit)} ' if at else ''}up to {about(end, unit)}, not beyond"


def about(length: float, unit: str) -> str:
    """Two digits: more would be more than interpolation knows."""
    number = f"{float(f'{length:.2g}'):,.0f}"
    return f"{number} {unit}" if unit else f"length {number}"
