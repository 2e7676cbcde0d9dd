"""What a file reached on the samples that a search looks at, and how far that is from what was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.spec.model import Bounds

__all__ = ["CERTAIN", "CONFIDENCE", "One", "Outcome", "interval_of_mean", "joined"]

CONFIDENCE = 0.95
CERTAIN = 0.99
"""Of the interval whose worse end has to be within a bound: wider than what is shown, for a search chooses among dozens
of files by the same samples, and the best of many is a little lucky on them."""
_RESAMPLES = 1000
_SEED = 20_261_130
_CEILING_DB = 80.0
_BROKEN = 1e6


@dataclass(frozen=True)
class One:
    """One sample, against FP32.

    :param signal: sum of squares of FP32's output; :param noise: of the difference to it.
    :param score: the task score, None where the model has none; :param weight: of the score.
    """

    signal: float
    noise: float
    cosine: float
    worst: float
    score: float | None
    weight: float

    @property
    def sqnr_db(self) -> float:
        """At most 80: beyond that, it is FP32's own rounding."""
        if not (math.isfinite(self.signal) and math.isfinite(self.noise)):
            return -_CEILING_DB
        if self.noise <= self.signal * 10 ** (-_CEILING_DB / 10):
            return _CEILING_DB
        return max(-_CEILING_DB, 10 * math.log10(max(self.signal, 1e-300) / self.noise))


@dataclass(frozen=True)
class Outcome:
    """All samples of a search, by length bucket.

    :param buckets: bucket -> its samples' results. :param lower_is_better: the score's direction.
    """

    buckets: Mapping[str, tuple[One, ...]]
    lower_is_better: bool = False

    def noise(self, buckets: Collection[str] = ()) -> float:
        """Noise to signal: the mean over samples of the ratio in dB, then over ``buckets`` or all, as a ratio.

        A mean of decibels, not of powers: one sample whose decision flips would outvote all others.
        """
        taken = [ones for name, ones in self.buckets.items() if not buckets or name in buckets]
        return float(10 ** (-np.mean([np.mean([one.sqnr_db for one in ones]) for ones in taken]) / 10))

    def sqnr_db(self, bucket: str) -> float:
        """Pooled over the bucket's samples, as records have it; NaN where anything is not finite."""
        ones = self.buckets[bucket]
        noise = math.fsum(one.noise for one in ones)
        signal = math.fsum(one.signal for one in ones)
        if not (math.isfinite(noise) and math.isfinite(signal)):
            return math.nan
        if not noise:
            return math.inf
        return 10 * math.log10(signal / noise) if signal else -math.inf

    def score(self, bucket: str) -> float | None:
        """Mean by weight; None where the model has no score."""
        ones = self.buckets[bucket]
        if any(one.score is None for one in ones):
            return None
        weight = math.fsum(one.weight for one in ones)
        return math.fsum((one.score or 0.0) * one.weight for one in ones) / weight if weight else math.nan

    def score_interval(self, bucket: str, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """The bootstrap's interval of :meth:`score` over samples."""
        ones = self.buckets[bucket]
        if any(one.score is None for one in ones):
            return None
        weights = np.array([one.weight for one in ones])
        return interval_of_mean(np.array([one.score for one in ones]) * weights, weights, confidence)

    def shortfall(self, bounds: Mapping[str, Bounds]) -> float:
        """How far all bounds are missed, 0 where all are met, a score by the worse end of its 99 % interval.

        What is met on these samples has to hold on others. Each bound counts in parts of its distance from what FP32
        itself reaches, so that a search can add them up.
        """
        return self._missed(bounds, lambda bucket: self.score_interval(bucket, CERTAIN))

    def missed(self, bounds: Mapping[str, Bounds]) -> float:
        """The same by the scores themselves."""
        return self._missed(bounds, lambda bucket: None if (found := self.score(bucket)) is None else (found, found))

    def short_of(self, bounds: Mapping[str, Bounds]) -> frozenset[str]:
        """The buckets that have a :meth:`shortfall`."""
        return frozenset(name for name, bound in bounds.items() if self.shortfall({name: bound}))

    def luck_beside(self, other: Outcome, bounds: Mapping[str, Bounds]) -> float:
        """The standard error of the difference to another file's :meth:`shortfall`, by its scores.

        In the shortfall's parts, over the buckets as independent errors add up. The bootstrap is paired, for both ran
        the same samples: what is hard for both is no luck of either.
        """
        found = 0.0
        for bucket, bound in bounds.items():
            if bound.score is None or bucket not in self.buckets:
                continue
            apart = self._score_draws(bucket) - other._score_draws(bucket)
            if np.isfinite(apart).any():
                scale = bound.score if self.lower_is_better else 1 - bound.score
                found += (float(np.nanstd(apart)) / max(scale, 1e-9)) ** 2
        return math.sqrt(found)

    def quieter_than(self, other: Outcome) -> float:
        """By how many standard errors this file is the less noisy one: mean of paired differences of SQNR in dB.

        Where nothing tells the error, because there is no bucket with two samples or all of them differ alike, it is
        infinite, or 0 for files that are level.
        """
        differences, variance = 0.0, 0.0
        for bucket in self.buckets:
            mine, theirs = (np.array([one.sqnr_db for one in out.buckets[bucket]]) for out in (self, other))
            differences += float(np.mean(mine - theirs))
            if len(mine) > 1:
                variance += float(np.var(mine - theirs, ddof=1)) / len(mine)
        if variance:
            return differences / math.sqrt(variance)
        return math.copysign(math.inf, differences) if differences else 0.0

    def _score_draws(self, bucket: str) -> NDArray[Any]:
        """The score over each of the bootstrap's draws; NaN where there is none."""
        ones = self.buckets[bucket]
        weights = np.array([one.weight for one in ones])
        scores = np.array([math.nan if one.score is None else one.score for one in ones])
        return _means(scores * weights, weights)

    def _missed(self, bounds: Mapping[str, Bounds], scores: Callable[[str], tuple[float, float] | None]) -> float:
        return sum(
            self._of(bucket, bound, scores(bucket)) for bucket, bound in bounds.items() if bucket in self.buckets
        )

    def _of(self, bucket: str, bound: Bounds, score: tuple[float, float] | None) -> float:
        ones, missed = self.buckets[bucket], 0.0
        if bound.sqnr_db is not None:
            missed += _beyond(bound.sqnr_db - self.sqnr_db(bucket), abs(bound.sqnr_db))
        if bound.cosine is not None:
            missed += _beyond(bound.cosine - _worst(min, (one.cosine for one in ones)), 1 - bound.cosine)
        if bound.worst is not None:
            missed += _beyond(_worst(max, (one.worst for one in ones)) - bound.worst, bound.worst)
        if bound.score is not None and score is None:
            missed += _BROKEN
        elif bound.score is not None and score is not None:
            over = score[1] - bound.score if self.lower_is_better else bound.score - score[0]
            missed += _beyond(over, bound.score if self.lower_is_better else 1 - bound.score)
        return missed

    def as_data(self) -> dict[str, Any]:
        """Bucket -> a list of numbers for each sample."""
        return {name: [list(vars(one).values()) for one in ones] for name, ones in self.buckets.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Sequence[Sequence[float]]], *, lower_is_better: bool) -> Outcome:
        return cls({name: tuple(One(*row) for row in rows) for name, rows in data.items()}, lower_is_better)


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Of several parts of one corpus, run by the same file."""
    names = dict.fromkeys(name for one in outcomes for name in one.buckets)
    ones = {name: tuple(row for one in outcomes for row in one.buckets.get(name, ())) for name in names}
    return Outcome(ones, any(one.lower_is_better for one in outcomes))


def interval_of_mean(
    values: NDArray[Any], weights: NDArray[Any], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The percentile bootstrap's interval of sum(values) / sum(weights), samples drawn with replacement.

    The same draws for every file that is looked at, so that two files differ by what they do and not by the draws.

    Draws that weigh nothing say nothing, and are left out.

    :param values: [n], each already times its weight.
    :returns: low and high; NaN where a value is not finite, or nothing weighs anything.
    """
    means = _means(values, weights)
    means = means[~np.isnan(means)]
    if not (np.isfinite(values).all() and means.size):
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _means(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """sum(values) / sum(weights) of each of the bootstrap's draws; NaN where nothing weighs anything."""
    draws = np.random.default_rng(_SEED).integers(len(values), size=(_RESAMPLES, len(values)))
    totals = weights[draws].sum(axis=1)
    means = np.full(_RESAMPLES, np.nan)
    np.divide(values[draws].sum(axis=1), totals, out=means, where=totals > 0)
    return means


def _beyond(missing: float, scale: float) -> float:
    if math.isnan(missing):
        return _BROKEN
    return min(_BROKEN, max(0.0, missing) / max(scale, 1e-9))


def _worst(choose: Callable[[list[float]], float], values: Iterable[float]) -> float:
    """``min`` and ``max`` pass over a NaN that does not stand first."""
    found = list(values)
    return math.nan if any(math.isnan(one) for one in found) else choose(found)
