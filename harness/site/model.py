"""A model's page: for each runtime and host time and accuracy against length, ways to calibrate, layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.site.layers import ROLES
from harness.site.mixed import front_figure
from harness.site.nights import is_invalid
from harness.site.overview import SCORED, accuracy_of, worst_of
from harness.site.pages import Figure, Page, file_name
from harness.site.pays import Timed, about, crossover, pays, ratios_of
from harness.site.plots import accuracy_by_length, calibrations, histogram, latency_by_length
from harness.site.reading import JUDGED, as_mapping, as_number, as_triple, first, interval_of
from harness.site.words import rank, worst

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from harness.site.best import Best
    from harness.site.layers import Layers
    from harness.site.mixed import Search
    from harness.site.overview import Row
    from harness.site.reading import Group

__all__ = ["CaseRow", "model_page"]

_DRAWN = 4
_REASONS = 12
_LONGEST_UNIT = 24
_LEAST_MS = 1e-9


@dataclass(frozen=True)
class CaseRow:
    """What is known of one case."""

    label: str
    precision: str
    layout: str
    words: Mapping[str, str]
    time: datetime
    run: str
    gain: tuple[float, float, float] | None
    invalid: bool
    worst_db: float | None
    score: float | None
    int8: float | None
    floats: float | None
    megabytes: float | None
    seconds: float | None

    @property
    def word(self) -> str:
        """The worst of its words."""
        return worst(self.words.values())


def model_page(
    model: str,
    parts: Mapping[tuple[str, str], Sequence[Group]],
    rows: Sequence[Row],
    shown: frozenset[str],
    searches: Sequence[Search] = (),
    best: Sequence[Best] = (),
    layers: Sequence[Layers] = (),
) -> Page:
    """The page of one model.

    :param parts: runtime and host -> its newest records. :param rows: of the overview, this model's.
    :param shown: runs that have a page. :param searches: for mixed precision, the newest of each dialect and host.
    :param best: searches for the case to ship, the newest first; :param layers: layer tables, the newest first.
    """
    newest = sorted(parts, key=lambda key: max(group.time for group in parts[key]), reverse=True)
    figures: dict[str, Figure] = {}
    sections = []
    stem = file_name("model", model).removesuffix(".html")
    several = len({host for _, host in newest}) > 1
    for number, key in enumerate(newest):
        groups, (runtime, host) = parts[key], key
        points = sorted(_timed(groups), key=lambda point: (point.series, point.length))
        name = f"{runtime} on {host}" if several and host else runtime
        drawn = {}
        if number < _DRAWN:
            for what, figure in _figures(f"{stem}-{number + 1}", name, groups, points):
                figures[figure.name] = figure
                drawn[what] = figure.name
        cases = _case_rows(groups)
        sections.append({
            "name": name, "anchor": f"s{number + 1}", "drawn": drawn, "cases": cases,
            "words": sorted({row.word for row in cases}, key=rank),
            "pays": pays(points, _unit(groups)), "reasons": _reasons(groups), "points": points,
            "row": next((row for row in rows if (row.runtime, row.host) == key), None),
        })  # fmt: skip
    fronts = []
    for number, search in enumerate(searches[:_DRAWN]):
        figure = front_figure(f"{stem}-mixed-{number + 1}", search)
        figures[figure.name] = figure
        fronts.append((search, figure.name))
    context = {
        "model": model, "sections": sections, "shown": shown, "fronts": fronts,
        "best": best[:_DRAWN], "layers": layers[:_DRAWN], "roles": ROLES,
    }  # fmt: skip
    return Page(file_name("model", model), "model", model, context, figures)


def _figures(stem: str, name: str, groups: Sequence[Group], points: Sequence[Timed]) -> Iterator[tuple[str, Figure]]:
    lengths = {point.bucket: point.length for point in points}
    points = [point for point in points if not point.invalid]
    # A way to calibrate that was compared may have been measured as a case of its own, too: that one counts.
    by_kind = sorted(groups, key=lambda group: group.kind != "accuracy")
    by_way = {group.label: (group, found) for group in reversed(by_kind) if (found := _drawable(accuracy_of(group)))}
    accuracies = sorted(by_way.values(), key=lambda pair: groups.index(pair[0]))
    order = _bucket_order(lengths, [bucket for _, found in accuracies for bucket in found])
    if points:
        corpus = next(
            (as_mapping(values.get("lengths")).get("calibration")
             for group in groups for values in group.values if values.get("lengths")), None,
        )  # fmt: skip
        known = [n for one in corpus if (n := as_number(one))] if isinstance(corpus, list) else []
        edges = _boundaries(groups, {point.series for point in points})
        note = "Medians with 95 % intervals at each length bucket's opt"
        note += ", the calibration samples' lengths under them." if known else "."
        unit = _unit(groups)
        names = list(dict.fromkeys(point.series for point in points))
        of, at = next(((one, at) for one in names if (at := crossover(ratios_of(points, one)))), ("", None))
        sentence = f"{f'{of}: ' if len(names) > 1 else ''}INT8 pays from {about(at, unit)} on" if at else ""
        spec = latency_by_length(list(_curves(points)), unit or "length", histogram(known), edges, at, sentence)
        yield "latency", Figure(f"{stem}-latency", f"Time against length, {name}", note, spec)
    said = {bucket: f"{bucket} ({lengths[bucket]:g})" if bucket in lengths else bucket for bucket in order}
    decibels: list[dict[str, Any]] = [
        {"series": group.label, "bucket": said[bucket], "sqnr_db": db, "int8": group.fields["precision"] == "int8"}
        for group, found in accuracies for bucket, db in found.items()
    ]  # fmt: skip
    timed = {point.series for point in points}
    main = [one for one in decibels if not timed or one["series"] in timed or not one["int8"]]
    if main or decibels:
        note = "20 dB is an error power of 1 %; 6 dB less is twice the error."
        spec = accuracy_by_length(main or decibels, list(said.values()))
        yield "accuracy", Figure(f"{stem}-accuracy", f"Accuracy against length, {name}", note, spec)
    ways = [one for one in decibels if one["int8"]]
    if len({one["series"] for one in ways}) > 1:
        note = "Methods, shape policies and layouts on the same samples; the best at its worst length is at the top."
        yield (
            "ways",
            Figure(f"{stem}-ways", f"Ways to calibrate, {name}", note, calibrations(ways, list(said.values()))),
        )


def _drawable(decibels: Mapping[str, float]) -> dict[str, float]:
    """Without NaN and infinities, which no scale has; the tables tell them."""
    return {bucket: db for bucket, db in decibels.items() if math.isfinite(db)}


def _invalid_runs(groups: Sequence[Group]) -> set[tuple[str, str]]:
    """Case and run of sessions that must not be believed: their buckets' records need not say so themselves."""
    return {
        (group.case, group.run)
        for group in groups if group.kind == "latency"
        for one, values in zip(group.records, group.values, strict=True)
        if is_invalid(one.verdict, as_mapping(values.get("session")))
    }  # fmt: skip


def _unit(groups: Sequence[Group]) -> str:
    """What a length counts ("samples", "tokens"), as accuracy records say it; empty where they do not."""
    said = [values.get("axis") for group in groups if group.kind == "accuracy" for values in group.values]
    return next((one[:_LONGEST_UNIT] for one in said if isinstance(one, str)), "")


def _timed(groups: Sequence[Group]) -> Iterator[Timed]:
    bad = _invalid_runs(groups)
    for group in groups:
        if group.kind != "latency":
            continue
        invalid = (group.case, group.run) in bad
        for values in group.values:
            for bucket, found in as_mapping(values.get("buckets")).items():
                cell = as_mapping(found)
                length = as_number(cell.get("length"))
                times = [_median(as_mapping(cell.get(role))) for role in ("int8", "baseline")]
                if length and length >= 1 and times[0] and times[1]:
                    yield Timed(
                        group.label, str(values.get("baseline", "")), bucket, length, times[0], times[1],
                        None if invalid else interval_of(cell), as_number(cell.get("weight")), invalid,
                    )  # fmt: skip


def _median(cell: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The median with its interval where there were enough calls; else alone."""
    found = as_triple(cell.get("p50_ms"))
    if found is None and (median := as_number(cell.get("median_ms"))) is not None:
        found = (median, median, median)
    return found if found and found[0] > _LEAST_MS else None


def _curves(points: Sequence[Timed]) -> Iterator[dict[str, Any]]:
    """The baseline once: each case measured it again, and the first of them stands for all."""
    seen = set()
    for point in points:
        if (point.baseline, point.bucket) not in seen:
            seen.add((point.baseline, point.bucket))
            yield _curve(point.baseline, point.length, point.baseline_ms)
    for point in points:
        name = point.series if point.series.startswith("int8") else f"int8 {point.series}"
        yield _curve(name, point.length, point.int8_ms)


def _curve(series: str, length: float, ms: tuple[float, float, float]) -> dict[str, Any]:
    return {"series": series, "length": length, "low": ms[0], "ms": ms[1], "high": ms[2]}


def _boundaries(groups: Sequence[Group], timed: set[str]) -> list[float]:
    """Where profiles of the layouts that were timed begin, but the first; as accuracy records say it."""
    found: set[float] = set()
    for group in groups:
        if group.kind == "accuracy" and group.label in timed:
            for values in group.values:
                profiles = values.get("profiles")
                known = [as_triple(one) for one in profiles] if isinstance(profiles, list) else []
                found |= {one[0] for one in known[1:] if one}
    return sorted(found)


def _bucket_order(lengths: Mapping[str, float], names: Sequence[str]) -> list[str]:
    usual = ("short", "middle", "long")
    every = list(dict.fromkeys((*lengths, *names)))
    return sorted(every, key=lambda name: (lengths.get(name, math.inf), usual.index(name) if name in usual else 3))


def _case_rows(groups: Sequence[Group]) -> list[CaseRow]:
    cases: dict[str, list[Group]] = {}
    for group in groups:
        cases.setdefault(group.case, []).append(group)
    rows = [_case_row(mine) for mine in cases.values()]
    return sorted(rows, key=lambda row: (min(map(rank, row.words.values())), row.label))


def _case_row(groups: Sequence[Group]) -> CaseRow:
    newest = max(groups, key=lambda group: group.time)
    words: dict[str, str] = {}
    known = [kind for kind in JUDGED if any(group.kind == kind for group in groups)]
    for kind in dict.fromkeys((*known, *(group.kind for group in groups))):
        words[kind] = worst(group.word for group in groups if group.kind == kind)
    session = [as_mapping(values.get("session")) for g in groups if g.bucket == "traffic" for values in g.values]
    bad = _invalid_runs(groups)
    invalid = any(group.bucket == "traffic" and (group.case, group.run) in bad for group in groups)
    gain = next((found for one in session if (found := interval_of(as_mapping(one.get("ratio"))))), None)
    built = [values for group in groups if group.kind == "build" for values in group.values]
    scored = [g for g in groups if g.kind == "accuracy"] or [g for g in groups if g.kind in SCORED]
    cells = [as_mapping(cell) for g in scored for values in g.values
             for cell in as_mapping(values.get("buckets")).values()]  # fmt: skip
    scores = [score for cell in cells if (score := as_number(cell.get("score"))) is not None]
    fields = newest.fields
    size = first(_total(values.get("engine_bytes")) for values in built)
    return CaseRow(
        label=newest.label,
        precision=fields["precision"] or "",
        layout=fields["layout"] or "",
        words=words,
        time=newest.time,
        run=newest.records[-1].run,
        gain=None if invalid else gain,
        invalid=invalid,
        worst_db=worst_of([one for group in scored for one in accuracy_of(group).items()])[1],
        score=sum(scores) / len(scores) if scores else None,
        int8=first(_total(values.get("int8")) for values in built),
        floats=first(_total(values.get("float")) for values in built),
        megabytes=None if size is None else size / 1e6,
        seconds=first(_total(values.get("build_seconds")) for values in built),
    )


def _total(values: object) -> float | None:
    """Over the engines of a build; None where one of them does not tell."""
    numbers = [as_number(one) for one in values] if isinstance(values, list) else [as_number(values)]
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _reasons(groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """Case, word and why, of what is no pass and says why."""
    found = []
    for group in sorted(groups, key=lambda group: rank(group.word)):
        for one, values in zip(group.records, group.values, strict=True):
            told = values.get("reasons")
            why = "; ".join(map(str, told)) if isinstance(told, list) else str(values.get("error") or "")
            session = as_mapping(values.get("session"))
            if one.verdict in {"inconclusive", "invalid", "slower"}:
                why = "; ".join(filter(None, (why, str(session.get("why") or ""), str(session.get("advice") or ""))))
            if why and one.verdict != "pass":
                found.append((" ".join(filter(None, (group.label, group.kind, group.bucket))), one.verdict, why))
    return found[:_REASONS]
