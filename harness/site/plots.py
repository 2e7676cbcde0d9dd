"""What is drawn, as Vega-Lite specifications: plain JSON, and only the numbers that are seen.

Colours are CSS variables, so that one SVG inside a page serves light and dark; :mod:`harness.site.draw` puts real
colours in for files of their own. Series differ by shape and dash as well as by colour, and every mark says its numbers
in ``description``, which becomes its ``aria-label``.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "PALETTE",
    "Spec",
    "accuracy_by_length",
    "calibrations",
    "forest",
    "histogram",
    "history",
    "latency_by_length",
]

Spec = dict[str, Any]

PALETTE = {
    "--c1": "#0072b2", "--c2": "#d55e00", "--c3": "#00855f", "--c4": "#b14d84", "--c5": "#a06a00", "--c6": "#3a7ca5",
    "--ink": "#1c2126", "--soft": "#5b6672", "--grid": "#dfe3e8", "--bad": "#b3261e",
    "--open": "#8a5a00", "--paper": "#ffffff",
}  # fmt: skip
"""The light theme, as ``site.css`` has it: what files of their own are drawn with. Okabe and Ito's colours, darkened
where text of that colour would be hard to read."""

_SERIES = [f"var(--c{number})" for number in range(1, 7)]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3]]
_WIDTH = 380
_MOST_SERIES = len(_SERIES)
_LOG_FROM = 6.0
_WORDS = ("regression", "below bounds", "failed", "slower", "minor")
_OPEN_WORDS = ("invalid", "inconclusive")
_FINE = "as it should be"
_BINS = 16
_LEAST_DB = 6.0
_RIGHT_FROM = 0.55
_TOLD = 6
_ROWS = 3


def latency_by_length(
    points: Sequence[Mapping[str, Any]],
    axis: str,
    bins: Sequence[Mapping[str, Any]] = (),
    boundaries: Sequence[float] = (),
    crossover: float | None = None,
    said: str = "",
) -> Spec:
    """Curves of time against length with bands of 95 %, the lengths of the corpus under them.

    :param points: ``series``, ``length``, ``ms``, ``low``, ``high`` (ms).
    :param axis: what a length counts.
    :param bins: ``low``, ``high`` (lengths), ``share`` (0 to 1); see :func:`histogram`.
    :param boundaries: lengths where one profile ends and the next begins.
    :param crossover: from this length on INT8 pays, which ``said`` says.
    """
    shown = _first_series(points)
    lengths = [one["length"] for one in shown] + [edge for one in bins for edge in (one["low"], one["high"])]
    x_scale = {"type": "log", "nice": False, "domain": [min(lengths) * 0.95, max(lengths) * 1.05]}
    times = [one[name] for one in shown for name in ("low", "high")]
    y_scale = {"type": "linear", "zero": False}
    if max(times) > _LOG_FROM * min(times):
        y_scale = {"type": "log", "domain": [min(times) * 0.8, max(times) * 1.25], "nice": False}
    x = {"field": "length", "type": "quantitative", "scale": x_scale, "title": axis, "axis": {"tickCount": 6}}
    bare = {**x, "title": None, "axis": {"labels": False, "tickCount": 6, "ticks": False}} if bins else x
    y = {"type": "quantitative", "scale": y_scale, "title": "ms, median"}
    values = [{**one, "said": _said(one)} for one in shown]
    curves = {
        "width": _WIDTH,
        "height": 230,
        "data": {"values": values},
        "layer": [
            *_rules(boundaries, "profile ends", x_scale, "var(--soft)", [2, 3]),
            *_rules([] if crossover is None else [crossover], said, x_scale, "var(--c3)", [1, 0], 16),
            {"mark": {"type": "area", "opacity": 0.16}, "encoding": {
                "x": bare, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": _colour(values)}},
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": {
                "x": bare, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": _colour(values)}},
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {
                "x": bare, "y": {**y, "field": "ms"}, "color": _colour(values),
                "strokeDash": _dash(values)}},
            {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1}, "encoding": {
                "x": bare, "y": {**y, "field": "ms"}, "color": _colour(values), "shape": _shape(values),
                "description": {"field": "said"}}},
        ],
    }  # fmt: skip
    if not bins:
        return curves
    under = {
        "width": _WIDTH,
        "height": 44,
        "data": {"values": [{**one, "said": f"{one['share']:.0%} of samples: {one['low']:.0f} to {one['high']:.0f}"}
                            for one in bins]},
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": {**x, "field": "low"}, "x2": {"field": "high"},
            "y": {"field": "share", "type": "quantitative", "title": "corpus", "scale": {"domainMin": 0},
                  "axis": {"tickCount": 2, "format": ".0%"}}, "y2": {"datum": 0},
            "color": {"value": "var(--soft)"}, "description": {"field": "said"},
        },
    }  # fmt: skip
    return {"vconcat": [curves, under], "spacing": 4}


def histogram(lengths: Sequence[float]) -> list[dict[str, float]]:
    """Lengths counted in bins of equal ratio: ``low``, ``high``, ``share`` (0 to 1), those with samples alone."""
    known = sorted(length for length in lengths if length >= 1)
    if not known:
        return []
    low, high = known[0], max(known[-1], known[0] * 1.01)
    ratio = (high / low) ** (1 / _BINS)
    counts = [0] * _BINS
    for length in known:
        counts[min(_BINS - 1, int(math.log(length / low) / math.log(ratio)))] += 1
    return [
        {"low": low * ratio**number, "high": low * ratio ** (number + 1), "share": count / len(known)}
        for number, count in enumerate(counts)
        if count
    ]


def accuracy_by_length(points: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Spec:
    """SQNR against FP32 in each length bucket.

    :param points: ``series``, ``bucket``, ``sqnr_db``.
    :param order: the buckets, the shortest lengths first.
    """
    values = [
        {**one, "said": f"{one['series']}, {one['bucket']}: {one['sqnr_db']:.1f} dB"} for one in _first_series(points)
    ]
    x = {
        "field": "bucket",
        "type": "ordinal",
        "sort": list(order),
        "title": None,
        "axis": {"labelAngle": 0, "labelLimit": 140},
    }
    y = {"field": "sqnr_db", "type": "quantitative", "title": "SQNR against FP32, dB", "scale": _decibels(values)}
    return {
        "width": _WIDTH,
        "height": 230,
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {
                "x": x, "y": y, "color": _colour(values), "strokeDash": _dash(values)}},
            {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1}, "encoding": {
                "x": x, "y": y, "color": _colour(values), "shape": _shape(values), "description": {"field": "said"}}},
        ],
    }  # fmt: skip


def calibrations(points: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Spec:
    """Ways to calibrate, the best at its worst length first: a point for each length bucket.

    :param points: ``series`` (the way), ``bucket``, ``sqnr_db``. :param order: the buckets, the shortest first.
    """
    worst: dict[str, float] = {}
    for one in points:
        worst[one["series"]] = min(one["sqnr_db"], worst.get(one["series"], math.inf))
    ways = sorted(worst, key=worst.__getitem__, reverse=True)
    values = [{**one, "said": f"{one['series']}, {one['bucket']}: {one['sqnr_db']:.1f} dB"} for one in points]
    names = [name for name in order if any(one["bucket"] == name for one in points)]
    y = {"field": "series", "type": "nominal", "sort": ways, "title": None, "axis": {"labelLimit": 190, "grid": True}}
    x = {"type": "quantitative", "title": "SQNR against FP32, dB", "scale": _decibels(values)}
    return {
        "width": _WIDTH - 110,
        "height": {"step": 22},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {
                "y": y, "x": {**x, "field": "sqnr_db", "aggregate": "min"},
                "x2": {"field": "sqnr_db", "aggregate": "max"},
                "color": {"value": "var(--grid)"}}},
            {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1}, "encoding": {
                "y": y, "x": {**x, "field": "sqnr_db"}, "color": _scaled("bucket", names, _SERIES),
                "shape": _scaled("bucket", names, _SHAPES), "description": {"field": "said"}}},
        ],
    }  # fmt: skip


def forest(rows: Sequence[Mapping[str, Any]], said: str, marks: Mapping[str, float]) -> Spec:
    """Ratios with their intervals, one row each, in the order given; each kind of word has its own mark.

    :param rows: ``row``, ``ratio``, ``low``, ``high``, ``word``.
    :param said: what the ratio is of.
    :param marks: what stands at a vertical line -> the ratio that it stands at.
    """
    looks = {
        _FINE: ("var(--c1)", "circle"),
        "needs a look": ("var(--bad)", "square"),
        "nothing proved": ("var(--open)", "diamond"),
    }
    _, worse, unproved = looks
    values = [
        {**one, "level": worse if one["word"] in _WORDS else unproved if one["word"] in _OPEN_WORDS else _FINE,
         "said": f"{one['row']}: {one['ratio']:.3f} [{one['low']:.3f}, {one['high']:.3f}], {one['word']}"}
        for one in rows
    ]  # fmt: skip
    names = [name for name in looks if any(one["level"] == name for one in values)]
    y = {"field": "row", "type": "nominal", "sort": [one["row"] for one in rows], "axis": None}
    ends = [value for one in rows for value in (one["low"], one["high"])] + list(marks.values())
    scale = {"type": "log", "domain": [min(ends) * 0.98, max(ends) * 1.02], "nice": False}
    lines = ", ".join(f"{label} {at:g}" for label, at in marks.items() if at != 1)
    title = [said, f"(dashed: {lines})"] if lines else said
    x = {"type": "quantitative", "title": title, "scale": scale, "axis": {"tickCount": 6, "format": ".3~g"}}
    colour = _scaled("level", names, [looks[name][0] for name in names])
    return {
        "width": _WIDTH,
        "height": {"step": 36},
        "data": {"values": values},
        "layer": [
            *[
                _rules([at], label, scale, "var(--soft)", [1, 0] if at == 1 else [4, 3])[0]
                for label, at in marks.items()
            ],
            # Names stand above their intervals, not beside the plot: a phone has no room there.
            *_text({"align": "left", "dy": -8, "fontSize": 12, "limit": 0.85 * _WIDTH},
                   {"y": y, "x": {"value": 2}, "text": {"field": "row"}}, "var(--ink)"),
            {"mark": {"type": "rule", "strokeWidth": 2, "yOffset": 7}, "encoding": {
                "y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "point", "size": 70, "filled": True, "opacity": 1, "yOffset": 7}, "encoding": {
                "y": y, "x": {**x, "field": "ratio"}, "color": colour,
                "shape": _scaled("level", names, [looks[name][1] for name in names]),
                "description": {"field": "said"}}},
        ],
    }  # fmt: skip


def history(
    points: Sequence[Mapping[str, Any]], segments: Sequence[Mapping[str, Any]], marks: Sequence[Mapping[str, Any]]
) -> Spec:
    """Nightly estimates with their intervals, the level between change points, and what changed on the machine.

    :param points: ``time`` (ISO 8601), ``ratio``, ``low``, ``high``. :param segments: ``begin``, ``end``, ``level``.
    :param marks: ``time``, ``what``.
    """
    values = [
        {**one, "said": f"{one['time'][:16]}: {one['ratio']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"}
        for one in points
    ]
    x = {"field": "time", "type": "temporal", "title": None, "axis": {"tickCount": 5}}
    y = {"type": "quantitative", "title": "INT8 times faster", "scale": {"zero": False}}
    said = [{**one, "said": f"level {one['level']:.3f}, {one['begin'][:10]} to {one['end'][:10]}"} for one in segments]
    return {
        "width": _WIDTH,
        "height": 180,
        "data": {"values": values},
        "layer": [
            *([{"data": {"values": list(marks)}, "mark": {"type": "rule", "strokeDash": [3, 3]}, "encoding": {
                "x": x, "color": {"value": "var(--soft)"}, "description": {"field": "what"}}},
               *_mark_texts([one["time"] for one in points], marks, x)] if marks else []),
            {"mark": {"type": "rule", "opacity": 0.45}, "encoding": {
                "x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": {"value": "var(--c1)"}}},
            {"mark": {"type": "point", "size": 26, "filled": True, "opacity": 1}, "encoding": {
                "x": x, "y": {**y, "field": "ratio"}, "color": {"value": "var(--c1)"},
                "description": {"field": "said"}}},
            {"data": {"values": said}, "mark": {"type": "rule", "strokeWidth": 2.5}, "encoding": {
                "x": {**x, "field": "begin"}, "x2": {"field": "end"}, "y": {**y, "field": "level"},
                "color": {"value": "var(--c2)"}, "description": {"field": "said"}}},
        ],
    }  # fmt: skip


def _mark_texts(
    times: Sequence[str], marks: Sequence[Mapping[str, Any]], x: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The newest marks in words, each a line lower than the one before, and left of its line near the right edge."""
    begin, end = (datetime.fromisoformat(bound(times)).timestamp() for bound in (min, max))
    for number, mark in enumerate(marks[-_TOLD:]):
        share = (datetime.fromisoformat(mark["time"]).timestamp() - begin) / max(1.0, end - begin)
        right = share > _RIGHT_FROM
        looks = {"align": "right" if right else "left", "dx": -3 if right else 3, "fontSize": 11, "limit": 190}
        height = 8 + 13 * (number % _ROWS)
        for layer in _text(looks, {"x": x, "y": {"value": height}, "text": {"field": "what"}}, "var(--soft)"):
            yield {"data": {"values": [mark]}, **layer}


def _decibels(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A scale at least 6 dB wide: a hundredth of a decibel must not look like a mountain."""
    low, high = (bound(one["sqnr_db"] for one in values) for bound in (min, max))
    spare = max(0.05 * (high - low), (_LEAST_DB - (high - low)) / 2)
    return {"domain": [low - spare, high + spare], "nice": False}


def _first_series(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """More series than can be told apart are none."""
    names = list(dict.fromkeys(one["series"] for one in points))[:_MOST_SERIES]
    return [one for one in points if one["series"] in names]


def _said(one: Mapping[str, Any]) -> str:
    return f"{one['series']}, {one['length']:g}: {one['ms']:.4g} ms [{one['low']:.4g}, {one['high']:.4g}]"


def _rules(
    at: Iterable[float], label: str, scale: Mapping[str, Any], colour: str, dash: Sequence[int], height: int = 2
) -> list[dict[str, Any]]:
    """Vertical lines, the first of them labelled.

    :param height: of the label, from the top, in pixels.
    """
    low, high = scale["domain"]
    values = [{"at": one, "label": label} for one in at if low <= one <= high]
    if not values:
        return []
    x = {"field": "at", "type": "quantitative", "scale": dict(scale)}
    right = math.log(values[0]["at"] / low) > _RIGHT_FROM * math.log(high / low)  # its text would leave the plot
    mark = {"type": "rule", "strokeDash": list(dash), "strokeWidth": 1.2}
    return [
        {"data": {"values": values}, "mark": mark, "encoding": {
            "x": x, "color": {"value": colour}, "description": {"field": "label"}}},
        *({"data": {"values": values[:1]}, **one} for one in _text(
            {"align": "right" if right else "left", "baseline": "top", "dx": -3 if right else 3, "fontSize": 11},
            {"x": x, "y": {"value": height}, "text": {"field": "label"}}, colour)),
    ]  # fmt: skip


def _text(mark: Mapping[str, Any], encoding: Mapping[str, Any], colour: str) -> list[dict[str, Any]]:
    """Text that can be read over lines: the page's colour lies around its letters."""
    mark = {"type": "text", **mark}
    around = {"stroke": "var(--paper)", "strokeWidth": 4, "strokeJoin": "round"}
    return [
        {"mark": {**mark, **around, "aria": False}, "encoding": {**encoding, "color": {"value": "var(--paper)"}}},
        {"mark": mark, "encoding": {**encoding, "color": {"value": colour}}},
    ]


def _colour(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _scaled("series", _names(values), _SERIES)


def _shape(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _scaled("series", _names(values), _SHAPES)


def _dash(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _scaled("series", _names(values), _DASHES)


def _names(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["series"] for one in values))


def _scaled(field: str, names: Sequence[str], span: Sequence[Any]) -> dict[str, Any]:
    scale = {"domain": list(names), "range": list(span[: len(names)])}
    legend = {"legend": None} if names == [_FINE] else {}
    return {"field": field, "type": "nominal", "scale": scale, "title": None, **legend}
