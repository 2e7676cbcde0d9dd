"""The layer table of a case: its engine is built, run, profiled, and told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from harness.explain import assemble, onnxruntime_layers, tensorrt_layers
from harness.explain.cost import costs
from harness.explain.layer import LayerTable
from harness.runtimes import rtx_layers
from harness.spec.calibration import Precision
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from harness.explain.origins import Row
    from harness.measure.arms import Input
    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["Effort", "only_precision", "read_rows", "table", "tables"]

_LABEL = "explain"
_LOG_LINES = 20


@dataclass(frozen=True)
class Effort:
    """How long a table may take.

    :param seconds: of timed runs, once without and once with the profiler.
    :param least: runs of each, however long they take. :param most: and no more than so many.
    """

    seconds: float = 0.4
    least: int = 7
    most: int = 200

    def repeats(self, run_us: float) -> int:
        return int(min(self.most, max(self.least, self.seconds * 1e6 / max(run_us, 1.0))))


def tables(bench: Workbench, case: Case, inputs: Sequence[Input], effort: Effort | None = None) -> list[LayerTable]:
    """The layers of a case at each length. Whole runs are timed at all of them before any is profiled: a context that
    had a profiler may stay slower (as on an H200 with TensorRT 8.6.0, by up to 0.9 ms of 1.4).

    :raises HarnessError: what building, loading or running raises.
    """
    whole: list[float | None] = [None] * len(inputs)
    if bench.environment(case).can_run:
        whole = [_whole_us(bench, case, given, effort or Effort()) for given in inputs]
    return [table(bench, case, given, effort, us) for given, us in zip(inputs, whole, strict=True)]


def table(
    bench: Workbench, case: Case, given: Input, effort: Effort | None = None, whole_us: float | None = None
) -> LayerTable:
    """The layers of a case at one length; without times where its runtime only builds.

    ``whole_us`` is by the clock that judges in a latency session: the device's, or processor time.

    :param whole_us: a whole run's time, where it is known; else it is timed here.
    :raises HarnessError: what building, loading or running raises.
    """
    environment = bench.environment(case)
    model = onnx.load(bench.formed(case))
    counted = costs(model, {name: value.shape for name, value in given.feeds.items()}, given.feeds)
    names = {node.name: node.op_type for node in model.graph.node}
    files = bench.build(case)
    facts, path = files[bench.layout(case).dispatch(given.length) if len(files) > 1 else 0]
    log = tuple(str(line) for line in (*facts.get("log", ()), *facts.get("warnings", ())))[-_LOG_LINES:]
    if not environment.can_run:
        said = rtx_layers.layers(path.read_bytes()) if environment.runtime == "tensorrt-rtx" else []
        rows = tensorrt_layers.rows(said, {}, names)
        layers = assemble.layers(model, counted, rows, {}, only_precision(case))
        return LayerTable(case.id, given.length, layers, None, path.stat().st_size, log)
    effort = effort or Effort()
    whole = _whole_us(bench, case, given, effort) if whole_us is None else whole_us
    engine, repeats = bench.served(case).engine_for(given.length), effort.repeats(whole)
    with bench.turns.timing(place_of(environment)):
        engine.keep(_LABEL, given.feeds)
        told, times = engine.layers(_LABEL), engine.layer_times(_LABEL, repeats)
    rows = read_rows(environment.runtime, told, times, names)
    layers = assemble.layers(model, counted, rows, times, only_precision(case))
    return LayerTable(case.id, given.length, layers, whole, path.stat().st_size, log)


def _whole_us(bench: Workbench, case: Case, given: Input, effort: Effort) -> float:
    engine = bench.served(case).engine_for(given.length)
    with bench.turns.timing(place_of(bench.environment(case))):
        engine.keep(_LABEL, given.feeds)
        about = _median_us(engine.timed(_LABEL, 2, effort.least))
        return _median_us(engine.timed(_LABEL, 1, effort.repeats(about)))


def only_precision(case: Case) -> str:
    """The precision of products where the builder had no choice; empty where it had one."""
    return case.precision.value if case.precision is Precision.FP32 else ""


def read_rows(
    runtime: str, told: Sequence[Mapping[str, Any]], times: Mapping[str, Sequence[float]], names: Mapping[str, str]
) -> list[Row]:
    """A runtime's layers, whatever the runtime.

    :param names: node of the model -> its operator type.
    """
    if runtime == "onnxruntime":
        return onnxruntime_layers.rows(told, names)
    return tensorrt_layers.rows(told, times, names)


def _median_us(durations: Mapping[str, Sequence[int]]) -> float:
    """The median run by the device's clock; else by processor time, which other processes' turns are not in."""
    clock = next(name for name in ("device_ns", "cpu_ns", "wall_ns") if durations.get(name))
    return float(np.median(durations[clock])) / 1e3
