"""What pytest shows at the end of a run: the tables, and where the records are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.speed import render_speed
from harness.report.table import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from harness.corpus.catalogue import Entry

__all__ = ["write_tables"]


def write_tables(
    terminalreporter: pytest.TerminalReporter,
    records: Sequence[dict[str, Any]],
    entries: Mapping[str, Entry],
    seed: int,
    paths: Sequence[Path],
) -> None:
    """The tables of a run's records of cases; nothing where there are none.

    :param records: those without ``fields``, of a whole gate, say, are in no table.
    :param paths: the run's files.
    """
    if not records:
        return
    records = [one for one in records if one.get("fields")]
    width = max(100, terminalreporter._tw.fullwidth)  # noqa: SLF001 - pytest offers no other way to it
    terminalreporter.write_line("")
    for line in (*render(records, entries, width=width, seed=seed), *render_speed(records, entries, width=width)):
        terminalreporter.write_line(line)
    near = [_from_here(path) for path in paths]
    for path in near:
        terminalreporter.write_line(f"records: {path}")
    if len(near) == 1:
        command = shlex.join(["harness", "results", "--results", str(near[0].parent), "show", near[0].stem])
        terminalreporter.write_line(f"next: {command}")


def _from_here(path: Path) -> Path:
    """As one would type it: without the way to the working directory, where it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
