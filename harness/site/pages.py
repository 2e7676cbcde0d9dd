"""A page: its file, its template and what stands in it; and how it is written.

Everything that comes from a record is text: templates escape it, and a page's Content-Security-Policy lets nothing run
but the one script whose hash it names, and nothing be fetched.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
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

__all__ = ["Figure", "Page", "decibels", "file_name", "render", "write_text"]

_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_LIKE_A_DIGEST = re.compile(r"-[0-9a-f]{8}\Z")
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


def file_name(kind: str, *names: str) -> str:
    """``model-wave.html``. What is no plain word of small letters gets a digest, so that two of them are two files.

    On file systems that do not tell capitals from small letters, too; and what looks like a name with a digest gets
    one of its own. Several names together always have one: where one ends and the next begins would be lost.
    """
    name = "-".join(names)
    plain = _ODD.sub("-", name)[:_LONGEST]
    if len(names) > 1 or plain != name or plain != plain.lower() or _LIKE_A_DIGEST.search(plain):
        whole = name if len(names) == 1 else json.dumps(names)
        plain += f"-{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
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
        "decibels": decibels,
        "sortable": _sortable,
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


def decibels(ratio: float | None) -> str:
    """``12.3``, ``NaN``, ``-inf``: a ratio that is no number is not left out, it says the most."""
    if ratio is None:
        return ""
    return "NaN" if math.isnan(ratio) else f"{ratio:.1f}"


def _sortable(ratio: float | None) -> str:
    """What a column is sorted by: NaN below all, and the infinities where they belong."""
    if ratio is None:
        return ""
    return "-1e301" if math.isnan(ratio) else f"{min(max(ratio, -1e300), 1e300):g}"


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
