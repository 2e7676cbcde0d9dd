"""A file that brings its own Q/DQ: what it is, its graph without them, and the form that a runtime takes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from harness.calibration.ready import Checked, Graph, check
from harness.errors import ModelRefused, UsageError
from harness.modelfile import quantized_types
from harness.onnx_facts import called, inlined, is_whole, listed, read_facts
from harness.paths import cache_dir, written
from harness.trt_forms import kernel_shapes, static_batch, weights_for

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from onnx import NodeProto

    from harness.onnx_facts import ModelFacts
    from harness.spec.model import Model

__all__ = ["check_same_interface", "checked", "float_form", "for_runtime", "is_ready", "without_qdq"]

READY_VERSION = 1
"""Raise it whenever :func:`float_form` or :func:`for_runtime` would write other bytes for the same file."""

_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_PASSES = {"Concat", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""What may stand between a QuantizeLinear and its DequantizeLinear and computes the same on floats."""


def is_ready(facts: ModelFacts) -> bool:
    """Whether a file holds QuantizeLinear and DequantizeLinear, and no operator that computes on integers itself."""
    return bool(kinds := set(quantized_types(facts))) and kinds <= _PAIR and "DequantizeLinear" in kinds


def checked(path: Path) -> Checked:
    """What :func:`harness.calibration.ready.check` says of a file."""
    return check(_loaded(path), str(path))


def float_form(path: Path) -> Path:
    """The file without its Q/DQ, weights dequantized: what it computes where nothing is rounded but the weights.

    Cached by content.

    :raises ModelRefused: see :func:`without_qdq`, and :func:`harness.calibration.ready.check`: what does not fit is
        named before anything is computed with it.
    """
    target = _target(path, "float")
    if not is_whole(target):
        model = _loaded(path)
        check(model, str(path))
        made = without_qdq(model, str(path))
        with written(target) as file:
            file.write(made.SerializeToString(deterministic=True))
    return target


def without_qdq(model: ModelProto, where: str) -> ModelProto:
    """The same graph in float: constants dequantized, every other Q/DQ taken out.

    A weight that is stored in float before a QuantizeLinear of its own stays as it is stored.

    :param where: the model's file, for messages.
    :raises ModelRefused: the Q/DQ are no pairs: integers come in, go out, or are computed on; or a DequantizeLinear has
        other scales than its QuantizeLinear.
    """
    graph = Graph(model)
    made = ModelProto()
    made.CopyFrom(model)
    renamed: dict[str, str] = {}
    constants = []
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear":
            values = graph.constant(node.input[0])
            if values is not None:
                constants.append(numpy_helper.from_array(_dequantized(graph, node, values, where), node.output[0]))
                continue
            _refuse_unpaired(graph, node, where)
        if node.op_type in _PAIR:
            renamed[node.output[0]] = node.input[0]
    _refuse_integers_left(graph, {value.name for value in model.graph.output}, where)

    def source(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    outputs = {value.name for value in model.graph.output}
    kept: list[NodeProto] = []
    for node in made.graph.node:
        if node.op_type not in _PAIR:
            node.input[:] = [source(name) for name in node.input]
            kept.append(node)
        elif node.output[0] in outputs and node.output[0] in renamed:
            kept.append(helper.make_node("Identity", [source(node.input[0])], [node.output[0]], name=node.name))
    del made.graph.node[:], made.graph.value_info[:]  # the types of what were integers are no longer true
    made.graph.node.extend(kept)
    made.graph.initializer.extend(constants)
    used = {name for node in kept for name in node.input} | outputs
    left = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(left)
    return made


def for_runtime(path: Path, runtime: str, version: str, model: Model) -> Path:
    """The file that a runtime is given: one file, and for TensorRT in the form that its version's parser takes.

    Scales, and the integers that weights become, stay what they are.
    """
    facts = read_facts(path)
    tensorrt = runtime == "tensorrt"
    weights = weights_for(runtime, version)
    if not tensorrt and facts.digest == facts.sha256:  # no external data
        return facts.path
    keep = {(axis.input, axis.dim) for axis in model.axes}
    target = _target(path, runtime if tensorrt else "", weights, *map(str, sorted(keep)))
    if not is_whole(target):
        made = _loaded(path)
        if tensorrt:
            made = kernel_shapes(static_batch(_with_float_weights(made) if weights == "float" else made, keep))
        with written(target) as file:
            file.write(made.SerializeToString(deterministic=True))
    return target


def check_same_interface(ready: ModelFacts, baseline: ModelFacts) -> None:
    """Refuse an FP32 file that is not called as the Q/DQ file is.

    :raises UsageError: inputs or outputs differ by name, type or number of dimensions.
    """
    for what in ("inputs", "outputs"):
        ours, theirs = (
            {(one.name, one.dtype, len(one.dims)) for one in getattr(facts, what)} for facts in (ready, baseline)
        )
        if ours != theirs:
            raise UsageError(
                f"its {what} are {listed(getattr(baseline, what))}; those of {ready.path.name} are "
                f"{listed(getattr(ready, what))}",
                where=f"--float {baseline.path}",
                todo="give the FP32 model that the Q/DQ model was made from, exported with the same names",
            )


def _loaded(path: Path) -> ModelProto:
    return inlined(onnx.load(path), str(path))


def _dequantized(graph: Graph, node: NodeProto, values: NDArray[Any], where: str) -> NDArray[Any]:
    scale = graph.constant(node.input[1])
    if scale is None or any(a.name == "block_size" and a.i for a in node.attribute):
        raise _needs_float(f"{called(node)} dequantizes by blocks, or by a scale that is computed", where)
    zero = graph.zero_point(node)
    shifted = values.astype(np.float32) - (0 if zero is None else _along(zero, values, node).astype(np.float32))
    return np.asarray(shifted * _along(scale, values, node), scale.dtype)


def _along(values: NDArray[Any], of: NDArray[Any], node: NodeProto) -> NDArray[Any]:
    """Scales or zero points in a shape that broadcasts along the node's axis."""
    if values.size == 1:
        return values.reshape(())
    axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 1) % of.ndim
    return values.reshape([-1 if dim == axis else 1 for dim in range(of.ndim)])


def _refuse_unpaired(graph: Graph, node: NodeProto, where: str) -> None:
    """Every way back from a DequantizeLinear has to end at a QuantizeLinear with its scale and zero point."""
    pending, seen = [node.input[0]], set()
    while pending:
        name = pending.pop()
        source = graph.makers.get(name)
        if name in seen:
            continue
        seen.add(name)
        if source is None:
            raise _needs_float(f"{called(node)} reads integers that are not quantized in the file ({name!r})", where)
        if source.op_type == "QuantizeLinear":
            if not _same(graph.scale(node), graph.scale(source)) or not _same_zero(graph, node, source):
                raise _needs_float(f"{called(node)} has other scales than {called(source)}", where)
        elif source.op_type in _PASSES:
            pending += source.input if source.op_type == "Concat" else source.input[:1]
        else:
            raise _needs_float(f"{called(source)} computes on quantized integers", where)


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is not None and other is not None and np.array_equal(one.ravel(), other.ravel())


def _same_zero(graph: Graph, one: NodeProto, other: NodeProto) -> bool:
    zeros = (graph.zero_point(node) for node in (one, other))
    first, second = (np.zeros(1) if zero is None else zero.ravel() for zero in zeros)
    return bool(np.all(first == second))


def _refuse_integers_left(graph: Graph, outputs: set[str], where: str) -> None:
    integers: dict[str, NodeProto] = {}
    for node in graph.nodes:  # in topological order
        if node.op_type == "QuantizeLinear":
            integers[node.output[0]] = node
        elif node.op_type in _PASSES and node.input[0] in integers:
            integers.update((name, node) for name in node.output)
        elif node.op_type != "DequantizeLinear" and (read := [name for name in node.input if name in integers]):
            raise _needs_float(f"{called(node)} computes on quantized integers ({read[0]!r})", where)
    if out := sorted(outputs & set(integers)):
        raise _needs_float(f"the output {out[0]!r} is quantized", where)


def _needs_float(what: str, where: str) -> ModelRefused:
    return ModelRefused(
        f"its Q/DQ cannot be taken out: {what}",
        where=where,
        todo="give the FP32 model that it is held against: --float FILE.onnx, or float in [[models]]",
    )


def _with_float_weights(model: ModelProto) -> ModelProto:
    """int8 constants before a DequantizeLinear as float ones before a QuantizeLinear, which makes the same integers."""
    graph = Graph(model)
    made = ModelProto()
    made.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in made.graph.node:
        values = graph.constant(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if values is not None and values.dtype == np.int8:
            stored = f"{node.output[0]}_float"
            made.graph.initializer.append(
                numpy_helper.from_array(_dequantized(graph, node, values, "a ready model"), stored)
            )
            quantize = helper.make_node("QuantizeLinear", [stored, *node.input[1:]], [f"{stored}_quantized"])
            if len(quantize.input) < len(("values", "scale", "zero point")):
                scale = graph.constant(node.input[1])  # constant: else it would not have been dequantized
                zeros = np.zeros(() if scale is None else scale.shape, np.int8)
                made.graph.initializer.append(numpy_helper.from_array(zeros, f"{stored}_zero"))
                quantize.input.append(f"{stored}_zero")
            quantize.attribute.extend(a for a in node.attribute if a.name == "axis")
            node.input[0] = quantize.output[0]
            nodes.append(quantize)
        nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    left = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(left)
    return made


def _target(path: Path, *parts: str) -> Path:
    digest = hashlib.sha256(read_facts(path).digest.encode())
    digest.update("\0".join([str(READY_VERSION), onnx.__version__, *parts]).encode())
    return cache_dir("artefacts") / f"{digest.hexdigest()[:32]}.onnx"
