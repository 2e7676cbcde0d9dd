"""``harness environments``: the interpreters with a runtime that are found here, and what they can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show

if TYPE_CHECKING:
    from harness.workers.environments import Environment

__all__ = ["environments"]

_DEADLINE_S = 60.0


@click.command()
@click.option("--python", "pythons", multiple=True, metavar="PATH", help="An interpreter to look at, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of the table.")
def environments(pythons: tuple[str, ...], *, as_json: bool) -> None:
    """List the runtimes found here: this interpreter's, those of .tox, those of the configuration.

    What the configuration names and is not there is listed as missing.
    """
    from harness.errors import EnvironmentMissing
    from harness.spec.config import find_config
    from harness.workers.environments import configured, find_environments
    from harness.workers.places import elsewhere

    config = find_config()
    optional = [one.python for one in config.environments if not one.host]
    far, unreached = elsewhere(config.environments, config.file)
    rows = [_row(environment) for environment in [*find_environments(config.root, pythons, optional), *far]]
    for one in config.environments:
        try:
            if one.name in unreached:
                raise unreached[one.name]
            if not one.host:
                configured(one, config.file)
        except EnvironmentMissing as error:  # one that is missing is no reason to hide the others
            rows.append({**_EMPTY, "name": one.name, "python": one.python, "why": f"missing: {error.what}"})
    if as_json:
        show(json.dumps(rows))
        return
    _print(rows)


_EMPTY = {"name": "", "version": "", "python": "", "can_build": False, "can_run": False, "why": ""}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("environment")
    table.columns[0].no_wrap = True
    for column in ("version", "can", "python"):
        table.add_column(column, overflow="fold")
    for row in rows:
        able = " and ".join(word for word in ("build", "run") if row[f"can_{word}"])
        table.add_row(row["name"], row["version"], row["why"] or able or "neither build nor run", row["python"])
    show(table)
    note("what is in the way of the rest: harness doctor")


def _row(environment: Environment) -> dict[str, Any]:
    from harness.errors import HarnessError
    from harness.workers import Worker

    row = {**_EMPTY, "name": environment.name, "version": environment.version, "python": environment.python}
    try:
        with Worker(environment, deadline_s=_DEADLINE_S) as worker:
            facts = worker.describe()
    except HarnessError as error:  # one that does not start is no reason to hide the others
        return {**row, "why": f"does not start: {error.what}"}
    return {**row, "can_build": bool(facts.get("can_build")), "can_run": bool(facts.get("can_run"))}
