"""A gate's outcome as records: one of each pair, under the candidate's case, and one of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, ResultsError
from harness.gate.findings import overall
from harness.gate.stages import unsettled
from harness.latency import margins_of
from harness.measure.host import host
from harness.results.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.gate.asked import Asked
    from harness.gate.findings import Finding
    from harness.gate.pairs import Pair
    from harness.measure.session import Outcome as Session
    from harness.results.store import Run
    from harness.workbench import Workbench

__all__ = ["KIND", "record_pair", "record_whole"]

KIND = "gate"
_WHOLE = (
    "exit_code", "historical", "cases", "only_baseline", "only_candidate", "not_compared", "settings", "seconds",
    "advice",
)  # fmt: skip
"""Of the report, what the record of the whole holds; the findings are in those of the pairs."""


def record_pair(
    bench: Workbench,
    pair: Pair,
    findings: Sequence[Finding],
    asked: Asked,
    sessions: Sequence[tuple[int, Session]] = (),
    *,
    settled: bool = True,
) -> None:
    """What was found of one pair; the verdict is what its findings come to.

    Before the second stage was asked, that is ``inconclusive`` at the most: nothing is confirmed yet.

    :param findings: final ones, with what is allowed marked.
    :param sessions: latency sessions with their stages; of their samples the clock that judged is kept.
    :raises ResultsError: it cannot be written.
    """
    word = overall(findings if settled else unsettled(findings))
    settings = bench.latency.settings(pair.candidate.model, pair.candidate.runtime)
    values: dict[str, Any] = {
        "pair": pair.name, **_sides(asked), "findings": list(findings), "settled": settled,
        "margins": margins_of(settings)
    }  # fmt: skip
    values["sessions"] = [{"stage": stage, **_session(one)} for stage, one in sessions]
    try:
        bench.record(KIND, pair.candidate, word, **values)
    except ResultsError:
        raise
    except HarnessError:  # a model that was refused has no digest
        bench.run.append(
            record(KIND, bench.run.id, values, case=pair.candidate, verdict=word, seed=bench.seed, environment=host())
        )


def record_whole(run: Run, report: Mapping[str, Any], asked: Asked) -> None:
    """What the whole came to.

    :raises ResultsError: it cannot be written.
    """
    values = {**_sides(asked), **{name: report[name] for name in _WHOLE}}
    run.append(record(KIND, run.id, values, seed=report["seed"], verdict=report["verdict"], environment=host()))


def _session(outcome: Session) -> dict[str, Any]:
    found = {name: value for name, value in outcome.record().items() if name != "launches"}
    found["samples_ns"] = [
        {arm: {name: [burst[outcome.clock] for burst in bursts] for name, bursts in inputs.items()}
         for arm, inputs in launch.samples.items()}
        for launch in outcome.launches
    ]  # fmt: skip
    return found


def _sides(asked: Asked) -> dict[str, Any]:
    return {
        "baseline": asked.baseline.name,
        "candidate": asked.candidate.name,
        "record": asked.recorded.run if asked.recorded else None,
    }
