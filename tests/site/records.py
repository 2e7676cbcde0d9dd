"""A folder of runs as thirty nights on a runner leave it: a gain that creeps away, a driver that changed, a failure."""

from __future__ import annotations

import math

from tests.run_records import made, written

HOSTILE = '<script>document.title="hit"</script>"\'><img src=x onerror=alert(1)>'
LENGTHS = {"short": 45, "middle": 362, "long": 2896}


def case_of(model, runtime="tensorrt-8.5.3.1", precision="int8", method="auto", policy="ragged", layout="single"):
    calibration = f"-{method}-{policy}" if precision == "int8" else ""
    fields = {
        "model": model, "runtime": runtime, "precision": precision,
        "method": method if calibration else None, "policy": policy if calibration else None,
        "route": "qdq" if calibration else None, "layout": layout,
    }  # fmt: skip
    return {"case": f"{model}-{runtime}-{precision}{calibration}-{layout}", "fields": fields}


def accuracy(run, minute, case, db=20.0, verdict="pass", host="gpu1", **changes):
    values = {
        "buckets": {name: {"sqnr_db": db + number, "score": 0.97} for number, name in enumerate(LENGTHS)},
        "reasons": [] if verdict == "pass" else [f"sqnr_db {db} is below 15"],
        "profiles": [[16, 45, 128], [129, 362, 1024], [1025, 2896, 8192]],
        "axis": "samples",
        "lengths": {"calibration": [20, 50, 60, 90, 300, 400, 500, 900, 2000, 4000], "test": [50]},
        **changes,
    }
    return made(run, minute, kind="accuracy", verdict=verdict, values=values, host=host, **case)


def bucket(run, minute, case, name, ratio, **changes):
    length = LENGTHS[name]
    base = length / 100
    values = {
        "baseline": "fp16",
        "buckets": {
            name: {
                "length": length, "weight": 1 / 3,
                "ratio": ratio, "ratio_low": ratio * 0.97, "ratio_high": ratio * 1.03,
                "baseline": {"median_ms": base, "p50_ms": [base * 0.99, base, base * 1.01]},
                "int8": {"median_ms": base / ratio, "p50_ms": [base / ratio * 0.98, base / ratio, base / ratio * 1.02]},
            }
        },
        "samples_ns": {"fp16": [[{"wall_ns": [1, 2]}]]},
    }  # fmt: skip
    return made(run, minute, kind="latency", verdict="faster", values=values, **{**case, **changes})


def traffic(run, minute, case, ratio, verdict="faster", **changes):
    values = {
        "baseline": "fp16",
        "session": {
            "word": verdict, "why": "enough", "advice": "",
            "ratio": {"ratio": ratio, "ratio_low": ratio * 0.98, "ratio_high": ratio * 1.02},
            "null": {"point": 0.001, "interval": {"low": -0.004, "point": 0.001, "high": 0.006}},
        },
    }  # fmt: skip
    return made(run, minute, kind="latency", verdict=verdict, values=values, **{**case, **changes})


def printed(run, minute, logs):
    """What a run that ends says of its workers."""
    one = made(run, minute, kind="run", verdict="", values={"worker_logs": logs})
    del one["case"], one["fields"]
    return one


def finding(case, aspect, word, where="", ratio=None, why="said", **changes):
    values = {}
    if ratio:
        log = math.log(ratio)
        values = {"log_ratio": log, "interval": {"low": log - 0.01, "point": log, "high": log + 0.01}}
    return {
        "case": case, "aspect": aspect, "word": word, "why": why, "where": where, "p": 0.001, "stage": 2,
        "values": values, **changes,
    }  # fmt: skip


def gate(run, minute, model="wave"):
    """The records of one gate: two pairs, one of them slower, one that no longer builds."""
    sides = {"baseline": "tensorrt-8.5.3.1", "candidate": "tensorrt-8.6.0", "record": None}
    slow, broken = f"{model}-int8-auto-ragged-single", f"{model}-fp16-single"
    sessions = [{
        "stage": 1, "verdict": "regression", "why": "+9 %", "clock": "device_ns", "stopped_by": "look",
        "samples_ns": [{arm: {"short": [[41_000, 42_000], [40_500]]} for arm in ("tensorrt-8.5.3.1", "null control")}],
    }]  # fmt: skip
    pairs = [
        (case_of(model, "tensorrt-8.6.0"), "regression", {"pair": slow, **sides, "sessions": sessions, "findings": [
            finding(slow, "latency", "regression", "traffic", 1.09, why="confirmed: +9 %"),
            finding(slow, "latency", "pass", "short", 1.005),
            finding(slow, "coverage", "improved", why="operators in INT8: 4 before, 6 now"),
        ]}),
        (case_of(model, "tensorrt-8.6.0", "fp16"), "regression", {"pair": broken, **sides, "findings": [
            finding(broken, "builds", "regression", why="no longer builds: <b>Conv</b> refused"),
        ]}),
    ]  # fmt: skip
    for case, verdict, values in pairs:
        yield made(run, minute, kind="gate", verdict=verdict, values=values, **case)
    whole = made(run, minute, kind="gate", verdict="regression", values={
        **sides, "exit_code": 1, "historical": False, "cases": [slow, broken], "only_baseline": [],
        "only_candidate": ["wave-new"], "not_compared": [{"case": slow, "aspect": "memory", "why": "no device"}],
        "settings": {}, "seconds": 12.5, "advice": ["--budget 6m <b>would</b> settle 1 of 1"],
    })  # fmt: skip
    del whole["case"], whole["fields"]
    yield whole


def nights(folder, count=30, hostile=HOSTILE):
    """Runs, oldest first; a model's name, a reason and an error hold markup."""
    for night in range(count):
        run, minute = f"202611{night + 1:02}T020000Z-{night:06x}", night * 1440
        about = made()["environment"]
        driver = "580.1" if night < count * 2 // 3 else "581.0"
        about = {**about, "gpus": [{"name": "NVIDIA H200", "driver": driver}]}
        wave, small = case_of("wave"), case_of("plc", "onnxruntime-1.32.0-cpu")
        creep = 1.8 if night < count // 2 else 1.6
        lines = [
            made(run, minute, verdict="pass", environment=about, **wave),
            accuracy(run, minute, wave, 18.0),
            accuracy(run, minute, case_of("wave", precision="fp16"), 55.0),
            accuracy(run, minute, case_of("wave", method="minmax"), 11.0, "below bounds"),
            accuracy(run, minute, case_of("wave", policy="pad"), 16.0, "compared"),
            *(bucket(run, minute, wave, name, ratio) for name, ratio in zip(LENGTHS, (0.8, 1.5, 2.2), strict=True)),
            traffic(run, minute, wave, creep + 0.01 * (night % 3), environment=about),
            traffic(run, minute, small, 1.3 - 0.02 * (night % 2), host="gpu2"),
            accuracy(run, minute, small, 30.0 if night < count - 1 else 9.0,
                     "pass" if night < count - 1 else "below bounds", host="gpu2"),
        ]  # fmt: skip
        if night == count - 1:
            bad = case_of(hostile)
            error = f"BuildFailed: {hostile}"
            lines += [
                made(run, minute, verdict="failed", values={"test": "test_build", "error": error}, **bad),
                traffic(run, minute, bad, 1.1),
                *(bucket(run, minute, bad, name, 1.1) for name in LENGTHS),
                accuracy(run, minute, bad, 12.0, "below bounds", reasons=[hostile]),
                printed(run, minute, {hostile: f"[W] {hostile}", "tensorrt-8.5.3.1": "[W] too much memory"}),
            ]
        written(folder, run, *lines)
    last = f"202611{count:02}T060000Z-abcdef"
    written(folder, last, *gate(last, (count - 1) * 1440 + 240))
    return folder
