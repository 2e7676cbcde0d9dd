"""What comes of a gate, whichever way it was asked for: records as it goes on, and in the end report and summary."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.gate import allowed, report
from harness.gate.findings import Finding
from harness.gate.gate import Outcome
from harness.gate.records import record_pair, record_whole

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.gate.allowed import Allowance
    from harness.gate.asked import Asked
    from harness.gate.gate import Gate, Settings
    from harness.gate.pairs import Pair
    from harness.workbench import Workbench

__all__ = ["Conclusion"]


@dataclass
class Conclusion:
    """Keeps a gate's findings.

    :param bench: of the first stage; its run holds the records.
    :param allow: what does not block, as of ``today``.
    :param files: ``report`` and ``summary``, where they were named.

    ``found`` holds the findings so far by pair, with what is allowed marked; ``written`` what was written where.
    """

    asked: Asked
    gate: Gate
    bench: Workbench
    settings: Settings
    allow: Sequence[Allowance]
    today: dt.date
    files: Mapping[str, Path]
    found: dict[str, list[Finding]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def keep(self, pair: Pair, findings: Iterable[Finding], *, settled: bool = True) -> list[Finding]:
        """Mark what is allowed, and record a pair.

        :param settled: whether they are final; else a second stage is still to be asked of some.
        :raises ResultsError: it cannot be written.
        """
        self.found[pair.name] = allowed.apply(findings, self.allow, self.today)
        sessions = self.gate.sessions.get(pair.name, ())
        record_pair(self.bench, pair, self.found[pair.name], self.asked, sessions, settled=settled)
        return self.found[pair.name]

    def finish(self, names: Sequence[str], seconds: float) -> dict[str, Any]:
        """Record the whole, and write report and summary; what of them can be written is, whatever else fails.

        A pair without findings is ``invalid``: a gate that was cut short has not passed.

        :param names: of the pairs that were to be judged. :param seconds: that it took.
        :returns: the report.
        :raises HarnessError: something cannot be written.
        """
        findings = [
            finding
            for name in names
            for finding in self.found.get(name)
            or [Finding(name, "builds", "invalid", "it was not judged: the run ended before it")]
        ]
        self.written += [
            f"allowed, and not found: {one.case}{f' ({one.aspect})' if one.aspect else ''}: {one.reason}"
            for one in allowed.not_found(findings, self.allow)
        ]
        pairs = replace(self.gate.pairs, both=tuple(pair for pair in self.gate.pairs.both if pair.name in set(names)))
        outcome = Outcome(pairs, tuple(findings), tuple(self.gate.flagged), self.settings, seconds)
        run, recorded = self.bench.run, self.asked.recorded
        told = report.as_json(
            outcome, self.asked.baseline, self.asked.candidate, findings, self.bench.seed,
            run=run.id, record=recorded.run if recorded else "", not_compared=self.gate.not_compared,
        )  # fmt: skip
        try:
            if file := self.files.get("report"):
                report.write(told, file)
                self.written.append(f"report: {file}")
        finally:
            try:
                beside = run.path.with_suffix(".gate.md")
                summary = report.summarize(report.markdown(told), self.files.get("summary"), beside)
                self.written.append(f"summary: {summary}")
            finally:
                record_whole(run, told, self.asked)
                self.written.append(f"records: {run.path}")
        return told
