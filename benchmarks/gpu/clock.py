"""The harness's device time beside a bare loop between two events, on a GPU: both on one engine, in one process.

    TRT/python benchmarks/gpu/clock.py --model conv1d.onnx --shape 1,256,-1 --lengths 64,1024,8192

Needs TensorRT from 8.5 on and pycuda in the interpreter that runs it, nothing else of the harness. Blocks of both
sides alternate in random order; a block's value is the median of its runs, the ratio is the median over blocks with
its quartiles. The last line is JSON. Goal: within 1 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.runtimes.tensorrt import TensorRt

GOAL = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="one float32 input")
    parser.add_argument("--shape", required=True, help="of the input, -1 for the length")
    parser.add_argument("--lengths", required=True)
    parser.add_argument("--flags", default="FP16")
    parser.add_argument("--tactics", default="", help="names of tactic sources; all where empty")
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--runs", type=int, default=20, help="of each side in a block")
    options = parser.parse_args()
    lengths = [int(text) for text in options.lengths.split(",")]
    shape = [int(text) for text in options.shape.split(",")]

    def at(length: int) -> list[int]:
        return [length if size < 0 else size for size in shape]

    runtime, name = TensorRt(), input_of(options.model)
    build: dict[str, Any] = {"flags": [options.flags] if options.flags else []}
    if options.tactics:
        build["tactic_sources"] = options.tactics.split(",")
    build["profiles"] = [{name: [at(min(lengths)), at(sorted(lengths)[len(lengths) // 2]), at(max(lengths))]}]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "engine")
        runtime.build(str(options.model), str(file), build)
        engine, bare = runtime.load(str(file), {}), Bare(file, name)
        report = {}
        for length in lengths:
            feed = {name: np.random.default_rng(length).standard_normal(at(length)).astype(np.float32)}
            engine.keep(str(length), feed)
            bare.feed(feed[name])
            report[length] = compared(engine, bare, str(length), options)
    for length, row in report.items():
        print(f"{length:>8}  ours {row['ours_us']:9.2f} us   bare {row['bare_us']:9.2f} us   "
              f"{row['ratio']:.4f}x [{row['low']:.4f}, {row['high']:.4f}]")  # fmt: skip
    worst = max(abs(row["ratio"] - 1) for row in report.values())
    version = runtime.describe()["version"]
    print(json.dumps({"tensorrt": version, "lengths": report, "worst": worst, "met": worst <= GOAL}))


def input_of(model: Path) -> str:
    """The name of its input, read by TensorRT's parser."""
    import tensorrt as trt  # type: ignore[import-not-found, unused-ignore]

    log = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(log).create_network(1)
    assert trt.OnnxParser(network, log).parse_from_file(str(model))
    return str(network.get_input(0).name)


class Bare:
    """What one would write: everything set once, then record, enqueue, record, wait."""

    def __init__(self, file: Path, name: str) -> None:
        import pycuda.driver as cuda  # type: ignore[import-not-found, unused-ignore]
        import tensorrt as trt

        self.cuda, self.name = cuda, name
        cuda.init()
        self.primary = cuda.Device(0).retain_primary_context()
        self.primary.push()
        self.log = trt.Logger(trt.Logger.ERROR)
        self.runtime = trt.Runtime(self.log)
        self.engine = self.runtime.deserialize_cuda_engine(file.read_bytes())
        self.context = self.engine.create_execution_context()
        self.stream, self.start, self.end = cuda.Stream(), cuda.Event(), cuda.Event()
        self.memory: list[Any] = []
        cuda.Context.pop()

    def feed(self, x: Any) -> None:
        self.primary.push()
        self.memory = [self.cuda.mem_alloc(x.nbytes)]
        self.cuda.memcpy_htod(self.memory[0], x)
        self.context.set_input_shape(self.name, x.shape)
        self.context.set_tensor_address(self.name, int(self.memory[0]))
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            if name != self.name:
                size = int(np.prod(tuple(self.context.get_tensor_shape(name)))) * 4
                self.memory.append(self.cuda.mem_alloc(size))
                self.context.set_tensor_address(name, int(self.memory[-1]))
        self.cuda.Context.pop()

    def run(self, warmup: int, runs: int) -> list[float]:
        """Durations in ns."""
        self.primary.push()
        for _ in range(warmup):
            self.context.execute_async_v3(self.stream.handle)
        self.stream.synchronize()
        times = []
        for _ in range(runs):
            self.start.record(self.stream)
            self.context.execute_async_v3(self.stream.handle)
            self.end.record(self.stream)
            self.end.synchronize()
            times.append(self.start.time_till(self.end) * 1e6)
        self.cuda.Context.pop()
        return times


def compared(engine: Any, bare: Bare, label: str, options: argparse.Namespace) -> dict[str, float]:
    random = np.random.default_rng(0)
    sides = {
        "ours": lambda: engine.timed(label, 3, options.runs)["device_ns"],
        "bare": lambda: bare.run(3, options.runs),
    }
    for side in sides.values():
        side()
    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(options.blocks):
        for name in random.permutation(list(sides)):
            found[name].append(statistics.median(sides[name]()))
    low, middle, high = np.percentile(np.divide(found["ours"], found["bare"]), [25, 50, 75])
    return {
        "ours_us": statistics.median(found["ours"]) / 1e3,
        "bare_us": statistics.median(found["bare"]) / 1e3,
        "ratio": float(middle),
        "low": float(low),
        "high": float(high),
    }


if __name__ == "__main__":
    main()
