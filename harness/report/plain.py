"""Tables as plain lines: the one style of all that the suites print."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from harness.report.visible import visible

__all__ = ["new_table", "plain_lines"]


def new_table(title: str) -> Table:
    """An empty table: title on the left, one rule below the head."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def plain_lines(*parts: Table | str, width: int) -> list[str]:
    """Tables and texts as lines no wider than ``width``, without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, highlight=False)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in visible(stream.getvalue()).rstrip().splitlines()]
