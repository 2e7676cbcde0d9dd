"""A gate's outcome as JSON, Markdown, and lines for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.gate.findings import exit_code, overall
from harness.results.record import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.gate.findings import Finding, Word
    from harness.gate.gate import Outcome
    from harness.workers import Environment

__all__ = ["SCHEMA", "as_json", "lines", "markdown", "write"]

SCHEMA = 1
_ORDER: tuple[Word, ...] = ("regression", "invalid", "inconclusive", "allowed", "minor", "improved", "pass")
_SIGNS: dict[Word, str] = {
    "regression": "❌",
    "invalid": "⚠️",
    "inconclusive": "❔",
    "allowed": "🟡",
    "minor": "▫️",
    "improved": "⬆️",
    "pass": "✅",
}
_ANSWERS: dict[Word, str] = {
    "pass": "nothing that blocks was found",
    "regression": "do not move",
    "inconclusive": "nothing is proved either way",
    "invalid": "a session cannot be trusted",
}


def as_json(
    outcome: Outcome, baseline: Environment, candidate: Environment, findings: Sequence[Finding], seed: int
) -> dict[str, Any]:
    """The report whose schema is ``harness/gate/report.schema.json``.

    :param findings: with what is allowed marked.
    """
    return {
        "schema": SCHEMA,
        "verdict": overall(findings),
        "exit_code": exit_code(overall(findings)),
        "baseline": _side(baseline),
        "candidate": _side(candidate),
        "seed": seed,
        "seconds": outcome.seconds,
        "settings": _plain(asdict(outcome.settings)),
        "cases": [pair.name for pair in outcome.pairs.both],
        "only_baseline": [case.id for case in outcome.pairs.only_baseline],
        "only_candidate": [case.id for case in outcome.pairs.only_candidate],
        "findings": [_plain(asdict(one)) for one in sorted_findings(findings)],
        "first_stage": [_plain(asdict(one)) for one in outcome.first],
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As records are: NaN and infinity as words."""
    found: dict[str, Any] = json.loads(encode(values))
    return found


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda one: (_ORDER.index(one.word), one.case, one.aspect, one.where))


def markdown(report: Mapping[str, Any]) -> str:
    """For a pull request or a step summary: the answer, what blocks, what else changed, and the rest folded away."""
    word = report["verdict"]
    head = [
        f"## {_SIGNS[word]} {report['baseline']['name']} → {report['candidate']['name']}: {word}",
        "",
        f"{_ANSWERS[word].capitalize()}: {len(report['cases'])} case(s) in {report['seconds']:.0f} s.",
        "",
    ]
    shown = [one for one in report["findings"] if one["word"] != "pass"]
    rest = [one for one in report["findings"] if one["word"] == "pass"]
    body = [*_table(shown)] if shown else ["Nothing changed beyond the margins.", ""]
    for title, cases in (("baseline", report["only_baseline"]), ("candidate", report["only_candidate"])):
        if cases:
            body += [f"Only the {title} takes: {', '.join(cases)}.", ""]
    folded = ["<details><summary>What passed</summary>", "", *_table(rest), "</details>", ""] if rest else []
    return "\n".join([*head, *body, *folded])


def lines(report: Mapping[str, Any]) -> list[str]:
    """One line a finding that is no pass, and the answer."""
    found = [
        f"{one['word']:<12} {one['case']} {one['aspect']}{' ' + one['where'] if one['where'] else ''}: {one['why']}"
        for one in report["findings"]
        if one["word"] != "pass"
    ]
    passed = sum(one["word"] == "pass" for one in report["findings"])
    word = report["verdict"]
    answer = f"{report['baseline']['name']} -> {report['candidate']['name']}: {word}: {_ANSWERS[word]}"
    return [*found, f"{passed} finding(s) pass", answer]


def write(report: Mapping[str, Any], file: Path) -> None:
    """As JSON, whole or not at all."""
    scratch = file.with_name(f".{file.name}.part")
    scratch.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    scratch.replace(file)


def _table(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [(f"{_SIGNS[one['word']]} {one['word']}", _cell(one["case"]), one["aspect"], _cell(one["where"]),
              _cell(one["why"])) for one in findings]  # fmt: skip
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return ["| | case | what | where | |", "|---|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    """Model names and error texts come from files: nothing of them may be markup, or end the row."""
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("`", "&#96;"), ("\n", " ")):
        text = text.replace(sign, instead)
    return text[:500]


def _side(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "runtime": environment.runtime,
        "version": environment.version,
        "options": dict(environment.options),
        "runs": environment.can_run,
    }
