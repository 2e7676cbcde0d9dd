"""The roofline of a host, measured through a runtime: what its own kernels reach there is what a layer can reach.

One large product in each precision, and one elementwise operator over traffic of several sizes. Measured once for a
host and a runtime, and kept in the cache by what they are.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.corpus.catalogue import Entry
from harness.errors import BuildFailed, RunFailed
from harness.explain.layer import Roofline
from harness.explain.tables import Effort, table
from harness.measure.arms import Input
from harness.paths import cache_dir, written
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case
from harness.spec.matrix import Matrix
from harness.spec.model import Axis, Model
from harness.spec.routes import default_routes
from harness.workbench import Workbench
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from harness.corpus.samples import Feeds
    from harness.explain.layer import Layer, LayerTable

__all__ = ["CPU", "GPU", "Scale", "from_tables", "probe_entries", "probe_runs", "roofline"]

ROOFLINE_VERSION = 2
"""Raise it whenever the same host would be measured otherwise."""

_PRODUCT, _STREAM = "roofline_product", "roofline_stream"
_STREAM_WIDTH = 1024


@dataclass(frozen=True)
class Scale:
    """How large the probes are.

    :param products: (rows, width) of inputs of products by square weights; no one size is the fastest everywhere.
    :param streams: rows of 4 kB that the elementwise operator reads and writes; the largest goes past every cache.
    """

    products: tuple[tuple[int, int], ...]
    streams: tuple[int, ...]


CPU = Scale(((256, 256), (256, 512), (1024, 1024)), (64, 256, 512, 1024, 4096, 49152))
GPU = Scale(((8192, 1024), (16384, 2048)), (2048, 16384, 131072))


def roofline(
    bench: Workbench,
    runtime: str,
    scale: Scale | None = None,
    effort: Effort | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Roofline:
    """What the environment of that name reaches on its host; from the cache where it was measured before.

    :param scale: :data:`CPU` or :data:`GPU` by where it runs, unless it is said.
    :param told: hears that it takes a while, where it does.
    :raises HarnessError: it cannot run there; a precision that it does not build is left out.
    """
    environment = bench.environments[runtime]
    scale = scale or (CPU if place_of(environment).device == "CPU" else GPU)
    said = bench.workers.get(environment).describe()
    known = {key: said.get(key) for key in ("library", "version", "device", "cpu", "gpu", "threads")}
    identity = [ROOFLINE_VERSION, environment.host or platform.node(), dict(environment.options), known, asdict(scale)]
    name = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:24]
    kept = cache_dir("roofline") / f"{environment.runtime}-{name}.json"
    if (found := _read(kept)) is not None:
        return found
    told(f"measuring once what {environment.name} reaches on this machine: products and traffic, some 20 s on a CPU")
    probes = Workbench(
        probe_entries(scale), bench.environments, bench.workers, bench.run, Matrix(samples=1, tests=1), 0,
        turns=bench.turns,
    )  # fmt: skip
    found = from_tables(_measured(probes, runtime, scale, effort or Effort(seconds=0.3, most=300)))
    with written(kept) as file:
        file.write(json.dumps({**asdict(found), "identity": identity}, default=str).encode())
    return found


def probe_runs(bench: Workbench, runtime: str, scale: Scale) -> Iterator[tuple[Case, Input]]:
    """What is measured: cases of the probes, each with a feed."""
    environment = bench.environments[runtime]
    base = Case(_STREAM, runtime, Precision.FP32, None, "single")
    for rows in scale.streams:
        yield base, _given(rows, _STREAM_WIDTH)
    routes = default_routes(environment.runtime, environment.version)
    route = Route.QDQ if Route.QDQ in routes else routes[0]
    minmax = Calibration(Method("minmax"), Policy.RAGGED)
    for rows, width in scale.products:
        fp32, given = replace(base, model=f"{_PRODUCT}{width}"), _given(rows, width)
        yield fp32, given
        yield replace(fp32, precision=Precision.FP16), given
        yield replace(fp32, precision=Precision.INT8, calibration=minmax, route=route), given


def from_tables(tables: Iterable[LayerTable]) -> Roofline:
    """The best of what these tables of probes show, by what each layer really ran in."""
    peaks: dict[str, float] = {}
    streams: dict[int, float] = {}
    for one in tables:
        for layer in one.layers:
            if one.case.startswith(f"{_STREAM}-") and _streams(layer):
                size = layer.moved_bytes or 0
                streams[size] = max(streams.get(size, 0.0), size / layer.time_us * 1e6)  # type: ignore[operator]
            elif one.case.startswith(_PRODUCT) and _multiplies(layer):
                rate = layer.operations / layer.time_us * 1e6  # type: ignore[operator]
                peaks[layer.precision] = max(peaks.get(layer.precision, 0.0), rate)
    sizes = sorted(streams)
    memory = streams[sizes[-1]] if sizes else 0.0
    return Roofline(peaks, memory, tuple((size, streams[size]) for size in sizes[:-1]))


def _measured(probes: Workbench, runtime: str, scale: Scale, effort: Effort) -> Iterator[LayerTable]:
    for case, given in probe_runs(probes, runtime, scale):
        try:
            yield table(probes, case, given, effort)
        except (BuildFailed, RunFailed):  # a version without INT8 products, say: its roof stays unknown
            if case.precision is Precision.FP32:
                raise


def _streams(layer: Layer) -> bool:
    return bool(layer.time_us and layer.moved_bytes and any("_stream" in name for name in layer.nodes))


def _multiplies(layer: Layer) -> bool:
    return bool(layer.role == "compute" and layer.precision and layer.operations and layer.time_us)


def _given(rows: int, width: int) -> Input:
    return Input(str(rows), rows, _feeds(rows, width))


def _feeds(rows: int, width: int) -> Feeds:
    values = np.random.default_rng(rows).standard_normal((1024, width)).astype(np.float32)
    return {"x": np.resize(values, (rows, width))}


def probe_entries(scale: Scale) -> dict[str, Entry]:
    """The models, as the catalogue has models: so they are built and calibrated as any other."""

    def entry(key: str, low: int, high: int, width: int, made: int) -> Entry:
        model = Model(key, (Axis("x", 0),), "rows", low, high, high)

        def samples(split: str, seed: int) -> Iterator[Feeds]:  # noqa: ARG001
            yield _feeds(low, width)

        return Entry(model, partial(_written, key, width, made), samples, f"{ROOFLINE_VERSION}/{width}/{made}", True)

    stream = entry(_STREAM, min(scale.streams), max(scale.streams), _STREAM_WIDTH, 8)
    products = [entry(f"{_PRODUCT}{width}", rows // 8, rows, width, width) for rows, width in scale.products]
    return {one.model.key: one for one in (stream, *products)}


def _written(key: str, width: int, made: int) -> Path:
    """``y = x @ w``; for the traffic ``z = x - (-x) + 1`` beside it, which no runtime takes into the product.

    The weight is one tile over and over, so that the file is small once it is compressed.
    """
    tile = np.random.default_rng(0).standard_normal((min(64, width), min(64, made))).astype(np.float32)
    weight = np.tile(tile, (width // len(tile), made // tile.shape[1])) / np.float32(width**0.5)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", made])]
    if key == _STREAM:
        nodes.append(helper.make_node("Neg", ["x"], ["opposite"], name="one_stream"))
        nodes.append(helper.make_node("Sub", ["x", "opposite"], ["double"], name="two_streams"))
        nodes.append(helper.make_node("Add", ["double", "one"], ["z"], name="in_place_stream"))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", width]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", width])]
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(1, np.float32), "one")]
    graph = helper.make_graph(nodes, key, inputs, outputs, weights[: len(nodes)])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    path = cache_dir("recipes") / f"{key}-{hashlib.sha256(content).hexdigest()[:16]}.onnx"
    if not path.is_file():
        with written(path) as file:
            file.write(content)
    return path


def _read(kept: Path) -> Roofline | None:
    """What was kept; None where nothing was, or where it is damaged."""
    try:
        said = json.loads(kept.read_bytes())
        peaks = {str(name): float(rate) for name, rate in said["operations_per_s"].items()}
        return Roofline(peaks, float(said["bytes_per_s"]), tuple((int(n), float(r)) for n, r in said["in_cache"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
