"""Taking an ONNX file in: refuse what cannot be quantized, and make the FP32 file artefacts start from."""

from __future__ import annotations

import re
import tempfile
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto, TensorProto

from harness.errors import ModelRefused, UsageError
from harness.onnx_facts import (
    ModelFacts,
    TensorFacts,
    all_nodes,
    called,
    has_subgraph,
    inlined,
    is_whole,
    listed,
    parse,
    read_facts,
    varying_axes,
)
from harness.paths import cache_dir, written
from harness.sessions import quiet_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.spec.model import Axis, Model
    from harness.spec.shapes import Profile

__all__ = [
    "WEIGHTED_TYPES",
    "ModelFacts",
    "TensorFacts",
    "check_axes",
    "check_axis",
    "inspect",
    "prepare",
    "profiles_for",
    "quantized_types",
    "read_facts",
    "refuse_fixed",
    "refuse_quantized",
    "scored_output",
    "varying_axes",
    "weighted_nodes",
]

WEIGHTED_TYPES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that are quantized: INT8 speeds these up."""

OPSET = 17
"""What older opsets are converted to: ONNX Runtime from 1.13 and TensorRT from 8.5 take it."""

PREPARATION_VERSION = 1
"""Raise it whenever :func:`prepare` would write other bytes for the same file."""

_LARGEST_BYTES = 2**31 - 1
_FLOATS = {"float16", "float32", "float64"}
_QUANTIZED = re.compile(
    r"(Dynamic)?QuantizeLinear|DequantizeLinear|QLinear.*|DynamicQuantize.*|ConvInteger|MatMulInteger.*"
    r"|DynamicQuantizeMatMul|MatMulNBits|QGemm|QAttention|QOrdered.*|QMoE"
)
_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_AS_IT_IS = "; what has Q/DQ alone runs as it is, uncalibrated: pytest suites/ --model FILE"


def inspect(path: Path | str) -> ModelFacts:
    """Read a file and refuse what can never be quantized here. Control flow is judged by :func:`prepare`.

    :raises UsageError: there is no such file, or it is a folder.
    :raises ModelRefused: not ONNX; external data missing or outside the model's folder; already quantized;
        every dimension of every input is fixed, or only the batch varies.
    """
    facts = read_facts(path)
    refuse_quantized(facts)
    refuse_fixed(facts)
    return facts


def refuse_quantized(facts: ModelFacts) -> None:
    """Refuse a file that holds quantized operators: their number, kinds and the first one are named.

    :raises ModelRefused: it does.
    """
    quantized = quantized_types(facts)
    if quantized:
        total = sum(quantized.values())
        first = next(n for n in all_nodes(parse(facts.path)) if _QUANTIZED.fullmatch(n.op_type))
        kinds = ", ".join(f"{count} {op}" for op, count in quantized.items())
        raise ModelRefused(
            f"already quantized: {total} quantized operators ({kinds}), the first is {called(first)}",
            where=str(facts.path),
            todo="give the FP32 model it was made from" + (_AS_IT_IS if set(quantized) <= _PAIR else ""),
        )


def quantized_types(facts: ModelFacts) -> dict[str, int]:
    """Every kind of quantized operator in a file, and how many there are; empty for a float model."""
    return {op: count for op, count in facts.op_counts if _QUANTIZED.fullmatch(op.rpartition("::")[2])}


def refuse_fixed(facts: ModelFacts) -> None:
    """Refuse a file in which nothing varies, or only the batch.

    :raises ModelRefused: the message lists the inputs and their dimensions.
    """
    if not varying_axes(facts):
        batch = any(isinstance(dim, str) for tensor in facts.inputs for dim in tensor.dims)
        raise ModelRefused(
            f"no varying axis: {'only the batch varies in' if batch else 'every dimension is fixed in'} "
            f"{listed(facts.inputs)}",
            where=str(facts.path),
            todo="export it with a dynamic axis (torch.onnx.export: dynamic_axes={'input': {1: 'length'}}) "
            "and name it: --axis input:1=length",
        )


def check_axes(facts: ModelFacts, model: Model) -> None:
    """Refuse a model description that does not fit the file.

    :raises UsageError: an axis, length input or padded input that is not there, or an axis that is fixed.
    :raises ModelRefused: nothing varies, or only the batch, and no batch axis was named.
    """
    for axis in model.axes:
        check_axis(facts, axis)
    for name in (*model.length_inputs, *(name for name, _ in model.pad_values)):
        facts.input(name)


def check_axis(facts: ModelFacts, axis: Axis) -> None:
    """Refuse an axis that the file does not have, or that is fixed there; raises as :func:`check_axes`."""
    tensor = facts.input(axis.input)
    if not 0 <= axis.dim < len(tensor.dims):
        raise UsageError(
            f"input {tensor} has no dimension {axis.dim}",
            where=str(facts.path),
            todo=f"dimensions are counted from 0 to {len(tensor.dims) - 1}",
        )
    if isinstance(tensor.dims[axis.dim], int):
        refuse_fixed(facts)
        varying = ", ".join(f"{t.name}:{i} ({t.dims[i]})" for t, i in varying_axes(facts))
        raise UsageError(
            f"dimension {axis.dim} of {tensor} is fixed to {tensor.dims[axis.dim]}",
            where=str(facts.path),
            todo=f"these vary: {varying}",
        )


def scored_output(model: Model, facts: ModelFacts) -> str:
    """The output that is compared: the model's own choice, or the file's first floating-point one.

    :raises UsageError: the file has no output of the model's choice.
    :raises ModelRefused: no output is floating-point.
    """
    names = [tensor.name for tensor in facts.outputs]
    if model.output and model.output not in names:
        raise UsageError(
            f"no output {model.output!r}", where=str(facts.path), todo=f"the outputs are {listed(facts.outputs)}"
        )
    floats = [tensor.name for tensor in facts.outputs if tensor.dtype in _FLOATS]
    if not model.output and not floats:
        raise ModelRefused(
            f"no floating-point output to compare, only {listed(facts.outputs)}",
            where=str(facts.path),
            todo="export the model with its scores as an output, or name one to compare with --output",
        )
    return model.output or floats[0]


def profiles_for(model: Model, facts: ModelFacts, profiles: Iterable[Profile]) -> list[dict[str, list[list[int]]]]:
    """What a build is told of its profiles: input -> its shape at min, at opt and at max; one dict a profile.

    Dimensions that follow the length take the profile's; other dynamic ones (a batch) are 1. A length input has
    three lists more, its values at min, opt and max: TensorRT asks for them where they decide a shape.
    """
    following = {(axis.input, axis.dim) for axis in model.axes}

    def shape(tensor: TensorFacts, length: int) -> list[int]:
        sizes = (size if isinstance(size, int) else 1 for size in tensor.dims)
        return [length if (tensor.name, dim) in following else size for dim, size in enumerate(sizes)]

    def entry(tensor: TensorFacts, profile: Profile) -> list[list[int]]:
        lengths = (profile.min, profile.opt, profile.max)
        shapes = [shape(tensor, length) for length in lengths]
        if tensor.name not in model.length_inputs:
            return shapes
        return shapes + [[length] * prod(sizes) for sizes, length in zip(shapes, lengths, strict=True)]

    return [{tensor.name: entry(tensor, profile) for tensor in facts.inputs} for profile in profiles]


def prepare(path: Path | str, model: Model | None = None) -> Path:
    """The canonical FP32 file of a model: one file, opset 17 or what it had above, constants as initializers.

    Functions are inlined, constants folded, an ``If`` with a constant condition dissolved, shapes inferred,
    every node named. Outputs stay what they were up to rounding. Cached by content; a second call hashes. A
    damaged file in the cache is made anew.

    :raises UsageError: see :func:`inspect` and :func:`check_axes`.
    :raises ModelRefused: see :func:`inspect`; control flow that cannot be folded away; an opset that cannot
        be converted; ONNX Runtime refuses the file; over 2 GiB; nothing that INT8 could speed up; not FP32.
    """
    import onnxruntime

    facts = read_facts(path)
    refuse_quantized(facts)
    if model is None:
        refuse_fixed(facts)
    else:  # who names a leading axis as the one that varies may do so
        check_axes(facts, model)
    key = f"{facts.digest[:32]}-ort{onnxruntime.__version__}-p{PREPARATION_VERSION}"
    target = cache_dir("prepared") / f"{key}.onnx"
    if is_whole(target):
        return target
    if facts.size_bytes > _LARGEST_BYTES:
        raise ModelRefused(
            f"{facts.size_bytes / 2**30:.1f} GiB of weights: a single ONNX file holds at most 2 GiB",
            where=str(facts.path),
            todo="this harness takes models below 2 GiB",
        )
    ready = _prepared(facts)
    with written(target) as file:
        file.write(ready.SerializeToString(deterministic=True))
    return target


def _prepared(facts: ModelFacts) -> ModelProto:
    model = inlined(onnx.load(facts.path), str(facts.path))
    _tidy_opsets(model)
    # IR below 4 lists initializers among the inputs: every weight looks replaceable, and nothing is folded.
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model = _converted(model, facts)
    _name_nodes(model)  # ONNX Runtime refuses two nodes of one name
    _check_precision(model, facts)
    model = _folded(model, facts)
    left = [node for node in model.graph.node if has_subgraph(node)]
    if left:
        kinds = ", ".join(sorted({node.op_type for node in left}))
        raise ModelRefused(
            f"control flow that depends on the data: {len(left)} of {kinds}; the first is {called(left[0])}",
            where=str(facts.path),
            todo="export it without If, Loop and Scan (trace it, not script it; fix what selects the branch)",
        )
    _tidy_opsets(model)
    model.ir_version = max(8, onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True))
    _name_nodes(model)
    model = onnx.shape_inference.infer_shapes(model)
    if not weighted_nodes(model):
        raise ModelRefused(
            f"nothing to quantize: no {', '.join(WEIGHTED_TYPES)} with constant weights",
            where=str(facts.path),
            todo="INT8 speeds up these operators; a model without them gains nothing",
        )
    return model


def _converted(model: ModelProto, facts: ModelFacts) -> ModelProto:
    newest = onnx.defs.onnx_opset_version()
    if facts.opset > newest:
        raise ModelRefused(
            f"opset {facts.opset} is newer than the installed onnx knows ({newest})",
            where=str(facts.path),
            todo="pip install -U onnx onnxruntime, or export with opset 17",
        )
    if facts.opset >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:  # the converter's C++ ConvertError arrives as a RuntimeError
        raise ModelRefused(
            f"opset {facts.opset}, which onnx cannot convert to {OPSET}",
            where=str(facts.path),
            todo=f"export it again with opset {OPSET}",
            detail=str(error),
        ) from error


def _folded(model: ModelProto, facts: ModelFacts) -> ModelProto:
    """What ONNX Runtime's basic, standard-operators-only optimization makes of it.

    The heart of ``onnxruntime.quantization.quant_pre_process``, which logs and goes on when it fails.
    """
    import onnxruntime
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="prepare.") as folder:
        written = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(written)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its pybind exceptions share no base class but Exception
            raise ModelRefused(
                "ONNX Runtime cannot load it",
                where=str(facts.path),
                todo="its message is below; onnx.checker.check_model(path, full_check=True) may say more",
                detail=str(error),
            ) from error
        folded = onnx.load(written)
    add_pre_process_metadata(folded)  # quantize_static warns about files without it
    return folded


def _tidy_opsets(model: ModelProto) -> None:
    used = {"" if node.domain == "ai.onnx" else node.domain for node in all_nodes(model)} | {""}
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in used:
            versions[domain] = max(entry.version, versions.get(domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, versions[domain]) for domain in sorted(versions))


def _name_nodes(model: ModelProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            stem = node.name or f"{node.op_type}_{index}"
            name, more = stem, 1
            names = taken | {other.name for other in model.graph.node}
            while name in names:
                name, more = f"{stem}_{more}", more + 1
            node.name = name
        taken.add(node.name)


def _check_precision(model: ModelProto, facts: ModelFacts) -> None:
    # Before folding: ONNX Runtime's CPU provider would wrap half-precision operators in casts.
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            types.update((node.output[0], a.t.data_type) for a in node.attribute if a.name == "value")
    names = set(weighted_nodes(model))
    for node in model.graph.node:
        kind = types.get(node.input[1], TensorProto.FLOAT) if node.name in names else TensorProto.FLOAT
        if kind != TensorProto.FLOAT:
            raise ModelRefused(
                f"weights of {called(node)} are {TensorProto.DataType.Name(kind).lower()}, not float32",
                where=str(facts.path),
                todo="give the FP32 model; this harness makes the FP16 one itself",
            )


def weighted_nodes(model: ModelProto) -> list[str]:
    """Names of the Conv, ConvTranspose, Gemm and MatMul nodes whose second input is constant, in graph order.

    Constant means an initializer or a Constant node, also through Identity. A MatMul with a constant *first*
    input does not count: ONNX Runtime's per-channel writer takes scales for the second one only.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:  # nodes come in topological order
        if node.op_type == "Constant" or (node.op_type == "Identity" and node.input[0] in constant):
            constant.update(node.output)
        elif node.op_type in WEIGHTED_TYPES and node.domain in {"", "ai.onnx"} and node.input[1] in constant:
            names.append(node.name)
    return names
