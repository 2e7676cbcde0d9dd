"""One line about a long run: at the bottom of a terminal, or now and then as a line of text.

The bottom row is taken out of what scrolls (DECSTBM, as apt does), so whatever else is printed stays as it is: dots in
the middle of a line, other programs' messages, tables.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import time
from typing import TYPE_CHECKING, Protocol

from harness.report.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.report.pace import Pace

__all__ = ["Bottom", "Plain", "View", "sentence", "takes_bottom"]

_LEAST_ROWS = 6
_EVERY_S = 60.0
_BAR = 20


class View(Protocol):
    """Where the line goes."""

    def show(self, pace: Pace, doing: str) -> None:
        """Say how far it is; ``doing`` is what runs, in a few words."""

    def close(self) -> None:
        """Leave no trace; called more than once it does nothing."""


class _Stream(Protocol):
    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def fileno(self) -> int: ...
    def isatty(self) -> bool: ...


def takes_bottom(stream: _Stream) -> bool:
    """Whether it is a terminal that is tall enough and no dumb one."""
    try:
        return (
            stream.isatty()
            and os.environ.get("TERM", "") not in {"", "dumb"}
            and os.get_terminal_size(stream.fileno()).lines >= _LEAST_ROWS
        )
    except (OSError, ValueError, AttributeError):
        return False


def sentence(pace: Pace, doing: str) -> str:
    """``12 of 48, about 6 min left (14:32): wave-int8 latency``, without colour."""
    return f"{pace.done} of {pace.total}{_end(pace.left_s)}{f': {doing}' if doing else ''}"


def _end(left_s: float | None) -> str:
    if left_s is None:
        return ""
    at = dt.datetime.now().astimezone() + dt.timedelta(seconds=left_s)
    minutes = round(left_s / 60)
    left = f"{minutes} min" if 0 < minutes < 90 else f"{left_s / 3600:.1f} h" if minutes else "less than a minute"
    return f", {'about ' if minutes else ''}{left} left ({at:%H:%M})"


class Plain:
    """A line of text a minute.

    :param write: prints one line. :param every_s: at the least so long after the last one, and after the beginning.
    """

    def __init__(
        self, write: Callable[[str], None], every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._every_s, self._clock = write, every_s, clock
        self._last = clock()

    def show(self, pace: Pace, doing: str) -> None:
        """See :class:`View`."""
        if self._clock() - self._last >= self._every_s:
            self._last = self._clock()
            self._write(sentence(pace, doing))

    def close(self) -> None:
        """See :class:`View`."""


class Bottom:
    """The bottom row of a terminal.

    :param stream: where it is; what else goes to the terminal may use another one.
    """

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._size: os.terminal_size | None = None
        self._shown = ""

    def show(self, pace: Pace, doing: str) -> None:
        """See :class:`View`."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:  # it was closed
            return
        line = _rendered(pace, doing, size.columns - 1)
        if size.lines < _LEAST_ROWS or (size == self._size and line == self._shown):
            return
        begun = ""
        if size != self._size:
            # Down by one first (IND keeps the column), for the cursor may be in the row that is taken; then back up.
            begun = f"\x1bD\x1b[1A\x1b7\x1b[1;{size.lines - 1}r\x1b8"
        self._size, self._shown = size, line
        self._out(f"{begun}\x1b7\x1b[{size.lines};1H\x1b[2K{line}\x1b8")

    def close(self) -> None:
        """See :class:`View`."""
        if self._size is not None:
            self._out(f"\x1b7\x1b[r\x1b[{self._size.lines};1H\x1b[2K\x1b8")
            self._size = None

    def _out(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a terminal that has gone away needs no line
            self._size = None


def _rendered(pace: Pace, doing: str, width: int) -> str:
    """Bar, count, end and what runs, cut to the width; with colours unless NO_COLOR says otherwise."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(width=_BAR)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    bar = ProgressBar(total=max(1, pace.total), completed=pace.done, width=_BAR)
    grid.add_row(bar, sentence(pace, ""), visible(doing))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(grid, end="")
    return captured.get().splitlines()[0].rstrip()
