"""The page of trends: nightly estimates, where their level changed, and how often this runner would cry wolf."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.site.pages import Figure, Page, file_name
from harness.site.plots import history
from harness.site.reading import as_mapping, as_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.results.query import Found, Results, Where
    from harness.site.nights import Series

__all__ = ["Runner", "history_page", "runners", "self_tests"]

_DRAWN = 16
_LISTED = 400
_RARE = 0.01
_USUAL = 0.95
"""Confidence of an interval that does not say."""


@dataclass(frozen=True)
class Runner:
    """What a host's null controls say: A' is a second copy of the baseline, so it should differ from it in nothing.

    :param sessions: that had one. :param apart: whose interval leaves out "no difference". :param expected: how many
        would, if there is none: the sum of what their confidences leave. :param invalid: that were called invalid.
    """

    host: str
    sessions: int
    apart: int
    expected: float
    invalid: int

    @property
    def word(self) -> str:
        """``more than chance`` where fewer than one honest runner in a hundred would have as many, by Poisson's law."""
        rate = max(self.expected, 1e-9)
        fewer = sum(math.exp(n * math.log(rate) - rate - math.lgamma(n + 1)) for n in range(self.apart))
        return "more than chance" if 1 - fewer < _RARE else "as expected"


def runners(series: Iterable[Series]) -> list[Runner]:
    """One a host, of the sessions that are drawn."""
    sessions: Counter[str] = Counter()
    apart: Counter[str] = Counter()
    expected: defaultdict[str, float] = defaultdict(float)
    invalid: Counter[str] = Counter()
    for one in series:
        for control in one.controls:
            if control.null:
                sessions[one.host] += 1
                apart[one.host] += not control.null[0] <= 0 <= control.null[2]
                expected[one.host] += 1 - (_USUAL if control.confidence is None else control.confidence)
                invalid[one.host] += control.invalid
    return [Runner(host, count, apart[host], expected[host], invalid[host]) for host, count in sorted(sessions.items())]


def self_tests(results: Results, where: Where) -> list[tuple[Found, str, float | None]]:
    """The newest ``harness selftest`` of each host: its record, and how often equal code was called slower."""
    condition, parameters = where.sql()
    rows = results.select(
        "SELECT file, line, byte_offset, byte_length, time, kind, case_id, model, runtime, precision, bucket, verdict,"  # noqa: S608
        f" host, historical FROM records WHERE kind = 'selftest' AND {condition}"
        " QUALIFY row_number() OVER (PARTITION BY host ORDER BY time DESC) = 1",
        parameters,
    )
    from harness.results.query import Found

    found = [Found(results.folder / row[0], *row[1:]) for row in rows]
    return [(one, one.host or "", _false_alarms(one.values())) for one in found]


def _false_alarms(values: Mapping[str, object]) -> float | None:
    return as_number(as_mapping(as_mapping(as_mapping(values.get("ours")).get("aa")).get("rates")).get("regression"))


def history_page(
    series: Sequence[Series], tests: Sequence[tuple[Found, str, float | None]], shown: frozenset[str]
) -> Page:
    """The page: series whose level changed are drawn, then the longest of the others, as many as there is room for."""
    long = [one for one in series if len(one.nights) > 1]
    order = sorted(long, key=lambda one: (-_step(one), -len(one.nights), one.case, one.host))
    figures: dict[str, Figure] = {}
    for one in order[:_DRAWN]:
        figure = _figure(one)
        figures[figure.name] = figure
    rows = [
        {"one": one, "changes": len(one.levels) - 1, "word": _word(one),
         "invalid": sum(control.invalid for control in one.controls),
         "drawn": name if (name := _name(one)) in figures else "", **_newest_change(one)}
        for one in order[:_LISTED]
    ]  # fmt: skip
    context = {
        "rows": rows, "more": len(order) - _LISTED, "runners": runners(series), "tests": tests, "shown": shown,
        "hosts": len({one.host for one in series}) > 1, "drawn": list(figures),
        "words": sorted({row["word"] for row in rows}),
    }  # fmt: skip
    return Page("history.html", "history", "History", context, figures)


def _newest_change(one: Series) -> dict[str, Any]:
    if len(one.levels) < 2:
        return {"step": None, "since": None}
    before, now = one.levels[-2:]
    return {"step": now.ratio / before.ratio, "since": one.nights[now.begin].time}


def _step(one: Series) -> float:
    """How large the newest change of level is, as a ratio minus 1; 0 without one."""
    return abs(one.levels[-1].ratio / one.levels[-2].ratio - 1) if len(one.levels) > 1 else 0.0


def _word(one: Series) -> str:
    """What the newest change of level did to the gain."""
    if len(one.levels) < 2:
        return "steady"
    return "gain rose" if one.levels[-1].ratio > one.levels[-2].ratio else "gain fell"


def _name(one: Series) -> str:
    return file_name("history", one.case, one.host).removesuffix(".html")


def _figure(one: Series) -> Figure:
    nights = one.nights
    points = [
        {"time": night.time.isoformat(), "low": night.ratio[0], "ratio": night.ratio[1], "high": night.ratio[2]}
        for night in nights
    ]
    segments = [
        {"begin": nights[level.begin].time.isoformat(), "end": nights[level.end - 1].time.isoformat(),
         "level": level.ratio} for level in one.levels
    ]  # fmt: skip
    marks = [{"time": time.isoformat(), "what": what} for time, what in one.marks]
    host = f" on {one.host}" if one.host else ""
    changes = len(one.levels) - 1
    note = f"{len(nights)} runs, {changes or 'no'} change{'s' * (changes != 1)} of level."
    if invalid := sum(control.invalid for control in one.controls):
        note += f" Without {invalid} that {'was' if invalid == 1 else 'were'} invalid."
    return Figure(_name(one), f"{one.model} {one.label}, {one.runtime}{host}", note, history(points, segments, marks))
