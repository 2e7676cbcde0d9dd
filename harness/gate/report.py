"""A gate's outcome as JSON, Markdown, and lines for a terminal."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, WriteFailed
from harness.gate.advice import settling
from harness.gate.findings import exit_code, overall
from harness.paths import cache_dir
from harness.results.record import encode, fingerprint, now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.gate.findings import Finding, NotCompared, Word
    from harness.gate.gate import Outcome
    from harness.workers import Environment

__all__ = [
    "SCHEMA",
    "as_json",
    "evidence",
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
_CELL_CHARACTERS = 500
_EVIDENCE_LINES, _EVIDENCE_CHARACTERS = 3, 300
_ARTEFACT = re.compile(r"artefacts/[\w.-]+\.onnx")
_LINE_ENDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKUP = re.compile(r"[\\`*~\[\]<>|&!#@:$%^{}]|(?<![^\W_])_|_(?![^\W_])|www\.", re.IGNORECASE)
"""What Markdown of GitHub and of GitLab gives a meaning in the middle of a line; ``_`` within a word has none."""
_ESCAPED, _LINKING, _NO_WIDTH = frozenset("`*_~[]!"), frozenset("@#:!~$%&"), "&#8203;"
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
    candidate_record: str = "",
    not_compared: Sequence[NotCompared] = (),
) -> dict[str, Any]:
    """The report whose schema is ``harness/gate/report.schema.json``: plain fields alone.

    :param findings: with what is allowed marked.
    :param run: the id of the run that holds the gate's records.
    :param record, candidate_record: the id of the run that a side was recorded by; empty where it was run.
    """
    word, made, settings = overall(findings), fingerprint(), outcome.settings
    return {
        "schema": SCHEMA,
        "verdict": word,
        "exit_code": exit_code(word),
        "historical": bool(record),
        "baseline": {**_side(baseline), "record": record or None},
        "candidate": {**_side(candidate), "record": candidate_record or None},
        "made": {"time": now().isoformat(timespec="seconds"), **{name: made[name] for name in _MADE}},
        "run": run or None,
        "seed": seed,
        "seconds": outcome.seconds,
        "settings": plain(asdict(settings)),
        "cases": [pair.name for pair in outcome.pairs.both],
        "only_baseline": [case.id for case in outcome.pairs.only_baseline],
        "only_candidate": [case.id for case in outcome.pairs.only_candidate],
        "not_compared": [plain(asdict(one)) for one in not_compared],
        "findings": [plain(asdict(one)) for one in sorted_findings(findings)],
        "advice": settling(findings, settings.budget_s, settings.launches, len(outcome.pairs.both)),
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
    if advice := report.get("advice"):
        body += ["What is open:", "", *(f"- {_cell(text)}" for text in advice), ""]
    folded = ["<details><summary>What passed</summary>", "", *_table(rest), "</details>", ""] if rest else []
    return "\n".join([*head, *body, *folded])


def lines(report: Mapping[str, Any]) -> list[str]:
    """One line a finding that is no pass, with what a builder said and of which file below it; and the answer."""
    found = [line for one in report["findings"] if one["word"] != "pass" for line in (words(one), *evidence(one))]
    passed = sum(one["word"] == "pass" for one in report["findings"])
    left = [f"not compared {text}" for text in _left_out(report)]
    return [
        *found,
        *left,
        *report.get("advice", ()),
        f"{passed} finding(s) pass",
        f"{_title(report, '->')}: {report['verdict']}: {_answer(report)}",
    ]


def evidence(one: Mapping[str, Any]) -> Iterator[str]:
    """The builder's own reason, and the file as it lies on this machine: the report names it within the cache alone."""
    error = str(one["values"].get("error", "")) if one["aspect"] == "builds" else ""
    said = [line.removeprefix("  | ") for line in error.splitlines() if line.startswith("  | ")]
    yield from (f"  | {_LINE_ENDS.sub(' ', line)[:_EVIDENCE_CHARACTERS]}" for line in said[:_EVIDENCE_LINES])
    for name in dict.fromkeys(_ARTEFACT.findall(error)):
        if (file := cache_dir() / name).is_file():
            yield f"  model: {file}"


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
    names = [
        f"{side['name']} as recorded in {side['record']}" if side["record"] else side["name"]
        for side in (report["baseline"], report["candidate"])
    ]
    return f" {arrow} ".join(names)


def _answer(report: Mapping[str, Any]) -> str:
    said = _ANSWERS[report["verdict"]]
    allowed = sum(one["word"] == "allowed" for one in report["findings"])
    if report["historical"]:
        said = f"historical: {said}, as far as a record tells"
    if allowed:
        said += f"; {allowed} regression(s) are allowed, and do not block"
    sides = (report["baseline"], report["candidate"])
    if not any(one["runs"] or one["record"] for one in sides):
        said += "; both sides only build here: nothing was run, so accuracy and latency are open"
    return said


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
    return _MARKUP.sub(_plainly, _LINE_ENDS.sub(" ", text[:_CELL_CHARACTERS]).strip())


def _plainly(sign: re.Match[str]) -> str:
    """A sign that stands for itself; with a space of no width behind it where a name or a number would make it a link
    to a user or an issue, which is looked for in what is shown, and not in what was written.
    """
    text, end = sign.group(), sign.end()
    if text.lower() == "www.":
        return f"{text[:-1]}{_NO_WIDTH}."
    after = sign.string[end : end + 1]
    plain = f"\\{text}" if text in _ESCAPED else f"&#{ord(text)};"
    return f"{plain}{_NO_WIDTH}" if text in _LINKING and (after.isalnum() or after in {"_", "/"}) else plain


def _side(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "runtime": environment.runtime,
        "version": environment.version,
        "options": dict(environment.options),
        "runs": environment.can_run,
    }
