"""``harness models``: the catalogue's models and the configured ones."""

from __future__ import annotations

import click

from harness.commands.console import show

__all__ = ["models"]


@click.command()
def models() -> None:
    """List the catalogue's models and your configured ones."""
    from rich.table import Table

    from harness.commands.configured import configured_models
    from harness.spec.config import find_config
    from harness.spec.shapes import length_buckets

    entries = configured_models(find_config())
    table = Table("model", "axis", "range", "opt", "length buckets (min-opt-max)", "score")
    for key, entry in entries.items():
        model = entry.model
        axes = ", ".join(f"{axis.input}:{axis.dim}" for axis in model.axes)
        table.add_row(
            key,
            f"{axes} = {model.axis_name}",
            f"{model.minimum}..{model.maximum}",
            str(model.opt),
            "\n".join(map(str, length_buckets(model).profiles)),
            model.score.rpartition(":")[2] or "none",
        )
    show(table)
