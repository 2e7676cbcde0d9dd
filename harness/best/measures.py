"""What a search measures of a case, each thing once: values come out of the journal where they are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.best import static, timing
from harness.best.evidence import Accuracy, Speed
from harness.best.looking import accuracy_of
from harness.calibration.artefacts import ARTEFACT_VERSION
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.best.journal import Journal, Sample
    from harness.best.looking import Looking
    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["Measures"]


class Measures:
    """Measures cases of one model in one environment.

    :param plan: what the mixed case is made by; empty where there is none.
    """

    def __init__(self, bench: Workbench, looking: Looking, journal: Journal, plan: str) -> None:
        self.bench, self.looking, self.journal = bench, looking, journal
        self.key = looking.key
        self._plan = plan
        score = bench.score(self.key)
        self._lower = bool(score and score.lower_is_better)

    def tried(self, case: Case) -> dict[str, float]:
        """Method -> SQNR on calibration samples, dB: of all methods, at natural lengths."""
        return self._value("tried", case, (), lambda: dict(static.tried_db(self.bench, case)))

    def made(self, case: Case) -> tuple[str, tuple[str, ...]]:
        """What is wrong with the case's files, empty where nothing is; and what tells them from others."""

        def measure() -> Sample:
            wrong = [f"{one.kind}: {one.what}" for one in static.wrong(self.bench, case)]
            return {"wrong": wrong, "files": static.digests(self.bench, case)}

        value = self._value("made", case, (), measure)
        return (value["wrong"] or [""])[0], tuple(value["files"])

    def accuracy(self, case: Case, indices: Sequence[int]) -> tuple[Accuracy, int | None]:
        """On samples of the search; and how many operators run in INT8, None where nobody tells."""

        def measure() -> Sample:
            return {"int8": self._int8(case), "buckets": self.looking.accuracy(case, indices).as_data()}

        value = self._value("accuracy", case, (self.looking.corpus.digest, *indices), measure)
        return Accuracy.from_data(value["buckets"], lower_is_better=self._lower), value["int8"]

    def test(self, case: Case) -> Accuracy:
        """On the test corpus."""

        def measure() -> Sample:
            found = self.bench.accuracy(case, self.bench.served(case))
            return accuracy_of(self.bench, self.key, found).as_data()

        value = self._value("test", case, (self.bench.corpus(self.key, "test").digest,), measure)
        return Accuracy.from_data(value, lower_is_better=self._lower)

    def short(self, cases: Sequence[Case]) -> dict[str, Speed]:
        """Case id -> speed by short runs of all of them."""

        def measure() -> Sample:
            found = timing.short_runs(self.bench, cases, self.bench.seed)
            return {name: speed.as_data() for name, speed in found.items()}

        of = (self._machine(cases[0]), *sorted(case.id for case in cases))
        value = self._value("short", timing.fp32_of(cases[0]), of, measure)
        return {name: Speed.from_data(one) for name, one in value.items()}

    def session(self, case: Case, speedups: Mapping[str, float], budget_s: float) -> tuple[Speed, Speed]:
        """The case's speed by a session, and FP32's beside it.

        A session is kept with what it was asked, and where it was not cut short.
        """

        def measure() -> Sample:
            found = timing.session(self.bench, case, speedups, max(1.0, budget_s))
            return {
                "candidate": timing.speed_of_session(found).as_data(),
                "baseline": timing.speed_of_baseline(found).as_data(),
                "cut": found.outcome.stopped_by == "budget"
                and len(found.outcome.launches) < found.outcome.design.looks[-1],
            }

        of = (self._machine(case), *sorted(speedups.items()))
        value = self._value("session", case, of, measure, lambda value: not value["cut"])
        return Speed.from_data(value["candidate"]), Speed.from_data(value["baseline"])

    def over_lengths(self, case: Case, lengths: Sequence[int]) -> list[float]:
        """A run's time at each length, us, by one launch."""

        def measure() -> Sample:
            return {"us": timing.over_lengths(self.bench, case, lengths, self.bench.seed)}

        value = self._value("lengths", case, (self._machine(case), *lengths), measure)
        return [float(one) for one in value["us"]]

    def _int8(self, case: Case) -> int | None:
        if case.precision is not Precision.INT8:
            return None
        said = self.bench.coverage(case, self.bench.build(case))
        counts = [one["int8"] for one in said if one is not None and isinstance(one.get("int8"), int)]
        return sum(counts) if counts else None

    def _machine(self, case: Case) -> tuple[object, ...]:
        machine = self.bench.machine(case)
        gpus = [one.get("name") for one in machine.get("gpus") or ()]
        return machine.get("host"), machine.get("cpu"), gpus

    def _value(
        self,
        rung: str,
        case: Case,
        of: tuple[object, ...],
        measure: Callable[[], Sample],
        whole: Callable[[Sample], bool] = lambda _: True,
    ) -> dict[str, Any]:
        bench = self.bench
        about = (
            __version__, ARTEFACT_VERSION, bench.prepared(self.key).name, bench.seed,
            bench.corpus(self.key, "calibration").digest, sorted(bench.environment(case).options.items()),
            self._plan if case.mixed else "",
        )  # fmt: skip
        return self.journal.value(rung, case.id, (*about, *of), measure, whole)
