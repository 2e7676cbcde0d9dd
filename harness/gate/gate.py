"""One gate: every case of both sides built, run, timed, and what looks worse asked again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import onnxruntime

from harness.corpus.samples import length_of
from harness.errors import BuildFailed, CalibrationFailed, HostLost, RunFailed, WorkerDied, WorkerHung
from harness.gate.accuracy import AccuracyMargins, Paired
from harness.gate.builds import Built, compare_builds
from harness.gate.findings import Finding, overall
from harness.gate.latency import compare_latency
from harness.gate.pairs import pair_up
from harness.spec.shapes import length_buckets
from harness.stats.multiple import holm_adjusted
from harness.workbench import bucket_name
from harness.workers.places import check_one_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.gate.findings import Word
    from harness.gate.pairs import Pair, Pairs
    from harness.served import Outputs
    from harness.spec.case import Case
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["Gate", "Outcome", "Settings"]

_FAILURES = (BuildFailed, CalibrationFailed, RunFailed, WorkerDied, WorkerHung)
_SECOND_STAGE = 0.3
"""Share of the budget that is kept for what has to be confirmed."""
_LEAST_SESSION_S = 10.0


@dataclass(frozen=True)
class Settings:
    """What a gate may cost and how sure it has to be.

    :param budget_s: for all latency sessions together.
    :param builds: of each engine and side, where the runtime builds.
    :param alpha: the chance that any of all confirmed regressions is none (family-wise, Holm).
    """

    budget_s: float = 1200.0
    builds: int = 3
    alpha: float = 0.01
    accuracy: AccuracyMargins = field(default_factory=AccuracyMargins)


@dataclass(frozen=True)
class Outcome:
    """What a gate came to.

    :param findings: final ones, one for each case, aspect and place; of both stages the second counts.
    :param first: what the first stage found where a second one was asked.
    :param seconds: that it took.
    """

    pairs: Pairs
    findings: tuple[Finding, ...]
    first: tuple[Finding, ...]
    settings: Settings
    seconds: float

    @property
    def word(self) -> Word:
        """The whole's verdict."""
        return overall(self.findings)


class Gate:
    """Two environments on one host.

    :param bench: has both environments; its matrix says which cases, how many samples and launches.
    :param again: another workbench with the next seed, for the second stage: other samples, other orders.
    :param told: hears of each step: pair, step, seconds so far.
    :raises UsageError: the two are on different hosts, or on different GPUs of one.
    """

    def __init__(
        self,
        bench: Workbench,
        again: Callable[[], Workbench],
        baseline: Environment,
        candidate: Environment,
        settings: Settings,
        told: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._bench, self._again, self._settings, self._told = bench, again, settings, told
        check_one_place(baseline, candidate, "the gate")
        self.baseline, self.candidate = baseline, candidate
        self.pairs = pair_up(bench.matrix, bench.entries, baseline, candidate)
        self._oracles: dict[str, list[Outputs]] = {}

    def run(self) -> Outcome:
        """Compare everything; ask again what looks worse, and believe it at alpha over all of that (Holm).

        :raises HostLost: the connection to the host that both are on was lost while one was built or run.
        """
        began = time.monotonic()
        first: list[Finding] = []
        left = self._settings.budget_s * (1 - _SECOND_STAGE)
        for number, pair in enumerate(self.pairs.both):
            share = max(_LEAST_SESSION_S, left / (len(self.pairs.both) - number))
            started = time.monotonic()
            first += self._compared(self._bench, pair, 1, share)
            left -= time.monotonic() - started
        flagged = [finding for finding in first if finding.blocks]
        final = self._settled(first, flagged, self._settings.alpha)
        return Outcome(self.pairs, tuple(final), tuple(flagged), self._settings, time.monotonic() - began)

    def judge(self, pair: Pair) -> list[Finding]:
        """One pair by itself, both stages: believed at alpha over the number of pairs (Bonferroni)."""
        share = self._settings.budget_s * (1 - _SECOND_STAGE) / len(self.pairs.both)
        first = self._compared(self._bench, pair, 1, max(_LEAST_SESSION_S, share))
        flagged = [finding for finding in first if finding.blocks]
        return self._settled(first, flagged, self._settings.alpha / len(self.pairs.both))

    def _settled(self, first: Sequence[Finding], flagged: Sequence[Finding], alpha: float) -> list[Finding]:
        keys = {finding.key for finding in flagged}
        return [*(one for one in first if one.key not in keys), *(self._confirmed(flagged, alpha) if flagged else ())]

    # -- stages -------------------------------------------------------------------------------------------------

    def _compared(
        self, bench: Workbench, pair: Pair, stage: int, seconds: float, aspects: Iterable[str] = ()
    ) -> list[Finding]:
        """All that can be said of a pair; of ``aspects`` alone where some are named."""
        asked = set(aspects) or {"builds", "coverage", "accuracy", "latency"}
        offset = (stage - 1) * self._settings.builds
        self._told(pair.name, "build")
        old, new = (self._built(bench, case, offset) for case in (pair.baseline, pair.candidate))
        found = [replace(one, stage=stage) for one in compare_builds(pair.name, old, new)]
        runs = self.baseline.can_run and self.candidate.can_run and not old.error and not new.error
        if runs and "accuracy" in asked:
            self._told(pair.name, "accuracy")
            found += self._accuracy(bench, pair, stage)
        if runs and "latency" in asked:
            self._told(pair.name, "latency")
            found += compare_latency(bench, pair, stage, seconds)
        return found

    def _confirmed(self, flagged: Sequence[Finding], alpha: float) -> list[Finding]:
        """The flagged findings asked again; what is no regression twice, or not at alpha over all, does not block."""
        bench = self._again()
        try:
            names = list(dict.fromkeys(finding.case for finding in flagged))
            pairs = {pair.name: pair for pair in self.pairs.both}
            share = max(_LEAST_SESSION_S, self._settings.budget_s * _SECOND_STAGE / len(names))
            found: dict[tuple[str, str, str], Finding] = {}
            for name in names:
                aspects = {finding.aspect for finding in flagged if finding.case == name}
                self._oracles.clear()
                for finding in self._compared(bench, pairs[name], 2, share, aspects):
                    found[finding.key] = finding
        finally:
            bench.close()
        again = [found.get(one.key) or _not_asked(one) for one in flagged]
        adjusted = holm_adjusted([1.0 if one.p is None else one.p for one in again])
        return [_final(*both, alpha) for both in zip(flagged, again, adjusted, strict=True)]

    # -- one side -----------------------------------------------------------------------------------------------

    def _built(self, bench: Workbench, case: Case, offset: int) -> Built:
        numbers = range(offset, offset + self._settings.builds) if bench.tells_builds_apart(case) else range(1)
        try:
            builds = [bench.build(case, number) for number in numbers]
            counted = [bench.coverage(case, one) for one in builds]
            memory = [one for build in builds for one in bench.device_memory(case, build)]
        except HostLost:
            raise  # that says nothing of either side
        except _FAILURES as error:
            return Built(error=str(error))
        facts = [[fact for fact, _ in build] for build in builds]
        return Built(
            int8=[_sum(counts, "int8") for counts in counted],
            floats=[_sum(counts, "float") for counts in counted],
            bytes=[sum(fact.get("bytes") or 0 for fact in one) for one in facts],
            seconds=[sum(fact["seconds"] for fact in one) for one in facts if not any(f.get("cached") for f in one)],
            device_bytes=[one["context_bytes"] for one in memory],
            warnings=[line for one in facts for fact in one for line in fact.get("warnings", [])],
        )

    def _accuracy(self, bench: Workbench, pair: Pair, stage: int) -> list[Finding]:
        """Both engines on the test corpus, against FP32 in ONNX Runtime on this CPU."""
        key = pair.baseline.model
        model, buckets = bench.model(key), length_buckets(bench.model(key))
        paired = Paired(pair.name, bench.output(key), bench.score(key), self._settings.accuracy, stage)
        try:
            old, new = bench.served(pair.baseline), bench.served(pair.candidate)
            for feeds, oracle in zip(bench.corpus(key, "test"), self._oracle(bench, key), strict=True):
                bucket = bucket_name(buckets, length_of(model, feeds))
                paired.add(bucket, oracle, old.run(feeds), new.run(feeds))
        except HostLost:
            raise
        except _FAILURES as error:
            return [Finding(pair.name, "accuracy", "regression", f"does not run: {error}", p=0.0, stage=stage)]
        return list(paired.findings())

    def _oracle(self, bench: Workbench, key: str) -> list[Outputs]:
        if key not in self._oracles:
            self._oracles.clear()  # one model's outputs at a time
            session = onnxruntime.InferenceSession(str(bench.prepared(key)), providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            self._oracles[key] = [
                dict(zip(names, session.run(None, dict(feeds)), strict=True)) for feeds in bench.corpus(key, "test")
            ]
        return self._oracles[key]


def _sum(counts: Sequence[dict[str, Any] | None], name: str) -> int | None:
    """Over the engines of one build; None where one of them does not tell."""
    known = [count[name] for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _not_asked(first: Finding) -> Finding:
    """The second stage had nothing to say of it: its length bucket had no sample, say."""
    return replace(first, word="inconclusive", why="the second stage did not come to it", p=1.0, stage=2)


def _final(first: Finding, second: Finding, adjusted: float, alpha: float) -> Finding:
    said = f"{second.why}; stage 1: {first.why}"
    if second.word == "regression" and adjusted <= alpha:
        return replace(second, why=f"confirmed (p = {adjusted:.2g} over all): {said}", p=adjusted)
    if second.word == "regression":
        why = f"worse twice, but not at {alpha:.2g} over all (p = {adjusted:.2g}): {said}"
        return replace(second, word="inconclusive", why=why, p=adjusted)
    return replace(second, why=f"not confirmed: {said}", p=adjusted)
