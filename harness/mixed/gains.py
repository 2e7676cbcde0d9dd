"""What INT8 buys, operator by operator: times of kernels where they can be had, shares of the products elsewhere."""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.explain.cost import costs
from harness.mixed.evaluate import open_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from harness.corpus.samples import Feeds
    from harness.mixed.palette import Palette

__all__ = ["Gains", "Stopwatch", "by_kernels", "by_products"]

_RUNS, _DROPPED = 9, 2
_BURST = 3
_FUSED = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid"}
_NOISE = re.compile(r"(_token_\d+|_nchwc|_kernel_time|/duplicated|_Add|/\w+Fusion/?)+$")


@dataclass(frozen=True)
class Gains:
    """Node -> what INT8 saves there over the traffic: microseconds, or a share of the products where nothing was timed.

    :param saved: may be negative: some kernels are slower in INT8 than in floating point.
    :param how: ``kernels`` or ``products``.
    """

    saved: dict[str, float]
    how: str

    @property
    def total(self) -> float:
        return sum(self.saved.values())


def by_kernels(palette: Palette, prepared: Path, feeds: Mapping[str, Any], weights: Mapping[str, float]) -> Gains:
    """Times of each node's kernels in the FP32 file less those in the plain INT8 file, with the Q/DQ around them.

    A Q/DQ pair that several nodes read is shared between them; conversions to a blocked layout count with the
    convolution beside them. What cannot be told apart goes with nobody.

    :param feeds: bucket -> a sample at its opt. :param weights: bucket -> its share of the traffic.
    """
    saved = dict.fromkeys(palette.nodes, 0.0)
    plain = next(iter(palette.plain.values()))
    for bucket, sample in feeds.items():
        before = _node_us(prepared, sample, palette)
        after = _node_us(plain, sample, palette)
        for node in saved:
            saved[node] += weights[bucket] * (before.get(node, 0.0) - after.get(node, 0.0))
    return Gains(saved, "kernels")


def by_products(palette: Palette, feeds: Mapping[str, Feeds], weights: Mapping[str, float]) -> Gains:
    """Each node's share of all operations of weighted nodes over the traffic: where nothing can be timed.

    :param feeds: bucket -> a sample at its opt. :param weights: bucket -> its share of the traffic.
    """
    saved = dict.fromkeys(palette.nodes, 0.0)
    for bucket, sample in feeds.items():
        counted = costs(palette.prepared, {name: array.shape for name, array in sample.items()}, sample)
        for node in palette.prepared.graph.node:
            if node.name in saved:
                saved[node.name] += weights[bucket] * float(counted.nodes[node.name].operations or 0)
    total = sum(saved.values()) or 1.0
    return Gains({name: one / total for name, one in saved.items()}, "products")


class Stopwatch:
    """How fast files of one search are beside plain INT8, in this process; verdicts come from sessions of
    :mod:`harness.measure`.

    :param feeds: bucket -> a sample at its opt. :param weights: bucket -> its share of the traffic.
    """

    def __init__(
        self,
        plain: onnx.ModelProto,
        prepared: Path,
        feeds: Mapping[str, Any],
        weights: Mapping[str, float],
        seed: int = 0,
    ) -> None:
        self.feeds, self.weights, self.seed = feeds, weights, seed
        self._plain, self._float = open_model(plain), open_model(prepared)

    def kept(self, file: onnx.ModelProto, blocks: int) -> float:
        """The file's speed-up over FP32 as a share of plain INT8's: above 1 where it is the faster one."""
        times = self._times([self._plain, open_model(file)], blocks)
        return times[0] / times[1]

    def speedups(self, files: Sequence[onnx.ModelProto | Path], blocks: int) -> list[float]:
        """FP32's time over the traffic, in parts of each file's."""
        times = self._times([self._float, *(open_model(file) for file in files)], blocks)
        return [times[0] / one for one in times[1:]]

    def _times(self, sessions: Sequence[Any], blocks: int) -> list[float]:
        """Of each session, over the traffic, us: in each block every one once in random order, the best of a burst."""
        random = np.random.default_rng(self.seed)
        totals = np.zeros(len(sessions))
        for bucket, sample in self.feeds.items():
            times = np.zeros((blocks, len(sessions)))
            for block in range(blocks):
                for place in random.permutation(len(sessions)):
                    times[block, place] = _burst(sessions[place].run, sample)
            totals += self.weights[bucket] * np.median(times, axis=0)
        return [float(total) for total in totals]


def _burst(run: Callable[..., Any], sample: Any) -> float:  # noqa: ANN401
    run(None, sample)
    best = np.inf
    for _ in range(_BURST):
        start = time.perf_counter_ns()
        run(None, sample)
        best = min(best, time.perf_counter_ns() - start)
    return best / 1e3


def _node_us(file: onnx.ModelProto | Path, sample: Any, palette: Palette) -> dict[str, float]:  # noqa: ANN401
    """Weighted node -> us of its kernel and of what only serves it."""
    owners = _owners(palette)
    times: dict[str, float] = {}
    reorders: list[float] = []
    last = ""
    for operator, name, us in _kernels(file, sample):
        if operator == "ReorderInput":
            reorders.append(us)
            continue
        found = owners.get(_NOISE.sub("", name), [])
        if operator == "ReorderOutput":
            found = [last] if last else []
        for owner in found:
            times[owner] = times.get(owner, 0.0) + us / len(found)
        if found and operator != "QuantizeLinear":
            last = found[0]
            times[last] = times.get(last, 0.0) + sum(reorders)
            reorders.clear()
    return times


def _owners(palette: Palette) -> dict[str, list[str]]:
    """What kernels may be called -> the weighted nodes that they work for.

    A fused kernel is called by its last node or that one's output; an activation behind an operator counts with it,
    for it is a part of the operator's kernel in one file and not in the other.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in palette.prepared.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, list[str]] = {}
    for node in palette.prepared.graph.node:
        if node.name not in palette.operators:
            continue
        names = [node.name, node.output[0], f"{node.output[0]}_DequantizeLinear", f"{node.output[0]}_QuantizeLinear"]
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type in _FUSED:
            names += [after[0].name, after[0].output[0], f"{after[0].output[0]}_DequantizeLinear"]
        for name in dict.fromkeys([*names, f"{node.input[0]}_QuantizeLinear"]):
            found.setdefault(name, []).append(node.name)
    return found


def _kernels(file: onnx.ModelProto | Path, sample: Any) -> list[tuple[str, str, float]]:  # noqa: ANN401
    """(operator, node's name, median us), in the order in which they run."""
    with tempfile.TemporaryDirectory(prefix="profile.") as folder:
        session = open_model(file, profile=str(Path(folder, "run")))
        for _ in range(_RUNS):
            session.run(None, sample)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"]["op_name"], event["name"].removesuffix("_kernel_time"))
            found.setdefault(key, []).append(float(event["dur"]))
    return [(operator, name, float(np.median(us[_DROPPED:]))) for (operator, name), us in found.items()]
