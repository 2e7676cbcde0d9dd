"""``harness gate``: may we move from this runtime to that one?"""

from __future__ import annotations

import datetime as dt
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.console import following, note, show
from harness.errors import EnvironmentMissing, HarnessError

if TYPE_CHECKING:
    from harness.corpus.catalogue import Entry
    from harness.spec.config import Config

__all__ = ["gate"]


def _print_schema(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's own
    if wanted:
        from harness.gate.report import schema_text

        click.echo(schema_text(), nl=False)
        context.exit()


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
@click.option("--results", type=click.Path(path_type=Path), metavar="DIR",
              help="Where records are, and go.  [default: the configuration's, results/]")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), help="Write the report there, as JSON.")
@click.option("--summary", type=click.Path(path_type=Path),
              help="Write Markdown there.  [default: GITHUB_STEP_SUMMARY, else results/RUN.gate.md]")  # fmt: skip
@click.option("--json", is_flag=True, help="Print the report as JSON instead of lines.")
@click.option("--schema", is_flag=True, is_eager=True, expose_value=False, callback=_print_schema,
              help="Print the JSON Schema of reports, and nothing else.")  # fmt: skip
def gate(baseline: str, candidate: str, **options: object) -> None:
    """May we move from BASELINE to CANDIDATE?

    Each is an environment's name, the start of one (tensorrt-8.5, tensorrt-8.5@gpu1), a name in the configuration, or
    an interpreter's path; both are on one host. Every case that both take is built, run and timed on both, interleaved;
    what looks worse is asked again on other samples, builds and orders, and blocks only if it is worse again.

    BASELINE may be a record: record:RUN, record:RUN:RUNTIME or record:newest. What CANDIDATE builds and how right it is
    are then compared with what that run recorded; nothing of the baseline is needed, nor a GPU that CANDIDATE can do
    without. Latency is compared on the same host alone, and proves nothing either way.

    Exit code: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 invalid, 5 environment.
    """
    try:
        code = _run(baseline, candidate, options)
    except HarnessError as error:
        # 1 is the answer that the candidate is worse, and nothing else.
        error.exit_code = EnvironmentMissing.exit_code if error.exit_code == 1 else error.exit_code
        raise
    click.get_current_context().exit(code)


def _run(baseline: str, candidate: str, options: dict[str, object]) -> int:
    from harness.gate import allowed, report
    from harness.gate.asked import Asked, allowances, matrix_of, seconds
    from harness.gate.gate import Settings
    from harness.gate.historical import Historical
    from harness.gate.records import record_pair, record_whole
    from harness.gate.steps import Steps, like
    from harness.report.pace import Pace
    from harness.results.store import Store
    from harness.spec.config import find_config
    from harness.spec.matrix import read_matrix
    from harness.workbench import Workbench
    from harness.workers import Workers

    config, today = find_config(), dt.datetime.now(tz=dt.UTC).date()
    allow = allowances(_words(options["allow"]), str(options["allow_file"] or ""), today)
    files = {
        name: report.target(Path(str(file)), f"--{name}") for name in ("report", "summary") if (file := options[name])
    }
    matrix = read_matrix(str(options["matrix_text"]) or config.matrix)
    matrix = matrix_of(matrix, thorough=bool(options["thorough"]))
    settings = Settings(budget_s=seconds(str(options["budget"])), builds=matrix.builds)
    folder = Path(str(options["results"] or config.results))
    asked = Asked.read(config, folder, baseline, candidate, "harness gate")
    seed, entries = int(str(options["seed"])), _entries(config, options)
    compared = asked.pairs(matrix, entries)  # what cannot be compared is refused before a run is begun
    pace = Pace([pair.name for pair in compared.both], like)
    with (
        Workers(deadline_s=config.deadline_s) as workers,
        closing(Store(folder).open_run()) as run,
        following(pace) as view,
    ):

        def bench(offset: int) -> Workbench:
            return Workbench(entries, asked.environments, workers, run, matrix, seed + offset, config.latency)

        first = bench(0)
        judged = asked.gate(first, bench, settings, told=Steps(pace, view))
        outcome = judged.run()
        findings = allowed.apply(outcome.findings, allow, today)
        for pair in outcome.pairs.both:
            found = [one for one in findings if one.case == pair.name]
            record_pair(first, pair, found, asked, judged.sessions.get(pair.name, ()))
        told = report.as_json(
            outcome, asked.baseline, asked.candidate, findings, seed,
            run=run.id,
            record=asked.recorded.run if asked.recorded else "",
            not_compared=judged.not_compared if isinstance(judged, Historical) else (),
        )  # fmt: skip
        record_whole(run, told, asked)
    if "report" in files:
        report.write(told, files["report"])
    summary = report.summarize(report.markdown(told), files.get("summary"), run.path.with_suffix(".gate.md"))
    note(f"records: {run.path}; summary: {summary}")
    note(f"next: harness results show {run.id}")
    for line in [json.dumps(told)] if options["json"] else report.lines(told):
        show(line)
    return int(told["exit_code"])


def _words(given: object) -> list[str]:
    return [str(one) for one in given] if isinstance(given, tuple) else []


def _entries(config: Config, options: dict[str, object]) -> dict[str, Entry]:
    """The chosen models, by key."""
    from harness.commands.configured import configured_models
    from harness.corpus.registry import pick

    words = [word for text in _words(options["models"]) for word in text.split(",") if word]
    return {one.model.key: one for one in pick(configured_models(config), words)}
