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
from harness.gate.culprits import culprits
from harness.gate.findings import Finding, overall
from harness.gate.latency import compare_latency
from harness.gate.pairs import pair_up
from harness.gate.stages import flagged, settled
from harness.materials import bucket_name
from harness.paths import cache_dir
from harness.spec.shapes import length_buckets
from harness.workers.places import check_one_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.gate.findings import Word
    from harness.gate.pairs import Pair, Pairs
    from harness.measure.session import Outcome as Session
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
    :param told: hears of each step: pair and step.
    :raises UsageError: the two are on different hosts, or on different GPUs of one.

    ``flagged`` holds what :meth:`judge` asked a second stage of, over all pairs so far; ``sessions`` each pair's
    latency sessions, with their stages.
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
        self._bench, self._again, self._settings = bench, again, settings
        self._told = told
        if baseline.python:  # a record is in no place
            check_one_place(baseline, candidate, "the gate")
        self.baseline, self.candidate = baseline, candidate
        self.pairs = pair_up(bench.matrix, bench.entries, baseline, candidate)
        self._left_s = settings.budget_s * _SECOND_STAGE
        self.flagged: list[Finding] = []
        self.sessions: dict[str, list[tuple[int, Session]]] = {}
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
        final = self._settled(first, self._settings.alpha)
        return Outcome(self.pairs, tuple(final), tuple(flagged(first)), self._settings, time.monotonic() - began)

    def judge(self, pair: Pair) -> list[Finding]:
        """One pair by itself, both stages: believed at alpha over the number of pairs (Bonferroni)."""
        share = self._settings.budget_s * (1 - _SECOND_STAGE) / len(self.pairs.both)
        first = self._compared(self._bench, pair, 1, max(_LEAST_SESSION_S, share))
        self.flagged += flagged(first)
        return self._settled(first, self._settings.alpha / len(self.pairs.both))

    def _settled(self, first: Sequence[Finding], alpha: float) -> list[Finding]:
        asked = flagged(first)
        return settled(first, self._asked_again(asked) if asked else (), alpha)

    # -- stages -------------------------------------------------------------------------------------------------

    def _compared(
        self, bench: Workbench, pair: Pair, stage: int, seconds: float, aspects: Iterable[str] = ()
    ) -> list[Finding]:
        """All that can be said of a pair; of ``aspects`` alone where some are named."""
        asked = set(aspects) or {"builds", "coverage", "accuracy", "latency"}
        self._told(pair.name, "build")
        old, new = (self._built(bench, case) for case in (pair.baseline, pair.candidate))
        named = culprits(bench, pair) if new.error and not old.error else ()
        found = [replace(one, stage=stage) for one in compare_builds(pair.name, old, new, named)]
        runs = self.baseline.can_run and self.candidate.can_run and not old.error and not new.error
        if runs and "accuracy" in asked:
            self._told(pair.name, "accuracy")
            found += self._accuracy(bench, pair, stage)
        if runs and "latency" in asked:
            self._told(pair.name, "latency")
            kept = self.sessions.setdefault(pair.name, [])
            found += compare_latency(bench, pair, stage, seconds, lambda session: kept.append((stage, session)))
        return found

    def _asked_again(self, asked: Sequence[Finding]) -> list[Finding]:
        """The second stage: the pairs of these findings, on samples, builds and orders of its own."""
        bench = self._again()
        bench.first_build = self._settings.builds
        try:
            names = list(dict.fromkeys(finding.case for finding in asked))
            pairs = {pair.name: pair for pair in self.pairs.both}
            found: list[Finding] = []
            for number, name in enumerate(names):
                share = max(_LEAST_SESSION_S, self._left_s / (len(names) - number))
                began = time.monotonic()
                aspects = {finding.aspect for finding in asked if finding.case == name}
                self._oracles.clear()
                found += self._compared(bench, pairs[name], 2, share, aspects)
                self._left_s -= time.monotonic() - began
            return found
        finally:
            bench.close()
            self._oracles.clear()  # of the second stage's samples

    # -- one side -----------------------------------------------------------------------------------------------

    def _built(self, bench: Workbench, case: Case) -> Built:
        numbers = range(self._settings.builds) if bench.tells_builds_apart(case) else range(1)
        try:
            builds = [bench.build(case, number) for number in numbers]
            counted = [bench.coverage(case, one) for one in builds]
            memory = [one for build in builds for one in bench.device_memory(case, build)]
            profiles = bench.profiles(case, builds[0])
        except HostLost:
            raise  # that says nothing of either side
        except _FAILURES as error:
            return Built(error=_plain(str(error), case))
        facts = [[fact for fact, _ in build] for build in builds]
        return Built(
            int8=[_sum(counts, "int8") for counts in counted],
            floats=[_sum(counts, "float") for counts in counted],
            bytes=[sum(fact.get("bytes") or 0 for fact in one) for one in facts],
            seconds=[sum(fact["seconds"] for fact in one) for one in facts if not any(f.get("cached") for f in one)],
            device_bytes=[one["engine_bytes"] + one["context_bytes"] for one in memory],
            profiles=profiles,
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
            why = f"does not run: {_plain(str(error), pair.candidate)}"
            return [Finding(pair.name, "accuracy", "regression", why, p=0.0, stage=stage)]
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


def _plain(error: str, case: Case) -> str:
    """Without the case, which the finding names, and without where on this machine the cache is."""
    return error.replace(f"{case.id}: ", "").replace(f"{cache_dir()}/", "")
