"""What became of the builds: what no longer builds, what fell back to float, what grew."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.gate.findings import Finding, NotCompared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.gate.culprits import Culprit
    from harness.gate.findings import Aspect, Word

__all__ = ["Built", "compare_builds"]

_GREW = {"size": 0.10, "memory": 0.10, "build time": 0.50}
"""Growth that is worth a word, as a ratio minus 1. Build times of a shared machine vary, so theirs is wide."""
_SHOWN_WARNINGS, _SHOWN_NAMES = 5, 4
_LEAST_SECONDS = 1.0
"""Build times that differ by less are the same."""
_NOT_OF_THE_MODEL = ("The logger passed into",)
"""Said of what was built before in the same process."""


@dataclass(frozen=True)
class Built:
    """All builds of one case on one side.

    :param error: why it does not build; empty where it does, and the other fields hold.
    :param died: whether the builder ended or hung, where another one would say that it refuses the model.
    :param int8: for each build, operators with weights that compute in INT8; None where nothing tells.
    :param floats: the same that compute in float. :param in_float: their names, over all builds.
    :param bytes: of each build's engines. :param seconds: of each build; those out of the cache are left out.
    :param device_bytes: that an engine and its context take on the device; empty without one.
    :param profiles: of each engine, as it has them: input -> smallest, opt and largest shape.
    :param warnings: lines of the build logs.
    """

    error: str = ""
    died: bool = False
    int8: Sequence[int | None] = ()
    floats: Sequence[int | None] = ()
    in_float: Sequence[str] = ()
    bytes: Sequence[int] = ()
    seconds: Sequence[float] = ()
    device_bytes: Sequence[int] = ()
    profiles: Sequence[Sequence[Mapping[str, Sequence[Sequence[int]]]]] = ()
    warnings: Sequence[str] = field(default=(), repr=False)


def compare_builds(
    case: str, baseline: Built, candidate: Built, culprits: Sequence[Culprit] = ()
) -> list[Finding | NotCompared]:
    """Whether it builds, its coverage, sizes, times and warnings; and what of them cannot be compared.

    :param culprits: operators that the candidate refuses by themselves, where it does not build.
    """
    if candidate.error and baseline.error:
        why = f"builds on neither side: {_first(candidate.error)}"
        if baseline.died or candidate.died:  # memory, a deadline, a driver: that says nothing of the model
            return [Finding(case, "builds", "inconclusive", why, p=1.0)]
        return [NotCompared(case, "builds", why)]
    if candidate.error:
        named = f" {', '.join(map(str, culprits))}:" if culprits else ""
        values = {"error": candidate.error, "operators": {one.kind: list(one.names) for one in culprits}}
        why = f"no longer builds:{named} {_first(candidate.error)}"
        return [Finding(case, "builds", "regression", why, p=0.0, values=values)]
    if baseline.error:
        return [Finding(case, "builds", "improved", f"builds now; the baseline: {_first(baseline.error)}")]
    return [
        Finding(case, "builds", "pass", f"{len(candidate.bytes)} build(s) of each side"),
        *_profiles(case, baseline, candidate),
        *_coverage(case, baseline, candidate),
        *_growth(case, baseline, candidate),
        *_warnings(case, baseline, candidate),
    ]


def _profiles(case: str, baseline: Built, candidate: Built) -> Iterator[Finding]:
    """Both sides are asked for the same ones: another opt is tuned for other lengths, another range refuses some."""
    names = ("smallest", "opt", "largest")
    changed: dict[str, dict[str, None]] = {}
    for old, new in zip(baseline.profiles, candidate.profiles, strict=False):
        if len(old) != len(new):
            changed.setdefault("profiles", {})[f"{len(old)} profile(s) before, {len(new)} now"] = None
            continue
        for number, (before, now) in enumerate(zip(old, new, strict=True)):
            for tensor, shapes in before.items():
                for place, (name, shape) in enumerate(zip(names, shapes, strict=True)):
                    if tensor in now and list(shape) != list(now[tensor][place]):
                        said = f"{name} of {tensor} {list(shape)} before, {list(now[tensor][place])} now"
                        changed.setdefault(f"profile {number}", {})[said] = None
    for where, said_once in changed.items():  # engines of several builds say the same
        yield Finding(case, "builds", "regression", "; ".join(said_once), where, p=0.0)


def _coverage(case: str, baseline: Built, candidate: Built) -> Iterator[Finding | NotCompared]:
    """By the worst build of each side: an engine that is shipped may be any of them."""
    old, new = _known(baseline.int8), _known(candidate.int8)
    if old is not None and new is None and any(old):
        yield Finding(case, "coverage", "inconclusive", "the candidate does not tell what runs in INT8", p=1.0)
        return
    if old is None or new is None:
        unknown = " and ".join(n for n, counts in (("baseline", old), ("candidate", new)) if counts is None)
        yield NotCompared(case, "coverage", f"the {unknown} does not tell what runs in INT8")
        return
    values: dict[str, object] = {"baseline": list(baseline.int8), "candidate": list(candidate.int8)}
    fell = sorted(set(candidate.in_float) - set(baseline.in_float))
    if fell:
        values["in_float"] = fell
    said = f"operators in INT8: {min(old)} before, {min(new)} now, by the worst build of each"
    if min(new) < min(old) and _lost(baseline, candidate):
        named = f" {', '.join(fell[:_SHOWN_NAMES])}{', ...' * (len(fell) > _SHOWN_NAMES)};" if fell else ""
        yield Finding(case, "coverage", "regression", f"fell back to float:{named} {said}", p=0.0, values=values)
    elif min(new) > min(old):
        yield Finding(case, "coverage", "improved", said, values=values)
    else:
        yield Finding(case, "coverage", "pass", said, values=values)


def _lost(baseline: Built, candidate: Built) -> bool:
    """Fewer in INT8 may be operators that were merged; that is no loss while none computes in float."""
    old, new = _known(baseline.floats), _known(candidate.floats)
    return old is None or new is None or max(new) > max(old) or min(_known(candidate.int8) or [0]) == 0


def _known(counts: Sequence[int | None]) -> list[int] | None:
    known = [count for count in counts if count is not None]
    return known if known and len(known) == len(counts) else None


def _growth(case: str, baseline: Built, candidate: Built) -> Iterator[Finding]:
    pairs: Mapping[Aspect, tuple[Sequence[float], Sequence[float], str, float]] = {
        "size": (baseline.bytes, candidate.bytes, "MB", 1e6),
        "memory": (baseline.device_bytes, candidate.device_bytes, "MB on the device", 1e6),
        "build time": (baseline.seconds, candidate.seconds, "s", 1.0),
    }
    for aspect, (old, new, unit, scale) in pairs.items():
        if not old or not new or not statistics.median(old):
            continue
        before, now = statistics.median(old), statistics.median(new)
        ratio = now / before
        limit = math.inf if aspect == "build time" and abs(now - before) < _LEAST_SECONDS else _GREW[aspect]
        word: Word = "minor" if ratio > 1 + limit else "improved" if ratio < 1 - limit else "pass"
        counted = f"medians of {len(old)} and {len(new)}"
        why = f"{before / scale:.3g} {unit} before, {now / scale:.3g} now ({ratio:.2f}x, {counted})"
        yield Finding(case, aspect, word, why, values={"baseline": list(old), "candidate": list(new), "ratio": ratio})


def _warnings(case: str, baseline: Built, candidate: Built) -> Iterator[Finding]:
    seen = {_shape(line) for line in baseline.warnings}
    lines = [line for line in candidate.warnings if not any(one in line for one in _NOT_OF_THE_MODEL)]
    new = list({_shape(line): line for line in lines if _shape(line) not in seen}.values())
    if new:
        shown = "; ".join(line[:160] for line in new[:_SHOWN_WARNINGS])
        yield Finding(case, "warnings", "minor", f"{len(new)} new in the build log: {shown}", values={"new": new})


def _shape(line: str) -> str:
    """A line without its numbers, addresses and places in the source, which differ between versions."""
    line = re.sub(r"^\S+\.(cpp|h|cu):\d+:\s*", "", line)
    return re.sub(r"0x[0-9a-f]+|\d+", "#", line)


def _first(text: str) -> str:
    """The first two lines: what went wrong, and the library's first word on it."""
    return " ".join(line.strip(" |") for line in text.splitlines()[:2])[:400]
