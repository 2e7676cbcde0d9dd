"""The series of nightly estimates: how many times faster INT8 is, of one case on one host."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.site.changes import Level, levels
from harness.site.reading import as_mapping, as_number, as_triple, interval_of, labelled, read_traffic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from harness.results.query import Found, Results, Where

__all__ = ["Night", "Series", "all_series"]

_KEPT = 150
"""Nights of each series: what fits a picture."""
_MARKED = {"driver": "driver", "library_version": "runtime", "harness": "harness", "gpu": "GPU"}


@dataclass(frozen=True)
class Night:
    """One session's estimate.

    :param ratio: low end, point and high end.
    :param null: of the log ratio of the baseline to its own copy, with its confidence.
    :param beside: versions and the driver, by name.
    """

    run: str
    time: datetime
    word: str
    ratio: tuple[float, float, float]
    null: tuple[float, float, float] | None
    null_confidence: float | None
    beside: Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """The nights of one case on one host, the oldest first; at least one."""

    case: str
    host: str
    model: str
    runtime: str
    label: str
    nights: tuple[Night, ...]

    @functools.cached_property
    def levels(self) -> list[Level]:
        """Where its level changed."""
        return levels([night.ratio[1] for night in self.nights])

    @property
    def marks(self) -> list[tuple[datetime, str]]:
        """What was another one than the night before: driver, runtime, harness, GPU."""
        found = []
        for before, now in zip(self.nights, self.nights[1:], strict=False):
            said = [
                f"{name} {now.beside[key]}"
                for key, name in _MARKED.items()
                if now.beside.get(key) and before.beside.get(key) and now.beside[key] != before.beside[key]
            ]
            if said:
                found.append((now.time, ", ".join(said)))
        return found


def all_series(results: Results, where: Where) -> dict[tuple[str, str], Series]:
    """Case and host -> its nights, as many as are drawn. Sessions without an estimate are left out."""
    found: dict[tuple[str, str], list[tuple[Found, Mapping[str, str | None], Night]]] = {}
    for one, beside in read_traffic(results, where, _KEPT):
        night = _night(one, beside, as_mapping(one.values().get("session")))
        if night is not None:
            found.setdefault((one.case or "", one.host or ""), []).append((one, beside, night))
    series = {}
    for (case, host), nights in found.items():
        last, beside, _ = nights[-1]
        label = labelled({**beside, "precision": last.precision})
        made = tuple(night for *_, night in nights)
        series[case, host] = Series(case, host, last.model or "", last.runtime or "", label, made)
    return series


def _night(one: Found, beside: Mapping[str, Any], session: Mapping[str, Any]) -> Night | None:
    ratio = interval_of(as_mapping(session.get("ratio")))
    if ratio is None:
        return None
    null = as_mapping(as_mapping(session.get("null")).get("interval"))
    kept = {key: str(beside[key]) for key in _MARKED if beside.get(key)}
    return Night(
        run=one.run,
        time=one.time,
        word=one.verdict,
        ratio=ratio,
        null=as_triple([null.get(name) for name in ("low", "point", "high")]),
        null_confidence=as_number(null.get("confidence")),
        beside=kept,
    )
