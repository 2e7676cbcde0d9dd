"""``harness environments``: the interpreters with a runtime that are found here, and what they can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.commands.console import show

if TYPE_CHECKING:
    from harness.workers.environments import Environment

__all__ = ["environments"]

_DEADLINE_S = 60.0


@click.command()
@click.option("--python", "pythons", multiple=True, metavar="PATH", help="An interpreter to look at, too.")
def environments(pythons: tuple[str, ...]) -> None:
    """List the runtimes found here: this interpreter's, those of .tox, those of the configuration.

    What the configuration names and is not there is listed as missing.
    """
    from rich.table import Table

    from harness.errors import EnvironmentMissing
    from harness.spec.config import find_config
    from harness.workers.environments import configured, find_environments
    from harness.workers.places import elsewhere

    config = find_config()
    optional = [one.python for one in config.environments if not one.host]
    table = Table("environment", "version", "can", "python")
    far, unreached = elsewhere(config.environments, config.file)
    for environment in [*find_environments(config.root, pythons, optional), *far]:
        table.add_row(environment.name, environment.version, _abilities(environment), environment.python)
    for one in config.environments:
        try:
            if one.name in unreached:
                raise unreached[one.name]
            if not one.host:
                configured(one, config.file)
        except EnvironmentMissing as error:  # one that is missing is no reason to hide the others
            table.add_row(one.name, "", f"missing: {error.what}", one.python)
    show(table)


def _abilities(environment: Environment) -> str:
    from harness.errors import HarnessError
    from harness.workers import Worker

    try:
        with Worker(environment, deadline_s=_DEADLINE_S) as worker:
            facts = worker.describe()
    except HarnessError as error:  # one that does not start is no reason to hide the others
        return f"does not start: {error.what}"
    return " and ".join(word for word in ("build", "run") if facts.get(f"can_{word}")) or "neither build nor run"
