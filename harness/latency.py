"""Is INT8 faster, at each length and over the traffic? A case's session, and what is shown and recorded of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.measure.arms import NULL, Arm, Design, Input, Question
from harness.measure.session import TRAFFIC, Outcome
from harness.spec.latency import CAUGHT, TOLERATED
from harness.spec.shapes import bucket_names, length_buckets
from harness.stats.multiple import regression_p
from harness.stats.tails import TooSmall, quantile_order_statistic
from harness.stats.verdict import Margins, judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.corpus.samples import Feeds
    from harness.measure.arms import Engines
    from harness.spec.latency import LatencySettings
    from harness.spec.matrix import Matrix
    from harness.spec.model import Model
    from harness.spec.shapes import Layout
    from harness.stats.estimate import Estimate

__all__ = ["Latency", "design_of", "engines_of", "gains_of", "inputs_of", "margins_of", "weights_of"]

_TAILS = (0.5, 0.95, 0.99)
_TAIL_CONFIDENCE = 0.95
_WORDS = {
    "improved": "faster",
    "pass": "not slower",
    "minor": "slower",
    "regression": "slower",
    "inconclusive": "inconclusive",
    "invalid": "invalid",
}
"""A session's verdict on a new version of the same engine, and what it says of INT8 beside a float engine."""


def engines_of(model: Model, layout: Layout, files: Sequence[Any]) -> Engines:
    """What serves which length bucket: one file for all, or for each the one of the profile that admits its opt."""
    if len(files) == 1:
        one: Engines = files[0]
        return one
    buckets = zip(bucket_names(model), length_buckets(model).profiles, strict=True)
    return {name: files[layout.dispatch(bucket.opt)] for name, bucket in buckets}


def weights_of(model: Model, lengths: Sequence[int]) -> dict[str, float]:
    """Length bucket -> its share of the lengths, 0 to 1. Without lengths in the model's range, all weigh the same."""
    buckets = length_buckets(model)
    names = bucket_names(model)
    counts = dict.fromkeys(names, 0)
    for length in lengths:
        if model.minimum <= length <= model.maximum:
            counts[names[buckets.dispatch(length)]] += 1
    total = sum(counts.values())
    return {name: count / total if total else 1 / len(names) for name, count in counts.items()}


def inputs_of(model: Model, weights: Mapping[str, float], feeds: Mapping[str, Feeds]) -> tuple[Input, ...]:
    """One input a length bucket, at its opt."""
    buckets = zip(bucket_names(model), length_buckets(model).profiles, strict=True)
    return tuple(Input(name, bucket.opt, feeds[name], weights[name]) for name, bucket in buckets)


def design_of(matrix: Matrix, settings: LatencySettings) -> Design:
    """The matrix's launches, blocks and budget, unless the configuration says otherwise.

    Looks after 3 launches where there are at most 4, else after 4, 6 and 8 as far as there are so many; and the last.
    """
    launches = settings.launches or matrix.launches
    early = (3,) if launches <= 4 else (4, 6, 8)
    return Design(
        looks=(*(n for n in early if n < launches), launches),
        blocks=settings.blocks or matrix.blocks,
        burst_least=2,
        budget_s=settings.budget_s or matrix.budget_s,
    )


def margins_of(settings: LatencySettings) -> Margins:
    """The configuration's margins; 2 % and 5 % where it says nothing.

    :raises UsageError: tolerated is not below caught.
    """
    tolerated = TOLERATED if settings.tolerated is None else settings.tolerated
    return Margins(tolerated, CAUGHT if settings.caught is None else settings.caught)


def gains_of(model: Model) -> dict[str, float]:
    """Length bucket, or ``traffic`` -> the speed-up that the model's bounds ask for."""
    asked = {name: model.bounds_for(name).speedup for name in bucket_names(model)}
    asked[TRAFFIC] = model.speedup_of_traffic()
    return {name: speedup for name, speedup in asked.items() if speedup is not None}


@dataclass(frozen=True)
class Latency:
    """A case's session against its float baseline.

    :param baseline: precision of the baseline (``fp32`` on a CPU, ``fp16`` on a GPU).
    """

    question: Question
    outcome: Outcome
    margins: Margins
    baseline: str

    def samples(self, bucket: str) -> list[int]:
        """The candidate's durations at a bucket's opt by the clock that judged, in ns, in the order they were run."""
        return self._durations(self.question.candidate, bucket, self.outcome.clock)

    def raw(self, bucket: str) -> dict[str, list[Any]]:
        """Arm -> launches -> bursts in block order -> clock -> ns."""
        arms = (self.question.baseline, self.question.candidate)
        return {
            label: [launch.samples[label][bucket] for launch in self.outcome.launches]
            for label in (*(arm.label for arm in arms), NULL)
        }

    def cell(self, bucket: str) -> dict[str, Any]:
        """What is known of one bucket: ``ratio`` (how many times faster INT8 is) with its interval, times and tails."""
        (one,) = (one for one in self.question.inputs if one.label == bucket)
        found: dict[str, Any] = {"length": one.length, "weight": one.weight}
        if bucket not in self.outcome.per_input:
            return found
        found |= _faster(self.outcome.per_input[bucket])
        for role, arm in (("baseline", self.question.baseline), ("int8", self.question.candidate)):
            found[role] = self._times(arm, bucket)
        return found

    def word(self, bucket: str = TRAFFIC) -> str:
        """``faster``, ``not slower``, ``slower``, ``inconclusive`` or ``invalid``, by the margins."""
        if self.outcome.verdict.word == "invalid" or bucket == TRAFFIC:
            return _WORDS[self.outcome.verdict.word]
        return _WORDS[judge(self.outcome.per_input[bucket], self.margins).word]

    def problem(self, bucket: str = TRAFFIC) -> str:
        """Why the case fails: an engine that does not run, a speed-up that is missed or not proved; empty else."""
        if self.outcome.stopped_by == "lost launches":
            return self.outcome.verdict.why
        gain = self.outcome.gains.get(bucket)
        if gain is None or gain.word == "pass":
            return ""
        advice = f"; {self.advice()}" if gain.word == "inconclusive" and self.advice() else ""
        return f"{bucket}: {gain.word}: {gain.why}{advice}"

    def advice(self) -> str:
        """What it takes where something stayed open, and what ended the session; empty where nothing did."""
        outcome, launches = self.outcome, len(self.outcome.launches)
        if not outcome.advice:
            return ""
        if launches < outcome.design.looks[-1]:
            each = sum(outcome.seconds.values()) / max(1, launches)
            spent = f"budget_s = {outcome.design.budget_s:g} ended it after {launches} launch(es) of {each:.1f} s"
            return f"{spent}; {outcome.advice}" if launches > 1 else f"{spent}; allow {4 * each:.0f} s"
        return f"{outcome.advice} ([latency] launches and budget_s allow more)"

    def verdict(self, bucket: str = TRAFFIC) -> str:
        """For the record: the word, ``failed``, ``below bounds``, or ``not proved`` where a speed-up stays open."""
        if self.outcome.stopped_by == "lost launches":
            return "failed"
        gain = self.outcome.gains.get(bucket)
        if gain is None or gain.word == "pass":
            return self.word(bucket)
        return "below bounds" if gain.word == "missed" else "not proved"

    def session(self) -> dict[str, Any]:
        """The session for a record, without samples: those of a bucket are in the bucket's record."""
        outcome = self.outcome
        found = outcome.record()
        found |= {"word": self.word(), "advice": self.advice()}
        found["launches"] = [
            {"seconds": one.seconds, "core": one.core, "seed": one.seed, "load": one.load, "build": one.build}
            for one in outcome.launches
        ]
        found["cold"] = self._cold()
        if outcome.traffic is not None:
            found |= {"ratio": _faster(outcome.traffic), "p_slower": self._p_slower(outcome.traffic)}
        return {**found, "baseline": self.baseline, "margins": self.margins, "weights": self._weights()}

    def settings(self) -> dict[str, Any]:
        """What must be the same for two records to be compared."""
        pinned = any(launch.core is not None for launch in self.outcome.launches)
        return {**self.question.candidate.settings, "clock": self.outcome.clock, "pinned": pinned}

    def _p_slower(self, traffic: Estimate) -> float:
        """The p-value of "not slower than tolerated": at most the sum over where the session could have ended.

        1 where the session is invalid.
        """
        if self.outcome.verdict.word == "invalid":
            return 1.0
        stops = self.outcome.design.looks[-1] - 1  # after any launch but the first
        return min(1.0, stops * regression_p(traffic, self.margins))

    def _weights(self) -> dict[str, float]:
        return {one.label: one.weight for one in self.question.inputs}

    def _durations(self, arm: Arm, bucket: str, clock: str) -> list[int]:
        bursts = [burst for launch in self.outcome.launches for burst in launch.samples[arm.label][bucket]]
        return list(itertools.chain.from_iterable(burst[clock] for burst in bursts))

    def _times(self, arm: Arm, bucket: str) -> dict[str, Any]:
        """``median_ms`` by the clock that judged; tails by the one that a user waits by."""
        found: dict[str, Any] = {"median_ms": float(np.median(self._durations(arm, bucket, self.outcome.clock))) / 1e6}
        waited = "device_ns" if self.outcome.clock == "device_ns" else "wall_ns"
        for quantile in _TAILS:
            name = f"p{quantile * 100:g}"
            tail = quantile_order_statistic(self._durations(arm, bucket, waited), quantile, _TAIL_CONFIDENCE)
            if isinstance(tail, TooSmall):
                found[name] = str(tail)
            else:
                found[f"{name}_ms"] = [tail.low / 1e6, tail.point / 1e6, tail.high / 1e6]
        for kind in ("shape_change", "profile_switch"):
            firsts = [getattr(one.cold[arm.label], f"{kind}_ns").get(bucket) for one in self.outcome.launches]
            known = [first for first in firsts if first is not None]
            if known:
                found[f"{kind}_ms"] = float(np.median(known)) / 1e6
        return found

    def _cold(self) -> dict[str, dict[str, float]]:
        """Role -> medians over launches: ``load_s``, ``first_run_ms``."""
        if not self.outcome.launches:
            return {}
        return {
            role: {
                "load_s": float(np.median([one.cold[arm.label].load_s for one in self.outcome.launches])),
                "first_run_ms": float(np.median([one.cold[arm.label].first_run_ns for one in self.outcome.launches]))
                / 1e6,
            }
            for role, arm in (("baseline", self.question.baseline), ("int8", self.question.candidate))
        }


def _faster(estimate: Estimate) -> dict[str, Any]:
    """An estimate of log(INT8 / baseline) as how many times faster INT8 is."""
    interval = estimate.interval
    return {
        "ratio": math.exp(-estimate.point),
        "ratio_low": math.exp(-interval.high),
        "ratio_high": math.exp(min(-interval.low, 700.0)),
        "confidence": interval.confidence,
        "launches": estimate.launches,
        "blocks": estimate.blocks,
    }
