"""One gate: every case of both sides built, run, timed, and what looks worse asked again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.calibration.observe import open_session
from harness.corpus.catalogue import ready_keys
from harness.corpus.samples import length_of
from harness.errors import BuildFailed, CalibrationFailed, HostLost, RunFailed, WorkerDied, WorkerHung
from harness.gate.accuracy import AccuracyMargins, Paired, worst_of
from harness.gate.advice import SHARES
from harness.gate.builds import Built, compare_builds
from harness.gate.culprits import culprits
from harness.gate.findings import Finding, NotCompared, overall
from harness.gate.latency import compare_latency
from harness.gate.pairs import pair_up
from harness.gate.stages import flagged, settled
from harness.materials import bucket_name
from harness.paths import cache_dir
from harness.spec.shapes import length_buckets
from harness.workers.places import check_one_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.gate.accuracy import Side
    from harness.gate.findings import Aspect, Word
    from harness.gate.pairs import Pair, Pairs
    from harness.measure.session import Outcome as Session
    from harness.served import Outputs, Served
    from harness.spec.case import Case
    from harness.stats.verdict import Margins
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["Gate", "Outcome", "Settings", "only_builds"]

_FAILURES = (BuildFailed, CalibrationFailed, RunFailed, WorkerDied, WorkerHung)
_LEAST_SESSION_S = 10.0
_CONFIRMING_BUILDS = 8
"""Builds of each engine by which a slowdown is confirmed, where two builds differ: three leave two degrees of freedom,
at which nothing short of 14 standard errors is significant at 0.01 over four findings."""


@dataclass(frozen=True)
class Settings:
    """What a gate may cost and how sure it has to be.

    :param budget_s: for all latency sessions together.
    :param builds: of each engine and side; 1 where a second build is the first again.
    :param launches: of a latency session of the first stage, at most.
    :param alpha: the chance that any of all confirmed regressions is none (family-wise, Holm).
    :param latency: each model's margins.
    """

    budget_s: float = 1200.0
    builds: int = 3
    launches: int = 4
    alpha: float = 0.01
    accuracy: AccuracyMargins = field(default_factory=AccuracyMargins)
    latency: Mapping[str, Margins] = field(default_factory=dict, hash=False)


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
    :param heard: is given each pair's findings of the first stage, when :meth:`run` has them.
    :raises UsageError: the two are on different hosts, or on different GPUs of one.

    ``first`` holds what the first stage found so far; ``sessions`` each pair's latency sessions, with their stages.
    """

    def __init__(
        self,
        bench: Workbench,
        again: Callable[[], Workbench],
        baseline: Environment,
        candidate: Environment,
        settings: Settings,
        told: Callable[[str, str], None] = lambda *_: None,
        heard: Callable[[Pair, list[Finding]], object] = lambda *_: None,
    ) -> None:
        self._bench, self._again, self._settings = bench, again, settings
        self._told, self._heard = told, heard
        if baseline.python:  # a record is in no place
            check_one_place(baseline, candidate, "the gate")
        self.baseline, self.candidate = baseline, candidate
        self.pairs = pair_up(bench.matrix, bench.entries, baseline, candidate, ready_keys(bench.entries))
        self.first: list[Finding] = []
        self.sessions: dict[str, list[tuple[int, Session]]] = {}
        self._left_s = {stage: settings.budget_s * share for stage, share in SHARES.items()}
        self._judged = 0
        self._not_compared: dict[tuple[str, Aspect], str] = {}
        self._oracles: dict[str, list[Outputs]] = {}

    @property
    def flagged(self) -> list[Finding]:
        """What a second stage was asked of so far."""
        return flagged(self.first)

    @property
    def not_compared(self) -> list[NotCompared]:
        """What nothing can be said of, and why."""
        return [NotCompared(case, aspect, why) for (case, aspect), why in self._not_compared.items()]

    def run(self) -> Outcome:
        """Compare everything; ask again what looks worse, and believe it at alpha over all of that (Holm).

        :raises HostLost: the connection to the host that both are on was lost while one was built or run.
        """
        began = time.monotonic()
        for number, pair in enumerate(self.pairs.both):
            share = self._left_s[1] / (len(self.pairs.both) - number)
            found = self._compared(self._bench, pair, 1, max(_LEAST_SESSION_S, share))
            self.first += found
            self._heard(pair, found)
        final = self._settled(self.first, self._settings.alpha)
        return Outcome(self.pairs, tuple(final), tuple(self.flagged), self._settings, time.monotonic() - began)

    def judge(self, pair: Pair, of: int) -> list[Finding]:
        """One pair by itself, both stages: believed at alpha over the number of pairs (Bonferroni).

        :param of: how many pairs are to be judged in all.
        """
        share = self._left_s[1] / max(1, of - self._judged)
        self._judged += 1
        found = self._compared(self._bench, pair, 1, max(_LEAST_SESSION_S, share))
        self.first += found
        return self._settled(found, self._settings.alpha / of)

    def _settled(self, first: Sequence[Finding], alpha: float) -> list[Finding]:
        asked = flagged(first)
        return settled(first, self._asked_again(asked) if asked else (), alpha)

    # -- stages -------------------------------------------------------------------------------------------------

    def _compared(
        self, bench: Workbench, pair: Pair, stage: int, seconds: float, aspects: Iterable[str] = ()
    ) -> list[Finding]:
        """All that can be said of a pair; of ``aspects`` alone where some are named."""
        running: tuple[Aspect, ...] = ("accuracy", "latency")
        asked = [one for one in running if not aspects or one in set(aspects)]
        self._told(pair.name, "build")
        old, new = (self._built(bench, case) for case in (pair.baseline, pair.candidate))
        named = culprits(bench, pair) if new.error and not old.error else ()
        found = self._without_left_out(compare_builds(pair.name, old, new, named))
        if not old.error and not new.error:
            found += self._ran(bench, pair, stage, seconds, asked)
        else:
            self._not_built(pair, asked, old, new)
        return [replace(one, stage=stage) for one in found]

    def _ran(self, bench: Workbench, pair: Pair, stage: int, seconds: float, asked: Sequence[Aspect]) -> list[Finding]:
        """What only engines that run can show."""
        found: list[Finding] = []
        for aspect in asked:
            silent = [one for one in (self.baseline, self.candidate) if not one.can_run]
            if silent == [self.candidate]:
                found.append(Finding(pair.name, aspect, "inconclusive", only_builds(silent), p=1.0))
            elif silent:
                self._leave_out(pair, aspect, only_builds(silent))
            else:
                self._told(pair.name, aspect)
                self._not_compared.pop((pair.name, aspect), None)  # the first stage had nothing to run
                found += (
                    self._accuracy(bench, pair, stage)
                    if aspect == "accuracy"
                    else self._latency(bench, pair, stage, seconds)
                )
        return found

    def _not_built(self, pair: Pair, asked: Sequence[Aspect], old: Built, new: Built) -> None:
        """Engines that are not there can be neither run nor timed: said, so that nobody takes it for a pass."""
        sides = ((self.baseline.name, old), (self.candidate.name, new))
        why = f"{' and '.join(name for name, built in sides if built.error)} did not build it"
        for aspect in asked:
            self._leave_out(pair, aspect, why)

    def _leave_out(self, pair: Pair, aspect: Aspect, why: str) -> list[Finding]:
        self._not_compared[pair.name, aspect] = why
        return []

    def _without_left_out(self, compared: Iterable[Finding | NotCompared]) -> list[Finding]:
        found = []
        for one in compared:
            if isinstance(one, Finding):
                found.append(one)
            else:
                self._not_compared[one.case, one.aspect] = one.why
        return found

    def _asked_again(self, asked: Sequence[Finding]) -> list[Finding]:
        """The second stage: the pairs of these findings, on samples, builds and orders of its own."""
        bench, builds = self._again(), self._settings.builds
        bench.first_build, matrix = builds, bench.matrix
        try:
            names = list(dict.fromkeys(finding.case for finding in asked))
            pairs = {pair.name: pair for pair in self.pairs.both}
            found: list[Finding] = []
            for number, name in enumerate(names):
                share = max(_LEAST_SESSION_S, self._left_s[2] / (len(names) - number))
                aspects = {finding.aspect for finding in asked if finding.case == name}
                more = max(builds, _CONFIRMING_BUILDS) if "latency" in aspects else builds
                bench.matrix = replace(matrix, builds=more)
                self._oracles.clear()
                found += self._compared(bench, pairs[name], 2, share, aspects)
            return found
        finally:
            bench.close()
            self._oracles.clear()  # of the second stage's samples

    # -- one side -----------------------------------------------------------------------------------------------

    def _numbers(self, bench: Workbench, case: Case) -> range:
        return range(bench.matrix.builds) if bench.tells_builds_apart(case) else range(1)

    def _built(self, bench: Workbench, case: Case) -> Built:
        try:
            builds = [bench.build(case, number) for number in self._numbers(bench, case)]
            counted = [bench.coverage(case, one) for one in builds]
            memory = [one for build in builds for one in bench.device_memory(case, build)]
            profiles = [one for build in builds for one in bench.profiles(case, build)]
        except HostLost:
            raise  # that says nothing of either side
        except _FAILURES as error:
            return Built(error=_plain(error, case), died=isinstance(error, WorkerDied | WorkerHung))
        facts = [[fact for fact, _ in build] for build in builds]
        return Built(
            int8=[_sum(counts, "int8") for counts in counted],
            floats=[_sum(counts, "float") for counts in counted],
            in_float=sorted({name for counts in counted for one in counts for name in (one or {}).get("in_float", ())}),
            bytes=[sum(fact.get("bytes") or 0 for fact in one) for one in facts],
            seconds=[sum(fact["seconds"] for fact in one) for one in facts if not any(f.get("cached") for f in one)],
            device_bytes=[one["engine_bytes"] + one["context_bytes"] for one in memory],
            profiles=profiles,
            warnings=[line for one in facts for fact in one for line in fact.get("warnings", [])],
        )

    def _accuracy(self, bench: Workbench, pair: Pair, stage: int) -> list[Finding]:
        """All builds of both sides on the test corpus, against FP32 in ONNX Runtime on this CPU."""
        numbers = self._numbers(bench, pair.candidate)[: self._settings.builds]
        return worst_of([self._accuracy_of(bench, pair, stage, number) for number in numbers])

    def _accuracy_of(self, bench: Workbench, pair: Pair, stage: int, number: int) -> list[Finding]:
        key = pair.baseline.model
        model, buckets = bench.model(key), length_buckets(bench.model(key))
        paired = Paired(pair.name, bench.output(key), bench.score(key), self._settings.accuracy, stage)
        cases: dict[Side, Case] = {"baseline": pair.baseline, "candidate": pair.candidate}
        served: dict[Side, Served] = {}
        for feeds, oracle in zip(bench.corpus(key, "test"), self._oracle(bench, key), strict=True):
            outputs: dict[str, Outputs] = {}
            for side, case in cases.items():
                try:
                    served[side] = served.get(side) or bench.served(case, number)
                    outputs[side] = served[side].run(feeds)
                except HostLost:
                    raise
                except _FAILURES as error:
                    paired.refuse(side, f"does not run: {_plain(error, case)}")
            if not paired.over:
                paired.add(bucket_name(buckets, length_of(model, feeds)), oracle, **outputs)
            if paired.over:
                break
        return list(paired.findings())

    def _latency(self, bench: Workbench, pair: Pair, stage: int, seconds: float) -> list[Finding]:
        kept = self.sessions.setdefault(pair.name, [])
        began = time.monotonic()
        try:
            return compare_latency(bench, pair, stage, seconds, lambda session: kept.append((stage, session)))
        finally:
            self._left_s[stage] -= time.monotonic() - began

    def _oracle(self, bench: Workbench, key: str) -> list[Outputs]:
        if key not in self._oracles:
            self._oracles.clear()  # one model's outputs at a time
            session = open_session(bench.prepared(key), (), threads=0)
            names = [output.name for output in session.get_outputs()]
            self._oracles[key] = [
                dict(zip(names, session.run(None, dict(feeds)), strict=True)) for feeds in bench.corpus(key, "test")
            ]
        return self._oracles[key]


def only_builds(environments: Sequence[Environment]) -> str:
    """Why nothing runs in them: ``A and B only build here: no GPU``.

    Without a GPU that would do, pycuda is no help: what is said of it behind that is left out.
    """
    names = " and ".join(one.name for one in environments)
    reasons = dict.fromkeys(one.why.partition("; pycuda ")[0] for one in environments)
    return f"{names} only build{'s' * (len(environments) == 1)} here: {'; '.join(reasons)}"


def _sum(counts: Sequence[dict[str, Any] | None], name: str) -> int | None:
    """Over the engines of one build; None where one of them does not tell."""
    known = [count[name] for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _plain(error: Exception, case: Case) -> str:
    """Without the case, which the finding names, and without where on this machine the cache is."""
    return str(error).replace(f"{case.id}: ", "").replace(f"{cache_dir()}/", "")
