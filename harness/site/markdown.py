"""A summary for a pull request: what is wrong, and the two pictures that matter."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.site.pages import decibels, file_name
from harness.site.words import SIGNS, level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.site.overview import Row
    from harness.site.pages import Figure
    from harness.site.upgrade import Gate

__all__ = ["markdown", "pictures_that_matter", "prefix"]

_ROWS = 20
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;", "\n": " ", "\r": " ", "[": "&#91;",
           "]": "&#93;", "*": "&#42;", "_": "&#95;", "\\": "&#92;"}  # fmt: skip
_ACTIVE = re.compile(r"[@#!~$%&]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Mentions, issues, merge requests, labels, formulas and addresses: a forge looks for them in the text of the finished
page, where an entity is the sign that it stands for. An element of its own parts the sign from what follows it."""


def prefix(file: Path, out: Path, url: str = "") -> str:
    """What stands before a page's or a picture's name: the way from the file to the site, or the site's address.

    :param file: the Markdown. :param out: the site's folder. :param url: where the site will be served.
    """
    if url:
        return url.rstrip("/") + "/"
    way = quote(os.path.relpath(out.resolve(), file.resolve().parent).replace(os.sep, "/"))
    return "" if way == "." else f"{way}/"


def markdown(rows: Sequence[Row], gates: Sequence[Gate], pictures: Sequence[Figure], before: str) -> str:
    """The newest gate, two pictures, and the table of models with the worst first.

    :param rows: of the overview, the worst first. :param gates: the newest first.
    :param pictures: :func:`pictures_that_matter`, which stand as PNG in the site's ``plots/``.
    :param before: :func:`prefix`.
    """
    bad, unproved = (sum(level(row.word) == which for row in rows) for which in ("bad", "open"))
    lines = [f"## INT8: {len(rows)} model and runtime, {bad} failing, {unproved} not proved", ""]
    if gates:
        gate = gates[0]
        sides = f"[{_cell(gate.baseline)} → {_cell(gate.candidate)}]({before}{file_name('gate', gate.run)})"
        lines += [f"Newest gate: {sides}: **{_cell(gate.word)}**", ""]
    for one in pictures:
        title = _cell(one.title)
        lines += [f"**{title}**", "", f"![{title}]({before}plots/{one.name}.png)", ""]
        lines += [f"<sub>{_cell(one.note)}</sub>", ""]
    hosts = len({row.host for row in rows}) > 1
    heads = ["", "model", "runtime", *(["host"] if hosts else []), "INT8 gain", "worst SQNR", "changed"]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows[:_ROWS]:
        db = f"{decibels(row.worst_db)} dB {row.bucket}" if row.worst_db is not None else ""
        cells = [f"{SIGNS[level(row.word)]} {row.word}", row.model, row.runtime, *([row.host] if hosts else []),
                 _gain(row), db, "; ".join(row.changes[:2])]  # fmt: skip
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if len(rows) > _ROWS:
        lines += ["", f"and {len(rows) - _ROWS} more"]
    lines += ["", f"[All pages]({before}index.html)"]
    return "\n".join(lines) + "\n"


def pictures_that_matter(gates: Sequence[Gate], figures: Mapping[str, Figure]) -> list[Figure]:
    """Two of them at the most: the newest gate's ratios, and the gains; without one of these, a model's times.

    :param gates: the newest first. :param figures: by name.
    """
    gate = [file_name("gate", gates[0].run).removesuffix(".html") + "-forest"] if gates else []
    latency = [name for name in figures if name.endswith("-latency")]
    return [figures[name] for name in (*gate, "gains", *latency) if name in figures][:2]


def _gain(row: Row) -> str:
    if row.gain is None:
        return "invalid" if row.invalid else ""
    old = f" of {row.gain_of:%Y-%m-%d %H:%M}" if row.gain_of else ""
    return f"{row.gain[1]:.2f}x [{row.gain[0]:.2f}, {row.gain[2]:.2f}]{old}"


def _cell(text: str) -> str:
    """Names come from files: nothing of them may be markup, a mention, an address, or end the row."""
    text, found, end = text[:300], [], 0
    for one in _ACTIVE.finditer(text):
        found += [_escaped(text[end : one.start()]), f"<span>{_escaped(one[0])}</span>"]
        end = one.end()
    return "".join([*found, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(_MARKUP.get(sign, sign) for sign in text)
