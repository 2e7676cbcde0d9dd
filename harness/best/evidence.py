"""What is known of each candidate: where it was rejected, by what, with which numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.accuracy import Comparison, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.spec.case import Case
    from harness.spec.model import Bounds, Model

__all__ = ["RUNGS", "Accuracy", "Candidate", "Speed"]

RUNGS = ("static", "few samples", "more samples", "short runs", "session")
"""Rungs of growing cost."""

_CEILING_DB = 80.0
_BROKEN = 1e6


@dataclass(frozen=True)
class Accuracy:
    """How far a case is from FP32.

    :param buckets: length bucket -> its samples, pooled.
    :param lower_is_better: the score's direction.
    """

    buckets: Mapping[str, Comparison]
    lower_is_better: bool = False

    def reasons(self, model: Model) -> list[str]:
        """Which bounds are missed, each with its bucket; empty where all are met."""
        return [
            f"{name}: {reason}"
            for name, seen in self.buckets.items()
            for reason in verdict(seen, model.bounds_for(name), lower_is_better=self.lower_is_better)[1]
        ]

    def shortfall(self, model: Model) -> float:
        """How far bounds are missed, summed over buckets; 0 where all are met."""
        return sum(self.shortfalls(model).values())

    def shortfalls(self, model: Model) -> dict[str, float]:
        """Bucket -> how far its bounds are missed: a score or a cosine in parts of the bound's distance from what FP32
        reaches, SQNR as noise in parts of the noise that is allowed.
        """
        return {name: self._missed(seen, model.bounds_for(name)) for name, seen in self.buckets.items()}

    def _missed(self, seen: Comparison, bound: Bounds) -> float:
        missed = 0.0 if seen.finite else _BROKEN
        if bound.sqnr_db is not None:
            missed += _beyond(_noise(bound.sqnr_db - seen.sqnr_db))
        if bound.cosine is not None:
            missed += _beyond(bound.cosine - seen.cosine, 1 - bound.cosine)
        if bound.worst is not None:
            missed += _beyond(seen.worst - bound.worst, bound.worst)
        if bound.score is not None:
            score = math.nan if seen.score is None else seen.score
            over = score - bound.score if self.lower_is_better else bound.score - score
            missed += _beyond(over, bound.score if self.lower_is_better else 1 - bound.score)
        return missed

    def sqnr_db(self) -> float:
        """The mean over buckets; at most 80, beyond which it is FP32's own rounding."""
        values = [max(-_CEILING_DB, min(_CEILING_DB, seen.sqnr_db)) for seen in self.buckets.values()]
        return math.fsum(values) / len(values) if values else math.nan

    def text(self) -> str:
        """Bucket by bucket: the task score where there is one, and SQNR."""
        parts = []
        for seen in self.buckets.values():
            score = "" if seen.score is None else f"{seen.score:.3f} "
            parts.append(f"{score}{seen.sqnr_db:.1f}dB")
        return ", ".join(parts)

    def as_data(self) -> dict[str, Any]:
        return {name: {**vars(seen), "spoiled": list(seen.spoiled)} for name, seen in self.buckets.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], *, lower_is_better: bool) -> Accuracy:
        buckets = {name: Comparison(**{**one, "spoiled": tuple(one["spoiled"])}) for name, one in data.items()}
        return cls(buckets, lower_is_better)


@dataclass(frozen=True)
class Speed:
    """How fast a case is beside FP32; times are medians of the clock that a user waits by.

    :param ratio: ``traffic`` and each bucket -> how many times faster than FP32: (least, point, most).
    :param ms: the same -> (least, point, most); of the traffic, by its weights.
    :param word: the session's, empty for short runs.
    """

    ratio: Mapping[str, tuple[float, float, float]]
    ms: Mapping[str, tuple[float, float, float]]
    word: str = ""
    why: str = ""

    def as_data(self) -> dict[str, Any]:
        return {
            "ratio": {name: list(one) for name, one in self.ratio.items()},
            "ms": {name: list(one) for name, one in self.ms.items()},
            "word": self.word,
            "why": self.why,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Speed:
        def read(part: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
            return {name: (float(one[0]), float(one[1]), float(one[2])) for name, one in part.items()}

        return cls(read(data["ratio"]), read(data["ms"]), str(data["word"]), str(data["why"]))


@dataclass
class Candidate:
    """One case on its way up.

    :param rung: the last of :data:`RUNGS` that it was looked at on; :param rejected: why it goes no further.
    :param refused: by the runtime's builder.
    :param search: accuracy on the samples of the search, the most that were run; :param test: on the test corpus.
    :param short: speed by short runs; :param session: by a session of its own.
    """

    case: Case
    rung: str = RUNGS[0]
    rejected: str = ""
    refused: bool = False
    search: Accuracy | None = None
    test: Accuracy | None = None
    short: Speed | None = None
    session: Speed | None = None

    def reject(self, rung: str, why: str) -> None:
        self.rung, self.rejected = rung, why

    @property
    def speed(self) -> Speed | None:
        """The best that is known."""
        return self.session or self.short

    def as_data(self) -> dict[str, Any]:
        return {
            "case": self.case.id,
            "rung": self.rung,
            "rejected": self.rejected,
            "search": self.search.as_data() if self.search else None,
            "test": self.test.as_data() if self.test else None,
            "short": self.short.as_data() if self.short else None,
            "session": self.session.as_data() if self.session else None,
        }


def _noise(missing_db: float) -> float:
    return missing_db if math.isnan(missing_db) else 10 ** (min(missing_db, 120.0) / 20) - 1


def _beyond(missing: float, scale: float = 1.0) -> float:
    if math.isnan(missing):
        return _BROKEN
    return min(_BROKEN, max(0.0, missing) / max(scale, 1e-9))
