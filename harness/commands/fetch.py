"""``harness fetch``: everything that models need, so that they work offline afterwards."""

from __future__ import annotations

import click

from harness.commands.console import note, show

__all__ = ["fetch"]


@click.command()
@click.argument("keys", metavar="[MODEL]...", nargs=-1)
def fetch(keys: tuple[str, ...]) -> None:
    """Fetch models and their data for offline use.

    Without MODEL: those of the whole catalogue, and what the harness's own tests need.
    """
    from harness.commands.configured import configured_models
    from harness.corpus.registry import catalogue_fetcher, pick
    from harness.spec.config import find_config

    config = find_config()
    chosen = pick(configured_models(config), keys, "fetch")
    for number, entry in enumerate(chosen, start=1):
        key = entry.model.key
        note(f"[{number}/{len(chosen)}] {key}")
        path = entry.onnx()
        first = next(iter(entry.samples("calibration", 0)), None)  # brings what the data are made from
        show(f"{key}: {path} ({path.stat().st_size / 1e6:.1f} MB){'' if first else ', no data'}")
    rest = None if keys else catalogue_fetcher(config)
    if rest is not None:
        note("what the tests need")
        rest()
    if chosen:
        note(f"next: pytest suites/{' --models ' * bool(keys)}{','.join(keys)}, which needs no network now")
