"""A ratio of two latencies with an interval: bursts to blocks, blocks to launches, launches to the estimate.

Everything is a natural logarithm of candidate time / baseline time: 0 is "the same", ``log(1.05)`` is 5 % slower, and
swapping the arms changes the sign. The unit of inference is the launch (a fresh process), and the build where several
engines were built: the noise is between launches, so more blocks in one launch do not make more evidence
(Kalibera & Jones, *Rigorous benchmarking in reasonable time*, ISMM 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import DataError
from harness.stats.bootstrap import hierarchical_bootstrap
from harness.stats.location import IQR_OF_NORMAL, Interval, checked, launch_interval_t, launch_location, wider

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Builds = Sequence[Sequence[ArrayLike]]

__all__ = [
    "CLOCK_RESOLUTION",
    "Estimate",
    "against_both",
    "block_logs",
    "burst_value",
    "estimate",
    "traffic",
]

CLOCK_RESOLUTION = 0.0005
"""Half-width (log ratio) below which no interval goes: 0.05 %, one tick of a 0.5 us device clock in a 1 ms run."""


@dataclass(frozen=True)
class Estimate:
    """What a session knows about one log ratio.

    :param point: mean of the launch estimates (of the build means where there are several builds).
    :param interval: the wider of the t interval and the hierarchical bootstrap, no narrower than the floors
        that :func:`estimate` names.
    :param launches: launches used; :param builds: builds; :param blocks: blocks in all launches.
    :param launch_sd: standard deviation of the launch estimates within builds; NaN with fewer than two launches.
    :param block_sd: pooled standard deviation of block log ratios within launches; NaN with one block a launch.
    :param standard_error: of ``point``, from the highest level that is replicated; never below the floors.
    :param degrees: degrees of freedom of ``standard_error``; 0 where nothing is replicated.
    """

    point: float
    interval: Interval
    launches: int
    builds: int
    blocks: int
    launch_sd: float
    block_sd: float
    standard_error: float
    degrees: int

    @property
    def ratio(self) -> float:
        """Candidate time / baseline time."""
        return math.exp(self.point)


def burst_value(burst_ns: ArrayLike, how: Literal["min", "median"], *, where: str = "a burst") -> Floats:
    """One value for each burst: the minimum for host clocks, the median for device events.

    Preemption only ever adds time, so on a shared host the minimum is nearest to the code's own time (Chen & Revels
    2016, arXiv 1608.04295); a device clock sees no preemption and the median also sees a code that became erratic.

    :param burst_ns: (..., runs) times in nanoseconds.
    :returns: (...) float64, nanoseconds.
    :raises DataError: no run, or a time that is NaN, infinite, zero or negative.
    """
    times = _times(burst_ns, where)
    if times.ndim == 0 or times.shape[-1] == 0:
        raise DataError("a burst without a timed run", where=where, todo="time at least one run in each burst")
    if how == "min":
        return np.asarray(times.min(axis=-1), np.float64)
    if how == "median":
        return np.asarray(np.median(times, axis=-1), np.float64)
    raise DataError(f"no burst value is called {how!r}", where=where, todo="use min or median")


def against_both(candidate_ns: ArrayLike, baseline_ns: ArrayLike, null_ns: ArrayLike) -> Floats:
    """Block log ratios of the candidate to both copies of the baseline, A and A', (blocks, 2).

    A and A' are the same code in two processes, so together they carry half the launch variance of one: a launch's
    estimate, the mean of both columns' Hodges-Lehmann estimates, has 3/4 of the launch variance, and about a quarter of
    the launches is saved at no cost. The columns are kept apart until then: spikes are more frequent in the mean of two
    baselines than in one candidate, so a robust location of the ratio to that mean is shifted downwards (by some 0.2 %
    with 5 % of blocks hit), while two exchangeable arms have a symmetric ratio.

    :raises DataError: as for :func:`block_logs`.
    """
    arms = ("arm candidate", "arm baseline", "arm baseline copy")
    return np.column_stack(
        [
            block_logs(candidate_ns, baseline_ns, arms=arms[:2]),
            block_logs(candidate_ns, null_ns, arms=(arms[0], arms[2])),
        ]
    )


def block_logs(
    candidate_ns: ArrayLike, baseline_ns: ArrayLike, *, arms: tuple[str, str] = ("arm candidate", "arm baseline")
) -> Floats:
    """``log(candidate / baseline)`` for each block of one launch.

    :param candidate_ns: (blocks,) burst values; :param baseline_ns: (blocks,), of the same blocks.
    :returns: (blocks,) float64.
    :raises DataError: naming the arm and the block: no block, another number of blocks, or a time that is NaN,
        infinite, zero or negative.
    """
    candidate, baseline = _paired(candidate_ns, baseline_ns, arms)
    return np.asarray(np.log(candidate) - np.log(baseline), np.float64)


def estimate(
    values_by_build: Builds, confidence: float, seed: int, *, resolution: float = CLOCK_RESOLUTION
) -> Estimate:
    """The log ratio, with the wider of the t interval and the hierarchical bootstrap.

    With two or more builds the builds are the unit (Kalibera & Jones 2013: the highest replicated level); giving every
    launch a build of its own makes both levels one. An interval of no width is not believed. It is floored by

    - the blocks: a mean over launches cannot be known better than its own blocks allow, ``1.023 * sd /
      sqrt(blocks)`` (1.023 = sqrt(pi/3), the Hodges-Lehmann estimator's normal-theory standard error), with the sd of
      the blocks from their quartiles, since spikes hardly move the estimator, and
    - the clock: identical samples only mean that the clock cannot tell them apart, so the half-width is at least
      ``resolution``.

    :param values_by_build: builds of launches of (blocks,) log ratios, or (blocks, 2) from :func:`against_both`.
        Launches that were dropped are left out.
    :param confidence: two-sided; 0.90 gives two one-sided tests at 5 % (Schuirmann 1987).
    :param resolution: clock tick / time of one block value, as a log ratio.
    :raises DataError: an empty level, a value that is not finite, or a confidence outside (0, 1).
    """
    from scipy import stats

    builds = checked(values_by_build)
    by_build = [np.array([launch_location(blocks) for blocks in launches]) for launches in builds]
    all_launches = np.concatenate(by_build)
    blocks = sum(len(values) for launches in builds for values in launches)
    block_sd = _pooled_sd([values for launches in builds for values in launches])
    launch_sd = _pooled_sd(by_build)
    units = np.array([launches.mean() for launches in by_build]) if len(builds) > 1 else all_launches
    by_t = launch_interval_t(units, confidence)
    if len(builds) > 1:
        pooled = launch_interval_t(all_launches, confidence)  # unequal builds: its centre may differ, its width counts
        by_t = wider(by_t, _around(by_t.point, pooled.half_width, confidence))
    interval = wider(by_t, hierarchical_bootstrap(builds, confidence, seed))
    degrees = len(units) - 1
    error = float(units.std(ddof=1) / math.sqrt(len(units))) if degrees else math.inf
    floor_error = 1.023 * _robust_block_sd(builds) / math.sqrt(blocks)
    floor = max(resolution, float(stats.norm.isf((1 - confidence) / 2)) * floor_error)
    if interval.half_width < floor:
        interval = _around(by_t.point, floor, confidence)
    return Estimate(
        point=by_t.point,
        interval=interval,
        launches=len(all_launches),
        builds=len(builds),
        blocks=blocks,
        launch_sd=launch_sd,
        block_sd=block_sd,
        standard_error=max(error, floor_error, resolution / 2),
        degrees=degrees,
    )


def traffic(
    values_by_length: Mapping[int, Builds], baseline_ns: Mapping[int, float], weights: Mapping[int, float]
) -> list[list[Floats]]:
    """Block log ratios of the traffic's total time, ready for :func:`estimate`.

    With weight w (how often a length comes) and baseline time T, block b of a launch counts
    ``log(sum_l w_l T_l exp(d_lb) / sum_l w_l T_l)``: the ratio of weighted total times, not the mean of ratios, because
    a user waits for seconds and not for percentages. Launch by launch, so the lengths of one launch share its effect.
    Where the lengths of a launch kept different numbers of blocks, the surplus is left out (blocks are exchangeable).

    :param values_by_length: length -> builds -> launches -> (blocks,) log ratios; the same launches at every length.
    :param baseline_ns: length -> typical baseline time, ns.
    :param weights: length -> share of the traffic; any positive scale.
    :raises DataError: no length, lengths that disagree, a weight or time that is not positive and finite.
    """
    lengths = sorted(values_by_length)
    if not lengths or set(lengths) != set(baseline_ns) or set(lengths) != set(weights):
        raise DataError(
            f"ratios for lengths {lengths}, times for {sorted(baseline_ns)}, weights for {sorted(weights)}",
            where="the traffic estimate",
            todo="give ratios, baseline times and weights for the same lengths",
        )
    times = _times([baseline_ns[length] for length in lengths], "the traffic's baseline times")
    shares = _times([weights[length] for length in lengths], "the traffic's weights") * times
    shares /= shares.sum()
    of_each = [checked(values_by_length[length]) for length in lengths]
    shape = [len(launches) for launches in of_each[0]]
    for length, builds in zip(lengths, of_each, strict=True):
        if [len(launches) for launches in builds] != shape:
            raise DataError(
                f"{[len(launches) for launches in builds]} launches in each build, length {lengths[0]} has {shape}",
                where=f"the traffic estimate, length {length}",
                todo="drop a launch at every length, or at none",
            )
    return [[_weighted([c[b][i] for c in of_each], shares) for i in range(n)] for b, n in enumerate(shape)]


def _weighted(logs: list[Floats], shares: Floats) -> Floats:
    kept = min(len(values) for values in logs)
    joined = np.log(np.tensordot(shares, np.exp(np.stack([values[:kept] for values in logs])), axes=1))
    return np.asarray(joined[:, 0] if joined.shape[1] == 1 else joined, np.float64)


def _pooled_sd(groups: Sequence[Floats]) -> float:
    degrees = sum(group.size - group[0].size for group in groups)
    if degrees == 0:
        return math.nan
    return math.sqrt(sum(float(((group - group.mean(axis=0)) ** 2).sum()) for group in groups) / degrees)


def _robust_block_sd(builds: list[list[Floats]]) -> float:
    rows = [blocks.mean(axis=1) for launches in builds for blocks in launches]
    upper, lower = np.quantile(np.concatenate([row - np.median(row) for row in rows]), [0.75, 0.25])
    return float(upper - lower) / IQR_OF_NORMAL


def _around(point: float, half: float, confidence: float) -> Interval:
    return Interval(point - half, point, point + half, confidence)


def _paired(first: ArrayLike, second: ArrayLike, arms: tuple[str, str]) -> tuple[Floats, Floats]:
    left, right = _times(first, arms[0]), _times(second, arms[1])
    if left.ndim != 1 or right.ndim != 1 or left.shape != right.shape or left.size == 0:
        raise DataError(
            f"{left.shape} and {right.shape} block values",
            where=f"{arms[0]} and {arms[1]}",
            todo="every block needs one burst of each arm, and a launch at least one block",
        )
    return left, right


def _times(values: ArrayLike, where: str) -> Floats:
    times = np.asarray(values, np.float64)
    bad = ~(np.isfinite(times) & (times > 0))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f", block {index[0]}" + (f", run {index[1]}" if len(index) > 1 else "") if index else ""
        raise DataError(
            f"a value of {times[index]}; {int(bad.sum())} of {times.size} are NaN, infinite, zero or negative",
            where=f"{where}{place}",
            todo="drop the launch whose clock did this; look at the clock if it comes back",
        )
    return times
