"""A gate against a record: what was built and how right it was, then and now. Nothing of the baseline is run.

Samples have to be the same, so accuracy is compared bucket by bucket without an interval: both sides saw the same data.
Times of two days differ for reasons that are not the engine's, on one host, too (docs/measurement.md). So latency is
compared on the same host alone, says that it is historical, and is ``minor`` or ``inconclusive``, whatever the ratio.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import BuildFailed, CalibrationFailed, HostLost, RunFailed, WorkerDied, WorkerHung
from harness.gate.builds import Built, compare_builds
from harness.gate.findings import BLOCKING, Finding
from harness.gate.gate import Gate
from harness.gate.recorded import WARNINGS_KEPT, built_of
from harness.latency import Latency, design_of, margins_of
from harness.measure.arms import Question
from harness.measure.host import differences
from harness.measure.session import run_session
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness.accuracy import Score
    from harness.gate.accuracy import AccuracyMargins
    from harness.gate.findings import Word
    from harness.gate.gate import Settings
    from harness.gate.pairs import Pair
    from harness.gate.recorded import Recorded
    from harness.results.record import Record
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["Historical", "fell", "gpus", "medians", "slower", "without_versions"]

_FAILURES = (BuildFailed, CalibrationFailed, RunFailed, WorkerDied, WorkerHung)
_WORST_FIRST: tuple[Word, ...] = ("regression", "minor", "pass", "improved")
_CEILING_DB = 60.0
"""As in :mod:`harness.gate.accuracy`: SQNR beyond which a difference is none."""


class Historical(Gate):
    """An environment against what a run recorded of another, or of itself.

    The second stage builds anew; its samples are the record's again, so ``again`` makes a workbench of the same seed.
    """

    def __init__(
        self,
        bench: Workbench,
        again: Callable[[], Workbench],
        recorded: Recorded,
        candidate: Environment,
        settings: Settings,
        told: Callable[[str, str], None] = lambda *_: None,
        heard: Callable[[Pair, list[Finding]], object] = lambda *_: None,
    ) -> None:
        super().__init__(bench, again, recorded.environment, candidate, settings, told, heard)
        self.recorded = recorded
        self.pairs = recorded.restricted(self.pairs)

    def _compared(
        self, bench: Workbench, pair: Pair, stage: int, seconds: float, aspects: Iterable[str] = ()
    ) -> list[Finding]:
        asked = set(aspects) or {"accuracy", "latency"}
        found: list[Finding] = []
        self._told(pair.name, "build")
        now = self._built(bench, pair.candidate)
        found += self._builds(bench, pair, now)
        if not now.error and "accuracy" in asked:
            self._told(pair.name, "accuracy")
            found += self._against_record(bench, pair)
        if not now.error and "latency" in asked:
            self._told(pair.name, "latency")
            found += self._slower(bench, pair, seconds)
        if not any(finding.aspect in BLOCKING for finding in found):  # a gate that compared nothing has not passed
            left = "; ".join(f"{one.aspect}: {one.why}" for one in self.not_compared if one.case == pair.name)
            found.append(Finding(pair.name, "builds", "inconclusive", f"nothing could be compared: {left}"))
        return [replace(one, stage=stage) for one in found]

    # -- builds -------------------------------------------------------------------------------------------------

    def _builds(self, bench: Workbench, pair: Pair, now: Built) -> list[Finding]:
        record = self.recorded.builds.get(pair.baseline.id)
        then = None if record is None else built_of(record)
        if record is None or then is None:
            why = "the record does not say whether it was built"
            if not now.error:
                return self._leave_out(pair, "builds", why)
            return [Finding(pair.name, "builds", "inconclusive", f"does not build now, and {why}: {now.error}")]
        if other := _other_model(bench, pair, record):
            return [Finding(pair.name, "builds", "inconclusive", other)]
        here = bench.machine(pair.candidate)
        if differs := differences(without_versions(record["environment"]), here):
            why = f"measured elsewhere: {'; '.join(differs)}"
            self._leave_out(pair, "build time", why)
            now = replace(now, seconds=())
            if gpus(record["environment"]) != gpus(here):
                self._leave_out(pair, "memory", why)
                now = replace(now, device_bytes=())
        if len(then.warnings) >= WARNINGS_KEPT:
            self._leave_out(pair, "warnings", f"the record holds the first {WARNINGS_KEPT} alone")
            now = replace(now, warnings=())
        return self._without_left_out(compare_builds(pair.name, then, now))

    # -- accuracy -----------------------------------------------------------------------------------------------

    def _against_record(self, bench: Workbench, pair: Pair) -> list[Finding]:
        record = self.recorded.accuracy.get(pair.baseline.id)
        if pair.candidate.precision is Precision.FP32:
            return self._leave_out(pair, "accuracy", "FP32 is what records measure accuracy by")
        if record is None or "buckets" not in record["values"]:
            return self._leave_out(pair, "accuracy", "the record has none")
        if not self.candidate.can_run:
            return self._leave_out(pair, "accuracy", f"{self.candidate.name} does not run here: {self.candidate.why}")
        return self._on_the_same_samples(bench, pair, record)

    def _on_the_same_samples(self, bench: Workbench, pair: Pair, record: Record) -> list[Finding]:
        if other := _other_model(bench, pair, record) or _other_samples(bench, pair, record):
            return [Finding(pair.name, "accuracy", "inconclusive", other)]
        try:
            now = bench.accuracy(pair.candidate, bench.served(pair.candidate))
        except HostLost:
            raise  # that says nothing of the candidate
        except _FAILURES as error:
            return [Finding(pair.name, "accuracy", "regression", f"does not run: {error}", p=0.0)]
        then = record["values"]["buckets"]
        if set(then) != set(now):
            why = f"the record is of other length buckets: {', '.join(then)}, here {', '.join(now)}"
            return [Finding(pair.name, "accuracy", "inconclusive", why)]
        margins, score = self._settings.accuracy, bench.score(pair.candidate.model)
        return [
            fell(pair.name, bucket, then[bucket], vars(found.comparison), margins, score)
            for bucket, found in now.items()
        ]

    # -- latency ------------------------------------------------------------------------------------------------

    def _slower(self, bench: Workbench, pair: Pair, seconds: float) -> list[Finding]:
        records = self.recorded.latency.get(pair.baseline.id) or {}
        timed = medians(records)
        if not timed:
            return self._leave_out(pair, "latency", "the record has none")
        if not self.candidate.can_run:
            return self._leave_out(pair, "latency", f"{self.candidate.name} does not run here: {self.candidate.why}")
        record = next(iter(records.values()))
        here, then = bench.machine(pair.candidate), without_versions(record["environment"])
        if differs := differences(then, here):
            return self._leave_out(pair, "latency", f"measured elsewhere: {'; '.join(differs)}")
        settings = bench.latency.settings(pair.candidate.model, pair.candidate.runtime)
        margins, own = margins_of(settings), bench.baseline(pair.candidate)
        try:
            question = Question(bench.side(own), bench.side(pair.candidate), bench.inputs(pair.candidate.model))
            design = replace(design_of(bench.matrix, settings), budget_s=seconds)
            outcome = run_session(question, design, margins, bench.seed, start=bench.fresh)
        except HostLost:
            raise
        except _FAILURES as error:
            return self._leave_out(pair, "latency", f"cannot be timed: {error}")
        now = Latency(question, outcome, margins, own.precision.value)
        described = {"settings": now.settings(), "worker": bench.worker(pair.candidate).describe()}
        if differs := differences(then, without_versions({**here, **described})):
            return self._leave_out(pair, "latency", f"measured otherwise: {'; '.join(differs)}")
        cells = {bucket: _median_ms(now.cell(bucket)) for bucket in timed if bucket in now.outcome.per_input}
        return list(slower(pair.name, timed, {b: ms for b, ms in cells.items() if ms}, margins.caught))


def fell(
    case: str,
    bucket: str,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    margins: AccuracyMargins,
    score: Score | None,
) -> Finding:
    """Accuracy in one bucket, then and now, on the same samples.

    :param then, now: as records have it: ``sqnr_db``, ``cosine``, ``score``, ``n``, ``spoiled``.
    :param score: the model's; without it, scores are not compared.
    """
    values = {"baseline": _told(then), "candidate": _told(now)}
    if spoiled := set(now.get("spoiled") or ()) - set(then.get("spoiled") or ()):
        why = f"NaN or infinite in {', '.join(sorted(spoiled))}, which the record has not"
        return Finding(case, "accuracy", "regression", why, bucket, 0.0, values=values)
    fall = _decibels(then["sqnr_db"]) - _decibels(now["sqnr_db"])
    falls = [("SQNR", " dB", fall, margins.tolerated_db, margins.caught_db)]
    if score is not None and now.get("score") is not None and then.get("score") is not None:
        sign = -1.0 if score.lower_is_better else 1.0
        fall = sign * (then["score"] - now["score"])
        falls.append((score.name, "", fall, margins.tolerated_score, margins.caught_score))
    worst = min((_word(*one[2:]) for one in falls), key=_WORST_FIRST.index)
    said = "; ".join(f"{name} fell by {fall:+.3g}{unit}" for name, unit, fall, *_ in falls)
    p = 0.0 if worst == "regression" else 1.0
    why = f"{said} over the same {now['n']} sample(s), against the record"
    return Finding(case, "accuracy", worst, why, bucket, p, values=values)


def slower(case: str, then: Mapping[str, float], now: Mapping[str, float], caught: float) -> Iterator[Finding]:
    """Medians in ms of two runs, by bucket: never better or worse than ``minor`` or ``inconclusive``."""
    for bucket, before in then.items():
        after = now.get(bucket)
        if after is None:
            continue
        ratio = after / before
        word: Word = "inconclusive" if ratio > 1 + caught else "minor"
        why = f"historical: median {before:.4g} ms then, {after:.4g} ms now ({ratio:.2f}x), not in one session"
        if word == "inconclusive":
            why += "; a gate over both environments tells"
        yield Finding(case, "latency", word, why, bucket, values={"log_ratio": math.log(ratio), "historical": True})


def medians(records: Mapping[str, Record]) -> dict[str, float]:
    """Bucket -> INT8's median in ms, of a case's latency records by bucket."""
    return {bucket: ms for bucket, one in records.items() if (ms := _median_ms(one["values"]["buckets"][bucket]))}


def _word(fall: float, tolerated: float, caught: float) -> Word:
    if fall >= caught:
        return "regression"
    if fall > tolerated:
        return "minor"
    return "improved" if fall < -tolerated else "pass"


def _median_ms(cell: Mapping[str, Any]) -> float | None:
    found = (cell.get("int8") or {}).get("median_ms")
    return float(found) if isinstance(found, int | float) and found > 0 else None


def _other_model(bench: Workbench, pair: Pair, record: Record) -> str:
    """Why the two are of different models; empty where they are of one."""
    digest = bench.facts(pair.candidate.model).digest
    if record["model"].get("fp32") == digest:
        return ""
    return f"the record is of another model file: FP32 {str(record['model'].get('fp32'))[:12]}, here {digest[:12]}"


def _other_samples(bench: Workbench, pair: Pair, record: Record) -> str:
    """Why the two saw different data; empty where they saw the same."""
    splits = ("test", "calibration") if pair.candidate.calibration else ("test",)
    for split in splits:
        corpus = bench.corpus(pair.candidate.model, split)
        if record["corpus"].get(split) != corpus.digest:
            taken = record["samples"].get(split, {}).get("taken", "unknown")
            return (
                f"the record has other {split} samples: {taken} of seed {record['seed']}, here {len(corpus)} of seed "
                f"{bench.seed}; give the record's seed and matrix"
            )
    return ""


def without_versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    """A record's environment without what differs on purpose."""
    worker = {name: it for name, it in (environment.get("worker") or {}).items() if name not in {"library", "version"}}
    return {**environment, "worker": worker}


def gpus(environment: Mapping[str, Any]) -> list[Any]:
    """Names of a record's GPUs."""
    return [one.get("name") for one in environment.get("gpus") or ()]


def _decibels(value: float) -> float:
    return -_CEILING_DB if math.isnan(value) else min(_CEILING_DB, max(-_CEILING_DB, value))


def _told(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.get(name) for name in ("sqnr_db", "cosine", "score", "n")}
