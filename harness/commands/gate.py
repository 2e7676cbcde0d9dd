"""``harness gate``: may we move from this runtime to that one?"""

from __future__ import annotations

import datetime as dt
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.console import note, show
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.spec.config import Config
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["gate"]

_UNITS = {"s": 1, "m": 60, "h": 3600}
_THOROUGH_BUILDS = 8


@click.command()
@click.argument("baseline")
@click.argument("candidate")
@click.option("--models", multiple=True, metavar="KEY[,KEY]", help="Catalogue keys.  [default: all]")
@click.option("--matrix", "matrix_text", default="", metavar="quick|full|FILE", help="Which cells.  [default: quick]")
@click.option("--budget", default="20m", show_default=True, metavar="20m", help="Of latency sessions, all together.")
@click.option("--thorough", is_flag=True, help="8 builds of each engine and side instead of 3, for a final decision.")
@click.option("--allow", multiple=True, metavar="CASE=REASON", help="A regression that does not block, for today.")
@click.option("--allow-file", type=click.Path(path_type=Path), help="[[allow]] tables with a date, under review.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws samples and orders.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the report there, as JSON.")
@click.option("--summary", type=click.Path(path_type=Path),
              help="Write Markdown there.  [default: GITHUB_STEP_SUMMARY where that is set]")  # fmt: skip
def gate(baseline: str, candidate: str, **options: object) -> None:
    """May we move from BASELINE to CANDIDATE?

    Each is an environment's name, the start of one (tensorrt-8.5, tensorrt-8.5@gpu1), a name in the configuration, or
    an interpreter's path; both are on one host. Every case that both take is built, run and timed on both, interleaved;
    what looks worse is asked again on other samples, builds and orders, and blocks only if it is worse again.

    Exit code: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 invalid, 5 environment.
    """
    click.get_current_context().exit(_run(baseline, candidate, options))


def _run(baseline: str, candidate: str, options: dict[str, object]) -> int:
    from harness.gate import allowed, report
    from harness.gate.gate import Gate, Settings
    from harness.spec.config import find_config
    from harness.workers import Workers
    from harness.workers.places import check_one_place

    config, today = find_config(), dt.datetime.now(tz=dt.UTC).date()
    allowances = [allowed.parse(text, today) for text in _words(options["allow"])]
    if options["allow_file"]:
        allowances += allowed.read(Path(str(options["allow_file"])))
    matrix = _matrix(config, str(options["matrix_text"]), thorough=bool(options["thorough"]))
    old, new = (_environment(config, text) for text in (baseline, candidate))
    if old.name == new.name and old.python == new.python:
        raise UsageError(f"{baseline} and {candidate} are one environment: {old.name}", todo="name two")
    check_one_place(old, new, f"{old.name} against {new.name}")  # before a run is begun
    settings = Settings(budget_s=_seconds(str(options["budget"])), builds=matrix.builds)
    seed = int(str(options["seed"]))
    with Workers(deadline_s=config.deadline_s) as workers:
        from harness.results.store import Store

        run = Store(config.results).open_run()

        def bench(offset: int) -> Workbench:
            return _bench(config, options, matrix, (old, new), workers, run, seed + offset)

        first = bench(0)
        judged = Gate(first, lambda: bench(1), old, new, settings, told=lambda case, step: note(f"{case}: {step}"))
        try:
            outcome = judged.run()
        finally:
            run.close()
    findings = allowed.apply(outcome.findings, allowances, today)
    told = report.as_json(outcome, old, new, findings, seed)
    if options["report"]:
        report.write(told, Path(str(options["report"])))
    _summarize(report.markdown(told), options["summary"])
    for line in report.lines(told):
        show(line)
    return int(told["exit_code"])


def _words(given: object) -> list[str]:
    return [str(one) for one in given] if isinstance(given, tuple) else []


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--budget {text!r} is no time", todo="write 90s, 20m or 1h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _matrix(config: Config, text: str, *, thorough: bool) -> Matrix:
    from harness.spec.matrix import read_matrix

    matrix = read_matrix(text or config.matrix)
    return replace(matrix, builds=_THOROUGH_BUILDS if thorough else max(3, matrix.builds), compared=())


def _environment(config: Config, text: str) -> Environment:
    """One environment by its name, the start of it, a name of the configuration, or an interpreter's path.

    :raises EnvironmentMissing: there is none. UsageError: there are several.
    """
    from functools import partial

    from harness.workers.environments import configured, find_environments, interpreter, select
    from harness.workers.places import elsewhere, missed

    aliases = {one.name: partial(configured, one, config.file) for one in config.environments}
    if "/" in text:
        python = interpreter(text)
        there = [one for one in find_environments(config.root, [python]) if one.python == python]
    else:
        entries = config.environments if "@" in text else ()
        far, missing = elsewhere(entries, config.file)
        missed(entries, missing, text)  # raises where the host cannot be reached
        there = select([*find_environments(config.root), *far], [text], where="harness gate", aliases=aliases)
    able = [one for one in there if one.can_run or one.can_build]
    if len(able) != 1:
        names = ", ".join(one.name for one in able) or "none that can build or run"
        raise UsageError(f"{text!r} names {len(able)} environments: {names}", todo="name one of them")
    return replace(able[0], options={**able[0].options, **config.options.of(able[0].name)})


def _bench(
    config: Config, options: dict[str, object], matrix: Matrix, sides: tuple[Environment, Environment], workers: object,
    run: object, seed: int,
) -> Workbench:  # fmt: skip
    from harness.commands.configured import configured_models
    from harness.corpus.registry import pick
    from harness.workbench import Workbench

    words = [word for text in _words(options["models"]) for word in text.split(",") if word]
    entries = {one.model.key: one for one in pick(configured_models(config), words)}
    environments = {one.name: one for one in sides}
    return Workbench(entries, environments, workers, run, matrix, seed, config.latency)  # type: ignore[arg-type]


def _summarize(text: str, where: object) -> None:
    """Written to the file that is named; appended to GitHub's step summary, which other steps write to as well."""
    if where:
        Path(str(where)).write_text(text, "utf-8")
    elif step := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(step).open("a", encoding="utf-8") as file:
            file.write(text)
