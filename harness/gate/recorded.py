"""A baseline that was recorded: what one run says of each case of one runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.gate.builds import Built
from harness.runtimes.serve import RUNTIMES
from harness.spec.patterns import fits
from harness.workers import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.gate.pairs import Pairs
    from harness.results.record import Record

__all__ = ["PREFIX", "WARNINGS_KEPT", "Recorded", "built_of", "gather", "read"]

PREFIX = "record:"
"""What a baseline begins with that is no environment: ``record:RUN``, ``record:RUN:RUNTIME``."""

WARNINGS_KEPT = 20
"""Of a build's warnings a record has so many at most (suites/test_build.py)."""

_NEWEST = "newest"
_NOTHING_IN_INT8 = re.compile(r"nothing runs in INT8: \[\{'int8': 0, 'float': (\d+)")
_KINDS = ("build", "accuracy", "latency")
_FAILURES = ("BuildFailed", "CalibrationFailed", "RunFailed", "WorkerDied", "WorkerHung")
"""Errors that are the engine's own; any other left the case unjudged."""


@dataclass(frozen=True)
class Recorded:
    """The newest record of each case of a runtime in one run, by case id.

    :param environment: stands for the one that was measured; it can do nothing.
    :param latency: case id -> length bucket -> record.
    """

    run: str
    environment: Environment
    builds: Mapping[str, Record] = field(default_factory=dict, repr=False)
    accuracy: Mapping[str, Record] = field(default_factory=dict, repr=False)
    latency: Mapping[str, Mapping[str, Record]] = field(default_factory=dict, repr=False)

    def __contains__(self, case: str) -> bool:
        return case in self.builds or case in self.accuracy

    def restricted(self, pairs: Pairs) -> Pairs:
        """The pairs whose baseline it has; others are the candidate's alone."""
        return replace(
            pairs,
            both=tuple(pair for pair in pairs.both if pair.baseline.id in self),
            only_baseline=tuple(case for case in pairs.only_baseline if case.id in self),
            only_candidate=(
                *pairs.only_candidate,
                *(pair.candidate for pair in pairs.both if pair.baseline.id not in self),
            ),
        )


def read(folder: Path, text: str) -> Recorded:
    """What ``record:RUN`` or ``record:RUN:RUNTIME`` names.

    :param folder: of runs.
    :param text: RUN is a run's id or the beginning of it, the path of its file, or ``newest``: the newest run that has
        builds (of RUNTIME). RUNTIME is a name or the start of one, as in ``--runtime``; needed where a run has several.
    :raises UsageError: there is no such run or runtime in it, or there are several.
    :raises ResultsError: the run cannot be read.
    """
    from harness.results.store import read_run

    name, _, runtime = text.removeprefix(PREFIX).partition(":")
    path = _path(folder, name, runtime)
    records = [one for one in read_run(path) if one.get("kind") in _KINDS and one.get("case") and one.get("fields")]
    names = list(dict.fromkeys(str(one["fields"]["runtime"]) for one in records if one["kind"] != "latency"))
    chosen = [runtime] if runtime in names else [one for one in names if not runtime or fits(one, runtime)]
    if len(chosen) != 1:
        found = ", ".join(chosen or names) or "no builds and no accuracy"
        todo = f"name one: {PREFIX}{path.stem}:{chosen[0]}" if chosen else "name another run or runtime"
        raise UsageError(f"{len(chosen)} runtimes are meant; it has {found}", where=f"{text}: {path}", todo=todo)
    return gather(path.stem, chosen[0], records)


def gather(run: str, runtime: str, records: Iterable[Record]) -> Recorded:
    """The records of one runtime, the last of each case."""
    builds: dict[str, Record] = {}
    accuracy: dict[str, Record] = {}
    latency: dict[str, dict[str, Record]] = {}
    for one in records:
        if one["fields"]["runtime"] != runtime:
            continue
        if one["kind"] == "build":
            builds[one["case"]] = one
        elif one["kind"] == "accuracy":
            accuracy[one["case"]] = one
        elif one["kind"] == "latency":
            latency.setdefault(one["case"], {}).update(dict.fromkeys(one["values"].get("buckets") or {}, one))
    return Recorded(run, _stand_in(runtime), builds, accuracy, latency)


def built_of(one: Record) -> Built | None:
    """A build's record as the gate compares builds; None where it does not say whether it builds."""
    values = one["values"]
    if "engine_bytes" not in values:
        error = str(values.get("error", ""))
        if found := _NOTHING_IN_INT8.match(error):  # records up to November 2026 have the message alone
            return Built(int8=[0], floats=[int(found[1])])
        return Built(error=error.partition(": ")[2] or error) if error.startswith(_FAILURES) else None
    first = [
        {"int8": int8, "float": floats, "bytes": size, "seconds": seconds, "cached": cached}
        for int8, floats, size, seconds, cached in zip(
            *(values[name] for name in ("int8", "float", "engine_bytes", "build_seconds", "cached")), strict=True
        )
    ]
    builds = [first, *(values.get("rebuilt") or [])]
    fresh = [build for build in builds if not any(engine.get("cached") for engine in build)]
    counted = [build for build in builds if all("int8" in engine for engine in build)]  # early records: the first alone
    return Built(
        int8=[_sum(build, "int8") for build in counted],
        floats=[_sum(build, "float") for build in counted],
        bytes=[sum(engine.get("bytes") or 0 for engine in build) for build in builds],
        seconds=[sum(engine.get("seconds") or 0.0 for engine in build) for build in fresh],
        device_bytes=[
            engine["engine_bytes"] + engine["context_bytes"]
            for engine in values.get("device_memory") or []
            if "engine_bytes" in engine  # records up to November 2026 have the context's alone
        ],
        warnings=values.get("warnings") or [],
    )


def _sum(build: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """Over the engines of one build; None where one of them does not tell."""
    counts = [engine.get(name) for engine in build]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if len(known) == len(counts) else None


def _path(folder: Path, name: str, runtime: str) -> Path:
    from harness.results.folders import run_path
    from harness.results.query import Where, open_list

    if not name:
        raise UsageError("which run?", where=PREFIX, todo=f"{PREFIX}RUN, {PREFIX}{_NEWEST}, {PREFIX}RUN:RUNTIME")
    if name.endswith(".jsonl"):
        return Path(name)
    if not folder.is_dir():
        raise UsageError("no such folder of results", where=str(folder), todo="run the suites, or give --results DIR")
    if name != _NEWEST:
        return run_path(folder, name)
    with open_list(folder) as found:
        runs = found.runs(Where(kind="build", runtime=runtime.partition("*")[0].rstrip("-.") or None))
    if not runs:
        raise UsageError(
            f"no run has builds{' of ' * bool(runtime)}{runtime}", where=str(folder), todo="run the suites"
        )
    return folder / f"{runs[-1].run}.jsonl"


def _stand_in(runtime: str) -> Environment:
    plain = runtime.partition("@")[0]
    family = max((one for one in RUNTIMES if plain.startswith(f"{one}-")), key=len, default="")
    version = plain.removeprefix(f"{family}-").removesuffix("-cpu").removesuffix("-cuda")
    return Environment(runtime, "", family, version, can_run=False, can_build=False, why="it is a record")
