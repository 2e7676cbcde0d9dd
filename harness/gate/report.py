"""A gate's outcome as JSON, Markdown, and lines for a terminal."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, WriteFailed
from harness.gate.findings import exit_code, overall
from harness.results.record import encode, fingerprint, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.gate.findings import Finding, NotCompared, Word
    from harness.gate.gate import Outcome
    from harness.workers import Environment

__all__ = [
    "SCHEMA",
    "as_json",
    "lines",
    "markdown",
    "plain",
    "properties",
    "schema_text",
    "summarize",
    "target",
    "words",
    "write",
]

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
_MADE = ("harness", "commit", "host", "cpu")
_ANSWERS: dict[Word, str] = {
    "pass": "nothing that blocks was found",
    "regression": "do not move",
    "inconclusive": "nothing is proved either way",
    "invalid": "a session cannot be trusted",
}


def as_json(
    outcome: Outcome,
    baseline: Environment,
    candidate: Environment,
    findings: Sequence[Finding],
    seed: int,
    *,
    run: str = "",
    record: str = "",
    not_compared: Sequence[NotCompared] = (),
) -> dict[str, Any]:
    """The report whose schema is ``harness/gate/report.schema.json``: plain fields alone.

    :param findings: with what is allowed marked.
    :param run: the id of the run that holds the gate's records.
    :param record: the id of the run that the baseline was recorded by; empty where it was run.
    """
    word, made = overall(findings), fingerprint()
    return {
        "schema": SCHEMA,
        "verdict": word,
        "exit_code": exit_code(word),
        "historical": bool(record),
        "baseline": {**_side(baseline), "record": record or None},
        "candidate": {**_side(candidate), "record": None},
        "made": {"time": now().isoformat(timespec="seconds"), **{name: made[name] for name in _MADE}},
        "run": run or None,
        "seed": seed,
        "seconds": outcome.seconds,
        "settings": plain(asdict(outcome.settings)),
        "cases": [pair.name for pair in outcome.pairs.both],
        "only_baseline": [case.id for case in outcome.pairs.only_baseline],
        "only_candidate": [case.id for case in outcome.pairs.only_candidate],
        "not_compared": [plain(asdict(one)) for one in not_compared],
        "findings": [plain(asdict(one)) for one in sorted_findings(findings)],
        "first_stage": [plain(asdict(one)) for one in outcome.first],
    }


def schema_text() -> str:
    """The report's JSON Schema, as it is published."""
    return (resources.files("harness.gate") / "report.schema.json").read_text("utf-8")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
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
        f"## {_SIGNS[word]} {_cell(_title(report, '→'))}: {word}",
        "",
        f"{_answer(report).capitalize()}: {len(report['cases'])} case(s) in {report['seconds']:.0f} s.",
        "",
    ]
    shown = [one for one in report["findings"] if one["word"] != "pass"]
    rest = [one for one in report["findings"] if one["word"] == "pass"]
    body = [*_table(shown)] if shown else ["Nothing changed beyond the margins.", ""]
    for title, cases in (("baseline", report["only_baseline"]), ("candidate", report["only_candidate"])):
        if cases:
            body += [f"Only the {title} has: {', '.join(map(_cell, cases))}.", ""]
    if report["not_compared"]:
        body += ["Not compared:", "", *(f"- {_cell(text)}" for text in _left_out(report)), ""]
    folded = ["<details><summary>What passed</summary>", "", *_table(rest), "</details>", ""] if rest else []
    return "\n".join([*head, *body, *folded])


def lines(report: Mapping[str, Any]) -> list[str]:
    """One line a finding that is no pass, and the answer."""
    found = [words(one) for one in report["findings"] if one["word"] != "pass"]
    passed = sum(one["word"] == "pass" for one in report["findings"])
    left = [f"not compared {text}" for text in _left_out(report)]
    return [
        *found,
        *left,
        f"{passed} finding(s) pass",
        f"{_title(report, '->')}: {report['verdict']}: {_answer(report)}",
    ]


def words(one: Mapping[str, Any]) -> str:
    """A finding in a line: ``regression   vad-fp16-single latency traffic: +9 %``."""
    where = f" {one['where']}" if one["where"] else ""
    return f"{one['word']:<12} {one['case']} {one['aspect']}{where}: {one['why']}"


def properties(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Names and values for a JUnit ``<property>``: each aspect's word, and the ratio where there is one.

    ``latency.traffic`` is ``pass``, and ``latency.traffic.ratio`` ``1.012``: the candidate's time over the baseline's.
    """
    for one in findings:
        name = ".".join(word.replace(" ", "_") for word in (one.aspect, one.where) if word)
        yield name, one.word
        ratio = one.values.get("ratio")
        if "log_ratio" in one.values:
            ratio = math.exp(one.values["log_ratio"])
        if ratio is not None:
            yield f"{name}.ratio", f"{ratio:.4g}"


def target(path: Path, option: str) -> Path:
    """A file that is to be written when a gate is over: asked of its folder before it begins.

    :raises UsageError: there is no such folder, or a folder by that name.
    """
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UsageError(f"{path} cannot be written", where=option, todo="name a file in a folder that is there")
    return path


def write(report: Mapping[str, Any], file: Path) -> None:
    """As JSON, whole or not at all.

    :raises WriteFailed: it cannot be written.
    """
    scratch = file.with_name(f".{file.name}.part")
    try:
        scratch.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
        scratch.replace(file)
    except OSError as error:
        raise _cannot_write(error, file) from error


def summarize(text: str, named: Path | None, beside: Path) -> Path:
    """Write the Markdown, and say where it went.

    :param named: the file that was asked for, which is written over. Without one, what ``GITHUB_STEP_SUMMARY`` names
        is appended to, as other steps write to it as well.
    :param beside: a file of its own, where neither is given.
    :raises WriteFailed: it cannot be written.
    """
    step = os.environ.get("GITHUB_STEP_SUMMARY", "")
    file = named or Path(step or beside)
    try:
        with file.open("a" if step and not named else "w", encoding="utf-8") as open_file:
            open_file.write(text)
    except OSError as error:
        raise _cannot_write(error, file) from error
    return file


def _cannot_write(error: OSError, file: Path) -> WriteFailed:
    return WriteFailed(f"cannot be written: {error.strerror}", where=str(file), todo="the records hold all of it")


def _title(report: Mapping[str, Any], arrow: str) -> str:
    record = report["baseline"]["record"]
    name = f"{report['baseline']['name']} as recorded in {record}" if record else report["baseline"]["name"]
    return f"{name} {arrow} {report['candidate']['name']}"


def _answer(report: Mapping[str, Any]) -> str:
    said = _ANSWERS[report["verdict"]]
    return f"historical: {said}, as far as a record tells" if report["historical"] else said


def _left_out(report: Mapping[str, Any]) -> list[str]:
    """Each aspect and reason once, with its cases."""
    cases: dict[tuple[str, str], list[str]] = {}
    for one in report["not_compared"]:
        cases.setdefault((one["aspect"], one["why"]), []).append(one["case"])
    return [f"{aspect} ({', '.join(named)}): {why}" for (aspect, why), named in cases.items()]


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
