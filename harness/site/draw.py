"""Specifications as SVG and PNG, without a browser and without a network."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from harness.site.extra import library
from harness.site.plots import PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.site.plots import Spec

__all__ = ["as_png", "as_svg", "in_page"]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
"""A name, which vl-convert knows; nothing is fetched."""
_FROM = 24
_MOST = 4
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)", "titleColor": "var(--ink)", "gridColor": "var(--grid)",
        "domainColor": "var(--soft)", "tickColor": "var(--soft)", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "titlePadding": 7, "labelSeparation": 8,
    },
    "legend": {
        "labelColor": "var(--ink)", "titleColor": "var(--ink)", "labelFontSize": 12, "labelLimit": 210,
        "orient": "bottom", "columns": 2, "columnPadding": 26, "symbolSize": 70, "symbolOpacity": 1,
        "symbolStrokeWidth": 0,
    },
    "text": {"color": "var(--ink)"},
}  # fmt: skip
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (2.2) takes in no form, escaped or not. A record may hold it, and vl-convert ends its process there."""
_ROOT = re.compile(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"')


def in_page(specs: Sequence[Spec]) -> list[str]:
    """SVG to stand inside a page, each as wide as there is room up to its own width, coloured by the page."""
    texts = [json.dumps(_whole(spec)) for spec in specs]
    workers = min(_MOST, len(os.sched_getaffinity(0)))
    if len(texts) < _FROM or workers < 2:
        return [_inlined(text) for text in texts]
    # Each process has a JavaScript engine of its own, which takes a second to start.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_inlined, texts, chunksize=4))


def as_svg(spec: Spec) -> str:
    """A file of its own, in the light theme."""
    return str(library("vl_convert").vegalite_to_svg(_coloured(spec)))


def as_png(spec: Spec) -> bytes:
    """The same at twice the size in pixels."""
    return bytes(library("vl_convert").vegalite_to_png(_coloured(spec), scale=2))


def _whole(spec: Spec) -> Spec:
    padding = {"left": 16, "right": 8, "top": 6, "bottom": 6}
    whole: Spec = _allowed({"$schema": _SCHEMA, "padding": padding, **spec, "config": _CONFIG})
    return whole


def _allowed(value: Any) -> Any:  # noqa: ANN401 - JSON
    """With U+FFFD in place of each sign that XML forbids, in names and values."""
    if isinstance(value, dict):
        return {_allowed(name): _allowed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_allowed(one) for one in value]
    return _FORBIDDEN.sub("\ufffd", value) if isinstance(value, str) else value


def _coloured(spec: Spec) -> Mapping[str, Any]:
    values: Spec = _replaced({**_whole(spec), "background": "var(--paper)"})
    return values


def _replaced(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Whole strings alone: a name that holds such text stays what it is."""
    if isinstance(value, dict):
        return {name: _replaced(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one) for one in value]
    if isinstance(value, str) and value.startswith("var("):
        return PALETTE.get(value[4:-1], value)
    return value


def _inlined(text: str) -> str:
    svg = str(library("vl_convert").vegalite_to_svg(json.loads(text)))
    found = _ROOT.match(svg)
    width = found[1] if found else "600"
    return svg.replace("<svg ", f'<svg role="img" style="max-width:{width}px" ', 1)
