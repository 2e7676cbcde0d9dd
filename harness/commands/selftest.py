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
    from harness.measure.selftest import Condition, Supported
    from harness.spec.config import Config
    from harness.workers import Environment

__all__ = ["selftest"]

_COLUMNS = ("regression", "pass", "minor", "improved", "inconclusive", "invalid")


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True,
              help="No session is begun after so long.")  # fmt: skip
@click.option("--runtime", default="onnxruntime", show_default=True, help="The runtime to measure with.")
@click.option("--noise", is_flag=True, help="Also A/A sessions while two processes burn CPU and memory bandwidth.")
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Draws the order; another one each time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def selftest(minutes: float, runtime: str, noise: bool, seed: int | None, as_json: bool) -> None:  # noqa: FBT001
    """Measure equal and slowed-down code on this machine: verdict rates, time per verdict, supported margins.

    Slowdowns are real extra layers. pytest-benchmark's compare-fail judges the same files in the same minutes, where it
    is installed. A record is stored beside those of the suites.
    """
    from dataclasses import asdict

    from harness.measure.arms import Design
    from harness.measure.selftest import CONDITIONS, summary, supported_margins
    from harness.spec.config import find_config
    from harness.stats.verdict import Margins

    config = find_config()
    environment = _environment(config, runtime)
    design, margins = Design(), Margins()
    conditions = [one for one in CONDITIONS.values() if noise or not one.noise]
    seed = secrets.randbelow(2**31) if seed is None else seed
    lines = _collected(environment, conditions, design, margins, minutes, seed)
    if not lines:
        raise UsageError(f"no session ended within {minutes:g} minutes", todo="allow more time with --minutes")
    found: dict[str, Any] = {
        **summary(lines),
        "supported_margins": asdict(margin) if (margin := supported_margins(lines)) else None,
        "minutes": minutes,
        "noise": noise,
        "design": design,
        "margins": margins,
    }
    path = _store(config, environment, found, lines, seed)
    if as_json:
        from harness.results.record import encode

        show(json.dumps(json.loads(encode(found))))
        return
    show(_table(found))
    show(_said(margin))
    note(f"record: {path}")


def _environment(config: Config, runtime: str) -> Environment:
    from harness.workers import find_environments, select

    extra = [one.python for one in config.environments if not one.host]
    return select(find_environments(config.root, optional=extra), [runtime])[0]


def _collected(
    environment: Environment,
    conditions: list[Condition],
    design: Any,
    margins: Any,
    minutes: float,
    seed: int,  # noqa: ANN401
) -> list[dict[str, Any]]:
    """Lines until the time is over; one session of ours at least."""
    from harness.measure.selftest import gate_line, schedule, session_line
    from harness.measure.sequential_gate import available

    # The gate runs onnxruntime in this interpreter: beside another runtime it would answer another question.
    beside = available() and environment.runtime == "onnxruntime"
    until = time.monotonic() + 60 * minutes
    lines: list[dict[str, Any]] = []
    for condition, session_seed in schedule(conditions, seed):
        line = session_line(environment, condition, design, margins, session_seed)
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
    return lines


def _store(
    config: Config, environment: Environment, found: dict[str, Any], lines: list[dict[str, Any]], seed: int
) -> str:
    from harness.measure.host import host
    from harness.results.record import record
    from harness.results.store import Store

    run = Store(config.results).open_run()
    about = {**host(), "worker": {"library": environment.runtime, "version": environment.version}}
    run.append(record("selftest", run.id, {**found, "sessions": lines}, seed=seed, synthetic=True, environment=about))
    return str(run.path)


def _table(found: dict[str, Any]) -> Any:  # noqa: ANN401 - a rich table
    from rich.table import Table

    from harness.measure.selftest import GATE, OURS

    table = Table("judge", "condition", "n", *(f"{word} %" for word in _COLUMNS), "measuring s", "+ starting s")
    for who, name in ((OURS, "harness"), (GATE, "pytest-benchmark median:5%")):
        for condition, row in found.get(who, {}).items():
            rates = (_rate(row, word) for word in _COLUMNS)
            table.add_row(
                name, condition, str(row["n"]), *rates,
                f"{row['seconds_median']:.1f} (p90 {row['seconds_p90']:.1f})", f"{row['overhead_seconds_median']:.1f}",
            )  # fmt: skip
    return table


def _rate(row: dict[str, Any], word: str) -> str:
    if not row[word]:
        return f"0 (<{100 * row['intervals'][word][1]:.0f})"
    low, high = row["intervals"][word]
    return f"{100 * row[word]:.0f} [{100 * low:.0f}-{100 * high:.0f}]"


def _said(margin: Supported | None) -> str:
    if margin is None:
        return "margins: no usable A/A session; allow more time with --minutes"
    few = "; a rough guess, 40 sessions are a start" if margin.sessions < 40 else ""
    return (
        f"this machine supports margins of {margin.tolerated:.2%} (tolerated) and {margin.caught:.2%} (caught), "
        f"from {margin.sessions} A/A session(s){few}"
    )
