"""Two records against one another: what was built and how right it was, then and then. Nothing is run.

For runs of a machine that is not at hand, a GPU that was lent say. What was counted (builds, operators in INT8) and
what was computed on the same samples is compared; nothing can be asked a second time. Times of two runs are historical,
as in :mod:`harness.gate.historical`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.gate.builds import compare_builds
from harness.gate.findings import Finding, NotCompared
from harness.gate.historical import fell, gpus, medians, slower, without_versions
from harness.gate.pairs import Pair, Pairs
from harness.gate.recorded import WARNINGS_KEPT, built_of
from harness.measure.host import differences
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.gate.accuracy import AccuracyMargins
    from harness.gate.recorded import Recorded
    from harness.results.record import Record
    from harness.stats.verdict import Margins

__all__ = ["between", "pairs_of"]


def pairs_of(old: Recorded, new: Recorded) -> Pairs:
    """Cases that both recorded, and those that one of them did."""
    sides = [{replace(case, runtime=""): case for case in _cases(one)} for one in (old, new)]
    both = tuple(Pair(case, sides[1][key]) for key, case in sides[0].items() if key in sides[1])
    left = [tuple(c for k, c in one.items() if k not in other) for one, other in (sides, sides[::-1])]
    return Pairs(both, *left)


def between(
    old: Recorded, new: Recorded, accuracy: AccuracyMargins, latency: Margins
) -> tuple[list[Finding], list[NotCompared]]:
    """All that two records say of the cases that both have."""
    found: list[Finding] = []
    left: list[NotCompared] = []
    for pair in pairs_of(old, new).both:
        for one in _compared(old, new, pair, accuracy, latency):
            if isinstance(one, Finding):
                found.append(one)
            else:
                left.append(one)
    return found, left


def _cases(recorded: Recorded) -> Iterator[Case]:
    for record in {**recorded.accuracy, **recorded.builds}.values():
        fields: Mapping[str, str] = record["fields"]
        calibration = None
        if fields.get("method") and fields.get("policy"):  # a ready model has no policy
            calibration = Calibration(Method.parse(fields["method"]), Policy(fields["policy"]))
        route = Route(fields["route"]) if fields.get("route") else Route.QDQ
        precision = Precision(fields["precision"])
        yield Case(fields["model"], fields["runtime"], precision, calibration, fields["layout"], route)


def _compared(
    old: Recorded, new: Recorded, pair: Pair, accuracy: AccuracyMargins, latency: Margins
) -> Iterator[Finding | NotCompared]:
    before, after = (of.builds.get(case.id) for of, case in ((old, pair.baseline), (new, pair.candidate)))
    yield from _builds(pair.name, before, after)
    before, after = (of.accuracy.get(case.id) for of, case in ((old, pair.baseline), (new, pair.candidate)))
    yield from _accuracy(pair, before, after, accuracy)
    was, now = (of.latency.get(case.id) or {} for of, case in ((old, pair.baseline), (new, pair.candidate)))
    yield from _latency(pair, was, now, latency)


def _builds(case: str, before: Record | None, after: Record | None) -> Iterator[Finding | NotCompared]:
    then = built_of(before) if before else None
    now = built_of(after) if after else None
    if before is None or after is None or then is None or now is None:
        silent = " and ".join(name for name, one in (("baseline", then), ("candidate", now)) if one is None)
        yield NotCompared(case, "builds", f"the record of the {silent} does not say whether it was built")
        return
    if before["model"].get("fp32") != after["model"].get("fp32"):
        yield Finding(case, "builds", "inconclusive", "the records are of two model files", p=1.0)
        return
    environments = [without_versions(one["environment"]) for one in (before, after)]
    if differs := differences(*environments):
        yield NotCompared(case, "build time", f"measured elsewhere: {'; '.join(differs)}")
        now = replace(now, seconds=())
        if gpus(environments[0]) != gpus(environments[1]):
            now = replace(now, device_bytes=())
    if max(len(then.warnings), len(now.warnings)) >= WARNINGS_KEPT:
        yield NotCompared(case, "warnings", f"a record holds the first {WARNINGS_KEPT} alone")
        now = replace(now, warnings=())
    yield from _not_asked_again(compare_builds(case, then, now))


def _not_asked_again(found: list[Finding | NotCompared]) -> Iterator[Finding | NotCompared]:
    for one in found:
        blocks = isinstance(one, Finding) and one.blocks
        yield replace(one, why=f"{one.why} (recorded, not asked again)") if blocks else one


def _accuracy(
    pair: Pair, before: Record | None, after: Record | None, margins: AccuracyMargins
) -> Iterator[Finding | NotCompared]:
    if pair.candidate.precision is Precision.FP32:
        yield NotCompared(pair.name, "accuracy", "FP32 is what records measure accuracy by")
        return
    if not all(one and "buckets" in one["values"] for one in (before, after)) or before is None or after is None:
        yield NotCompared(pair.name, "accuracy", "a record has none")
        return
    for what, unlike in (
        ("of two model files", before["model"].get("fp32") != after["model"].get("fp32")),
        ("of other samples", before["corpus"] != after["corpus"]),
        ("of other length buckets", set(before["values"]["buckets"]) != set(after["values"]["buckets"])),
    ):
        if unlike:
            yield Finding(pair.name, "accuracy", "inconclusive", f"the records are {what}", p=1.0)
            return
    then, now = before["values"]["buckets"], after["values"]["buckets"]
    yield from _not_asked_again([fell(pair.name, bucket, then[bucket], now[bucket], margins, None) for bucket in then])


def _latency(
    pair: Pair, was: Mapping[str, Record], now: Mapping[str, Record], margins: Margins
) -> Iterator[Finding | NotCompared]:
    then, since = medians(was), medians(now)
    if not then or not since:
        yield NotCompared(pair.name, "latency", "a record has none")
        return
    first, last = (without_versions(next(iter(one.values()))["environment"]) for one in (was, now))
    if differs := differences(first, last):
        yield NotCompared(pair.name, "latency", f"measured elsewhere: {'; '.join(differs)}")
        return
    yield from slower(pair.name, then, since, margins.caught)
