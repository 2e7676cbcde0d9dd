"""The first page: a row for each model and runtime, what is wrong first; what changed; the newest gates and runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.site.pages import Figure, Page
from harness.site.plots import forest
from harness.site.reading import as_decibels, as_mapping, is_mixed
from harness.site.vanished import comings_and_goings
from harness.site.words import level, rank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from harness.results.query import RunSummary
    from harness.site.nights import Series
    from harness.site.reading import Group
    from harness.site.upgrade import Gate

__all__ = ["SCORED", "Row", "accuracy_of", "judged", "overview", "rows_of", "sections", "worst_of"]

SCORED = ("accuracy", "calibration")
"""Kinds of records that say what was lost over the test corpus, by length bucket."""

_TREND = 24
_WITH_TREND = 400
_CHANGES = 12
_GATES = 10
_RUNS = 12
_FOREST = 16
_TREND_WIDTH, _TREND_HEIGHT = 84, 22


@dataclass(frozen=True)
class Row:
    """A model on a runtime and a host, by its newest records.

    :param word: the worst of what was judged. :param why: where that word stands.
    :param gain: how many times faster INT8 is, of the case that ``label`` names: low end, point, high end. None, too,
        where its newest session is ``invalid``.
    :param gain_of: when it was measured, where that was in an older run than the row's newest.
    :param worst_db: SQNR of the same case in its worst length bucket, ``bucket``: NaN is worse than anything.
    :param trend: the newest ratios, the oldest first.
    :param changes: what is another word than in the run before, what is new, and what is gone.
    """

    model: str
    runtime: str
    host: str
    word: str
    why: str
    time: datetime
    cases: int
    gain: tuple[float, float, float] | None = None
    gain_of: datetime | None = None
    invalid: bool = False
    label: str = ""
    worst_db: float | None = None
    bucket: str = ""
    trend: tuple[float, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def polyline(self) -> str:
        """The trend as points of an SVG polyline; empty for less than two."""
        if len(self.trend) < 2:
            return ""
        low, high = min(self.trend), max(self.trend)
        span = max(high - low, 0.02 * high)
        step = (_TREND_WIDTH - 6) / (len(self.trend) - 1)
        bottom = (low + high - span) / 2
        height = _TREND_HEIGHT - 6
        return " ".join(
            f"{3 + number * step:.0f},{3 + height * (1 - (value - bottom) / span):.1f}"
            for number, value in enumerate(self.trend)
        )

    @property
    def end(self) -> list[str]:
        """Where the polyline ends."""
        return self.polyline.rpartition(" ")[2].split(",")


def sections(groups: Iterable[Group]) -> dict[tuple[str, str, str], list[Group]]:
    """Records by model, runtime and host."""
    found: dict[tuple[str, str, str], list[Group]] = {}
    for group in groups:
        found.setdefault((group.model, *group.place), []).append(group)
    return found


def judged(groups: Sequence[Group]) -> list[Group]:
    """Without the ways to calibrate that stand beside the default only to be compared.

    Those are ``compared``; and below bounds, where another method or policy is the one that was timed. Suites time the
    first layout alone: other layouts count. What failed always does. Drawn examples without bounds of their own are
    ``unjudged``, and decide nothing beside what was judged. Mixed precision was asked for by name: it always counts,
    and its times say nothing of which way of plain INT8 is the default.
    """
    ways = {_way(group) for group in groups if group.kind == "latency" and not is_mixed(group.fields)}
    return [group for group in groups if not _is_beside(group, ways)]


def _way(group: Group) -> tuple[str | None, str | None]:
    return group.fields["method"], group.fields["policy"]


def _is_beside(group: Group, timed: Collection[tuple[str | None, str | None]]) -> bool:
    """:param timed: methods and policies."""
    if group.word == "compared" or (group.kind == "drawn" and group.word == "unjudged"):
        return True
    if group.kind == "calibration" and level(group.word) == "plain":
        return True
    plain = group.fields["precision"] == "int8" and not is_mixed(group.fields)
    return plain and bool(timed) and _way(group) not in timed and group.word == "below bounds"


def rows_of(groups: Sequence[Group], series: Mapping[tuple[str, str], Series]) -> list[Row]:
    """One row a model, runtime and host; the worst first, then the newest."""
    moved = comings_and_goings(groups)
    rows = [_row(key, mine, series, moved.get(key, [])) for key, mine in sections(groups).items()]
    return sorted(rows, key=lambda row: (rank(row.word), -row.time.timestamp(), row.model, row.runtime, row.host))


def _row(
    key: tuple[str, str, str], groups: Sequence[Group], series: Mapping[tuple[str, str], Series], moved: Sequence[str]
) -> Row:
    model, runtime, host = key
    mine = judged(groups) or list(groups)
    bad = min(mine, key=lambda group: rank(group.word))
    newest = max(groups, key=lambda group: group.time)
    where = " ".join(filter(None, (bad.label, bad.kind, bad.bucket)))
    timed = [series[group.case, host] for group in mine if group.bucket == "traffic" and (group.case, host) in series]
    case = max(timed, key=_gain_now, default=None)
    night = case.nights[-1] if case and case.nights and not case.ends_invalid else None
    accuracies = [
        (group, found) for group in mine if group.fields["precision"] == "int8" and (found := accuracy_of(group))
    ]
    of_case = [found for group, found in accuracies if case is None or group.case == case.case]
    bucket, db = worst_of([one for found in of_case for one in found.items()])
    return Row(
        model=model,
        runtime=runtime,
        host=host,
        word=bad.word,
        why=where,
        time=newest.time,
        cases=len({group.case for group in groups}),
        gain=night.ratio if night else None,
        gain_of=night.time if night and night.run != newest.run else None,
        invalid=bool(case and case.ends_invalid),
        label=case.label if case else "",
        worst_db=db,
        bucket=bucket,
        trend=tuple(one.ratio[1] for one in case.nights[-_TREND:]) if case else (),
        changes=(*_changes(mine), *(_gain_changed(case) if case else ()), *moved),
    )


def _gain_now(series: Series) -> float:
    """By its newest session; 0 where that is invalid."""
    return 0.0 if series.ends_invalid or not series.nights else series.nights[-1].ratio[1]


def _changes(groups: Iterable[Group]) -> list[str]:
    return [
        f"{' '.join(filter(None, (group.label, group.kind, group.bucket)))}: {group.previous} → {group.word}"
        for group in groups
        if group.previous is not None and group.previous != group.word
    ]


def _gain_changed(series: Series) -> list[str]:
    """Where the newest interval and the one before have nothing in common."""
    if len(series.nights) < 2 or series.ends_invalid:
        return []
    before, now = (night.ratio for night in series.nights[-2:])
    apart = now[0] > before[2] or now[2] < before[0]
    return [f"{series.label}: INT8 {before[1]:.2f}x → {now[1]:.2f}x faster"] if apart else []


def worst_of(decibels: Iterable[tuple[str, float]]) -> tuple[str, float | None]:
    """The worst length bucket and its SQNR, NaN before all others; an empty name and None of none."""
    found = min(decibels, key=lambda one: (-math.inf, 0) if math.isnan(one[1]) else (one[1], 1), default=None)
    return found or ("", None)


def accuracy_of(group: Group) -> dict[str, float]:
    """Length bucket -> SQNR in dB, over the test corpus: of accuracy, and of ways to calibrate that were compared.

    NaN and the infinities are some, too. Empty for drawn examples, which are no corpus.
    """
    if group.kind not in SCORED:
        return {}
    return {
        bucket: db
        for values in group.values
        for bucket, cell in as_mapping(values.get("buckets")).items()
        if (db := as_decibels(as_mapping(cell).get("sqnr_db"))) is not None
    }


def overview(rows: Sequence[Row], gates: Sequence[Gate], runs: Sequence[RunSummary], shown: frozenset[str]) -> Page:
    """The page, and the picture of all gains.

    :param runs: the newest first. :param shown: those that have a page.
    """
    counts = Counter(level(row.word) for row in rows)
    changed = [row for row in rows if row.changes]
    figures = {"gains": gains} if (gains := gains_figure(rows)) else {}
    context: dict[str, Any] = {
        "rows": rows,
        "hosts": len({row.host for row in rows}) > 1,
        "with_trend": _WITH_TREND,
        "counts": counts,
        "changed": changed[:_CHANGES],
        "more_changed": len(changed) - _CHANGES,
        "gates": gates[:_GATES],
        "runs": runs[:_RUNS],
        "run_words": {
            one.run: sorted(one.verdicts.items(), key=lambda pair: rank(pair[0]))[:3] for one in runs[:_RUNS]
        },
        "more_runs": len(runs) - _RUNS,
        "shown": shown,
        "words": sorted({row.word for row in rows}, key=rank),
    }
    return Page("index.html", "overview", "Overview", context, figures)


def gains_figure(rows: Sequence[Row]) -> Figure | None:
    """How many times faster INT8 is, everywhere; the least gains first, as many as fit."""
    several = len({row.host for row in rows}) > 1
    timed = sorted((row for row in rows if row.gain), key=lambda row: row.gain[1] if row.gain else 0.0)[:_FOREST]
    if not timed:
        return None
    points = [
        {"row": f"{row.model} {row.runtime}" + (f" {row.host}" if several else ""), "low": row.gain[0],
         "ratio": row.gain[1], "high": row.gain[2], "word": "slower" if row.gain[2] < 1 else "pass"}
        for row in timed if row.gain
    ]  # fmt: skip
    note = "Time of the float baseline over INT8's, over the traffic; right of 1, INT8 is faster."
    if len(timed) == _FOREST:
        note += f" The {_FOREST} smallest gains."
    return Figure("gains", "INT8 gain", note, forest(points, "times faster with INT8", {"same": 1.0}))
