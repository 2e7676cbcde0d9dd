"""``harness models``: the catalogue's models and the configured ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show, suites_from

if TYPE_CHECKING:
    from harness.corpus.catalogue import Entry

__all__ = ["models"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of the table.")
def models(*, as_json: bool) -> None:
    """List the catalogue's models and your configured ones."""
    from rich.table import Table

    from harness.commands.configured import configured_models
    from harness.spec.config import find_config
    from harness.spec.shapes import length_buckets

    entries = configured_models(find_config())
    if as_json:
        show(json.dumps([_plain(key, entry) for key, entry in entries.items()]))
        return
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
    if entries:
        suites = suites_from(Path.cwd())
        note(f"next: pytest {suites} --models {next(iter(entries))}, or harness init MODEL.onnx for one of your own")


def _plain(key: str, entry: Entry) -> dict[str, Any]:
    """What the table shows, and what a model is to be given with."""
    from harness.spec.shapes import length_buckets

    model = entry.model
    return {
        "key": key,
        "axes": [{"input": axis.input, "dim": axis.dim} for axis in model.axes],
        "axis_name": model.axis_name,
        "minimum": model.minimum,
        "opt": model.opt,
        "maximum": model.maximum,
        "length_inputs": list(model.length_inputs),
        "buckets": [{"min": one.min, "opt": one.opt, "max": one.max} for one in length_buckets(model).profiles],
        "score": model.score or None,
        "synthetic": entry.synthetic,
        "ready": entry.ready is not None,
    }
