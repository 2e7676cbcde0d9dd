"""Searches for the case to ship on a model's page: the answer, every candidate, the layouts that were advised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.site.reading import as_decibels, as_mapping, as_number, as_triple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from harness.results.query import Found

__all__ = ["Best", "Finding", "Layouts", "Part", "Plan", "Tried", "newest_best"]

_RUNGS = ("static", "few samples", "more samples", "short runs", "session")
"""As records name them, the cheapest first."""
_TRAFFIC = "traffic"
_CEILING_DB = 80.0
_NO_INTERVAL = 1e4
"""One launch has no interval; its high end is as high as this or higher."""
_MOST = 200
_FINDINGS = 12
_PLACES = 3


@dataclass(frozen=True)
class Tried:
    """One candidate, or several that one reason rejected before anything of them was measured.

    :param more: how many others stand in this row. :param rung: the last one that it was looked at on.
    :param stage: the rung's number, the cheapest 0; -1 for one that is not known here.
    :param search_db: SQNR on the samples of the search, the mean over buckets; :param test_db: on the test corpus.
    :param speed: how many times faster than FP32 over the traffic; :param interval: the same with its ends, where it
        has some. :param invalid: it was measured by a session that must not be believed.
    :param why: it goes no further.
    """

    name: str
    more: int
    rung: str
    stage: int
    search_db: float | None
    test_db: float | None
    speed: float | None
    interval: tuple[float, float, float] | None
    invalid: bool
    why: str
    shipped: bool


@dataclass(frozen=True)
class Part:
    """The chosen case over the traffic, or in one length bucket: speed by its session, accuracy on the test corpus."""

    name: str
    speed: float | None
    interval: tuple[float, float, float] | None
    ms: float | None
    score: float | None
    sqnr_db: float | None


@dataclass(frozen=True)
class Plan:
    """A layout of so many profiles, under the model of :mod:`harness.best`; times in us.

    :param saved: of the time of the layout with one profile less, as a ratio; None for the layout as given.
    :param changes: of profile, a run. :param total_us: a run with them.
    """

    layout: str
    run_us: float | None
    saved: float | None
    changes: float | None
    total_us: float | None
    advised: bool


@dataclass(frozen=True)
class Layouts:
    """What was said of layouts.

    :param traffic: share -> the length that so much of the traffic does not exceed. :param why: there is no advice.
    :param apart: the layout to take with an execution context for each profile, where that is another one.
    """

    traffic: Mapping[str, float]
    why: str
    plans: tuple[Plan, ...]
    apart: str


@dataclass(frozen=True)
class Finding:
    """What limits the nearest case."""

    severity: str
    kind: str
    what: str
    where: str
    todo: str


@dataclass(frozen=True)
class Best:
    """The newest search of a model for one runtime on one host.

    :param goal: each thing that was asked, as ``--goal`` takes it. :param word: ``met``, ``open``, ``not met``.
    :param ship: the case to ship, or the nearest to it, without model and runtime; empty where there is none.
    :param invalid: the session of the case to ship must not be believed.
    """

    model: str
    runtime: str
    host: str
    run: str
    time: datetime
    word: str
    goal: tuple[str, ...]
    ship: str
    why: str
    unfinished: str
    invalid: bool
    parts: tuple[Part, ...] = field(repr=False)
    tried: tuple[Tried, ...] = field(repr=False)
    layouts: Layouts | None = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)
    notes: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.runtime} on {self.host}" if self.host else self.runtime

    @property
    def cases(self) -> int:
        """How many candidates there were."""
        return sum(1 + one.more for one in self.tried)


def newest_best(found: Iterable[Found]) -> dict[str, list[Best]]:
    """Model -> its searches, one for each runtime and host, the newest first.

    :param found: records of kind ``best``, the newest first. One without candidates is passed over, and the one before
        it counts.
    :raises ResultsError: a run's file is no longer what it was.
    """
    newest: dict[tuple[str, str, str], Best] = {}
    for one in found:
        key = one.model or "", one.runtime or "", one.host or ""
        if key not in newest and (best := _best(one, one.values())) is not None:
            newest[key] = best
    by_model: dict[str, list[Best]] = {}
    for (model, _, _), best in newest.items():
        by_model.setdefault(model, []).append(best)
    return by_model


def _best(one: Found, values: Mapping[str, Any]) -> Best | None:
    model, runtime = one.model or "", one.runtime or ""
    prefix = f"{model}-{runtime}-"
    ship = _text(values.get("ship"))
    candidates = [
        found for data in _list(values.get("candidates"))[:_MOST] if _text((found := as_mapping(data)).get("case"))
    ]
    if not candidates:
        return None
    chosen = next((data for data in candidates if ship and data["case"] == ship), {})
    return Best(
        model, runtime, one.host or "", one.run, one.time, one.verdict,
        tuple(filter(None, map(_asked, _list(values.get("goal"))))),
        ship.removeprefix(prefix), _text(values.get("why")), _text(values.get("unfinished")),
        _is_invalid(chosen), tuple(_parts(chosen)), tuple(_tried(candidates, ship, one.verdict, prefix)),
        _layouts(as_mapping(values.get("layouts"))),
        tuple(filter(None, map(_finding, _list(values.get("findings"))[:_FINDINGS]))),
        tuple(filter(None, map(_text, _list(values.get("notes"))))),
    )  # fmt: skip


def _asked(data: object) -> str:
    """``speedup=3``, ``long:latency_ms=8``."""
    ask = as_mapping(data)
    bucket, kind, value = _text(ask.get("bucket")), _text(ask.get("kind")), as_number(ask.get("value"))
    where = "" if bucket in {"", _TRAFFIC} else f"{bucket}:"
    return f"{where}{kind}={value:g}" if kind and value is not None else ""


def _tried(candidates: Sequence[Mapping[str, Any]], ship: str, word: str, prefix: str) -> list[Tried]:
    """Those that came farthest first; alike ones in one row."""
    rows: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for number, data in enumerate(sorted(candidates, key=lambda one: (-_stage(one), bool(one.get("rejected"))))):
        rejected = _text(data.get("rejected"))
        measured = any(data.get(name) for name in ("search", "test", "short", "session"))
        alike = rejected and not measured
        rows.setdefault((_stage(data), rejected) if alike else (number,), []).append(data)
    return [_row(same, ship, word, prefix) for same in rows.values()]


def _row(same: Sequence[Mapping[str, Any]], ship: str, word: str, prefix: str) -> Tried:
    one = same[0]
    shipped = bool(ship) and one["case"] == ship
    why = _text(one.get("rejected"))
    if not why and shipped:
        why = "the case to ship" if word == "met" else "the nearest"
    elif not why and one["case"].startswith(f"{prefix}fp32"):
        why = "what all are held against"
    elif not why and as_mapping(one.get("session")) and as_mapping(one.get("test")):
        why = "judged; another one is chosen"
    known = as_mapping(one.get("session")) or as_mapping(one.get("short"))
    speed, interval = _speed(known, _TRAFFIC)
    return Tried(
        one["case"].removeprefix(prefix), len(same) - 1, _text(one.get("rung")), _stage(one),
        _decibels(one.get("search")), _decibels(one.get("test")), speed, interval, _is_invalid(one), why, shipped,
    )  # fmt: skip


def _parts(chosen: Mapping[str, Any]) -> list[Part]:
    session, test = as_mapping(chosen.get("session")), as_mapping(chosen.get("test"))
    ratios = as_mapping(session.get("ratio"))
    names = sorted(dict.fromkeys((*ratios, *test)), key=lambda name: name != _TRAFFIC)
    found = []
    for name in names:
        cell = as_mapping(test.get(name))
        speed, interval = _speed(session, name)
        ms = as_triple(as_mapping(session.get("ms")).get(name))
        score, decibels = as_number(cell.get("score")), as_decibels(cell.get("sqnr_db"))
        found.append(Part(name, speed, interval, ms[1] if ms else None, score, decibels))
    return found


def _speed(data: Mapping[str, Any], name: str) -> tuple[float | None, tuple[float, float, float] | None]:
    """How many times faster, and the same with its interval where it has one."""
    ends = as_mapping(data.get("ratio")).get(name)
    known = as_triple(ends)
    if known is None:  # of an end that is no number, the point may be one
        return (as_number(ends[1]) if isinstance(ends, list) and len(ends) == 3 else None), None
    return known[1], known if known[0] < known[2] < _NO_INTERVAL else None


def _stage(data: Mapping[str, Any]) -> int:
    rung = data.get("rung")
    return _RUNGS.index(rung) if rung in _RUNGS else -1


def _is_invalid(data: Mapping[str, Any]) -> bool:
    return as_mapping(data.get("session")).get("word") == "invalid"


def _decibels(buckets: object) -> float | None:
    """The mean over buckets, each at most 80, beyond which it is FP32's own rounding; NaN passes through."""
    cells = [as_decibels(as_mapping(cell).get("sqnr_db")) for cell in as_mapping(buckets).values()]
    known = [cell for cell in cells if cell is not None]
    if any(math.isnan(cell) for cell in known):
        return math.nan
    return math.fsum(max(-_CEILING_DB, min(_CEILING_DB, cell)) for cell in known) / len(known) if known else None


def _layouts(data: Mapping[str, Any]) -> Layouts | None:
    traffic = {
        share: length
        for share, known in as_mapping(data.get("traffic")).items()
        if (length := as_number(known)) is not None
    }
    best, apart, why = (_text(data.get(name)) for name in ("best", "with_a_context_each", "why"))
    single = _plan(as_mapping(data.get("single")), "", given=True)
    plans = [_plan(as_mapping(one), best, given=False) for one in _list(data.get("plans"))[:_MOST]]
    known_plans = tuple(one for one in (single, *plans) if one) if any(plans) else ()
    if not (why or known_plans):
        return None
    shares = {f"{100 * float(share):g} %": length for share, length in traffic.items() if _is_share(share)}
    return Layouts(shares, why, known_plans, apart if apart != best else "")


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _plan(data: Mapping[str, Any], best: str, *, given: bool) -> Plan | None:
    layout = _text(data.get("layout"))
    if not layout:
        return None
    numbers = {name: as_number(data.get(name)) for name in ("expected_us", "saved", "switches", "total_us")}
    return Plan(
        f"{layout} (as given)" if given else layout, numbers["expected_us"], None if given else numbers["saved"],
        numbers["switches"], numbers["total_us"], layout == best,
    )  # fmt: skip


def _finding(data: object) -> Finding | None:
    found = as_mapping(data)
    what = _text(found.get("what"))
    places = [one for one in map(_text, _list(found.get("where"))) if one]
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return Finding(
        _text(found.get("severity")), _text(found.get("kind")), what, ", ".join(places[:_PLACES]) + more,
        _text(found.get("todo")),
    ) if what else None  # fmt: skip


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
