"""Runs with records as the suites write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from harness.results.record import SCHEMA, encode

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


def made(run="r", minute=0, **changes):
    """One record; keywords replace its fields."""
    case = changes.pop("case", "wave-tensorrt-8.5.3.1-int8-auto-ragged-cache-single")
    model, runtime = changes.pop("model_name", "wave"), changes.pop("runtime", "tensorrt-8.5.3.1")
    host = changes.pop("host", "gpu1")
    return {
        "schema": SCHEMA,
        "kind": "build",
        "run": run,
        "time": (BEGIN + timedelta(minutes=minute)).isoformat(timespec="milliseconds"),
        "harness": "0.1.0",
        "case": case,
        "fields": {"model": model, "runtime": runtime, "precision": "int8", "method": "auto", "layout": "single"},
        "model": {"fp32": "aa"},
        "corpus": {"test": "bb"},
        "samples": {"test": {"taken": 12, "of": 24}},
        "seed": 0,
        "synthetic": False,
        "verdict": "pass",
        "values": {"int8": [4], "engine_bytes": [920951], "build_seconds": [6.5]},
        "environment": {
            "host": host,
            "cpu": "Xeon",
            "commit": "abc+",
            "gpus": [{"name": "NVIDIA H200", "driver": "580.1"}],
            "worker": {"library": "tensorrt", "version": "8.5.3.1"},
            "settings": {"clock": "device_ns"},
        },
        **changes,
    }


def latency(bucket="short", **changes):
    """A latency record with samples: FP16 twice as slow as INT8."""
    samples = {
        "fp16": [[{"wall_ns": [9000, 9100], "device_ns": [4000, 4100, 4200]}, {"wall_ns": [9], "device_ns": [4300]}]],
        "int8": [[{"wall_ns": [7000, 7100], "device_ns": [2000, 2100]}]],
    }
    cell = {"length": 45, "ratio": 2.0, "baseline": {"median_ms": 0.0041}, "int8": {"median_ms": 0.002}}
    values = {"baseline": "fp16", "buckets": {bucket: cell}, "samples_ns": samples}
    return made(kind="latency", verdict="faster", **{"values": values, **changes})


def session(**changes):
    """What a latency session says of the traffic."""
    values = {"baseline": "fp16", "session": {"word": "faster", "why": "enough", "ratio": {"ratio": 1.9}}}
    return made(kind="latency", verdict="faster", **{"values": values, **changes})


def written(folder, run, *lines):
    """A run of these records, or raw lines; its path."""
    path = folder / f"{run}.jsonl"
    folder.mkdir(exist_ok=True)
    path.write_bytes(b"".join(one if isinstance(one, bytes) else encode(one) for one in lines))
    return path


def text(one):
    """A line as others would write it: spaces, no escapes."""
    return json.dumps(one, ensure_ascii=False).encode() + b"\n"
