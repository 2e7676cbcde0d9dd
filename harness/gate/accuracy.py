"""Is the candidate as right as before? Both engines against the FP32 oracle, paired by sample, and one another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from harness.accuracy import Aggregate
from harness.errors import DataError
from harness.gate.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.accuracy import Comparison, Score
    from harness.gate.findings import Word
    from harness.served import Outputs

    Side = Literal["baseline", "candidate"]

__all__ = ["AccuracyMargins", "Drop", "Paired", "drop_of", "worst_of"]

_CEILING_DB = 60.0
"""SQNR beyond which a difference is none: rounding of FP32, not of INT8."""
_CONFIDENCE = 0.95
_WORST_FIRST: tuple[Word, ...] = ("regression", "inconclusive", "minor", "pass", "improved")


@dataclass(frozen=True)
class AccuracyMargins:
    """How far the candidate may fall behind the baseline, and how far it must not without being caught.

    :param tolerated_db, caught_db: mean fall of SQNR over samples, in dB.
    :param tolerated_score, caught_score: mean fall of the task score, in its own unit.
    :param sample_db: fall of a single sample that is one, whatever the mean: what went wrong at some lengths alone is
        spread too widely for a mean's interval. Both engines ran that sample, so no chance is in it; that it was not
        this sample alone, the second stage shows on others.
    """

    tolerated_db: float = 0.5
    caught_db: float = 1.5
    tolerated_score: float = 0.005
    caught_score: float = 0.02
    sample_db: float = 6.0


@dataclass(frozen=True)
class Drop:
    """A mean fall with its two-sided 95 % interval, and the p-value of "no more than tolerated".

    :param n: samples.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int

    def word(self, tolerated: float, caught: float) -> Word:
        """As :func:`harness.stats.verdict.judge`: an interval that is too wide is no pass."""
        if self.high < -tolerated:
            return "improved"
        if self.low > tolerated:
            return "regression" if self.high >= caught else "minor"
        return "pass" if self.high < caught else "inconclusive"


def drop_of(falls: Sequence[float], tolerated: float) -> Drop:
    """The mean of paired falls with Student's interval over samples.

    Equal falls have no spread: the interval is a point and the p-value 0 or 1. A single sample shows no spread either,
    and has an infinite interval unless its fall is 0.

    :param falls: baseline minus candidate, positive where the candidate is worse.
    """
    values = np.asarray(falls, np.float64)
    mean, n = float(values.mean()), len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if not np.any(values != values[0]) and (n > 1 or mean == 0.0):
        return Drop(mean, mean, mean, 0.0 if mean > tolerated else 1.0, n)
    if not math.isfinite(error):
        return Drop(mean, -math.inf, math.inf, 1.0, n)
    half = float(stats.t.isf((1 - _CONFIDENCE) / 2, n - 1)) * error
    return Drop(mean, mean - half, mean + half, float(stats.t.sf((mean - tolerated) / error, n - 1)), n)


@dataclass
class Paired:
    """Samples as they come, by length bucket.

    :param output: that is measured. :param score: the model's task score.
    """

    case: str
    output: str
    score: Score | None
    margins: AccuracyMargins = field(default_factory=AccuracyMargins)
    stage: int = 1
    _db: dict[str, list[float]] = field(default_factory=dict)
    _scores: dict[str, list[float]] = field(default_factory=dict)
    _agree: dict[str, Aggregate] = field(default_factory=dict)
    _pooled: dict[str, tuple[Aggregate, Aggregate]] = field(default_factory=dict)
    _equal: dict[str, bool] = field(default_factory=dict)
    _spoiled: dict[str, set[str]] = field(default_factory=dict)
    _refused: dict[Side, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether a side failed: more samples would say nothing more."""
        return bool(self._refused)

    def refuse(self, side: Side, why: str) -> None:
        """A side does not run a sample, or its outputs cannot be compared with FP32's."""
        self._refused[side] = why

    def add(self, bucket: str, oracle: Outputs, baseline: Outputs, candidate: Outputs) -> None:
        """Take in one sample's outputs; where an output is missing, has another shape or cannot be scored, its side is
        refused.
        """
        both = self._pooled.setdefault(bucket, (Aggregate(self.output, self.score), Aggregate(self.output, self.score)))
        sides: tuple[tuple[Side, Outputs], ...] = (("baseline", baseline), ("candidate", candidate))
        found = []
        for pool, (side, outputs) in zip(both, sides, strict=True):
            try:
                found.append(pool.add(oracle, outputs))
            except DataError as error:
                self.refuse(side, f"its outputs cannot be compared: {error}")
        if self.over:
            return
        old, new = found
        self._agree.setdefault(bucket, Aggregate(self.output)).add(baseline, candidate)
        self._db.setdefault(bucket, []).append(_decibels(old) - _decibels(new))
        if self.score is not None and old.score is not None and new.score is not None:
            sign = -1.0 if self.score.lower_is_better else 1.0
            self._scores.setdefault(bucket, []).append(sign * (old.score - new.score))
        alike = all(name in candidate and _alike(values, candidate[name]) for name, values in baseline.items())
        self._equal[bucket] = self._equal.get(bucket, True) and alike
        self._spoiled.setdefault(bucket, set()).update(set(new.spoiled) - set(old.spoiled))

    def findings(self) -> Iterator[Finding]:
        """For each bucket: accuracy, and how far the two engines agree; one alone where a side was refused."""
        if self.over:
            yield self._refusal()
            return
        for bucket in self._db:
            yield self._accuracy(bucket)
            agreed = self._agree[bucket].comparison
            why = (
                "bitwise equal"
                if self._equal[bucket]
                else f"{agreed.sqnr_db:.1f} dB, cosine {agreed.cosine:.5f} at worst"
            )
            yield self._finding("pass", bucket, f"candidate against baseline: {why}", aspect="agreement")

    def _refusal(self) -> Finding:
        old, new = self._refused.get("baseline"), self._refused.get("candidate")
        if old and new:
            return self._finding("inconclusive", "", f"neither side can be judged: the candidate: {new}", 1.0)
        if old:
            return self._finding("improved", "", f"can be judged now; the baseline: {old}")
        return self._finding("regression", "", str(new), 0.0)

    def _accuracy(self, bucket: str) -> Finding:
        old, new = (pool.comparison for pool in self._pooled[bucket])
        values = {"baseline": _told(old), "candidate": _told(new)}
        if self._spoiled[bucket]:
            outputs = ", ".join(sorted(self._spoiled[bucket]))
            return self._finding(
                "regression", bucket, f"NaN or infinite in {outputs}, which the baseline has not", 0.0, values
            )
        if self._equal[bucket]:
            return self._finding("pass", bucket, f"bitwise equal over {new.n} sample(s)", 1.0, values)
        m = self.margins
        asked = [("SQNR", "dB", drop_of(self._db[bucket], m.tolerated_db), m.tolerated_db, m.caught_db)]
        if bucket in self._scores:
            drop = drop_of(self._scores[bucket], m.tolerated_score)
            asked.append((self.score.name if self.score else "", "", drop, m.tolerated_score, m.caught_score))
        words = [drop.word(tolerated, caught) for *_, drop, tolerated, caught in asked]
        worst = min(words, key=_WORST_FIRST.index)
        # Either may have found it; one that is no regression by its own interval is not what is to be confirmed.
        counted = [drop.p for (_, _, drop, *_), word in zip(asked, words, strict=True) if word == worst]
        p = min(1.0, len(asked) * min(counted))
        said = "; ".join(_fell(name, unit, drop) for name, unit, drop, *_ in asked)
        largest = max(self._db[bucket])
        if largest >= m.sample_db and worst != "regression":
            worst, p, said = "regression", 0.0, f"a sample's SQNR fell by {largest:+.3g} dB; {said}"
        return self._finding(worst, bucket, f"{said} over {new.n} sample(s)", p, values)

    def _finding(
        self, word: Word, bucket: str, why: str, p: float | None = None, values: Mapping[str, object] | None = None,
        aspect: str = "accuracy",
    ) -> Finding:  # fmt: skip
        return Finding(self.case, aspect, word, why, bucket, p, self.stage, values or {})  # type: ignore[arg-type]


def worst_of(builds: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Several builds' findings as one: at each place the worst, its p-value times the number of builds (Bonferroni)."""
    if len(builds) == 1:
        return list(builds[0])
    found: dict[tuple[str, str, str], list[Finding]] = {}
    for findings in builds:
        for one in findings:
            found.setdefault(one.key, []).append(one)
    chosen = [min(same, key=lambda one: (_WORST_FIRST.index(one.word), one.p or 0.0)) for same in found.values()]
    counted = f"the worst of {len(builds)} builds"
    return [
        replace(one, why=f"{one.why} ({counted})", p=None if one.p is None else min(1.0, len(builds) * one.p))
        for one in chosen
    ]


def _alike(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))


def _fell(name: str, unit: str, drop: Drop) -> str:
    space = f" {unit}" if unit else ""
    return f"{name} fell by {drop.mean:+.3g}{space} [{drop.low:+.3g}, {drop.high:+.3g}]"


def _decibels(one: Comparison) -> float:
    return min(_CEILING_DB, max(-_CEILING_DB, one.sqnr_db)) if not math.isnan(one.sqnr_db) else -_CEILING_DB


def _told(one: Comparison) -> dict[str, object]:
    return {"sqnr_db": one.sqnr_db, "cosine": one.cosine, "score": one.score, "n": one.n}
