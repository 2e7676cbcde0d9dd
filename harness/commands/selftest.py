"""``harness selftest``: how often measuring here is right, asked of questions whose answers are known."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.measure.arms import Design
    from harness.measure.selftest import Condition, Supported
    from harness.spec.config import Config
    from harness.stats.verdict import Margins
    from harness.workers import Environment

__all__ = ["selftest"]

_COLUMNS = ("regression", "pass", "minor", "improved", "inconclusive", "invalid")
_LEAST_FOR_MARGINS = 10
_SELDOM = {"minor", "improved"}


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True,
              help="No session is begun after so long.")  # fmt: skip
@click.option("--runtime", default="onnxruntime", show_default=True, help="The runtime to measure with.")
@click.option(
    "--noise", is_flag=True, help="Also A/A and +5 % sessions while two processes burn CPU and memory bandwidth."
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Draws the order; another one each time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def selftest(minutes: float, runtime: str, noise: bool, seed: int | None, as_json: bool) -> None:  # noqa: FBT001
    """Measure equal and slowed-down code on this machine: verdict rates, time per verdict, supported margins.

    Slowdowns are real extra layers. pytest-benchmark's compare-fail judges the same files in the same minutes, where it
    is installed. A record is stored beside those of the suites.
    """
    from dataclasses import asdict

    from harness.measure.arms import Design
    from harness.measure.selftest import CONDITIONS, GATE, OURS, summary, supported_margins
    from harness.measure.sequential_gate import CRITERION
    from harness.spec.config import find_config
    from harness.stats.verdict import Margins

    config = find_config()
    environment = _environment(config, runtime)
    design, margins = Design(), Margins()
    conditions = [one for one in CONDITIONS.values() if noise or not one.noise]
    seed = secrets.randbelow(2**31) if seed is None else seed
    lines, interrupted = _collected(environment, conditions, design, margins, minutes, seed)
    if not lines:
        raise UsageError(f"no session ended within {minutes:g} minutes", todo="allow more time with --minutes")
    found: dict[str, Any] = {
        **summary(lines),
        "supported_margins": asdict(margin) if (margin := supported_margins(lines)) else None,
        "minutes": minutes,
        "interrupted": interrupted,
        "noise": noise,
        "design": design,
        "margins": margins,
    }
    path = _store(config, environment, found, lines, seed)
    if as_json:
        from harness.results.record import encode

        show(json.dumps(json.loads(encode(found))))
        if interrupted:
            raise KeyboardInterrupt
        return
    for who, name in ((OURS, "harness"), (GATE, f"pytest-benchmark {CRITERION}")):
        if who in found:
            show(_table(found, who, name))
    show(_said(margin))
    note(f"record: {path}")
    if interrupted:
        raise KeyboardInterrupt


def _environment(config: Config, runtime: str) -> Environment:
    from harness.workers import find_environments, select

    extra = [one.python for one in config.environments if not one.host]
    found = find_environments(config.root, optional=extra)
    return select(found, [runtime], by_path="[environments] in harness.toml")[0]


def _collected(
    environment: Environment,
    conditions: list[Condition],
    design: Design,
    margins: Margins,
    minutes: float,
    seed: int,
) -> tuple[list[dict[str, Any]], bool]:
    """Lines until the time is over, or Ctrl-C, and which it was; one session of ours at least."""
    from harness.measure.selftest import failed_line, gate_line, schedule, session_line
    from harness.measure.sequential_gate import available

    # The gate runs onnxruntime in this interpreter: beside another runtime it would answer another question.
    beside = available() and environment.runtime == "onnxruntime"
    until = time.monotonic() + 60 * minutes
    lines: list[dict[str, Any]] = []
    try:
        for condition, session_seed in schedule(conditions, seed):
            began = time.monotonic()
            try:
                line = session_line(environment, condition, design, margins, session_seed)
            except HarnessError as error:
                if not lines:
                    raise
                line = failed_line(condition, session_seed, error, time.monotonic() - began)
            lines.append(line)
            note(f"{condition.name}: {line['verdict']}, {line['why']}")
            if time.monotonic() > until:
                break
            if beside:
                try:
                    lines.append(gate_line(condition, session_seed))
                except HarnessError as error:
                    beside = False
                    note(f"pytest-benchmark is left out: {error}")
            if time.monotonic() > until:
                break
    except KeyboardInterrupt:
        if not lines:
            raise
        note("what was collected is kept")
        return lines, True
    return lines, False


def _store(
    config: Config, environment: Environment, found: dict[str, Any], lines: list[dict[str, Any]], seed: int
) -> str:
    from harness.measure.host import host
    from harness.results.record import record
    from harness.results.store import Store

    run = Store(config.results).open_run()
    about = {**host(), "worker": {"library": environment.runtime, "version": environment.version}}
    run.append(record("selftest", run.id, {**found, "sessions": lines}, seed=seed, synthetic=True, environment=about))
    run.close()
    return str(run.path)


def _table(found: dict[str, Any], who: str, name: str) -> Any:  # noqa: ANN401 - a rich table
    from rich.table import Table

    rows = found[who]
    # What nobody said takes no room; the words that matter always do.
    words = [word for word in _COLUMNS if word not in _SELDOM or any(row[word] for row in rows.values())]
    table = Table("condition", "n", *(f"{word} %" for word in words), "measuring s", "starting s")
    table.title, table.title_justify = f"{name}: verdicts, % with 95 % intervals", "left"
    for condition, row in rows.items():
        costs = (f"{row['seconds_median']:.1f}", f"{row['overhead_seconds_median']:.1f}")
        table.add_row(condition, str(row["n"]), *(_rate(row, word) for word in words), *costs)
    return table


def _rate(row: dict[str, Any], word: str) -> str:
    if not row[word]:
        return f"0 (<{100 * row['intervals'][word][1]:.0f})"
    low, high = row["intervals"][word]
    return f"{100 * row[word]:.0f} [{100 * low:.0f}-{100 * high:.0f}]"


def _said(margin: Supported | None) -> str:
    if margin is None:
        return "margins: no usable A/A session; allow more time with --minutes"
    if margin.sessions < _LEAST_FOR_MARGINS:
        return f"margins: {margin.sessions} A/A session(s) are too few; {_LEAST_FOR_MARGINS} at least, 40 for a start"
    few = "; a rough guess, 40 sessions are a start" if margin.sessions < 40 else ""
    return (
        f"this machine supports margins of {margin.tolerated:.2%} (tolerated) and {margin.caught:.2%} (caught), "
        f"from {margin.sessions} A/A session(s){few}"
    )
