"""A graph as rules look at it: who makes and who reads a tensor, constants, types, and shapes at a length."""

from __future__ import annotations

from collections import defaultdict
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from harness.onnx_facts import inlined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from onnx import NodeProto, ValueInfoProto

    from harness.spec.model import Model

__all__ = ["MOVERS", "Graph", "Shape", "attribute", "is_default", "name_of"]

Shape = tuple[int | None, ...]

MOVERS = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Gather", "Expand"}
    | {"Tile", "DepthToSpace", "SpaceToDepth"}
)
"""Operators that move elements and compute nothing: INT8 passes through them as it is."""

_SMALL = 1024
"""Elements up to which a constant may be a shape, and is left to shape inference."""


def name_of(node: NodeProto) -> str:
    """Its name, or its first output where it has none."""
    return node.name or (node.output[0] if node.output else node.op_type)


def attribute(node: NodeProto, name: str, otherwise: int) -> int:
    """An integer attribute."""
    return next((one.i for one in node.attribute if one.name == name), otherwise)


def is_default(node: NodeProto, *kinds: str) -> bool:
    """Whether it is one of these operators of ONNX's own."""
    return node.domain in {"", "ai.onnx"} and node.op_type in kinds


class Graph:
    """The top graph of a model; functions are inlined, what stands in If, Loop and Scan is only known to be read.

    :param model: with its weights.
    :raises ModelRefused: its functions cannot be inlined.

    Nodes without an output, or without the inputs that they need, are in ``malformed`` and nowhere else.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = inlined(model, model.graph.name)
        graph = self.model.graph
        self.malformed = [node for node in graph.node if not _is_whole(node, self.opset)]
        self.nodes: list[NodeProto] = [node for node in graph.node if _is_whole(node, self.opset)]
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name: value for value in graph.input if value.name not in self.constants}
        self.outputs = {value.name for value in graph.output}
        self.producers: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for output in filter(None, node.output):
                self.producers[output] = node
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers[name].append(node)
            self._take_constant(node)
        self.read_inside = {name for node in self.nodes for name in _read_in_subgraphs(node)}
        self._arrays: dict[str, NDArray[Any] | None] = {}
        self._inferred: dict[tuple[Any, ...], dict[str, tuple[int, tuple[Any, ...]]]] = {}

    def _take_constant(self, node: NodeProto) -> None:
        if is_default(node, "Constant"):
            for one in node.attribute:
                made = _constant(one)
                if made is not None:
                    self.constants[node.output[0]] = made
        elif is_default(node, "Identity") and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]

    @property
    def opset(self) -> int:
        """Of ONNX's own operators."""
        return max((one.version for one in self.model.opset_import if one.domain in {"", "ai.onnx"}), default=0)

    def of(self, *kinds: str) -> Iterator[NodeProto]:
        """The nodes of these operators of ONNX's own, in order."""
        return (node for node in self.nodes if is_default(node, *kinds))

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant's values; None for what is no constant, or cannot be read."""
        if name not in self._arrays:
            tensor = self.constants.get(name)
            try:
                self._arrays[name] = None if tensor is None else numpy_helper.to_array(tensor)
            except (ValueError, TypeError, OSError):
                self._arrays[name] = None
        return self._arrays[name]

    @cached_property
    def derived(self) -> set[str]:
        """Tensors that no input of the graph decides: constants, and what is computed of nothing else."""
        found = set(self.constants)
        for node in self.nodes:
            given = [name for name in node.input if name]
            if given and all(name in found for name in given) and not any(_read_in_subgraphs(node)):
                found.update(filter(None, node.output))
        return found

    def behind(self, tensor: str, *, through: Iterable[str] = MOVERS) -> NodeProto | None:
        """What made a tensor, seen through operators that only move it; None for inputs and constants."""
        passed, seen = frozenset(through), set()
        while tensor not in seen:
            seen.add(tensor)
            node = self.producers.get(tensor)
            if node is None or not is_default(node, *passed) or not node.input:
                return node
            tensor = node.input[0]
        return None

    def ahead(self, tensor: str, *, through: Iterable[str] = MOVERS) -> list[NodeProto]:
        """Who reads a tensor in the end, seen through operators that only move it."""
        passed, found, seen, open_ = frozenset(through), [], {tensor}, [tensor]
        while open_:
            current = open_.pop(0)
            for node in self.readers.get(current, ()):
                if is_default(node, *passed) and node.input[0] == current:
                    new = [name for name in node.output if name and name not in seen]
                    seen.update(new)
                    open_ += new
                else:
                    found.append(node)
        return found

    def leaves(self, tensor: str) -> bool:
        """Whether it is an output of the graph, or read in a subgraph."""
        return tensor in self.outputs or tensor in self.read_inside

    # -- types and shapes ---------------------------------------------------------------------------------------

    def type_of(self, tensor: str) -> int:
        """Element type as ONNX numbers it; UNDEFINED where nobody tells."""
        if tensor in self.constants:
            return self.constants[tensor].data_type
        return self._infer({}).get(tensor, (TensorProto.UNDEFINED, ()))[0]

    def symbols(self, tensor: str) -> tuple[Any, ...]:
        """Its dimensions as the file has them: numbers, names, None; empty where nobody tells."""
        if tensor in self.constants:
            return tuple(self.constants[tensor].dims)
        return self._infer({}).get(tensor, (0, ()))[1]

    def shape_at(self, tensor: str, spec: Model, length: int) -> Shape:
        """Its dimensions at a length, other open ones (a batch) being 1; empty where they cannot be inferred."""
        if tensor in self.constants:
            return tuple(self.constants[tensor].dims)
        fixed = {(axis.input, axis.dim): length for axis in spec.axes}
        dims = self._infer(fixed).get(tensor, (0, ()))[1]
        return tuple(dim if isinstance(dim, int) else None for dim in dims)

    def _infer(self, fixed: dict[tuple[str, int], int]) -> dict[str, tuple[int, tuple[Any, ...]]]:
        key = tuple(sorted(fixed.items()))
        if key not in self._inferred:
            light = self._light(fixed)
            try:
                light = onnx.shape_inference.infer_shapes(light, data_prop=True)
            except Exception:  # noqa: BLE001 - C++ errors of no common class; a file that is odd has fewer findings
                light = self._light(fixed)
            graph = light.graph
            values = [*graph.value_info, *graph.output, *graph.input]
            self._inferred[key] = {value.name: _type_and_dims(value) for value in values}
        return self._inferred[key]

    def _light(self, fixed: dict[tuple[str, int], int]) -> ModelProto:
        """The model without its weights, for shape inference; what is fixed is written into the inputs."""
        graph = self.model.graph
        small = [one for one in graph.initializer if int(np.prod(one.dims, dtype=np.int64)) <= _SMALL]
        large = {one.name: one for one in graph.initializer} | {}
        for one in small:
            large.pop(one.name, None)
        made = GraphProto(name=graph.name, node=graph.node, initializer=small)
        for value in self.inputs.values():
            copied = made.input.add()
            copied.CopyFrom(value)
            if fixed:
                _fix(copied, fixed)
        for name, one in large.items():
            made.input.append(onnx.helper.make_tensor_value_info(name, one.data_type, list(one.dims)))
        for value in graph.output:
            made.output.append(value if not fixed else onnx.helper.make_empty_tensor_value_info(value.name))
        if not fixed:
            made.value_info.extend(graph.value_info)
        return ModelProto(ir_version=self.model.ir_version, opset_import=self.model.opset_import, graph=made)


def _is_whole(node: NodeProto, opset: int) -> bool:
    """Whether it has an output, and the inputs that its operator cannot do without: rules count on them."""
    if not node.output or not node.output[0]:
        return False
    least = _least_inputs(node.op_type, opset) if node.domain in {"", "ai.onnx"} else 0
    return len(node.input) >= least


@cache
def _least_inputs(kind: str, opset: int) -> int:
    """In that opset: axes of Unsqueeze, say, were no input before 13."""
    try:
        return int(onnx.defs.get_schema(kind, opset).min_input)
    except onnx.defs.SchemaError:
        return 0


def _constant(one: onnx.AttributeProto) -> TensorProto | None:
    if one.name == "value":
        return one.t
    plain = {"value_float": one.f, "value_int": one.i, "value_floats": list(one.floats), "value_ints": list(one.ints)}
    if one.name not in plain:
        return None
    kind: type[np.generic] = np.float32 if "float" in one.name else np.int64
    return numpy_helper.from_array(np.array(plain[one.name], kind))


def _read_in_subgraphs(node: NodeProto) -> Iterator[str]:
    for one in node.attribute:
        for graph in ([one.g] if one.HasField("g") else []) + list(one.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from _read_in_subgraphs(inner)


def _fix(value: ValueInfoProto, fixed: dict[tuple[str, int], int]) -> None:
    for index, dim in enumerate(value.type.tensor_type.shape.dim):
        if (value.name, index) in fixed:
            dim.dim_value = fixed[value.name, index]
        elif not dim.HasField("dim_value"):
            dim.dim_value = 1


def _type_and_dims(value: ValueInfoProto) -> tuple[int, tuple[Any, ...]]:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim)
    return tensor.elem_type, dims if tensor.HasField("shape") else ()
