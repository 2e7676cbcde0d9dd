"""What commands print with: results on stdout, progress and errors on stderr; colours only on a terminal."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report.visible import Visible, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from harness.report.live import View
    from harness.report.pace import Pace

__all__ = ["complain", "following", "note", "progress", "show", "steps", "suites_from"]

_PIPED_WIDTH = 100
_PLAIN_STEPS = 4


def complain(message: str) -> None:
    """``harness: MESSAGE`` on stderr, its line breaks kept, never wrapped."""
    from rich.text import Text

    text = Text("harness: ", style="bold red").append(visible(message), style="default not bold")
    _errors().print(text, soft_wrap=True)


def note(message: str) -> None:
    """One line on stderr, for what is worth knowing but is not the result."""
    from rich.text import Text

    _errors().print(Text(visible(message)), soft_wrap=True)


def show(what: RenderableType) -> None:
    """A table on stdout, as wide as the terminal or 100 columns; or a line, never wrapped; :func:`visible`."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_PIPED_WIDTH)
    if isinstance(what, str):
        console.print(visible(what), soft_wrap=True)
    else:
        console.print(Visible(what))


def suites_from(folder: Path) -> str:
    """The suites' folder in a command that is typed in ``folder``: ``suites/`` in the checkout, else all of it."""
    suites = Path(__file__).parents[2] / "suites"
    return "suites/" if folder.absolute() == suites.parent or not suites.is_dir() else str(suites)


@contextmanager
def steps(what: str) -> Iterator[Callable[[str], None]]:
    """One live line on stderr that says which step is being done; the value is to be called before each one.

    Where stderr is no terminal: a plain line whenever another kind of step begins, the word before its colon.
    """
    console = _errors()
    if console.is_terminal and not console.is_dumb_terminal:
        from rich.text import Text

        with console.status(Text(visible(what))) as status:
            yield lambda step: status.update(Text(visible(f"{what}: {step}")))
        return
    said = ""

    def step(text: str) -> None:
        nonlocal said
        if (kind := text.partition(":")[0]) != said:
            said = kind
            note(f"{what}: {kind}")

    yield step


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on stderr while something is done; the value is to be called after each step.

    Where stderr is no terminal: a plain line after every quarter of ``total``, and one at the end.

    :param total: steps; None where nobody knows.
    """
    console = _errors()
    if console.is_terminal and not console.is_dumb_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if total and done < total and done * _PLAIN_STEPS // total > (done - 1) * _PLAIN_STEPS // total:
            note(f"{what}: {done} of {total}")

    yield step
    note(f"{what}: {done} done")


@contextmanager
def following(pace: Pace) -> Iterator[View]:
    """How far a long run is, on stderr: at the bottom of a terminal, elsewhere a line of text at each step."""
    import sys

    from harness.report.live import Bottom, Plain, takes_bottom

    view: View = Bottom(sys.stderr) if takes_bottom(sys.stderr) else Plain(note, every_s=0)
    try:
        view.show(pace, "")
        yield view
    finally:
        view.close()


@cache
def _errors() -> Console:
    # One for all: a line printed while a bar is shown goes above it.
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)
