"""Tail latencies by order statistics: no shape of the distribution is assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.stats.location import Interval

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["TooSmall", "quantile_floor", "quantile_order_statistic"]

_FLOOR_CONFIDENCE = 0.99


@dataclass(frozen=True)
class TooSmall:
    """Too few samples for this quantile.

    :param needed: samples from which it can be told.
    """

    quantile: float
    samples: int
    needed: int

    def __str__(self) -> str:
        return f"n too small for p{self.quantile * 100:g}: {self.samples} samples, {self.needed} needed"


def quantile_floor(q: float) -> int:
    """Fewest samples for quantile ``q``: ``P(Binomial(n, 1-q) <= 1) <= 1 %``; 64 for p90, 662 for p99, 6636 for p99.9.

    The floor of MLPerf Inference's early stopping (``loadgen/early_stopping.cc``; arXiv 1911.02549): one query may
    be over the limit and the quantile still holds with 99 % confidence. Mirrored for q below one half.

    :raises DataError: ``q`` outside (0, 1).
    """
    from scipy import stats

    if not 0 < q < 1:
        raise DataError(f"a quantile of {q}", where="a tail estimate", todo="give a number between 0 and 1")
    tail = min(q, 1 - q)
    low, high = 1, 2
    while stats.binom.cdf(1, high, tail) > 1 - _FLOOR_CONFIDENCE:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if stats.binom.cdf(1, middle, tail) <= 1 - _FLOOR_CONFIDENCE else (middle, high)
    return high


def quantile_order_statistic(samples: ArrayLike, q: float, confidence: float) -> Interval | TooSmall:
    """Distribution-free interval of a quantile between two order statistics.

    With B ~ Binomial(n, q), ``P(x_(r) <= quantile) = P(B >= r)`` and ``P(x_(s) >= quantile) >= P(B <= s - 1)``
    (David & Nagaraja, *Order Statistics*, 3rd ed. 2003, section 7.1): r is the largest and s the smallest rank
    that leaves at most (1 - confidence) / 2 outside. The samples must be independent or nearly so; autocorrelation
    makes the true coverage lower.

    :param samples: (n,) times in any unit, positive and finite.
    :returns: low, empirical quantile (rank ceil(n q)) and high; :class:`TooSmall` below :func:`quantile_floor`, or
        when ``confidence`` asks for a rank that the sample does not have.
    :raises DataError: a sample that is not positive and finite, ``q`` or ``confidence`` outside (0, 1).
    """
    from scipy import stats

    values = np.sort(np.asarray(samples, np.float64).ravel())
    if not (np.isfinite(values) & (values > 0)).all():
        raise DataError("a time is NaN, infinite, zero or negative", where=f"the samples of p{q * 100:g}")
    if not 0 < confidence < 1:
        raise DataError(f"a confidence of {confidence}", where="a tail estimate", todo="give one between 0 and 1")
    floor, n = quantile_floor(q), values.size
    if n < floor:
        return TooSmall(q, n, floor)
    outside = (1 - confidence) / 2
    low = int(stats.binom.ppf(outside, n, q))  # smallest k with P(B <= k) >= outside, so P(B < k) < outside
    high = int(stats.binom.isf(outside, n, q)) + 1  # P(B >= high) <= outside
    if low < 1 or high > n:
        needed = n + 1
        while stats.binom.ppf(outside, needed, q) < 1 or stats.binom.isf(outside, needed, q) + 1 > needed:
            needed = needed + max(1, needed // 20)
        return TooSmall(q, n, needed)
    rank = min(n, max(1, int(np.ceil(n * q - 1e-9))))
    return Interval(float(values[low - 1]), float(values[rank - 1]), float(values[high - 1]), confidence)
