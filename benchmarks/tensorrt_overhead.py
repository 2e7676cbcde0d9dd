"""What our engine object costs on the host: ``timed`` against a loop written by hand with the same calls of TensorRT.

    python benchmarks/tensorrt_overhead.py                    # over the stand-in for tests, on a CPU
    python benchmarks/tensorrt_overhead.py --model a.onnx     # the genuine TensorRT of this interpreter, on a GPU

``steady``: one length again and again. ``alternating``: two lengths in turn, so that shapes and addresses are set anew
each time. Both sides run in blocks, in random order; a block's value is the mean time of a run, the ratio is the median
over blocks with its quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1.2
LENGTHS = (8, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="float32 [1, 4, T] in; makes it the genuine TensorRT's turn")
    parser.add_argument("--version", default="8.5", help="of the stand-in")
    parser.add_argument("--tactics", default="", help="names of tactic sources; all where empty")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--runs", type=int, default=40, help="of each side in a block")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = options.model
        if source is None:
            from tests.fake_tensorrt import loaded, models

            stack.enter_context(loaded(options.version, folder / "fake"))
            source = folder / "model.onnx"
            source.write_bytes(models.conv())
        import tensorrt

        report = measure(source, folder, options)
        report = {"tensorrt": tensorrt.__version__, "genuine": options.model is not None, **report}
    for name in ("steady", "alternating"):
        row = report[name]
        print(f"{name:<12} ours {row['ours_us']:8.1f} us   by hand {row['by_hand_us']:8.1f} us   "
              f"{row['ratio']:.3f}x [{row['low']:.3f}, {row['high']:.3f}]")  # fmt: skip
    worst = max(report[name]["ratio"] for name in ("steady", "alternating"))
    print(json.dumps({**report, "worst": worst, "met": worst <= GOAL}))


def measure(source: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from harness.runtimes.tensorrt import TensorRt

    runtime = TensorRt()
    profile = {"x": [[1, 4, 2], [1, 4, 16], [1, 4, 64]]}
    tactics = options.tactics.split(",") if options.tactics else None
    runtime.build(str(source), str(folder / "engine"), {"profiles": [profile], "tactic_sources": tactics})
    engine = runtime.load(str(folder / "engine"), {})
    feeds = {n: {"x": np.random.default_rng(n).standard_normal((1, 4, n)).astype(np.float32)} for n in LENGTHS}
    for length, feed in feeds.items():
        engine.keep(str(length), feed)
    by_hand = ByHand(folder / "engine", feeds)

    def ours(lengths: tuple[int, ...]) -> None:
        if len(lengths) == 1:
            engine.timed(str(lengths[0]), 0, options.runs)
        else:
            for turn in range(options.runs):
                engine.timed(str(lengths[turn % len(lengths)]), 0, 1)

    random = np.random.default_rng(0)
    report = {}
    for name, lengths in (("steady", LENGTHS[:1]), ("alternating", LENGTHS)):
        sides = {"ours": partial(ours, lengths), "by_hand": partial(by_hand.run, lengths, options.runs)}
        report[name] = interleaved(sides, random, options)
    return report


class ByHand:
    """The loop that one would write: everything allocated before, shapes and addresses set only when they change."""

    def __init__(self, engine: Path, feeds: dict[int, dict[str, Any]]) -> None:
        import pycuda.driver as cuda
        import tensorrt as trt

        self.cuda = cuda
        cuda.init()
        self.primary = cuda.Device(0).retain_primary_context()
        self.primary.push()
        self.log = trt.Logger(trt.Logger.ERROR)
        self.runtime = trt.Runtime(self.log)
        self.engine = self.runtime.deserialize_cuda_engine(engine.read_bytes())
        self.context = self.engine.create_execution_context()
        self.stream = cuda.Stream()
        self.start, self.end = cuda.Event(), cuda.Event()
        self.memory = {}
        for length, feed in feeds.items():
            x = cuda.mem_alloc(feed["x"].nbytes)
            cuda.memcpy_htod(x, feed["x"])
            self.memory[length] = (x, cuda.mem_alloc(1 * 8 * length * 4))
        self.now = 0
        cuda.Context.pop()

    def run(self, lengths: tuple[int, ...], runs: int) -> None:
        self.primary.push()
        for turn in range(runs):
            length = lengths[turn % len(lengths)]
            if length != self.now:
                x, y = self.memory[length]
                self.context.set_input_shape("x", (1, 4, length))
                self.context.set_tensor_address("x", int(x))
                self.context.set_tensor_address("y", int(y))
                self.now = length
            self.start.record(self.stream)
            self.context.execute_async_v3(self.stream.handle)
            self.end.record(self.stream)
            self.end.synchronize()
            self.start.time_till(self.end)
        self.cuda.Context.pop()


def interleaved(
    sides: dict[str, Callable[[], None]], random: np.random.Generator, options: argparse.Namespace
) -> dict[str, float]:
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.blocks):
        for name in random.permutation(list(sides)):
            began = time.perf_counter()
            sides[name]()
            times[name].append((time.perf_counter() - began) / options.runs * 1e6)
    ratios = [ours / hand for ours, hand in zip(times["ours"], times["by_hand"], strict=True)]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {
        "ours_us": statistics.median(times["ours"]), "by_hand_us": statistics.median(times["by_hand"]),
        "ratio": float(middle), "low": float(low), "high": float(high),
    }  # fmt: skip


if __name__ == "__main__":
    main()
