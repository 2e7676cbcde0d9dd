"""Text of files on a terminal: names, paths and messages must not move its cursor, set its title or colour it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = ["Visible", "visible"]

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: 0x2421} | dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD)
"""Control characters as Unicode's pictures of them; those of C1 and halves of surrogate pairs have none."""


def visible(text: str) -> str:
    """The text with its control characters as pictures (ESC as ``\u241b``); tabs and line breaks stay."""
    return text.translate(_PICTURES)


class Visible:
    """A renderable made :func:`visible` behind all that it does with its cells; its colours are no part of the text."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Called by rich."""
        from rich.segment import Segment

        for text, style, control in console.render(self._what, options):
            yield Segment(text if control else visible(text), style, control)
