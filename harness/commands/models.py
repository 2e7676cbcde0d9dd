"""``harness models``: the catalogue's models and the configured ones."""

from __future__ import annotations

import click

from harness.commands.console import show

__all__ = ["models"]


@click.command()
def models() -> None:
    """List the catalogue's models and your configured ones."""
    from rich.table import Table

    from harness.corpus.registry import load_catalogue
    from harness.errors import UsageError
    from harness.spec.config import find_config
    from harness.spec.shapes import length_buckets

    config = find_config()
    entries = load_catalogue(config)
    if not entries:
        raise UsageError(
            "no models: there is no configuration with a catalogue or [[models]] here or above",
            where=str(config.root),
            todo="run it in a checkout of the harness, or write a harness.toml with [[models]]",
        )
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
