"""A page: its file, its template and what stands in it; and how it is written.

Everything that comes from a record is text: templates escape it, and a page's Content-Security-Policy lets nothing run
but the one script whose hash it names, and nothing be fetched.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from harness.errors import WriteFailed
from harness.site.extra import library
from harness.site.words import SIGNS, level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import jinja2

    from harness.site.plots import Spec

__all__ = ["Figure", "Page", "file_name", "render", "write_text"]

_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST = 80


@dataclass(frozen=True)
class Figure:
    """A picture: a file's name without its ending, what it shows, how to read it."""

    name: str
    title: str
    note: str
    spec: Spec = field(repr=False)


@dataclass(frozen=True)
class Page:
    """One HTML file.

    :param path: its name in the site's folder. :param template: without ``.html``.
    :param context: what the template asks for. :param figures: by the key that the template asks for.
    """

    path: str
    template: str
    title: str
    context: Mapping[str, Any] = field(repr=False)
    figures: Mapping[str, Figure] = field(default_factory=dict, repr=False)


def file_name(kind: str, name: str) -> str:
    """``model-wave.html``. A name that is no plain word gets a digest, so that two of them are two files."""
    plain = _ODD.sub("-", name)[:_LONGEST]
    if plain != name:
        plain += f"-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return f"{kind}-{plain}.html"


def render(page: Page, svgs: Mapping[str, str], common: Mapping[str, Any]) -> str:
    """The page as HTML.

    :param svgs: by figures' names. :param common: what every page has.
    """
    from markupsafe import Markup

    environment = _environment()
    script, style = (resources.files("harness.site").joinpath("assets", name).read_text("utf-8")
                     for name in ("site.js", "site.css"))  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    figures = {
        key: {"title": one.title, "note": one.note, "name": one.name, "svg": Markup(svgs[one.name])}  # noqa: S704
        for key, one in page.figures.items()
    }
    text: str = environment.get_template(f"{page.template}.html").render(
        **common,
        **page.context,
        title=page.title,
        path=page.path,
        figures=figures,
        script=Markup(script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script_digest=digest,
    )
    return text


@functools.cache
def _environment() -> jinja2.Environment:
    loaded = library("jinja2")
    made: jinja2.Environment = loaded.Environment(
        loader=loaded.PackageLoader("harness.site"),
        autoescape=True,
        undefined=loaded.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "level": level,
        "sign": lambda word: SIGNS[level(word)],
        "when": _when,
        "times": _times,
        "significant": _significant,
        "file": file_name,
    }
    made.tests["there"] = lambda value: value is not None
    return made


def _when(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _times(ratio: Sequence[float] | None) -> str:
    """``1.62x [1.58, 1.66]``."""
    return f"{ratio[1]:.2f}x [{ratio[0]:.2f}, {ratio[2]:.2f}]" if ratio else ""


def _significant(number: float | None, digits: int = 3) -> str:
    """Three digits that count, no exponent for what people read: ``1234``, ``12.3``, ``0.0123``."""
    if number is None:
        return ""
    text = f"{number:.{digits}g}"
    return f"{number:,.0f}" if "e+" in text or abs(number) >= 10 ** (digits - 1) else text


def write_text(path: Path, text: str) -> None:
    """As UTF-8; half of a surrogate pair, which a record may hold, becomes a question mark.

    :raises WriteFailed: there is no room or no permission.
    """
    write_bytes(path, text.encode("utf-8", "replace"))


def write_bytes(path: Path, content: bytes) -> None:
    """:raises WriteFailed: there is no room or no permission."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise WriteFailed(
            f"cannot be written: {error.strerror}", where=str(path), todo="make room, or name another folder by --out"
        ) from error
