"""Where the level of a nightly series changed: creep, which no single run shows. It informs; gates decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from harness.site.extra import library

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEAST", "Level", "levels"]

LEAST = 4
"""Nights that a level must hold: fewer may be one odd night. A series needs twice as many to be looked at."""
_PENALTY = 3.0
"""Times the noise's variance and log(n): as BIC for a change of mean, which costs a place and a level, and half as
much again, since one false change point a year and series is still many."""
_SMALLEST = 0.01
"""A change of the ratio by less than 1 % is left out: clocks and loads alone do that."""
_MAD = 1.4826


@dataclass(frozen=True)
class Level:
    """Nights that are alike.

    :param begin, end: indices of its first night, and of the one behind its last. :param ratio: its median.
    """

    begin: int
    end: int
    ratio: float


def levels(ratios: Sequence[float]) -> list[Level]:
    """A series cut where its level changed: PELT on log ratios (Killick, Fearnhead and Eckley 2012), by ``ruptures``.

    The noise is taken from differences of neighbours, so that a change does not hide in its own variance; a series
    without any noise has it at 0.1 %.

    :param ratios: above 0, the oldest first.
    """
    if len(ratios) < 2 * LEAST:
        return [Level(0, len(ratios), float(np.median(ratios)))] if ratios else []
    ruptures = library("ruptures")
    logs = np.log(np.asarray(ratios, np.float64))
    noise = max(1e-3, _MAD * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2))
    penalty = _PENALTY * noise**2 * math.log(len(logs))
    ends = ruptures.KernelCPD(kernel="linear", min_size=LEAST).fit(logs.reshape(-1, 1)).predict(pen=penalty)
    return _large_ones(ratios, [0, *ends])


def _large_ones(ratios: Sequence[float], edges: Sequence[int]) -> list[Level]:
    found: list[Level] = []
    for begin, end in pairwise(edges):
        ratio = float(np.median(ratios[begin:end]))
        if found and abs(math.log(ratio / found[-1].ratio)) < math.log1p(_SMALLEST):
            begin = found.pop().begin  # noqa: PLW2901 - joined with the one before
            ratio = float(np.median(ratios[begin:end]))
        found.append(Level(begin, end, ratio))
    return found
