"""Searches for mixed precision on a model's page: speed kept against accuracy, the chosen file marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.site.pages import Figure
from harness.site.reading import as_mapping, as_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from harness.results.query import Found
    from harness.site.plots import Spec

__all__ = ["File", "Search", "front_figure", "newest_searches"]

_WIDTH = 380
_LEAST_DB = 6.0
_MOST_FILES = 60
_LOOKS = {
    "plain INT8": ("var(--c2)", "square"),
    "front": ("var(--c1)", "circle"),
    "chosen": ("var(--c3)", "diamond"),
}


@dataclass(frozen=True)
class File:
    """One file of a search.

    :param role: ``plain INT8``, ``chosen``, or ``front``.
    :param on_front: no other file is both more right and faster.
    :param kept: share of plain INT8's speed-up over FP32. :param sqnr_db: mean over samples, then over buckets.
    :param in_float: how many operators. :param bounds: ``met``, ``met by score``, ``missed``; empty where the record
        does not say.
    :param buckets: length bucket -> pooled SQNR in dB, score and the score's 95 % interval; None where it has none.
    """

    role: str
    on_front: bool
    kept: float
    sqnr_db: float
    in_float: float | None
    bounds: str
    buckets: Mapping[str, tuple[float | None, float | None, tuple[float, float] | None]] = field(repr=False)


@dataclass(frozen=True)
class Search:
    """The newest search of a model in one dialect on one host.

    :param keep: the least share that was asked for. :param timed: False where shares of the products stand for times.
    """

    model: str
    dialect: str
    host: str
    run: str
    time: datetime
    keep: float | None
    timed: bool
    finished: bool
    files: tuple[File, ...]

    @property
    def name(self) -> str:
        return f"{self.dialect} on {self.host}" if self.host else self.dialect

    @property
    def buckets(self) -> list[str]:
        """The buckets that any file has, in the record's order."""
        return list(dict.fromkeys(name for one in self.files for name in one.buckets))

    @property
    def scored(self) -> bool:
        return any(score is not None for one in self.files for _, score, _ in one.buckets.values())


def newest_searches(found: Iterable[Found]) -> dict[str, list[Search]]:
    """Model -> its searches, one for each dialect and host.

    :param found: records of kind ``mixed``, the newest first. One that does not say what it is of is passed over.
    :raises ResultsError: a run's file is no longer what it was.
    """
    newest: dict[tuple[str, str, str], Search] = {}
    for one in found:
        search = _search(one, one.values())
        if search is not None:
            newest.setdefault((search.model, search.dialect, search.host), search)
    by_model: dict[str, list[Search]] = {}
    for (model, _, _), search in sorted(newest.items()):
        by_model.setdefault(model, []).append(search)
    return by_model


def _search(one: Found, values: Mapping[str, Any]) -> Search | None:
    model, dialect = values.get("model"), values.get("dialect")
    if not (isinstance(model, str) and isinstance(dialect, str)):
        return None
    front = values.get("front")
    wanted = [("plain INT8", values.get("plain")), ("chosen", values.get("reached"))]
    on_front = front[:_MOST_FILES] if isinstance(front, list) else []
    wanted += [("front", data) for data in on_front]
    files: list[File] = []
    seen: list[Any] = []
    for role, data in wanted:
        if role == "chosen" and data in seen:  # plain INT8 was right
            files.clear()
        elif data in seen:
            continue
        seen.append(data)
        made = _file(role, as_mapping(data), on_front=data in on_front)
        files += [made] if made else []
    files.sort(key=lambda file: (-file.kept, file.sqnr_db))
    return Search(
        model, dialect, one.host or "", one.run, one.time, as_number(values.get("keep")),
        values.get("times") == "measured", values.get("finished") is not False, tuple(files),
    ) if files else None  # fmt: skip


def _file(role: str, data: Mapping[str, Any], *, on_front: bool) -> File | None:
    kept, decibels = as_number(data.get("kept")), as_number(data.get("sqnr_db"))
    if kept is None or decibels is None:
        return None
    shortfall, missed = as_number(data.get("shortfall")), as_number(data.get("missed"))
    if shortfall is None:
        bounds = ""
    elif not shortfall:
        bounds = "met"
    else:
        bounds = "" if missed is None else "missed" if missed else "met by score"
    buckets = {name: _cell(as_mapping(cell)) for name, cell in as_mapping(data.get("buckets")).items()}
    return File(role, on_front, kept, decibels, as_number(data.get("in_float")), bounds, buckets)


def _cell(cell: Mapping[str, Any]) -> tuple[float | None, float | None, tuple[float, float] | None]:
    ends = cell.get("score_interval")
    numbers = [as_number(one) for one in ends] if isinstance(ends, list) else []
    interval = None
    if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
        interval = numbers[0], numbers[1]
    return as_number(cell.get("sqnr_db")), as_number(cell.get("score")), interval


def front_figure(stem: str, search: Search) -> Figure:
    """The picture of one search.

    :param stem: the file's name up to here.
    """
    note = "Right is faster, up is more right; files that no other one beats in both, beside plain INT8."
    if not search.timed:
        note += " Nothing was timed: shares of the products stand for times."
    if not search.finished:
        note += " The time was up before the search was finished."
    return Figure(stem, f"Mixed precision, {search.name}", note, _front(search.files, search.keep))


def _front(files: Sequence[File], keep: float | None) -> Spec:
    """Share of plain INT8's speed-up against SQNR, a line along the front."""
    values = [
        {"role": one.role, "on_front": one.on_front, "kept": one.kept, "sqnr_db": one.sqnr_db,
         "said": f"{one.role}: {one.kept:.2f} of the speed-up, {one.sqnr_db:.1f} dB"
                 + (f", {one.in_float:.0f} in float" if one.in_float is not None else "")
                 + (f", bounds {one.bounds}" if one.bounds else "")}
        for one in files
    ]  # fmt: skip
    marks = [keep] if keep else []
    x = _scale([*(one.kept for one in files), *marks], 0.1)
    y = _scale([one.sqnr_db for one in files], _LEAST_DB)
    along = {"field": "kept", "type": "quantitative", "scale": x, "title": "share of plain INT8's speed-up",
             "axis": {"tickCount": 6, "format": ".0%"}}  # fmt: skip
    up = {"field": "sqnr_db", "type": "quantitative", "scale": y, "title": "SQNR against FP32, dB"}
    names = [name for name in _LOOKS if any(one["role"] == name for one in values)]
    colours, shapes = ({"field": "role", "type": "nominal", "title": None,
                        "scale": {"domain": names, "range": [_LOOKS[name][place] for name in names]}}
                       for place in (0, 1))  # fmt: skip
    limit = [{"kept": one, "said": f"asked for: at least {one:.0%}"} for one in marks]
    return {
        "width": _WIDTH,
        "height": 230,
        "data": {"values": values},
        "layer": [
            *([{"data": {"values": limit}, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {
                "x": along, "color": {"value": "var(--soft)"}, "description": {"field": "said"}}}] if limit else []),
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.5}, "transform": [
                {"filter": "datum.on_front"}], "encoding": {
                "x": along, "y": up, "order": {"field": "kept"}, "color": {"value": "var(--c1)"}}},
            {"mark": {"type": "point", "size": 90, "filled": True, "opacity": 1}, "encoding": {
                "x": along, "y": up, "color": colours, "shape": shapes, "description": {"field": "said"}}},
        ],
    }  # fmt: skip


def _scale(numbers: Sequence[float], least: float) -> dict[str, Any]:
    """At least so wide: a hundredth of a decibel must not look like a mountain."""
    low, high = min(numbers), max(numbers)
    spare = max(0.05 * (high - low), (least - (high - low)) / 2)
    return {"domain": [low - spare, high + spare], "nice": False}
