"""Latency records as pytest-benchmark's JSON, and such JSON as historical records."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
import statistics
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, UsageError
from harness.results.record import SCHEMA, Record, encode
from harness.results.store import read_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["export_benchmarks", "import_benchmarks", "stats"]


def export_benchmarks(records: Iterable[Record], where: str) -> dict[str, Any]:
    """What ``pytest-benchmark compare`` reads: one benchmark for each case, length bucket and arm that has samples.

    Times are of the clock that judged, in seconds. Baseline and INT8 of one case and bucket are one group.

    :param records: of one run.
    :param where: what they come from, for messages.
    :raises UsageError: none of them has samples.
    """
    benchmarks, first = [], None
    for one in records:
        values = one.get("values", {})
        if one.get("kind") != "latency" or not isinstance(values.get("samples_ns"), dict):
            continue
        first = first or one
        clock = one["environment"].get("settings", {}).get("clock", "wall_ns")
        bucket = ",".join(values.get("buckets", {}))
        for arm, launches in values["samples_ns"].items():
            seconds = _seconds(launches, clock)
            if seconds:
                benchmarks.append(_benchmark(one, bucket, arm, clock, seconds))
    if first is None or not benchmarks:
        raise UsageError(
            "no latency record with samples",
            where=where,
            todo="harness results list --kind latency shows runs with some",
        )
    about = first["environment"]
    commit = about.get("commit")
    return {
        "machine_info": {
            "node": about.get("host"),
            "machine": "",
            "system": about.get("platform"),
            "python_version": about.get("python"),
            "cpu": {"brand_raw": about.get("cpu"), "count": about.get("cores")},
            "gpus": about.get("gpus", []),
        },
        "commit_info": {
            "id": (commit or "unversioned").removesuffix("+"),
            "dirty": bool(commit and commit.endswith("+")),
            "time": None,
            "author_time": None,
            "project": "trt-int8-harness",
            "branch": "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": first["time"],
        "version": "5.1.0",
    }


def _seconds(launches: Any, clock: str) -> list[float]:  # noqa: ANN401 - as the record has it
    bursts = itertools.chain.from_iterable(launches)
    found = itertools.chain.from_iterable(burst.get(clock) or burst.get("wall_ns", []) for burst in bursts)
    return [ns / 1e9 for ns in found]


def _benchmark(one: Record, bucket: str, arm: str, clock: str, seconds: list[float]) -> dict[str, Any]:
    case = one["case"]
    params = {"case": case, "bucket": bucket, "arm": arm}
    name = f"test_latency[{case}-{bucket}-{arm}]"
    return {
        "group": f"{case} {bucket}",
        "name": name,
        "fullname": f"suites/test_latency.py::{name}",
        "params": params,
        "param": f"{case}-{bucket}-{arm}",
        "extra_info": {"clock": clock, "verdict": one["verdict"], **one.get("fields", {}), "run": one["run"]},
        "options": {},
        "stats": stats(seconds),
    }


def stats(seconds: list[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of single calls; its definitions, quartiles as medians of the halves.

    :param seconds: at least one.
    """
    data = sorted(seconds)
    half = len(data) // 2
    mean, median = statistics.fmean(data), statistics.median(data)
    stddev = statistics.stdev(data) if len(data) > 1 else 0.0
    q1 = statistics.median(data[:half]) if half else data[0]
    q3 = statistics.median(data[-half:]) if half else data[0]
    iqr = q3 - q1
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    outside = sum(value < mean - stddev or value > mean + stddev for value in data)
    beyond = sum(value < low or value > high for value in data)
    total = sum(data)
    return {
        "min": data[0], "max": data[-1], "mean": mean, "stddev": stddev, "rounds": len(data), "median": median,
        "iqr": iqr, "q1": q1, "q3": q3, "iqr_outliers": beyond, "stddev_outliers": outside,
        "outliers": f"{outside};{beyond}", "ld15iqr": data[bisect_left(data, low)],
        "hd15iqr": data[bisect_right(data, high) - 1], "ops": len(data) / total if total else 0.0, "total": total,
        "iterations": 1,
    }  # fmt: skip


def import_benchmarks(source: Path, folder: Path) -> str | None:
    """A run of historical records out of a file of pytest-benchmark; its id, or None where it was imported before.

    The id comes from the file's time and content, so that two imports of one file, also in two folders, are one run.
    Records are of kind ``benchmark`` and ``historical``; their environment is what the file says, not this machine.

    :raises UsageError: it is no such file.
    :raises ResultsError: it cannot be read, or the run not be written.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ResultsError(f"cannot be read: {error.strerror}", where=str(source), todo="check the name") from error
    try:
        found = json.loads(content)
        at = datetime.fromisoformat(found["datetime"])
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        run = f"{at:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content).hexdigest()[:6]}"
        lines = [encode(_historical(found, one, run, at)) for one in found["benchmarks"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"no JSON of pytest-benchmark: {error!r}", where=str(source), todo="name a file that --benchmark-json wrote"
        ) from error
    if not lines:
        raise UsageError("it has no benchmarks", where=str(source), todo="name another file")
    return run if _write(folder, run, b"".join(lines)) else None


def _historical(found: Mapping[str, Any], one: Mapping[str, Any], run: str, at: datetime) -> Record:
    machine = found.get("machine_info") or {}
    commit = found.get("commit_info") or {}
    cpu = machine.get("cpu") or {}
    return {
        "schema": SCHEMA,
        "kind": "benchmark",
        "run": run,
        "time": at.isoformat(timespec="milliseconds"),
        "harness": None,
        "historical": True,
        "case": one["fullname"],
        "model": {},
        "corpus": {},
        "samples": {},
        "seed": None,
        "synthetic": False,
        "verdict": "",
        "values": {
            "group": one.get("group"),
            "params": one.get("params"),
            "extra_info": one.get("extra_info"),
            "stats_s": {name: value for name, value in one["stats"].items() if name != "data"},
        },
        "environment": {
            "host": machine.get("node"),
            "python": machine.get("python_version"),
            "platform": machine.get("system"),
            "cpu": cpu.get("brand_raw"),
            "commit": commit.get("id"),
            "pytest_benchmark": found.get("version"),
        },
    }


def _write(folder: Path, run: str, content: bytes) -> bool:
    target = folder / f"{run}.jsonl"
    scratch = folder / f".{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, target)  # unlike a rename, it never replaces one that is there
    except FileExistsError:
        return False
    except OSError as error:
        raise ResultsError(
            f"cannot be written: {error.strerror}", where=str(target), todo="make room, or check its permissions"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return True


def export_run(path: Path) -> dict[str, Any]:
    """:func:`export_benchmarks` of a run's file."""
    return export_benchmarks(read_run(path), str(path))
