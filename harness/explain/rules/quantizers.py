"""QuantizeLinear and DequantizeLinear as pairs: scales, zero points, types; which stand at weights and which between
operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from harness.explain.rules.graph import attribute, is_default, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from harness.explain.rules.graph import Graph

__all__ = ["UNSIGNED", "Pair", "Quantizer", "pairs", "quantizers"]

UNSIGNED = frozenset({TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT4})

_LIMITS: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
}


@dataclass(frozen=True)
class Quantizer:
    """One QuantizeLinear or DequantizeLinear.

    :param scale: its values, shape [] or [channels]; None where it is computed.
    :param zero: its zero point, the same shape; None where it is computed; 0 where it is left out.
    :param kind: element type on the integer side, as ONNX numbers it; UNDEFINED where nobody tells.
    :param constant: whether it works on constants: a weight or a bias.
    :param axis: of a scale for each channel.
    :param block: values along the axis that share a scale, where it has one for each block; else 0.
    """

    node: NodeProto
    scale: NDArray[Any] | None
    zero: NDArray[Any] | None
    kind: int
    constant: bool
    axis: int
    block: int = 0

    @property
    def name(self) -> str:
        """Of the node."""
        return name_of(self.node)

    @property
    def is_quantize(self) -> bool:
        """Rather than DequantizeLinear."""
        return self.node.op_type == "QuantizeLinear"

    @property
    def per_channel(self) -> bool:
        """Whether it has several scales."""
        return self.scale is not None and self.scale.size > 1

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and largest value that it can hold; None for scales by channel and types of other widths."""
        if self.scale is None or self.zero is None or self.scale.size != 1 or self.kind not in _LIMITS:
            return None
        low, high = _LIMITS[self.kind]
        scale, zero = float(self.scale.reshape(-1)[0]), float(self.zero.reshape(-1)[0])
        return (low - zero) * scale, (high - zero) * scale


@dataclass(frozen=True)
class Pair:
    """A QuantizeLinear and the DequantizeLinear behind it, on an activation."""

    quantize: Quantizer
    dequantize: Quantizer

    @property
    def source(self) -> str:
        """The float tensor that goes in."""
        return str(self.quantize.node.input[0])

    @property
    def output(self) -> str:
        """The float tensor that comes out."""
        return str(self.dequantize.node.output[0])


def quantizers(graph: Graph) -> dict[str, Quantizer]:
    """Every QuantizeLinear and DequantizeLinear by its output, in the graph's order."""
    found = {}
    for node in graph.nodes:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and len(node.input) > 1 and node.output:
            found[node.output[0]] = _quantizer(graph, node)
    return found


def pairs(found: dict[str, Quantizer]) -> list[Pair]:
    """The pairs between operators; those on constants are weights' and are left out."""
    made = []
    for one in found.values():
        before = found.get(one.node.input[0])
        if not one.is_quantize and before is not None and before.is_quantize and not before.constant:
            made.append(Pair(before, one))
    return made


def _quantizer(graph: Graph, node: NodeProto) -> Quantizer:
    zero_name = node.input[2] if len(node.input) > 2 else ""
    zero = graph.array(zero_name) if zero_name else np.zeros(1)
    return Quantizer(
        node=node,
        scale=graph.array(node.input[1]),
        zero=zero,
        kind=_kind(graph, node, zero_name),
        constant=node.input[0] in graph.derived,
        axis=attribute(node, "axis", 1),
        block=attribute(node, "block_size", 0),
    )


def _kind(graph: Graph, node: NodeProto, zero_name: str) -> int:
    """QuantizeLinear makes what its zero point is, else ``output_dtype`` (opset 21), else uint8 (ONNX's specification).

    Others (a computed zero point, a DequantizeLinear without one) are what shape inference says.
    """
    if zero_name and zero_name in graph.constants:
        return graph.constants[zero_name].data_type
    if node.op_type == "QuantizeLinear" and is_default(node, "QuantizeLinear"):
        return attribute(node, "output_dtype", 0) or (TensorProto.UINT8 if not zero_name else graph.type_of(zero_name))
    return graph.type_of(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
