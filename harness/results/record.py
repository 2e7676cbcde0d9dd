"""One record: what was measured, and everything needed to trust it. A plain dict, one JSON line in a run's file.

Every record has ``schema``, ``kind``, ``run``, ``time`` (UTC, ISO 8601), ``harness`` (version), ``model``,
``corpus``, ``samples``, ``seed``, ``synthetic``, ``verdict``, ``values`` and ``environment`` (see
:func:`fingerprint`; the suites add ``worker``: what the runtime's process says of itself, and ``command``: the command
line that began the run); those of a case have
``case`` (its id) and ``fields`` (its parts) too. JSON has no NaN and no infinity: they are written as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` and come back as floats.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ResultsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.spec.case import Case

__all__ = ["KINDS", "MIGRATIONS", "SCHEMA", "Record", "decode", "encode", "fingerprint", "now", "record", "restored"]

Record = dict[str, Any]

SCHEMA = 2
"""Raise it when a field changes its meaning, and register the step from the one before in :data:`MIGRATIONS`; readers
refuse what is newer than they are."""


def _with_drawn_apart(one: Record) -> Record:
    """In schema 1 drawn examples were of kind ``accuracy``, as the corpus was: what came last hid the other."""
    if one.get("kind") == "accuracy":
        values = one["values"]
        if "examples" in values or str(values.get("test", "")).startswith("test_drawn"):
            one["kind"] = "drawn"
    return one


MIGRATIONS: dict[int, Callable[[Record], Record]] = {1: _with_drawn_apart}
"""What makes a record of schema n one of n + 1, by n. Takes the record as its line says, strings for NaN, and may
change it in place; the new ``schema`` is set by the reader. Run files are never rewritten: a step stays as long as
there are files that it reads."""

KINDS = frozenset({
    "accuracy", "benchmark", "best", "build", "calibration", "drawn", "gate", "latency", "layers", "mixed", "profiles",
    "run", "selftest",
})  # fmt: skip

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "execnet", "hypothesis", "pytest", "pytest-benchmark")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def record(
    kind: str,
    run: str,
    values: Mapping[str, Any],
    *,
    case: Case | None = None,
    model: Mapping[str, str] | None = None,
    corpus: Mapping[str, str] | None = None,
    seed: int | None = None,
    synthetic: bool = False,
    verdict: str = "",
    environment: Mapping[str, Any] | None = None,
    samples: Mapping[str, Mapping[str, int]] | None = None,
) -> Record:
    """A record of now.

    :param run: the run's id.
    :param values: what was measured, units in the names.
    :param model: digests of the files that took part, by role (``fp32``, ``int8``).
    :param corpus: digests of the corpora that took part, by split (``calibration``, ``test``).
    :param samples: how many of how many were taken, by split: ``{"calibration": {"taken": 24, "of": 312}}``; no
        ``of`` where the source has no end.
    :param synthetic: the samples were drawn, not real.
    :param verdict: ``pass``, ``fail``, ``unknown`` or another word; empty where nothing was judged.
    :param environment: added to :func:`fingerprint`, or replacing parts of it: what the worker's side knows.
    :raises UsageError: an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of record {kind!r}", todo=f"one of {', '.join(sorted(KINDS))}")
    machine = fingerprint()
    out: Record = {
        "schema": SCHEMA,
        "kind": kind,
        "run": run,
        "time": now().isoformat(timespec="milliseconds"),
        "harness": machine["harness"],
    }
    if case is not None:
        out["case"] = case.id
        out["fields"] = {
            "model": case.model,
            "runtime": case.runtime,
            "precision": case.precision.value,
            "method": str(case.calibration.method) if case.calibration else "ready" if case.ready else None,
            "policy": case.calibration.policy.value if case.calibration else None,
            "route": case.route.value if case.calibration or case.ready else None,
            "layout": case.layout,
        }
    out |= {
        "model": dict(model or {}),
        "corpus": dict(corpus or {}),
        "samples": {split: dict(counts) for split, counts in (samples or {}).items()},
        "seed": seed,
        "synthetic": synthetic,
        "verdict": verdict,
        "values": dict(values),
        "environment": {**machine, **(environment or {})},
    }
    return out


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@functools.cache
def fingerprint() -> dict[str, Any]:
    """Machine, interpreter and libraries; what cannot be read is None. Asked for once a process."""
    return {
        "harness": _version("trt-int8-harness"),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The working directory's commit, ``+`` behind it where files were changed."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware")))
    return next(names, platform.processor() or None)


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def encode(one: Mapping[str, Any]) -> bytes:
    """The record as one line of valid JSON, its newline included; takes numpy, enums, paths and dataclasses.

    :raises ResultsError: something in it has no JSON form; the message says where.
    """
    return json.dumps(_plain(one, "record"), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record:
    """The record of one line, as this version of the schema has it.

    :raises ValueError: it is no JSON object, not one of these, or of a schema that this harness cannot read.
    """
    one = json.loads(line, parse_constant=_refuse_constant)
    if not isinstance(one, dict) or type(one.get("schema")) is not int:
        raise ValueError("not a record")
    whole: Record = restored(_migrated(one))
    return whole


def _migrated(one: Record) -> Record:
    if one["schema"] > SCHEMA:
        raise ValueError(
            f"schema {one['schema']} is newer than this harness reads ({SCHEMA}): read it with a newer harness"
        )
    for version in range(one["schema"], SCHEMA):
        if version not in MIGRATIONS:
            raise ValueError(f"nothing is known of schema {version}: this harness reads up to {SCHEMA}")
        try:
            one = MIGRATIONS[version](one)
        except (KeyError, TypeError, AttributeError) as error:
            # A step takes a record to be whole; one that lacks a field is a bad line, not the end of reading.
            raise ValueError(f"does not fit its schema {version}: {error!r}") from error
        one["schema"] = version + 1
    return one


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@functools.singledispatch
def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - anything may come
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, where)
    raise ResultsError(f"a {type(value).__name__} has no JSON form", where=where, todo="record numbers and text")


@_plain.register(str | bool | None)
def _(value: str | bool | None, where: str) -> str | bool | None:  # noqa: ARG001, FBT001
    return value.value if isinstance(value, Enum) else value


@_plain.register
def _(value: int, where: str) -> int:  # noqa: ARG001
    return int(value)


@_plain.register
def _(value: float, where: str) -> float | str:  # noqa: ARG001
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@_plain.register(np.ndarray | np.generic)
def _(value: Any, where: str) -> Any:  # noqa: ANN401
    return _plain(value.tolist(), where)


@_plain.register(Mapping)
def _(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}


@_plain.register(list | tuple)
def _(value: Sequence[Any], where: str) -> list[Any]:
    return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]


@_plain.register(set | frozenset)
def _(value: set[Any] | frozenset[Any], where: str) -> list[Any]:
    return sorted((_plain(item, where) for item in value), key=repr)


@_plain.register
def _(value: Enum, where: str) -> Any:  # noqa: ANN401
    return _plain(value.value, where)


@_plain.register
def _(value: Path, where: str) -> str:  # noqa: ARG001
    return str(value)


@_plain.register
def _(value: date, where: str) -> str:  # noqa: ARG001
    return value.isoformat()


def restored(value: Any) -> Any:  # noqa: ANN401
    """A value as it was before :func:`encode`: the strings that stand for NaN and infinity as floats."""
    if isinstance(value, dict):
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
