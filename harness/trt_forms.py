"""A model in the form that a TensorRT version's parser takes; each form computes what the model computes.

Every precision of a case gets the same form, so that INT8 is compared with a baseline of the same graph. Forms are made
of the float model, and Q/DQ are written into them: then each pair stands right beside the operator that it is for, and
no Unsqueeze comes between DequantizeLinear and a convolution, where TensorRT looks for weights.

What is done, and for which versions (``docs/tensorrt-notes.md`` has the sources):

- all: :func:`static_batch`; profiles give every dimension but the varying ones the size 1 anyway.
- before 8.6: :func:`~harness.trt_layer_norm.layer_norm_primitives`.
- before 10: weights of Q/DQ models are in float32, quantized in the model (:func:`weights_for`).
- before 10.4: :func:`kernel_shapes`.
- before 11: :func:`~harness.trt_planes.convolutions_2d`. The importer itself makes such planes of a 1-D convolution,
  with names of its own, for which a cache has no scales: 8.6.0 then ran all of it in FP16, without an error.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from harness import trt_planes
from harness.errors import BuildFailed
from harness.graphs import fresh, names_in
from harness.onnx_facts import is_whole
from harness.paths import cache_dir, written
from harness.sessions import quiet_options
from harness.spec.versions import numbers_of
from harness.trt_layer_norm import layer_norm_primitives
from harness.trt_planes import convolutions_2d

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from onnx import GraphProto, TensorShapeProto

    from harness.calibration.qdq import Weights
    from harness.calibration.ranges import Ranges
    from harness.onnx_facts import ModelFacts
    from harness.spec.model import Model

__all__ = [
    "aliases",
    "check_equal",
    "for_parser",
    "kernel_shapes",
    "static_batch",
    "weights_for",
    "with_aliases",
]

FORM_VERSION = 2
"""Raise it whenever :func:`for_parser` would write other bytes for the same file."""

_NO_CACHES_SINCE = (11,)
_LAYER_NORM_SINCE = (8, 6)
_INT8_WEIGHTS_SINCE = (10,)
_KERNEL_SHAPES_INFERRED_SINCE = (10, 4)
_STANDARD = {"", "ai.onnx"}
_CLOSE = 1e-4
"""Largest admissible difference of a form, as a share of the output's largest magnitude: rounding, not another net."""


def for_parser(path: Path, runtime: str, version: str, model: Model, facts: ModelFacts) -> Path:
    """The file that a TensorRT version is given in place of ``path``; ``path`` itself where nothing has to change.

    Cached by content; a damaged file in the cache is made anew.

    :param path: the prepared file (:func:`harness.modelfile.prepare`), or one derived from it without Q/DQ.
    :param runtime: the family; all but ``tensorrt`` take the prepared file.
    :param version: as the runtime says it, ``8.5.3.1``.
    :param facts: of ``path``.
    """
    if runtime != "tensorrt" or not _may_change(facts, model, version):
        return path
    keep = {(axis.input, axis.dim) for axis in model.axes}
    steps = [name for name, since in _STEPS.items() if since is None or numbers_of(version)[:2] < since]
    digest = hashlib.sha256(path.read_bytes())
    digest.update("\0".join([str(FORM_VERSION), onnx.__version__, *steps, *map(str, sorted(keep))]).encode())
    target = cache_dir("artefacts") / f"{digest.hexdigest()[:32]}.onnx"
    if is_whole(target):
        return target
    given = onnx.load(path)
    made = static_batch(given, keep)
    for name in steps[1:]:
        made = _FUNCTIONS[name](made)
    if made is given:
        return path
    with written(target) as file:
        file.write(made.SerializeToString(deterministic=True))
    return target


def weights_for(runtime: str, version: str) -> Weights:
    """How a runtime wants the weights of Q/DQ models stored.

    The guide of TensorRT 8 asks for FP32. 8.6.0 took INT8 ones in chains of convolutions and matrix products, and
    failed in its graph compiler over those of a transformer.
    """
    return "float" if runtime == "tensorrt" and numbers_of(version)[:2] < _INT8_WEIGHTS_SINCE else "int8"


def aliases(path: Path) -> dict[str, str]:
    """New tensor of a file -> the prepared model's tensor with the same values; empty for the prepared file itself."""
    return trt_planes.aliases(onnx.load(path, load_external_data=False))


def with_aliases(ranges: Ranges, path: Path) -> Ranges:
    """``ranges`` of the prepared model's tensors, and the same for the tensors of ``path`` that stand for them."""
    return {**ranges, **{new: ranges[old] for new, old in aliases(path).items() if old in ranges}}


def check_equal(prepared: Path, form: Path, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a form that does not compute what the prepared model computes on one sample, in FP32 on the CPU.

    :raises BuildFailed: a floating-point output differs by more than 1e-4 of its largest magnitude, any output by its
        shape, or one of them does not take the sample (one with a batch of two, say).
    """
    if form == prepared:
        return
    expected, given = (_outputs(path, feeds) for path in (prepared, form))
    for name, values in expected.items():
        other = given[name]
        if values.shape == other.shape and values.dtype.kind != "f":
            continue  # a class or an index may flip by rounding
        size = float(np.abs(values).max(initial=np.finfo(np.float32).tiny))
        apart = float(np.abs(values - other).max(initial=0.0)) if values.shape == other.shape else np.inf
        if not apart <= _CLOSE * size:
            raise BuildFailed(
                f"the form made for this TensorRT differs from the model at output {name!r}: by {apart:g} of {size:g}, "
                f"shape {list(other.shape)} instead of {list(values.shape)}",
                where=str(form),
                todo="this is a fault of the harness: report it with the model, if you can share it",
            )


def static_batch(model: ModelProto, keep: Collection[tuple[str, int]]) -> ModelProto:
    """``model`` with every open dimension of its inputs fixed to 1, but for those to keep, and Squeeze with its axes.

    A Squeeze without axes takes away the dimensions that are then known to be 1; one that varies is taken not to be.
    Shapes that were computed from the batch are left to TensorRT, which folds them.

    :param model: opset 13 or newer; it is not changed.
    :param keep: (input, dim) of what varies.
    :returns: ``model`` itself where nothing was open and every Squeeze has axes.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    opened = [
        (place, index)
        for place, value in enumerate(model.graph.input)
        for index, dim in enumerate(value.type.tensor_type.shape.dim)
        if value.name not in constants and (value.name, index) not in keep and not dim.HasField("dim_value")
    ]
    if not opened and not any(_squeezes_unsaid(node) for node in model.graph.node):
        return model
    made = ModelProto()
    made.CopyFrom(model)
    inputs = made.graph.input
    symbols = {inputs[place].type.tensor_type.shape.dim[index].dim_param for place, index in opened}
    for place, index in opened:
        inputs[place].type.tensor_type.shape.dim[index].dim_value = 1
    symbols -= {dim.dim_param for value in inputs for dim in value.type.tensor_type.shape.dim} | {""}
    for value in made.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = 1
    return _with_axes(made)


def kernel_shapes(model: ModelProto) -> ModelProto:
    """``model`` with ``kernel_shape`` written at every convolution whose weights say it.

    TensorRT's parser reads it from there alone once weights come through a DequantizeLinear.

    :returns: ``model`` itself where all have it.
    """
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in model.graph.node:  # in topological order; a model of its own may bring Q/DQ
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    lacking = [
        index
        for index, node in enumerate(model.graph.node)
        if node.op_type in {"Conv", "ConvTranspose"}
        and node.domain in _STANDARD
        and node.input[1] in shapes
        and not any(attribute.name == "kernel_shape" for attribute in node.attribute)
    ]
    if not lacking:
        return model
    made = ModelProto()
    made.CopyFrom(model)
    for index in lacking:
        node = made.graph.node[index]
        node.attribute.append(helper.make_attribute("kernel_shape", list(shapes[node.input[1]][2:])))
    return made


_STEPS: dict[str, tuple[int, ...] | None] = {
    "static batch": None,
    "convolutions 2d": _NO_CACHES_SINCE,
    "layer norm primitives": _LAYER_NORM_SINCE,
    "kernel shapes": _KERNEL_SHAPES_INFERRED_SINCE,
}
_FUNCTIONS = {
    "convolutions 2d": convolutions_2d,
    "layer norm primitives": layer_norm_primitives,
    "kernel shapes": kernel_shapes,
}


def _may_change(facts: ModelFacts, model: Model, version: str) -> bool:
    """Whether reading the file could find something to do: a large file is not read for nothing."""
    operators = {name for name, _ in facts.op_counts}
    keep = {(axis.input, axis.dim) for axis in model.axes}
    numbers = numbers_of(version)[:2]
    return (
        "Squeeze" in operators
        or any(
            isinstance(size, str) and (tensor.name, dim) not in keep
            for tensor in facts.inputs
            for dim, size in enumerate(tensor.dims)
        )
        or (numbers < _NO_CACHES_SINCE and bool(operators & {"Conv", "ConvTranspose"}))
        or (numbers < _LAYER_NORM_SINCE and "LayerNormalization" in operators)
    )


def _outputs(path: Path, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    import onnxruntime

    options = quiet_options()
    # else it would fuse the primitives of a layer normalization again, and the form itself would not have run
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # its pybind exceptions share no base class but Exception
        raise BuildFailed(
            "ONNX Runtime does not run the form made for this TensorRT on the first calibration sample",
            where=str(path),
            todo="give samples with a batch of 1; if they have it, this is a fault of the harness",
            detail=str(error),
        ) from error


def _shapes(graph: GraphProto) -> dict[str, list[TensorShapeProto.Dimension]]:
    known = (v for v in (*graph.value_info, *graph.input, *graph.output) if v.type.tensor_type.HasField("shape"))
    return {value.name: list(value.type.tensor_type.shape.dim) for value in known}


def _squeezes_unsaid(node: NodeProto) -> bool:
    return node.op_type == "Squeeze" and node.domain in _STANDARD and len([name for name in node.input if name]) == 1


def _with_axes(model: ModelProto) -> ModelProto:
    """Shapes inferred anew; one Squeeze after the other gets its axes, for shapes behind it follow from them."""
    while True:
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known = _shapes(model.graph)
        found = next((n for n in model.graph.node if _squeezes_unsaid(n) and n.input[0] in known), None)
        if found is None:
            return model
        axes = [index for index, dim in enumerate(known[found.input[0]]) if dim.dim_value == 1]
        if not axes:
            found.op_type = "Identity"  # axes that are there and empty would mean all
            continue
        name = fresh(f"{found.output[0]}_axes", names_in(model.graph))
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
        found.input[:] = [found.input[0], name]
