"""The bootstrap over builds, launches and blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.stats.location import (
    IQR_OF_NORMAL,
    Interval,
    check_confidence,
    checked,
    hodges_lehmann_rows,
    launch_location,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Builds = Sequence[Sequence[ArrayLike]]

__all__ = ["hierarchical_bootstrap"]

_INNER_POOL = 100  # resampled block sets kept for each launch; the outer draws pick among them


def hierarchical_bootstrap(values_by_build: Builds, confidence: float, seed: int, resamples: int = 2000) -> Interval:
    """Resample builds, then launches within builds, then blocks within launches; percentiles of the grand mean.

    Two corrections make it hold its level with few launches:

    - A launch's estimate already carries the noise of its own blocks, so resampling both would count that noise twice
      (coverage of a nominal 95 % interval: 99 %), while resampling n units reproduces only (n-1)/n of their variance.
      The units' deviations from their mean are therefore rescaled to the variance that is left after the noise within
      them is taken out ("reflated" residuals: Carpenter, Goldstein & Rasbash, *Applied Statistics* 52, 2003).
    - Percentiles ignore that the spread itself is estimated. Distances from the point are stretched by ``t / z`` with
      n - 1 degrees of freedom, n the units at the highest replicated level (Hesterberg, *What teachers should know
      about the bootstrap*, 2015, section 3.2).

    Where the blocks alone explain more spread than the launches show, their share stays: the interval is then wider
    than the t interval, which knows nothing of blocks.

    :param values_by_build: builds of launches of (blocks,) log ratios.
    :param resamples: draws at every level; the block resamples of a launch come from a pool of 100.
    :raises DataError: empty level, value not finite, or confidence outside (0, 1).
    """
    from scipy import stats

    builds = checked(values_by_build)
    check_confidence(confidence)
    random = np.random.default_rng(seed)
    locations, draws = zip(*(_launch_level(launches, random, resamples) for launches in builds), strict=True)
    units = len(builds)
    point = float(np.mean(locations))
    if units > 1:
        draws = (_reflated(np.array(locations), list(draws), random, resamples),)
    else:
        units = len(builds[0])
    if units == 1:
        return Interval(-math.inf, point, math.inf, confidence)
    tail = (1 - confidence) / 2
    stretch = float(stats.t.isf(tail, units - 1) / stats.norm.isf(tail))
    low, high = np.quantile(draws[0], [tail, 1 - tail])
    return Interval(point + stretch * float(low), point, point + stretch * float(high), confidence)


def _launch_level(launches: list[Floats], random: np.random.Generator, resamples: int) -> tuple[float, Floats]:
    """Mean of a build's launch estimates, and resampled deviations from it, (resamples,)."""
    locations = np.array([launch_location(blocks) for blocks in launches])
    pools = [_block_noise(blocks, location, random) for blocks, location in zip(launches, locations, strict=True)]
    return float(locations.mean()), _reflated(locations, pools, random, resamples)


def _block_noise(blocks: Floats, location: float, random: np.random.Generator) -> Floats:
    """Deviations of a launch's estimate when its blocks are resampled, (100,).

    Of the spread of their quartiles: a resample that drew one spike five times is no news of the estimator, which has a
    breakdown point of 29 %.
    """
    drawn = blocks[random.integers(0, len(blocks), (_INNER_POOL, len(blocks)))]  # whole blocks, with all their columns
    draws = np.mean([hodges_lehmann_rows(column) for column in np.moveaxis(drawn, 2, 0)], axis=0) - location
    middle, spread = float(np.median(draws)), float(draws.std())
    robust = float(np.subtract(*np.quantile(draws, [0.75, 0.25]))) / IQR_OF_NORMAL
    return draws if spread == 0 else np.asarray(middle + (draws - middle) * min(1.0, robust / spread), np.float64)


def _reflated(locations: Floats, pools: list[Floats], random: np.random.Generator, resamples: int) -> Floats:
    """Resampled deviations of the units' mean: units redrawn, each with one of its own inner deviations."""
    n = len(locations)
    within = float(np.mean([pool.var() for pool in pools]))
    between = float(locations.var(ddof=1)) - within if n > 1 else 0.0
    spread = float(locations.var())
    scale = math.sqrt(between / spread) if between > 0 and spread > 0 else 0.0
    outer = scale * (locations - locations.mean())
    picked = random.integers(0, n, (resamples, n))
    inner = np.stack(pools)[picked, random.integers(0, len(pools[0]), (resamples, n))]
    return np.asarray((outer[picked] + inner).mean(axis=1), np.float64)
