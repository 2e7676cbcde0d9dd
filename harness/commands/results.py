"""``harness results``: the records of all runs of a folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.console import note, show
from harness.commands.results_shown import brief, pretty, run_table, runs_table
from harness.commands.when import age, since_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.results.query import Results
    from harness.results.record import Record

__all__ = ["results"]

_SHOWN_TROUBLE = 5


@click.group()
@click.option("--results", "folder", type=click.Path(path_type=Path), default=None, metavar="DIR",
              help="The folder of runs; the configuration's (results/) without it.")  # fmt: skip
@click.pass_context
def results(context: click.Context, folder: Path | None) -> None:
    """List, show, compact, export, import and prune what was measured."""
    context.obj = folder


@results.command("list")
@click.option("--since", default=None, metavar="WHEN", help="A date (2026-11-23), a time, or an age: 12h, 30d, 8w.")
@click.option("--model", default=None, help="Only records of this model.")
@click.option("--runtime", default=None, help="Only of this runtime: tensorrt-8.5 takes tensorrt-8.5.3.1, too.")
@click.option("--kind", default=None, help="Only of this kind: build, accuracy, latency, ...")
@click.option("--last", type=click.IntRange(min=1), default=100, show_default=True, metavar="N",
              help="Show the newest N in the table.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of all instead of the table.")
@click.pass_obj
def list_(
    folder: Path | None,
    since: str | None,
    model: str | None,
    runtime: str | None,
    kind: str | None,
    last: int,
    as_json: bool,  # noqa: FBT001
) -> None:
    """The runs, the oldest first: time (UTC), host, runtimes, models, counts of verdicts.

    With conditions: runs that have such records, and counts of those.
    """
    from dataclasses import asdict

    from harness.results.query import Where, open_list
    from harness.results.record import encode

    where = Where(since=since_time(since) if since else None, model=model, runtime=runtime, kind=_kind(kind))
    with open_list(_there(folder)) as found:
        runs = found.runs(where)
        _say_trouble(found)
    if as_json:
        show(json.dumps([json.loads(encode(asdict(one))) for one in runs]))
    elif runs:
        show(runs_table(runs[-last:]))
        there = ["--results", str(folder)] if folder else []
        shown = shlex.join(["harness", "results", *there, "show", runs[-1].run])
        note(f"next: {shown}, or {shlex.join(['harness', 'report', *there])} for pages of all of them")
        if len(runs) > last:
            note(f"{len(runs) - last} older run(s) are not shown: --last {len(runs)}")
    else:
        note("no such runs" if where != Where() else f"no runs in {_folder(folder)}")


@results.command("show")
@click.argument("what", metavar="RUN|RUN:LINE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: of a run, a list of its records without samples.")
@click.pass_obj
def show_(folder: Path | None, what: str, as_json: bool) -> None:  # noqa: FBT001
    """A run's records in short, or one of them in full.

    RUN is a run's id or the beginning of it. Lines are numbered in the first column of the run's table.
    """
    from harness.errors import UsageError
    from harness.results.folders import run_path
    from harness.results.record import encode

    name, colon, line = what.rpartition(":")
    path = run_path(_there(folder), name if colon else what)
    if not colon:
        numbered = _numbered(path)
        if as_json:
            short = [{"line": number, **brief(one)} for number, one in numbered]
            show(json.dumps([json.loads(encode(one)) for one in short]))
        else:
            show(run_table(numbered))
        return
    if not line.isdigit():
        raise UsageError(f"{line!r} is no line number", todo=f"{path.stem}:3, say")
    one = dict(_numbered(path)).get(int(line))
    if one is None:
        raise UsageError(f"no record in line {line}", where=str(path), todo=f"harness results show {path.stem}")
    text = json.loads(encode(one))
    show(json.dumps(text) if as_json else pretty(text))


@results.command("compact")
@click.pass_obj
def compact_(folder: Path | None) -> None:
    """Write the runs' records as Parquet (compacted/), so that queries are fast; only what is new is read.

    The runs' own files stay, and stay what counts: compacted/ can be removed at any time.
    """
    from harness.results.compact import compact
    from harness.results.query import trouble

    done = compact(_there(folder))
    _say(trouble(done.states))
    gone = f", {done.forgotten} gone" if done.forgotten else ""
    show(
        f"{done.read} run(s) read, {done.kept} were compacted before{gone}: "
        f"{done.records} records, {done.size_bytes / 1e6:.1f} MB"
    )


@results.command("export")
@click.argument("run", required=False)
@click.option("--format", "form", required=True, type=click.Choice(["pytest-benchmark", "openmetrics"]),
              help="pytest-benchmark: RUN's latency. openmetrics: the newest record of every case.")  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="A file; stdout without it."
)
@click.pass_obj
def export(folder: Path | None, run: str | None, form: str, output: Path | None) -> None:
    """Records for other programs."""
    from harness.errors import UsageError
    from harness.results.benchmark_json import export_run
    from harness.results.folders import run_path
    from harness.results.openmetrics import openmetrics
    from harness.results.query import open_verdicts

    if form == "pytest-benchmark":
        if run is None:
            raise UsageError("which run?", todo="harness results export RUN --format pytest-benchmark")
        text = json.dumps(export_run(run_path(_there(folder), run)), indent=1) + "\n"
    else:
        if run is not None:
            raise UsageError("openmetrics takes the newest of all runs", todo="leave out RUN")
        with open_verdicts(_there(folder)) as found:
            text = openmetrics(one for one in found.newest_verdicts() if not one.historical)
            _say_trouble(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
        show(f"wrote {output}")


@results.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.pass_obj
def import_(folder: Path | None, source: Path) -> None:
    """Copy the runs of another folder, or take in a file of pytest-benchmark as a run of historical records.

    What is here already is left alone. Exit code 1 where a run of the same name differs.
    """
    from harness.errors import ResultsError, UsageError
    from harness.results.benchmark_json import import_benchmarks
    from harness.results.folders import import_folder

    target = _folder(folder)
    if source.is_file():
        run = import_benchmarks(source, target)
        show(f"historical run: {run}" if run else "it was imported before")
        return
    if not source.is_dir():
        raise UsageError("no such folder or file", where=str(source), todo="name a folder of runs or a .json")
    if target.resolve() == source.resolve():
        raise UsageError("this is the folder itself", where=str(source), todo="name another, or --results DIR")
    done = import_folder(source, target)
    show(f"{len(done.copied)} run(s) copied, {len(done.known)} were here")
    if done.different:
        raise ResultsError(
            f"{len(done.different)} run(s) differ from those of the same name here and were left out: "
            + ", ".join(done.different[:5]),
            where=str(source),
            todo="one was copied while it was written? Keep the longer file of the two",
        )


@results.command("prune")
@click.option("--older-than", default=None, metavar="AGE", help="Remove runs that ended longer ago: 90d, 12w, 48h.")
@click.option("--keep-last", type=click.IntRange(min=0), default=None, metavar="N", help="Remove all but the newest N.")
@click.option(
    "--keep", multiple=True, metavar="RUN", help="Never this one; several times. Beside those in baselines.txt."
)
@click.option("--yes", is_flag=True, help="Remove them; without it, only say which.")
@click.pass_obj
def prune_(
    folder: Path | None,
    older_than: str | None,
    keep_last: int | None,
    keep: tuple[str, ...],
    yes: bool,  # noqa: FBT001
) -> None:
    """Remove old runs. A dry run unless --yes is given.

    Runs named by --keep or in baselines.txt (one id a line) stay, and so does a run that is being written.
    """
    from harness.results.folders import plan_prune, prune
    from harness.results.query import open_list

    there = _there(folder)
    with open_list(there) as found:
        runs = found.runs()
    plan = plan_prune(there, runs, keep, age(older_than) if older_than else None, keep_last)
    for path, why in plan.stay:
        note(f"{path.stem} stays: {why}")
    for path in plan.removed:
        show(path.stem)
    count = f"{len(plan.removed)} run(s), {plan.size_bytes / 1e6:.1f} MB"
    if yes:
        prune(plan)
        note(f"removed: {count}")
    else:
        note(f"would remove: {count}; with --yes it does")


def _folder(given: Path | None) -> Path:
    from harness.spec.config import find_config

    return given if given is not None else Path(find_config().results)


def _there(given: Path | None) -> Path:
    from harness.errors import UsageError

    folder = _folder(given)
    if not folder.is_dir():
        raise UsageError(
            "no such folder", where=str(folder), todo="name the folder of runs: harness results --results DIR ..."
        )
    return folder


def _kind(given: str | None) -> str | None:
    from harness.errors import UsageError
    from harness.results.record import KINDS

    if given is not None and given not in KINDS:
        raise UsageError(f"unknown kind of record {given!r}", where="--kind", todo=f"one of {', '.join(sorted(KINDS))}")
    return given


def _say_trouble(found: Results) -> None:
    from harness.results.query import trouble

    _say(trouble(list(found.states.values())))


def _say(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN_TROUBLE]:
        note(line)
    if len(lines) > _SHOWN_TROUBLE:
        note(f"and {len(lines) - _SHOWN_TROUBLE} more file(s) with lines that are no records")


def _numbered(path: Path) -> list[tuple[int, Record]]:
    """Records by the number of their line; lines that are none are said."""
    from harness.results.store import read_run

    reading = read_run(path)
    found = list(reading.numbered())
    _say([f"{path.name}: {bad}" for bad in reading.bad])
    return found


def _write(output: Path, text: str) -> None:
    """Whole or not at all: a scraper may be reading it."""
    import os
    import secrets

    from harness.errors import WriteFailed

    scratch = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, output)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise WriteFailed(
            f"cannot be written: {error.strerror}", where=str(output), todo="check its folder and the room there"
        ) from error
