"""How large the weights in a file are, quantized or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from harness.modelfile import weighted_nodes

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

__all__ = ["weight_bytes"]


def weight_bytes(path: Path, prepared: Path) -> int:
    """Bytes of the weights (second inputs) of the operators that are quantized; what several share counts once.

    :param path: the prepared file itself, or an artefact made of it, whose weights may stand behind
        DequantizeLinear, Cast and Identity nodes.
    :param prepared: the FP32 file; its weighted nodes are looked for by name.
    """
    wanted, model = set(weighted_nodes(onnx.load(prepared))), onnx.load(path)
    constants = _constants(model)
    behind = {
        output: node.input[0]
        for node in model.graph.node
        if node.op_type in {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Reshape", "Transpose"}
        for output in node.output
    }
    found: set[str] = set()
    for node in model.graph.node:
        if node.name in wanted:
            name = node.input[1]
            while name in behind and name not in constants:
                name = behind[name]
            found.add(name)
    return sum(constants[name] for name in found if name in constants)


def _constants(model: ModelProto) -> dict[str, int]:
    sizes = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            sizes[node.output[0]] = sum(numpy_helper.to_array(a.t).nbytes for a in node.attribute if a.name == "value")
    return sizes
