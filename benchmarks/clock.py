"""Measured time is the runtime's own: bursts timed through a worker against a bare loop.

The bare loop is a process of its own that knows nothing of the harness: onnxruntime with the same options, one thread,
inputs bound beforehand. Both are timed in one run, in blocks, in random order. Beside it stands a loop over
``session.run``, which binds inputs and copies outputs at every call: some 20 us that are Python's and not the model's.
Both share a core, drawn anew for each launch, as the workers of a session do: cores of a shared host differ. There are
several launches of both. A ratio is of medians within a block, then the median over blocks and over launches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fixtures.catalogue import ENTRIES
from harness.corpus.samples import length_of
from harness.measure.host import host
from harness.workers import Worker, find_environments, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORT_MIDDLE_LONG = (0.1, 0.5, 0.9)
"""Quantiles of the corpus's lengths at which a model is timed."""

BARE = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {path: dict(np.load(path)) for path in sys.argv[2:]}
bound = {}
for path, feed in feeds.items():
    bound[path] = session.io_binding()
    for name, array in feed.items():
        bound[path].bind_cpu_input(name, array)
    for output in session.get_outputs():
        bound[path].bind_output(output.name)
for line in sys.stdin:
    path, repeats, how = json.loads(line)
    call, arguments = session.run, (None, feeds[path])
    if how == "bound":
        call, arguments = session.run_with_iobinding, (bound[path],)
    wall, cpu = [], []
    call(*arguments)
    for _ in range(repeats):
        c, w = time.process_time_ns(), time.perf_counter_ns()
        call(*arguments)
        w2, c2 = time.perf_counter_ns(), time.process_time_ns()
        wall.append(w2 - w)
        cpu.append(c2 - c)
    print(json.dumps({"wall_ns": wall, "cpu_ns": cpu}), flush=True)
"""


class BareLoop:
    """The bare loop's process."""

    def __init__(self, model: Path, feeds: Sequence[Path]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BARE, str(model), *map(str, feeds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            stream.close()  # type: ignore[union-attr]

    def pin(self, core: int) -> None:
        os.sched_setaffinity(self._process.pid, {core})

    def timed(self, feed: Path, repeats: int, how: str = "bound") -> dict[str, list[int]]:
        self._process.stdin.write(json.dumps([str(feed), repeats, how]) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        answer: dict[str, list[int]] = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="vad,rec,text")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--burst-ms", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    environment = select(find_environments(Path.cwd()), ["onnxruntime"])[0]
    random = np.random.default_rng(options.seed)
    report: dict[str, Any] = {}
    print(
        f"{'model':<6}{'length':>8}{'ms':>9}  worker / bare loop: {'processor time':<26}{'wall clock':<26}session.run"
    )
    for key in options.models.split(","):
        lengths = three_lengths(key)
        launches = [one_launch(key, lengths, environment, random, options) for _ in range(options.launches)]
        for length in lengths:
            rows = [launch[length] for launch in launches]
            row: dict[str, Any] = {"ms": statistics.median(one["ms"] for one in rows)}
            row["against_run"] = statistics.median(one["against_run"] for one in rows)
            for clock in ("cpu_ns", "wall_ns"):
                found = [one[clock] for one in rows]
                row[clock] = {"ratio": statistics.median(found), "low": min(found), "high": max(found)}
            report.setdefault(key, {})[length] = row
            shown = (
                f"{row[c]['ratio']:.4f} [{row[c]['low']:.3f}, {row[c]['high']:.3f}]" for c in ("cpu_ns", "wall_ns")
            )
            print(
                f"{key:<6}{length:>8}{row['ms']:>9.2f}  {'':<21}{''.join(f'{text:<26}' for text in shown)}", flush=True
            )
    deviations = {clock: max(abs(row[clock]["ratio"] - 1) for of in report.values() for row in of.values())
                  for clock in ("cpu_ns", "wall_ns")}  # fmt: skip
    facts = host()
    print(json.dumps({
        "worst_deviation": {clock: round(value, 4) for clock, value in deviations.items()},
        "within_2_percent": deviations["cpu_ns"] <= 0.02, "models": report, "revision": facts["commit"],
        "host": {name: facts[name] for name in ("cpu", "cores_usable", "load")},
    }))  # fmt: skip


def three_lengths(key: str) -> dict[int, Mapping[str, Any]]:
    """Length -> a real sample of it, at three quantiles of the first 60 test samples."""
    entry = ENTRIES[key]
    samples = [one for one, _ in zip(entry.samples("test", 0), range(60), strict=False)]
    samples.sort(key=lambda feeds: length_of(entry.model, feeds))
    chosen = [samples[int(share * (len(samples) - 1))] for share in SHORT_MIDDLE_LONG]
    return {length_of(entry.model, feeds): feeds for feeds in chosen}


def one_launch(
    key: str, lengths: Mapping[int, Mapping[str, Any]], environment: Any, random: np.random.Generator, options: Any
) -> dict[int, dict[str, float]]:
    """Length -> ``ms`` of the worker and, by clock, the median over blocks of worker / bare loop."""
    onnx = ENTRIES[key].onnx()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = {length: folder / f"{length}.npz" for length in lengths}
        for length, file in files.items():
            np.savez(file, **lengths[length])
        bare = stack.enter_context(BareLoop(onnx, list(files.values())))
        worker = stack.enter_context(Worker(environment))
        core = int(random.choice(sorted(os.sched_getaffinity(0))))
        bare.pin(core)
        worker.pin(core)
        engine = worker.load(onnx)
        repeats = {}
        for length, feeds in lengths.items():
            engine.keep(str(length), feeds)
            typical = min(engine.timed(str(length), 2, 5)["wall_ns"]) / 1e6
            repeats[length] = max(3, round(options.burst_ms / typical))
            bare.timed(files[length], repeats[length])  # warm up all alike
            bare.timed(files[length], repeats[length], "run")
            engine.timed(str(length), 1, repeats[length])
        bursts: dict[int, dict[str, list[dict[str, list[int]]]]] = {
            n: {"ours": [], "bare": [], "run": []} for n in lengths
        }
        for _ in range(options.blocks):
            for place in random.permutation(len(lengths)):
                length = list(lengths)[int(place)]
                sides = {
                    "ours": lambda n=length: engine.timed(str(n), 1, repeats[n]),
                    "bare": lambda n=length: bare.timed(files[n], repeats[n]),
                    "run": lambda n=length: bare.timed(files[n], repeats[n], "run"),
                }
                for side in random.permutation(list(sides)):
                    bursts[length][side].append(sides[side]())
    return {length: _ratios(of) for length, of in bursts.items()}


def _ratios(bursts: Mapping[str, list[dict[str, list[int]]]]) -> dict[str, float]:
    def medians(side: str, clock: str) -> np.ndarray:
        return np.array([np.median(burst[clock]) for burst in bursts[side]])

    clocks = ("cpu_ns", "wall_ns")
    found = {clock: float(np.median(medians("ours", clock) / medians("bare", clock))) for clock in clocks}
    run = float(np.median(medians("ours", "cpu_ns") / medians("run", "cpu_ns")))
    return {**found, "against_run": run, "ms": float(np.median(medians("ours", "cpu_ns"))) / 1e6}


if __name__ == "__main__":
    main()
