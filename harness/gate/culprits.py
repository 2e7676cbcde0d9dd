"""Which operators no longer build: cut out of the quantized model, one of a kind at a time, and built by both sides."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from harness.corpus.content import Draw, make
from harness.errors import BuildFailed, HostLost, WorkerDied, WorkerHung
from harness.sessions import quiet_options
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds
    from harness.gate.pairs import Pair
    from harness.spec.case import Case
    from harness.workbench import Workbench

    Arrays = dict[str, list[NDArray[np.generic]]]

__all__ = ["Culprit", "Cut", "culprits", "cut_out", "quantized_operators"]

_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_ON_THE_WAY = ("QuantizeLinear", "DequantizeLinear", "Cast")
"""What stands between an operator and the tensor that is quantized for it."""


@dataclass(frozen=True)
class Culprit:
    """A kind of operator that the baseline builds in INT8 and the candidate does not.

    :param kind: its type and, for a convolution, over how many axes.
    :param names: all of that kind in the model; the first is the one that was tried.
    :param said: what the candidate said of it.
    """

    kind: str
    names: tuple[str, ...]
    said: str

    def __str__(self) -> str:
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"{self.kind} in INT8 ({self.names[0]}{more})"


@dataclass(frozen=True)
class Cut:
    """One operator with its Q/DQ as a model of its own.

    :param inputs: the tensors of the whole model that it reads.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]


def culprits(bench: Workbench, pair: Pair) -> list[Culprit]:
    """What of a model that the candidate refuses, it refuses alone; empty where nothing can be told.

    One operator of each kind, the one with the smallest weights, is built by itself by both sides, for the shapes that
    it has at the smallest, opt and largest length. A model that is refused for how its operators meet has no culprits.
    """
    if pair.baseline.precision is not Precision.INT8:
        return []
    path = bench.artefacts(pair.baseline)[0]
    proto = onnx.load(path)
    cuts = {kind: (names, cut_out(proto, names[0])) for kind, names in quantized_operators(proto).items()}
    profile = bench.layout(pair.baseline).profiles[0]
    feeds = [_feeds(bench, pair.baseline, length) for length in (profile.min, profile.opt, profile.max)]
    arrays = _computed(proto, {name for _, cut in cuts.values() for name in cut.inputs}, feeds)
    found = []
    with tempfile.TemporaryDirectory(prefix="cut.") as folder:
        for number, (kind, (names, cut)) in enumerate(cuts.items()):
            file = Path(folder) / f"{number}.onnx"
            onnx.save(_declared(cut, arrays), file)
            shapes = {name: [list(array.shape) for array in arrays[name]] for name in cut.inputs}
            said = _refusal(bench, pair.candidate, file, shapes)
            if said and not _refusal(bench, pair.baseline, file, shapes):
                found.append(Culprit(kind, names, said))
    return found


def quantized_operators(proto: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Kind -> names of weighted operators that read dequantized tensors, the one with the smallest weights first."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    sizes: dict[str, dict[str, int]] = {}
    for node in proto.graph.node:
        behind = {makers[name].op_type if name in makers else "" for name in node.input[:2]}
        if node.op_type not in _WEIGHTED or not behind <= {"DequantizeLinear", "Cast"}:
            continue
        weight = _constant(proto, makers, node.input[1])
        axes = f" {len(weight.dims) - 2}-D" if weight is not None and node.op_type.startswith("Conv") else ""
        size = int(np.prod(weight.dims)) if weight is not None else 0
        sizes.setdefault(f"{node.op_type}{axes}", {})[node.name or node.output[0]] = size
    return {kind: tuple(sorted(names, key=names.__getitem__)) for kind, names in sizes.items()}


def cut_out(proto: onnx.ModelProto, name: str) -> Cut:
    """An operator with the Q/DQ and casts before it; its shapes and types are still to be declared.

    :param name: of the node, or of its first output.
    """
    makers = {tensor: node for node in proto.graph.node for tensor in node.output}
    constants = {one.name: one for one in proto.graph.initializer}
    (operator,) = [node for node in proto.graph.node if name in {node.name, node.output[0]}][:1]
    nodes, inputs, used = [operator], list[str](), list[str]()
    pending, seen = list(operator.input), set[str]()
    while pending:
        tensor = pending.pop()
        if not tensor or tensor in seen:
            continue
        seen.add(tensor)
        maker = makers.get(tensor)
        if tensor in constants:
            used.append(tensor)
        elif maker is not None and (maker.op_type in _ON_THE_WAY or _is_constant(maker, makers, constants)):
            if maker not in nodes:
                nodes.append(maker)
                pending += maker.input
        else:
            inputs.append(tensor)
    kept = [node for node in proto.graph.node if any(node is one for one in nodes)]
    graph = helper.make_graph(
        kept,
        "cut",
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in inputs],
        [helper.make_tensor_value_info(operator.output[0], TensorProto.FLOAT, None)],
        [constants[one] for one in used],
    )
    made = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    return Cut(made, tuple(sorted(inputs)))


def _is_constant(node: onnx.NodeProto, makers: Mapping[str, Any], constants: Mapping[str, Any]) -> bool:
    """Whether it is made of constants alone: a weight that is turned, or cast."""
    return all(
        not name or name in constants or (name in makers and _is_constant(makers[name], makers, constants))
        for name in node.input
    )


def _constant(proto: onnx.ModelProto, makers: Mapping[str, onnx.NodeProto], name: str) -> onnx.TensorProto | None:
    """The constant that a tensor comes from, through quantizers, casts and transposes."""
    constants: dict[str, onnx.TensorProto] = {one.name: one for one in proto.graph.initializer}
    while name not in constants:
        if name not in makers or not makers[name].input:
            return None
        name = makers[name].input[0]
    return constants[name]


def _feeds(bench: Workbench, case: Case, length: int) -> Feeds:
    entry = bench.entries[case.model]
    corpus = None if entry.synthetic else bench.corpus(case.model, "test")
    return make(Draw(length), entry, corpus)


def _computed(proto: onnx.ModelProto, names: Iterable[str], inputs: Sequence[Feeds]) -> Arrays:
    """Tensor -> its value on each of the inputs, as ONNX Runtime computes it."""
    names = sorted(names)
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    given = {one.name for one in proto.graph.input}
    asked = [name for name in names if name not in given]
    already = {one.name for one in watched.graph.output}
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked if name not in already)
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
    )
    runs = [{**feeds, **_fetched(session, asked, feeds)} for feeds in inputs]
    return {name: [one[name] for one in runs] for name in names}


def _fetched(session: onnxruntime.InferenceSession, names: Sequence[str], feeds: Feeds) -> Feeds:
    return dict(zip(names, session.run(names, dict(feeds)), strict=True)) if names else {}  # no name would be all


def _declared(cut: Cut, arrays: Arrays) -> onnx.ModelProto:
    """The cut with its inputs' types and shapes: an axis that differs between lengths is open."""
    graph = cut.model.graph
    for value in graph.input:
        seen = arrays[value.name]
        sizes = zip(*(array.shape for array in seen), strict=True)
        dims = [axis[0] if len(set(axis)) == 1 else f"{value.name}_{place}" for place, axis in enumerate(sizes)]
        element = helper.np_dtype_to_tensor_dtype(seen[0].dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, element, dims))
    inferred = onnx.shape_inference.infer_shapes(cut.model).graph
    types = {one.name: one for one in (*inferred.value_info, *inferred.output)}
    graph.output[0].CopyFrom(types[graph.output[0].name])
    return cut.model


def _refusal(bench: Workbench, case: Case, file: Path, shapes: Mapping[str, list[list[int]]]) -> str:
    """What the builder says against it; empty where it builds."""
    options = bench.build_options(case, 0, 1)
    options.pop("calibration_profile", None)
    if "profiles" in options:  # ONNX Runtime has none
        options["profiles"] = [dict(shapes)]
    try:
        bench.workers.build(bench.environment(case), file, options)
    except HostLost:
        raise
    except (BuildFailed, WorkerDied, WorkerHung) as error:
        return str(error)
    return ""
