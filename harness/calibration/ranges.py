"""From what was observed to a range: minmax, percentile, entropy, mse. Pure functions on histograms.

All four look at ``|x|`` for one threshold ``t`` and return ``[max(min, -t), min(max, t)]``, so a one-sided tensor
(after ReLU, after GELU) keeps a one-sided range. ``mse`` looks at both ends, for the levels of the dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.observe import BINS, Extremes, Histogram, Statistic
from harness.errors import CalibrationFailed
from harness.spec.calibration import Dialect, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from harness.calibration.observe import Observation

__all__ = [
    "Range",
    "Ranges",
    "choose",
    "entropy_threshold",
    "mse_range",
    "percentile_threshold",
    "statistic_for",
]

Range = tuple[float, float]
Ranges = dict[str, Range]

_HALF = BINS // 2
_LINEAR_BINS = 2048
_LEVELS = 128
_ENTROPY_FLOOR_PERCENTILE = 99.99
_NOTHING = 2.0**-110
"""Extremes nearer to each other than this could give a scale that float32 holds as a denormal or as 0."""


def statistic_for(method: Method) -> Callable[[], Statistic]:
    """What has to be observed for a method: extremes are enough for minmax, histograms serve all."""
    return Extremes if method.name == "minmax" else Histogram


def choose(observation: Observation, method: Method, dialect: Dialect) -> Ranges:
    """A range (low, high) for every observed tensor, low <= 0 <= high, never empty.

    :raises CalibrationFailed: the method needs histograms and only extremes were observed, or it is ``auto``, which
        :mod:`harness.calibration.selection` resolves first.
    """
    if method.name == "auto":
        raise CalibrationFailed("auto is no rule for a range", where="choose", todo="resolve it with best_method")
    return {name: _range(name, seen, method, dialect) for name, seen in observation.tensors.items()}


def _range(name: str, seen: Statistic, method: Method, dialect: Dialect) -> Range:
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    if not seen.count or high - low < _NOTHING:
        return -1.0, 1.0  # a tensor that is always zero quantizes exactly at any scale; 0 is no legal scale
    if method.name == "minmax":
        return low, high
    if not isinstance(seen, Histogram):
        raise CalibrationFailed(
            f"{method} needs a histogram; only extremes were observed", where=f"tensor {name!r}",
            todo="observe with statistic_for(method)",
        )  # fmt: skip
    if method.name == "mse":
        return mse_range(seen, dialect)
    if method.name == "percentile":
        threshold = percentile_threshold(seen, method.percentile or 99.99)
    else:
        threshold = entropy_threshold(seen)
    return max(low, -threshold), min(high, threshold)


@dataclass(frozen=True)
class _Spectrum:
    """Mass over signed bin centres in growing order, empty bins left out."""

    centres: NDArray[np.float64]
    mass: NDArray[np.float64]


def _magnitudes(seen: Histogram) -> NDArray[np.int64]:
    """Counts over |x|: bin k holds values whose upper 16 bits are k. Shape [32768]."""
    return seen.counts[:_HALF] + seen.counts[_HALF:]


def _edges() -> NDArray[np.float64]:
    """Lower edges of the magnitude bins, and one more. Shape [32769]; from the first infinite one on, infinite."""
    first_infinite = 0x7F80
    finite = (np.arange(first_infinite, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return np.concatenate([finite, np.full(_HALF + 1 - first_infinite, np.inf)])


_EDGES = _edges()


def _spectrum(seen: Histogram) -> _Spectrum:
    codes = np.flatnonzero(seen.counts)
    magnitude = codes % _HALF
    centres = (_EDGES[magnitude] + _EDGES[magnitude + 1]) / 2
    centres[magnitude == 0] = 0.0  # zeros, and denormals nobody quantizes
    signed = np.where(codes >= _HALF, -centres, centres)
    order = np.argsort(signed, kind="stable")
    clipped = np.clip(signed[order], seen.minimum, seen.maximum)
    return _Spectrum(clipped, seen.counts[codes][order].astype(np.float64))


def percentile_threshold(seen: Histogram, percentile: float) -> float:
    """The smallest t with at least ``percentile`` % of all |x| <= t, linear within a bin; within 0.8 % of exact.

    ``percentile`` counts both tails together (99.99: one value in 10,000 is clipped), as ONNX Runtime and
    NVIDIA's pytorch-quantization do.
    """
    counts = _magnitudes(seen)
    total = counts.sum()
    cumulative = np.cumsum(counts)
    target = percentile / 100.0 * total
    index = int(np.searchsorted(cumulative, target))
    largest = max(-seen.minimum, seen.maximum)
    if index == 0:
        return float(largest)  # bin 0 is zeros: a tensor that is almost all zeros keeps its extremes
    below = cumulative[index] - counts[index]
    share = (target - below) / counts[index]
    value = _EDGES[index] + share * (_EDGES[index + 1] - _EDGES[index])
    return float(min(value, largest))


def entropy_threshold(seen: Histogram) -> float:
    """The t whose clipped and 128-level quantized distribution of |x| is nearest to the original in KL divergence.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017, slides 36 to 39): 2,048 equal bins of |x| up to its
    maximum; for each number of kept bins i, P is the kept part with all clipped mass added to its last bin, Q the
    kept part merged to 128 levels and spread back over the bins that are not empty. As in NVIDIA's
    pytorch-quantization (``calib/histogram.py``) the spike at zero is levelled first (bin 0 takes the count of
    bin 1). One guard of our own: at most one value in 10,000 is clipped. Without it the published search
    collapses on networks with sparse or gated activations (on ``rec`` it clips 1 to 8 % of some tensors and the
    output falls to 1 dB); with it, it stays within 1 dB of the best method there.
    """
    largest = max(-seen.minimum, seen.maximum)
    linear = _linear_histogram(seen, largest)
    linear[0] = linear[1]
    floor = percentile_threshold(seen, _ENTROPY_FLOOR_PERCENTILE) / largest * _LINEAR_BINS
    kept = np.arange(max(_LEVELS, int(np.ceil(floor))), _LINEAR_BINS + 1, 8)
    divergence = [_divergence(linear, int(i)) for i in kept]
    if not np.isfinite(divergence).any():
        return float(largest)
    return float(kept[int(np.argmin(divergence))] / _LINEAR_BINS * largest)


def _linear_histogram(seen: Histogram, largest: float) -> NDArray[np.float64]:
    counts = _magnitudes(seen).astype(np.float64)
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    finite = np.isfinite(_EDGES)
    edges = np.linspace(0.0, largest, _LINEAR_BINS + 1)
    at_edges = np.interp(edges, _EDGES[finite], cumulative[finite])
    at_edges[0], at_edges[-1] = 0.0, cumulative[-1]
    return np.diff(at_edges)


def _divergence(bins: NDArray[np.float64], kept: int) -> float:
    p = bins[:kept].copy()
    starts = (np.arange(_LEVELS) * kept) // _LEVELS
    sums = np.add.reduceat(p, starts)
    filled = (p > 0).astype(np.float64)
    sizes = np.add.reduceat(filled, starts)
    widths = np.diff(np.append(starts, kept))
    q = np.repeat(np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0), widths) * filled
    p[-1] += bins[kept:].sum()
    q_total = q.sum()
    if not q_total:
        return float("inf")
    p, q = p / p.sum(), q / q_total
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))


def mse_range(seen: Histogram, dialect: Dialect) -> Range:
    """The range with the least mean squared quantization error, searched over both ends on the histogram.

    s8s8: one threshold, 255 levels around zero. u8s8: both ends in turn, 256 levels. Candidates are 1/16 octave
    apart over 8 octaves; the error of a bin is that of its centre (Nagel et al., "A White Paper on Neural Network
    Quantization", 2021, section 3.1).
    """
    spectrum = _spectrum(seen)
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    shrink = 2.0 ** (-np.arange(0, 8 * 16) / 16)
    if dialect is Dialect.S8S8:
        largest = max(-low, high)
        errors = [_squared_error(spectrum, -t, t, symmetric_levels=127) for t in largest * shrink]
        best = float(largest * shrink[int(np.argmin(errors))])
        return max(low, -best), min(high, best)
    for _ in range(2):
        if high > 0:
            errors = [_squared_error(spectrum, low, t) for t in max(seen.maximum, 0.0) * shrink]
            high = float(max(seen.maximum, 0.0) * shrink[int(np.argmin(errors))])
        searched_with = low
        if low < 0:
            errors = [_squared_error(spectrum, t, high) for t in min(seen.minimum, 0.0) * shrink]
            low = float(min(seen.minimum, 0.0) * shrink[int(np.argmin(errors))])
        if low == searched_with:
            break  # the next search would be the same
    return low, high


def _squared_error(s: _Spectrum, low: float, high: float, symmetric_levels: int | None = None) -> float:
    if symmetric_levels is not None:
        scale = high / symmetric_levels
        rounded = np.clip(np.rint(s.centres / scale), -128, 127) * scale
    else:
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        rounded = (np.clip(np.rint(s.centres / scale) + zero, 0, 255) - zero) * scale
    # not np.dot: it wakes a thread on every core for a sum this short
    return float((s.mass * (s.centres - rounded) ** 2).sum())
