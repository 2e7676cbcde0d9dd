"""How large the weights in a file are, quantized or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

from harness.modelfile import WEIGHTED_TYPES, weighted_nodes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["weight_bytes"]


def weight_bytes(path: Path, prepared: Path | None) -> int:
    """Bytes of the weights (second inputs) of the operators that are quantized; what several share counts once.

    Weights behind a QuantizeLinear of their own count a byte an element: so large they are in what is built.

    :param path: the prepared file itself, or an artefact made of it, whose weights may stand behind
        DequantizeLinear, Cast and Identity nodes.
    :param prepared: the FP32 file; its weighted nodes are looked for by name. None for a file of another origin: all
        there are.
    """
    model = onnx.load(path)
    wanted = set(weighted_nodes(onnx.load(prepared))) if prepared is not None else None
    constants = _constants(model)
    behind = {
        output: node.input[0]
        for node in model.graph.node
        if node.op_type in {"DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Reshape", "Transpose"}
        for output in node.output
    }
    quantized = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.name in wanted if wanted is not None else node.op_type in WEIGHTED_TYPES:
            name, in_int8 = node.input[1], False
            while name in behind and name not in constants:
                in_int8 |= name in quantized
                name = behind[name]
            if name in constants:
                values = constants[name]
                found[name] = values.size if in_int8 else values.nbytes
    return sum(found.values())


def _constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], numpy_helper.to_array(a.t)) for a in node.attribute if a.name == "value")
    return found
