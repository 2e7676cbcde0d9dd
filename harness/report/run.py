"""What pytest shows at the end of a run: the tables, and where the records are."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from harness.report.speed import render_speed
from harness.report.table import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
    for path in paths:
        terminalreporter.write_line(f"records: {path}")
    if len(paths) == 1:
        command = shlex.join(["harness", "results", "--results", str(paths[0].parent), "show", paths[0].stem])
        terminalreporter.write_line(f"next: {command}")
