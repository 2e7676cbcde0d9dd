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

__all__ = ["Control", "Night", "Series", "all_series", "is_invalid"]

_KEPT = 150
"""Nights of each series: what fits a picture."""
_MARKED = {"driver": "driver", "library_version": "runtime", "harness": "harness", "gpu": "GPU"}


@dataclass(frozen=True)
class Night:
    """The estimate of one session that is valid.

    :param ratio: low end, point and high end. :param beside: versions and the driver, by name.
    """

    run: str
    time: datetime
    ratio: tuple[float, float, float]
    beside: Mapping[str, str]


@dataclass(frozen=True)
class Control:
    """What one session says of itself, valid or not.

    :param null: of the log ratio of the baseline to its own copy; None where it has none. :param confidence: of it.
    """

    time: datetime
    invalid: bool
    null: tuple[float, float, float] | None
    confidence: float | None


@dataclass(frozen=True)
class Series:
    """The nights of one case on one host, the oldest first.

    :param nights: those that gave an estimate. :param controls: of these and of the invalid ones; at least one.
    """

    case: str
    host: str
    model: str
    runtime: str
    label: str
    nights: tuple[Night, ...]
    controls: tuple[Control, ...]

    @property
    def ends_invalid(self) -> bool:
        """Whether the newest session is invalid: there is no gain now, whatever older ones said."""
        return self.controls[-1].invalid

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
    """Case and host -> its nights, as many as are drawn. Sessions that say nothing are left out.

    Of an invalid session its control counts and its estimate does not.
    """
    found: dict[tuple[str, str], list[tuple[Found, Mapping[str, str | None], Night | None, Control]]] = {}
    for one, beside in read_traffic(results, where, _KEPT):
        session = as_mapping(one.values().get("session"))
        control = _control(one, session)
        night = None if control.invalid else _night(one, beside, session)
        if night or control.invalid or control.null:
            found.setdefault((one.case or "", one.host or ""), []).append((one, beside, night, control))
    series = {}
    for (case, host), sessions in found.items():
        last, beside, *_ = sessions[-1]
        label = labelled({**beside, "precision": last.precision})
        nights = tuple(night for _, _, night, _ in sessions if night)
        controls = tuple(control for *_, control in sessions)
        series[case, host] = Series(case, host, last.model or "", last.runtime or "", label, nights, controls)
    return series


def is_invalid(verdict: str, session: Mapping[str, Any]) -> bool:
    """Whether a session must not be believed: its record, the session or its validity says so.

    A record's verdict may be another one: a speed-up that was asked for and is not proved is ``not proved``.
    """
    return "invalid" in [verdict, session.get("word"), session.get("verdict")]


def _control(one: Found, session: Mapping[str, Any]) -> Control:
    null = as_mapping(as_mapping(session.get("null")).get("interval"))
    return Control(
        time=one.time,
        invalid=is_invalid(one.verdict, session),
        null=as_triple([null.get(name) for name in ("low", "point", "high")]),
        confidence=as_number(null.get("confidence")),
    )


def _night(one: Found, beside: Mapping[str, Any], session: Mapping[str, Any]) -> Night | None:
    ratio = interval_of(as_mapping(session.get("ratio")))
    if ratio is None:
        return None
    kept = {key: str(beside[key]) for key in _MARKED if beside.get(key)}
    return Night(run=one.run, time=one.time, ratio=ratio, beside=kept)
