"""``harness gate``: may we move from this runtime to that one?"""

from __future__ import annotations

import datetime as dt
import json
import shlex
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import complain, following, note, show
from harness.errors import EnvironmentMissing, HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.corpus.catalogue import Entry
    from harness.gate.allowed import Allowance
    from harness.gate.conclusion import Conclusion
    from harness.gate.findings import Finding
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
    without. Latency is compared on the same host alone, and proves nothing either way. CANDIDATE may be a record, too:
    then nothing is run.

    Exit code: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 invalid, 5 environment.
    """
    click.get_current_context().exit(_answered(baseline, candidate, options))


def _answered(baseline: str, candidate: str, options: dict[str, object]) -> int:
    """The exit code; 1 is the answer that the candidate is worse, and nothing else."""
    try:
        return _run(baseline, candidate, options)
    except HarnessError as error:
        error.exit_code = EnvironmentMissing.exit_code if error.exit_code == 1 else error.exit_code
        raise
    except OSError as error:
        failed = EnvironmentMissing(f"{error.strerror or error}", where=str(error.filename or "harness gate"))
        raise failed from error
    except Exception:  # noqa: BLE001 - a fault of ours or a library's: its traceback, and a code that is no answer
        complain(traceback.format_exc())
        return EnvironmentMissing.exit_code


def _run(baseline: str, candidate: str, options: dict[str, object]) -> int:
    from harness.gate import report
    from harness.gate.asked import Asked, allowances, matrix_of, seconds
    from harness.gate.conclusion import Conclusion
    from harness.gate.recorded import PREFIX
    from harness.gate.stages import flagged, unsettled
    from harness.gate.steps import Steps, like
    from harness.report.pace import Pace
    from harness.results.store import Store
    from harness.spec.config import find_config
    from harness.spec.matrix import read_matrix
    from harness.workbench import Workbench
    from harness.workers import Workers

    config, today = find_config(), dt.datetime.now(tz=dt.UTC).date()
    folder = Path(str(options["results"] or config.results))
    allow = allowances(_words(options["allow"]), str(options["allow_file"] or ""), today)
    files = {
        name: report.target(Path(str(file)), f"--{name}") for name in ("report", "summary") if (file := options[name])
    }
    if baseline.startswith(PREFIX) and candidate.startswith(PREFIX):
        told = _between(baseline, candidate, folder, allow, today, files)
        for line in _shown(told, options):
            show(line)
        return int(told["exit_code"])
    matrix = read_matrix(str(options["matrix_text"]) or config.matrix)
    matrix = matrix_of(matrix, thorough=bool(options["thorough"]))
    budget_s = seconds(str(options["budget"]))
    asked = Asked.read(config, folder, baseline, candidate, "harness gate")
    seed, entries = int(str(options["seed"])), _entries(config, options)
    settings = asked.settings(matrix, entries, config.latency, budget_s)
    compared = asked.pairs(matrix, entries)  # what cannot be compared is refused before a run is begun
    command = str(click.get_current_context().obj or "")  # what main was called with
    pace = Pace([pair.name for pair in compared.both], like)
    began = time.monotonic()
    with closing(Store(folder).open_run()) as run, following(pace) as view:

        def bench(offset: int) -> Workbench:
            """With workers of its own: what ended one in the first stage is tried again in the second."""
            workers = Workers(deadline_s=config.deadline_s)
            return Workbench(
                entries, asked.environments, workers, run, matrix, seed + offset, config.latency, command=command
            )

        with closing(bench(0)) as first:
            gate = asked.gate(
                first, bench, settings,
                told=Steps(pace, view),
                heard=lambda pair, found: kept.keep(pair, found, settled=not flagged(found)),
            )  # fmt: skip
            kept = Conclusion(asked, gate, first, settings, allow, today, files)
            pairs = {pair.name: pair for pair in gate.pairs.both}
            try:
                for name, findings in _by_case(gate.run().findings).items():
                    if name in {one.case for one in gate.flagged}:  # the others are kept as they are
                        kept.keep(pairs[name], findings)
            except BaseException:
                for name, findings in _by_case(unsettled(gate.first)).items():
                    kept.found[name] = findings
                _told(kept, pairs, began)
                raise
            told = _told(kept, pairs, began)
    elsewhere = ["--results", str(folder)] if options["results"] else []
    note(f"next: {shlex.join(['harness', 'results', *elsewhere, 'show', run.id])}")
    for line in _shown(told, options):
        show(line)
    return int(told["exit_code"])


def _between(
    baseline: str, candidate: str, folder: Path, allow: Sequence[Allowance], today: dt.date, files: Mapping[str, Path]
) -> dict[str, Any]:
    """Two records; what they say is recorded already."""
    from harness.gate import allowed, report
    from harness.gate.between import between, pairs_of
    from harness.gate.gate import Outcome, Settings
    from harness.gate.recorded import read
    from harness.stats.verdict import Margins

    began = time.monotonic()
    old, new = read(folder, baseline), read(folder, candidate)
    pairs, margins = pairs_of(old, new), Margins()
    settings = Settings(latency={pair.candidate.model: margins for pair in pairs.both})
    if not pairs.both:
        raise UsageError("the two records share no case", where=f"{baseline}, {candidate}", todo="name other runs")
    found, left = between(old, new, settings.accuracy, margins)
    findings = allowed.apply(found, allow, today)
    outcome = Outcome(pairs, tuple(findings), (), settings, time.monotonic() - began)
    told = report.as_json(
        outcome, old.environment, new.environment, findings, 0,
        record=old.run, candidate_record=new.run, not_compared=left,
    )  # fmt: skip
    if file := files.get("report"):
        report.write(told, file)
    beside = folder / f"{old.run}-{new.run}.gate.md"
    note(f"summary: {report.summarize(report.markdown(told), files.get('summary'), beside)}")
    return told


def _shown(told: Mapping[str, Any], options: Mapping[str, object]) -> list[str]:
    from harness.gate import report

    return [json.dumps(told)] if options["json"] else report.lines(told)


def _told(kept: Conclusion, pairs: Iterable[str], began: float) -> dict[str, Any]:
    told = kept.finish(list(pairs), time.monotonic() - began)
    note("; ".join(kept.written))
    return told


def _by_case(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.case, []).append(one)
    return found


def _words(given: object) -> list[str]:
    return [str(one) for one in given] if isinstance(given, tuple) else []


def _entries(config: Config, options: dict[str, object]) -> dict[str, Entry]:
    """The chosen models, by key."""
    from harness.commands.configured import configured_models
    from harness.corpus.registry import pick

    words = [word for text in _words(options["models"]) for word in text.split(",") if word]
    return {one.model.key: one for one in pick(configured_models(config), words)}
