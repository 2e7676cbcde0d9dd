"""Faults for ``gate.py``: a candidate that is the baseline, and one thing wrong with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.calibration import artefacts, pipeline
from harness.corpus.samples import Corpus, length_of
from harness.spec.calibration import Policy
from harness.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.spec.case import Case

__all__ = ["CHANNELS", "FAULTS", "LAYERS", "LENGTHS", "Fault", "Planted", "model", "write_samples"]

CHANNELS, LAYERS = 96, 20
LENGTHS = (32, 96, 288)
"""Smallest, opt and largest of the benchmark's model."""

_LONG = 180
"""Lengths beyond it are in the bucket ``long`` alone."""
_FP32, _INT8 = "net-fp32-single", "net-int8-minmax-ragged-single"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the candidate.

    :param case: the pair that has it.
    :param aspects: what a finding has to be about to count as having found it.
    :param change: makes the file with the fault.
    :param blocks: whether it has to block; else it has to be told.
    """

    name: str
    case: str
    aspects: tuple[str, ...]
    change: Callable[[Workbench, Case, Path], onnx.ModelProto]
    blocks: bool = True


class Planted(Workbench):
    """A workbench whose candidate has a fault.

    :param fault: none for A/A. :param candidate: name of the environment that has it.
    """

    def __init__(self, *given: Any, fault: Fault | None, candidate: str) -> None:
        super().__init__(*given)
        self._fault, self._candidate = fault, candidate
        self._planted = tempfile.TemporaryDirectory(prefix="planted.")

    def _made(self, case: Case) -> tuple[Path, ...]:
        made = super()._made(case)
        fault = self._fault
        pair = case.id.replace(f"{case.runtime}-", "")
        if fault is None or case.runtime != self._candidate or pair != fault.case:
            return made
        (path,) = made
        target = Path(self._planted.name) / f"{fault.name}.onnx"
        onnx.save(fault.change(self, case, path), target)
        return (target,)

    def close(self) -> None:
        super().close()
        self._planted.cleanup()


# -- the model and its data -----------------------------------------------------------------------------------


def model() -> bytes:
    """x [1, T, 96] -> 20 times MatMul, Add, ReLU, each of the same cost -> y [1, T, 96]."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        # Orthogonal, times what ReLU takes away: the signal keeps its size through all layers.
        matrix, _ = np.linalg.qr(random.standard_normal((CHANNELS, CHANNELS)))
        weights.append(numpy_helper.from_array((1.35 * matrix).astype(np.float32), f"w{layer}"))
        weights.append(numpy_helper.from_array(random.normal(0, 0.05, CHANNELS).astype(np.float32), f"b{layer}"))
        value = _layer(nodes, layer, value, f"v{layer}" if layer < LAYERS - 1 else "y")
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "T", CHANNELS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "T", CHANNELS])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def _layer(nodes: list[Any], layer: int, value: str, to: str, of: str = "") -> str:
    nodes += [
        helper.make_node("MatMul", [value, f"w{layer}"], [f"{of}p{layer}"], f"{of}matmul{layer}"),
        helper.make_node("Add", [f"{of}p{layer}", f"b{layer}"], [f"{of}a{layer}"], f"{of}add{layer}"),
        helper.make_node("Relu", [f"{of}a{layer}"], [to], f"{of}relu{layer}"),
    ]
    return to


def write_samples(folder: Path, count: int = 150) -> None:
    """Samples whose size grows with their length, so that ranges seen on short ones do not do for long ones."""
    random = np.random.default_rng(1)
    low, _, high = LENGTHS
    for number, length in enumerate(np.geomspace(low, high, count).astype(int)):
        x = random.standard_normal((1, length, CHANNELS)) * (length / low)
        np.savez(folder / f"{number:03}.npz", x=x.astype(np.float32))


# -- what goes wrong ------------------------------------------------------------------------------------------


def _slower(layers: int, longer_than: int = 0) -> Callable[..., onnx.ModelProto]:
    """So many more layers of the same cost behind the last one, whose result counts for nothing."""

    def change(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
        proto = onnx.load(path)
        graph, value = proto.graph, "y_before"  # layers beside the first ones would be recognised as these
        nodes: list[Any] = []
        if longer_than:  # of a short sample nothing is left to compute
            ends = {"from": [longer_than], "to": [np.iinfo(np.int64).max], "along": [1]}
            for name, number in ends.items():
                graph.initializer.append(numpy_helper.from_array(np.array(number, np.int64), f"cut_{name}"))
            nodes.append(helper.make_node("Slice", ["y_before", "cut_from", "cut_to", "cut_along"], ["cut"], "cut"))
            value = "cut"
        for layer in range(layers):
            value = _layer(nodes, layer, value, f"extra_v{layer}", "extra_")
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
        # The sum over everything, times 0: one number, so that adding it costs what reading the output costs.
        nodes += [
            helper.make_node("ReduceSum", [value], ["extra_sum"], "extra_sum", keepdims=0),
            helper.make_node("Mul", ["extra_sum", "nothing"], ["extra_zero"], "extra_zero"),
        ]
        _through(proto, [*nodes, helper.make_node("Add", ["y_before", "extra_zero"], ["y"], "extra_add")])
        return proto

    return change


def _through(proto: onnx.ModelProto, nodes: list[Any]) -> None:
    """Let the model's output, now ``y_before``, go through nodes that make ``y``."""
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == "y":
                    names[place] = "y_before"
    proto.graph.node.extend(nodes)


def _scaled(factor: float) -> Callable[..., onnx.ModelProto]:
    """The step of the last activation. In the middle of the model four times the step costs 0.5 dB: tolerated."""

    def change(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
        proto = onnx.load(path)
        constants = {one.name: one for one in proto.graph.initializer}
        quantizers = [n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]
        node = quantizers[-1]
        step = numpy_helper.to_array(constants[node.input[1]])
        constants[node.input[1]].CopyFrom(numpy_helper.from_array((step * factor).astype(step.dtype), node.input[1]))
        return proto

    return change


def _weights_of(proto: onnx.ModelProto) -> list[tuple[Any, Any]]:
    """(quantized weight, its scales) of every weighted operator."""
    constants = {one.name: one for one in proto.graph.initializer}
    nodes = [n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    return [(constants[n.input[0]], constants[n.input[1]]) for n in nodes if len(constants[n.input[0]].dims) == 2]


def _silent_channels(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
    """An eighth of one layer's outputs lost their weights."""
    proto = onnx.load(path)
    weight, _ = _weights_of(proto)[LAYERS // 2]
    values = numpy_helper.to_array(weight).copy()
    values[:, : CHANNELS // 8] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return proto


def _turned_scales(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
    """Scales of channels in the other order, as if read along the wrong axis; weights instead where they share one."""
    proto = onnx.load(path)
    for weight, scale in _weights_of(proto)[:3]:
        turned = scale if numpy_helper.to_array(scale).size > 1 else weight
        values = numpy_helper.to_array(turned)[..., ::-1].copy()
        turned.CopyFrom(numpy_helper.from_array(values, turned.name))
    return proto


def _one_in_float(bench: Workbench, case: Case, path: Path) -> onnx.ModelProto:
    """One layer without its Q/DQ."""
    proto = onnx.load(path)
    original = {one.name: one for one in onnx.load(bench.prepared(case.model)).graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    product = [n for n in proto.graph.node if n.op_type in {"MatMul", "Gemm"}][LAYERS // 2]
    for place in (0, 1):
        dequantize = makers[product.input[place]]
        quantized = dequantize.input[0]
        if quantized in makers:  # an activation
            product.input[place] = makers[quantized].input[0]
        else:
            name = next(one for one in original if quantized.startswith(f"{one}_") or quantized == one)
            weight = numpy_helper.to_array(original[name])
            proto.graph.initializer.append(numpy_helper.from_array(weight, f"{name}_in_float"))
            product.input[place] = f"{name}_in_float"
    return proto


def _all_in_float(bench: Workbench, case: Case, _: Path) -> onnx.ModelProto:
    return onnx.load(bench.prepared(case.model))


def _calibrated_on_short(bench: Workbench, case: Case, _: Path) -> onnx.ModelProto:
    """Ranges from the shortest sample alone."""
    key = case.model
    whole, prepared, spec = bench.corpus(key, "calibration"), bench.prepared(key), bench.model(key)
    shortest = min(whole, key=lambda feeds: length_of(spec, feeds))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.write(Path(folder) / "short", spec, [shortest], "the shortest")
        found = pipeline.observed(prepared, spec, corpus, Policy.RAGGED, bench.layout(case))
        assert case.calibration is not None
        calibrated = pipeline.from_observed(
            found, prepared, spec, corpus, corpus.lengths, case.calibration, bench.layout(case), bench.dialect(case)
        )
    return onnx.load(artefacts.int8(prepared, calibrated.ranges[0], bench.dialect(case)))


def _at_length(nodes_of: Callable[[str], list[Any]], constants: dict[str, Any]) -> Callable[..., onnx.ModelProto]:
    """Nodes that make ``y`` of ``y_before`` and of ``long``, which is true for long samples."""

    def change(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
        proto = onnx.load(path)
        more = {"axis_1": np.array(1, np.int64), "length_limit": np.array(_LONG, np.int64), **constants}
        proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in more.items())
        asks = [
            helper.make_node("Shape", ["x"], ["x_shape"], "x_shape"),
            helper.make_node("Gather", ["x_shape", "axis_1"], ["x_length"], "x_length"),
            helper.make_node("Greater", ["x_length", "length_limit"], ["long"], "long"),
        ]
        _through(proto, [*asks, *nodes_of("long")])
        return proto

    return change


def _added(value: float) -> Callable[..., onnx.ModelProto]:
    def nodes(condition: str) -> list[Any]:
        return [
            helper.make_node("Where", [condition, "wrong", "right"], ["chosen"], "chosen"),
            helper.make_node("Add", ["y_before", "chosen"], ["y"], "wrongly"),
        ]

    return _at_length(nodes, {"wrong": np.array([value], np.float32), "right": np.zeros(1, np.float32)})


def _fails(condition: str) -> list[Any]:
    """An index that is outside for long samples."""
    return [
        helper.make_node("Where", [condition, "outside", "inside"], ["index"], "index"),
        helper.make_node("Gather", ["zeros", "index"], ["zero"], "zero"),
        helper.make_node("Add", ["y_before", "zero"], ["y"], "zero_added"),
    ]


def _unknown(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
    proto = onnx.load(path)
    proto.graph.node[-1].op_type = "NoSuchOperator"
    return proto


def _larger(_: Workbench, __: Case, path: Path) -> onnx.ModelProto:
    """As much again, in constants that nothing reads."""
    proto = onnx.load(path)
    ballast = np.random.default_rng(3).integers(-128, 128, proto.ByteSize(), np.int8)
    proto.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    return proto


_IDENTITY = {
    "outside": np.array([9], np.int64), "inside": np.array([0], np.int64), "zeros": np.zeros(1, np.float32),
}  # fmt: skip

FAULTS = {
    one.name: one
    for one in (
        Fault("latency +5 %", _FP32, ("latency",), _slower(LAYERS // 20)),
        Fault("latency +10 %", _FP32, ("latency",), _slower(LAYERS // 10)),
        Fault("latency at one length", _FP32, ("latency",), _slower(LAYERS // 5, LENGTHS[1])),
        Fault("scale x0.25", _INT8, ("accuracy",), _scaled(0.25)),
        Fault("scale x4", _INT8, ("accuracy",), _scaled(4.0)),
        Fault("channels without weights", _INT8, ("accuracy",), _silent_channels),
        Fault("scales along the wrong axis", _INT8, ("accuracy",), _turned_scales),
        Fault("calibrated on one length", _INT8, ("accuracy",), _calibrated_on_short),
        Fault("one layer in float", _INT8, ("coverage",), _one_in_float),
        Fault("all layers in float", _INT8, ("coverage", "latency"), _all_in_float),
        Fault("NaN at one length", _INT8, ("accuracy",), _added(float("nan"))),
        Fault("offset at one length", _INT8, ("accuracy",), _added(3.0)),
        Fault("fails at one length", _INT8, ("accuracy",), _at_length(_fails, _IDENTITY)),
        Fault("does not build", _INT8, ("builds",), _unknown),
        Fault("twice as large", _INT8, ("size",), _larger, blocks=False),
    )
}
"""By name. What a moved opt of a profile does, the stand-in's tests plant: a CPU has no profiles."""
