"""What INT8 buys, operator by operator: times of kernels where they can be had, shares of the products elsewhere."""

from __future__ import annotations

import json
import re
import tempfile
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.mixed.evaluate import open_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from harness.mixed.palette import Palette

__all__ = ["Gains", "by_kernels", "by_products", "interleaved"]

_RUNS, _DROPPED = 9, 2
_BURST = 3
_FUSED = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid"}
_NOISE = re.compile(r"(_token_\d+|_nchwc|_kernel_time|/duplicated|_Add)+$")


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


def by_products(palette: Palette) -> Gains:
    """Each node's share of all products of weighted nodes at the same length: the size of its weights by how often
    they are used, which is the same for all but convolutions with a stride; these are estimated too high.
    """
    weights = {tensor.name: tensor.dims for tensor in palette.prepared.graph.initializer}
    sizes = {
        node.name: float(prod(weights.get(node.input[1], [1])))
        for node in palette.prepared.graph.node
        if node.name in palette.operators
    }
    total = sum(sizes.values()) or 1.0
    return Gains({name: size / total for name, size in sizes.items()}, "products")


def interleaved(
    files: Sequence[onnx.ModelProto | Path], feeds: Mapping[str, Any], blocks: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Bucket -> times in us, [blocks, files]: in each block every file once, in random order, the best of a burst.

    For choosing between files of one search in this process; verdicts come from sessions (:mod:`harness.measure`).
    """
    sessions = [open_model(file) for file in files]
    random, found = np.random.default_rng(seed), {}
    for bucket, sample in feeds.items():
        times = np.zeros((blocks, len(sessions)))
        for block in range(blocks):
            for place in random.permutation(len(sessions)):
                run, best = sessions[place].run, np.inf
                run(None, sample)
                for _ in range(_BURST):
                    start = time.perf_counter_ns()
                    run(None, sample)
                    best = min(best, time.perf_counter_ns() - start)
                times[block, place] = best / 1e3
        found[bucket] = times
    return found


def _node_us(
    graph: onnx.ModelProto,
    file: onnx.ModelProto | Path,
    sample: Any,
    palette: Palette,
) -> dict[str, float]:
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
