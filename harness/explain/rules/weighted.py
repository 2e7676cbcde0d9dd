"""Operators with weights: what stands before their activation and their weight, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.explain.rules.graph import MOVERS, attribute, is_default, name_of
from harness.modelfile import WEIGHTED_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from harness.explain.rules.graph import Graph
    from harness.explain.rules.quantizers import Quantizer

__all__ = ["Weighted", "products", "values_of", "weighted"]

_PASS_ACTIVATIONS = MOVERS | {"Cast"}
_PASS_WEIGHTS = MOVERS | {"QuantizeLinear", "DequantizeLinear", "Cast"}


@dataclass(frozen=True)
class Weighted:
    """One Conv, ConvTranspose, Gemm or MatMul with a weight that no input of the graph decides.

    :param activation: its other operand, as the node reads it.
    :param weight: the weight, as the node reads it.
    :param constant: the stored tensor that the weight is made of; empty where it is computed.
    :param activation_dq: DequantizeLinear that the activation comes from, seen through what only moves it.
    :param weight_dq: the same of the weight.
    :param channel_axis: of output channels, in the weight as it is stored; None where something turned it.
    :param k: products summed for each output element; :param n: output channels. 0 where the shape is not known.
    :param group: of a convolution, else 1.
    """

    node: NodeProto
    activation: str
    weight: str
    constant: str
    activation_dq: Quantizer | None
    weight_dq: Quantizer | None
    channel_axis: int | None
    k: int
    n: int
    group: int

    @property
    def name(self) -> str:
        """Of the node."""
        return name_of(self.node)

    @property
    def quantized(self) -> bool:
        """Whether both operands come through a DequantizeLinear."""
        return self.activation_dq is not None and self.weight_dq is not None


def weighted(graph: Graph, quantizers: dict[str, Quantizer]) -> list[Weighted]:
    """All of the graph, in its order."""
    found = []
    for node in graph.of(*WEIGHTED_TYPES):
        if len(node.input) < 2:
            continue
        side = _side(graph, node)
        if side is not None:
            found.append(_read(graph, quantizers, node, side))
    return found


def products(graph: Graph, found: list[Weighted]) -> list[NodeProto]:
    """Matrix products of two activations, also those that are written as Einsum."""
    own = {id(one.node) for one in found}
    return [
        node
        for node in graph.of("MatMul", "Gemm", "Einsum")
        if id(node) not in own
        and len(node.input) > 1
        and not (node.op_type == "Einsum" and _reads_constants(graph, node))
    ]


def _reads_constants(graph: Graph, node: NodeProto) -> bool:
    return any(name in graph.derived for name in node.input)


def values_of(graph: Graph, one: Weighted) -> NDArray[np.float64] | None:
    """The weight in float, as it is stored; integers are dequantized. None where it cannot be read."""
    stored = graph.array(one.constant)
    if stored is None or not stored.size:
        return None
    if stored.dtype.kind == "f":
        return stored.astype(np.float64)
    dq = one.weight_dq
    if dq is None or dq.scale is None or dq.zero is None:
        return None
    try:
        scale, zero = (_spread(part, stored.ndim, dq.axis) for part in (dq.scale, dq.zero))
        return np.asarray((stored.astype(np.float64) - zero) * scale)
    except (ValueError, TypeError, IndexError):
        return None


def _spread(part: NDArray[Any], rank: int, axis: int) -> NDArray[np.float64]:
    if part.size == 1 or part.ndim != 1:
        return part.astype(np.float64)
    shape = [1] * rank
    shape[axis] = part.size
    return part.astype(np.float64).reshape(shape)


def _side(graph: Graph, node: NodeProto) -> int | None:
    """Which operand is the weight; a convolution's is the second one whatever it is."""
    if node.input[1] in graph.derived:
        return 1
    return 0 if is_default(node, "MatMul", "Gemm") and node.input[0] in graph.derived else None


def _read(graph: Graph, quantizers: dict[str, Quantizer], node: NodeProto, side: int) -> Weighted:
    weight, activation = node.input[side], node.input[1 - side]
    constant, turned = _stored(graph, weight)
    tensor = graph.constants.get(constant)
    dims = tuple(tensor.dims) if tensor is not None else ()
    axis = None if turned else _channel_axis(node, side, len(dims))
    k, n = _sizes(node, side, dims) if not turned else (0, 0)
    return Weighted(
        node=node,
        activation=activation,
        weight=weight,
        constant=constant,
        activation_dq=_dequantized(graph, quantizers, activation),
        weight_dq=_dequantized(graph, quantizers, weight),
        channel_axis=axis,
        k=k,
        n=n,
        group=attribute(node, "group", 1) if node.op_type.startswith("Conv") else 1,
    )


def _stored(graph: Graph, weight: str) -> tuple[str, bool]:
    """The constant that a weight is made of, and whether something turns or reshapes it on the way."""
    turned, seen = False, set()
    while weight not in graph.constants:
        node = graph.producers.get(weight)
        if node is None or weight in seen or not is_default(node, *_PASS_WEIGHTS):
            return "", False
        seen.add(weight)
        turned |= is_default(node, *MOVERS)
        weight = node.input[0]
    return weight, turned


def _dequantized(graph: Graph, quantizers: dict[str, Quantizer], tensor: str) -> Quantizer | None:
    node = graph.behind(tensor, through=_PASS_ACTIVATIONS)
    found = quantizers.get(node.output[0]) if node is not None and node.output else None
    return found if found is not None and not found.is_quantize else None


def _channel_axis(node: NodeProto, side: int, rank: int) -> int | None:
    if rank == 0:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":  # [in, out / groups, ...]
        return 1
    if node.op_type == "Gemm":
        transposed = attribute(node, "transB" if side else "transA", 0)
        return (0 if transposed else 1) if side else (1 if transposed else 0)
    return max(rank - 1, 0) if side else max(rank - 2, 0)


def _sizes(node: NodeProto, side: int, dims: tuple[int, ...]) -> tuple[int, int]:
    if len(dims) < 2:
        return 0, 0
    if node.op_type == "Conv":
        return int(np.prod(dims[1:])), dims[0]
    if node.op_type == "ConvTranspose":
        return dims[0], dims[1] * attribute(node, "group", 1)
    axis = _channel_axis(node, side, len(dims))
    other = dims[-2:][1 - (1 if axis == len(dims) - 1 else 0)]
    return (other, dims[axis]) if axis is not None else (0, 0)
