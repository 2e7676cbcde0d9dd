"""One-operator models in every form of quantization that TensorRT-RTX was asked for, and where to find its versions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.workers import Environment, find_environments
from harness.workers.environments import TOX

VERSIONS = {name.removeprefix("tensorrt-rtx-"): tox for name, tox in TOX.items() if name.startswith("tensorrt-rtx-")}
"""``1.7.1.116`` -> ``rtx17``."""
NO_INT8_KERNEL = "CHECK(dtype == myelinTypeFloat || dtype == myelinTypeHalf"
WANTS_A_GPU = "Cuda Runtime (In generateForCurrent"
"""Said of any INT8 node, a lone Q/DQ pair too, although a compute capability is set."""
QUANTIZED = ("int8", "weight_per_tensor", "weight_per_input", "activation_per_channel", "weights_only")
FORMS = ("fp32", "fp16", "activations_only", *QUANTIZED)
"""``int8``: activations by one scale, weights by one an output channel, as this harness writes it. The others differ
from it in what their name says."""


def environment(version: str, root: Path, nowhere: Path) -> Environment:
    """The environment of a version in ``<root>/.tox``; the test is skipped without it, or fails where CI asks for it.

    :param nowhere: an empty folder.
    """
    python = root / ".tox" / VERSIONS[version] / "bin" / "python"
    named = os.environ.get("HARNESS_TEST_RTX_PYTHON")  # of a 1.7.1 that lies elsewhere
    if not python.exists() and named and version.startswith("1.7."):
        python = Path(named)
    if not python.exists():
        missing = f"no TensorRT-RTX {version}; install it with: python -m tox run -e {VERSIONS[version]} --notest"
        required = "HARNESS_REQUIRE_RTX" if version.startswith("1.7.") else "HARNESS_REQUIRE_RTX_ALL"
        if os.environ.get(required) == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    (found,) = (e for e in find_environments(nowhere, [str(python)]) if e.runtime == "tensorrt-rtx")
    assert found.version == version
    return found


def profile(kind: str, width: int) -> dict[str, list[list[int]]]:
    """One profile of the length, 16 to 512."""
    return {"x": [[1, width, length] if kind == "conv" else [length, width] for length in (16, 64, 512)]}


def weight_count(kind: str, width: int) -> int:
    return width * width * (3 if kind == "conv" else 1)


def probe(kind: str, form: str, width: int, path: Path, *, rounded: bool = True) -> Path:
    """Write a model of one ``conv`` (x [1, C, L], kernel 3) or ``matmul`` (x [L, C]) that is ``width`` wide.

    :param rounded: quantized weights are INT8 behind a DequantizeLinear, as this harness writes them; else they are
        float before a QuantizeLinear and a DequantizeLinear, and the builder rounds them.
    """
    rng = np.random.default_rng(width)
    weights = rng.normal(size=(width, width, 3) if kind == "conv" else (width, width)).astype(np.float32) / width
    channel, output = (1, 0) if kind == "conv" else (1, 1)  # of the activation, of the weights
    real = np.dtype(np.float16 if form == "fp16" else np.float32)
    constants: dict[str, np.ndarray] = {"w": weights.astype(real)}
    nodes, ends = [], ["x", "w"]
    if form not in {"fp32", "fp16"}:
        if form != "weights_only":
            size = width if form == "activation_per_channel" else None
            nodes += _pair("x", channel, np.full(size or (), 0.05, np.float32), constants)
            ends[0] = "x_d"
        if form != "activations_only":
            axis = {"weight_per_input": 1 - output}.get(form, output)
            over = None if form == "weight_per_tensor" else tuple(i for i in range(weights.ndim) if i != axis)
            scale = np.asarray(np.abs(weights).max(axis=over) / 127, np.float32)
            steps = scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)]) if scale.ndim else scale
            if rounded:
                constants["w"] = np.clip(np.rint(weights / steps), -127, 127).astype(np.int8)
                nodes.append(_dequantize("w", "w", axis, scale, constants))
            else:
                nodes += _pair("w", axis, scale, constants)
            ends[1] = "w_d"
    operator, keywords = ("Conv", {"pads": [1, 1]}) if kind == "conv" else ("MatMul", {})
    nodes.append(helper.make_node(operator, ends, ["y"], name="operator", **keywords))
    shape = [1, width, "L"] if kind == "conv" else ["L", width]
    element = TensorProto.FLOAT16 if form == "fp16" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _pair(name: str, axis: int, scale: np.ndarray, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    dequantize = _dequantize(name, f"{name}_q", axis, scale, constants)
    inputs = [name, *dequantize.input[1:]]
    return [helper.make_node("QuantizeLinear", inputs, [f"{name}_q"], name=f"{name}_quantize", axis=axis), dequantize]


def _dequantize(
    name: str, source: str, axis: int, scale: np.ndarray, constants: dict[str, np.ndarray]
) -> onnx.NodeProto:
    constants[f"{name}_scale"], constants[f"{name}_zero"] = scale, np.zeros(scale.shape, np.int8)
    inputs = [source, f"{name}_scale", f"{name}_zero"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_d"], name=f"{name}_dequantize", axis=axis)
