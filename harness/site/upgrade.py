"""The page of a gate: which pairs were worse, in which aspect, by how much, and the samples behind it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.site.pages import Figure, Page, file_name
from harness.site.plots import forest
from harness.site.reading import as_mapping, as_number, as_triple
from harness.site.words import rank, worst
from harness.spec.latency import CAUGHT, TOLERATED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from harness.results.query import Found
    from harness.results.record import Record

__all__ = ["Gate", "gate_of", "gate_page", "samples_file"]

_FOREST = 40
_SANE = 20.0
"""A larger log ratio is no measurement, and would leave no room for the others."""
_TEXTS = ("aspect", "where", "word", "why")
_BLOCKING = ("builds", "coverage", "accuracy", "latency")


@dataclass(frozen=True)
class Gate:
    """One gate, by its records.

    :param whole: values of the record of the whole; empty where the gate was ended before it.
    :param pairs: values of each pair's record, with ``verdict``.
    """

    run: str
    time: datetime
    word: str
    baseline: str
    candidate: str
    whole: Mapping[str, Any] = field(repr=False)
    pairs: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def findings(self) -> list[Mapping[str, Any]]:
        """Of all pairs, the worst first; each with the fields that a page asks for."""
        found = [
            {"case": _text(pair.get("pair")), **{name: _text(one.get(name)) for name in _TEXTS},
             "p": as_number(one.get("p")), "stage": one.get("stage", 1), "values": as_mapping(one.get("values"))}
            for pair in self.pairs for one in _list(pair.get("findings")) if isinstance(one, dict)
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one["aspect"] not in _BLOCKING, rank(one["word"])))


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def gate_of(run: str, records: Sequence[Found]) -> Gate:
    """What a gate's records say.

    :param records: at least one.
    :raises ResultsError: the run's file is no longer what it was.
    """
    decoded: list[Record] = [one.record() for one in records]
    pairs = [{**as_mapping(one["values"]), "verdict": one["verdict"]} for one in decoded if one.get("case")]
    wholes = [one for one in decoded if not one.get("case")]
    whole = as_mapping(wholes[-1]["values"]) if wholes else {}
    sides = whole or (pairs[0] if pairs else {})
    word = str(wholes[-1]["verdict"]) if wholes else worst(str(pair["verdict"]) for pair in pairs)
    return Gate(run, records[-1].time, word, _text(sides.get("baseline")), _text(sides.get("candidate")), whole, pairs)


def samples_file(run: str) -> str:
    """Where a gate's samples are, beside its page."""
    return file_name("gate", run).removesuffix(".html") + "-samples.json"


def gate_page(gate: Gate, shown: frozenset[str]) -> Page:
    """The page of one gate."""
    found = gate.findings
    figures: dict[str, Figure] = {}
    rows = list(_ratios(gate))
    if rows:
        figures["forest"] = _forest(gate, rows)
    context = {
        "gate": gate,
        "shown": shown,
        "findings": found,
        "words": sorted({one["word"] for one in found}, key=rank),
        "builds": [one for one in found if one["aspect"] == "builds" and one["word"] != "pass"],
        "coverage": [one for one in found if one["aspect"] == "coverage" and one["word"] != "pass"],
        "sessions": list(_sessions(gate)),
        "more": len(rows) - _FOREST,
        "samples": samples_file(gate.run) if any(_list(pair.get("sessions")) for pair in gate.pairs) else "",
        "not_compared": [as_mapping(one) for one in _list(gate.whole.get("not_compared"))],
        "only": [("baseline", _list(gate.whole.get("only_baseline"))),
                 ("candidate", _list(gate.whole.get("only_candidate")))],
        "advice": [_text(one) for one in _list(gate.whole.get("advice"))],
        "seconds": as_number(gate.whole.get("seconds")),
        "record": _text(gate.whole.get("record")),
    }  # fmt: skip
    title = f"{gate.baseline} → {gate.candidate}"
    return Page(file_name("gate", gate.run), "gate", title, context, figures)


def _forest(gate: Gate, rows: Sequence[Mapping[str, Any]]) -> Figure:
    margins = as_mapping(gate.pairs[0].get("margins"))
    marks = {"same": 1.0}
    for name, usual in (("tolerated", TOLERATED), ("caught", CAUGHT)):
        margin = as_number(margins.get(name))
        marks[name] = 1 + (usual if margin is None else margin)
    note = f"Time of {gate.candidate} over that of {gate.baseline}: right of 1, the candidate is slower. Lines: "
    note += f"1, what is tolerated ({marks['tolerated']:g}) and what must be caught ({marks['caught']:g})."
    spec = forest(rows[:_FOREST], "candidate's time / baseline's", marks)
    name = file_name("gate", gate.run).removesuffix(".html") + "-forest"
    return Figure(name, f"{gate.baseline} → {gate.candidate}", note, spec)


def _ratios(gate: Gate) -> Iterator[dict[str, Any]]:
    """Latency findings that have an estimate, the worst first."""
    for one in gate.findings:
        values = one["values"]
        interval = as_mapping(values.get("interval"))
        logs = as_triple([interval.get("low"), values.get("log_ratio"), interval.get("high")])
        if one["aspect"] == "latency" and logs and max(map(abs, logs)) < _SANE:
            low, ratio, high = map(math.exp, logs)
            row = f"{one['case']}, {one['where']}" + (" (asked again)" if one["stage"] != 1 else "")
            yield {"row": row, "ratio": ratio, "low": low, "high": high, "word": one["word"]}


def _sessions(gate: Gate) -> Iterator[dict[str, Any]]:
    """Each session with the median of every launch, in ms, by arm and length."""
    for pair in gate.pairs:
        for session in _list(pair.get("sessions")):
            one = as_mapping(session)
            medians: dict[tuple[str, str], list[float]] = {}
            for launch in _list(one.get("samples_ns")):
                for arm, inputs in as_mapping(launch).items():
                    for length, bursts in as_mapping(inputs).items():
                        ns = [n for burst in _list(bursts) for value in _list(burst) if (n := as_number(value))]
                        if ns:
                            medians.setdefault((length, arm), []).append(statistics.median(ns) / 1e6)
            yield {"pair": _text(pair.get("pair")), "stage": one.get("stage"), "why": _text(one.get("why")),
                   "clock": _text(one.get("clock")), "verdict": _text(one.get("verdict")),
                   "stopped_by": _text(one.get("stopped_by")), "medians": medians}  # fmt: skip
