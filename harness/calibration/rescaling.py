"""Rows quantized in parts of their own largest value, by static Q/DQ that every runtime takes.

A row is what an operator computes by itself: one entry of a Conv's batch, one vector that a MatMul multiplies. Static
Q/DQ give all rows one scale, and one that is five bits quieter than the loudest has three of its eight bits left. But
without its bias a Conv or MatMul f is homogeneous: f(x) = s f(x / s) for any s > 0 of a row. Division by the row's
largest magnitude before Q/DQ and multiplication behind give each row all its codes, and FP32 computes what it did. It
is what dynamic quantization does per row (per token), without an operator of its own.

What stands between two products is often homogeneous, too: a spectrum's magnitude, sqrt(re^2 + im^2), scales as the
sound does. One division serves such a stretch as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from harness.calibration.artefacts import target_of
from harness.errors import UsageError
from harness.graphs import drop_unread, fresh, names_in
from harness.modelfile import WEIGHTED_TYPES, weighted_nodes
from harness.onnx_facts import is_whole
from harness.paths import written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path


__all__ = ["ROWS_VERSION", "Rows", "largest_of_rows", "rescaled", "rescaled_file", "served", "with_rows"]

Rows = tuple[tuple[str, float], ...]
"""(weighted node, floor): rows of what the node reads are divided by their largest magnitude, but by no less than the
floor. Sorted by name.
"""

ROWS_VERSION = 2
"""Raise it whenever :func:`rescaled` would make another model of the same one."""
_AXES_ARE_INPUTS = 18
"""The opset from which ReduceMax takes its axes as an input."""
_CONVOLUTIONS = {"Conv", "ConvTranspose"}
_KEEP_DEGREE = {"Abs", "Identity", "LeakyRelu", "Neg", "PRelu", "Relu"}
_BY_NUMBER = {"Div", "Mul", "Pow", "Sqrt"}
_NOT_NEGATIVE = {"Abs", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"}
_POOLS = {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"}
_SAME_DEGREE = {"Add", "Max", "Min", "Sub", "Sum"}


def rescaled_file(prepared: Path, rows: Rows) -> Path:
    """:func:`rescaled` as a file, cached by content; ``prepared`` itself where no rows are named."""
    if not rows:
        return prepared
    target = target_of(prepared, "rescaled", str(ROWS_VERSION), repr(rows))
    if not is_whole(target):
        model = rescaled(onnx.load(prepared), rows)
        with written(target) as file:
            file.write(model.SerializeToString(deterministic=True))
    return target


def rescaled(model: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    """``model`` with what the named nodes read divided row by row, and multiplied again where the stretch ends.

    A stretch begins with the tensor, takes in all weighted nodes that read it, goes on through homogeneous operators to
    further weighted nodes, and ends behind the last of them, or at a bias. Nodes keep their names; tensors within a
    stretch, too, and what others read of them is called ``.../restored``.

    :param model: FP32, shapes inferred, no control flow; it is not changed.
    :raises UsageError: it has no such weighted node.
    """
    made, _ = _rescaled(model, rows)
    drop_unread(made.graph)
    del made.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(made)


def served(model: onnx.ModelProto, rows: Rows) -> dict[str, set[str]]:
    """Named node -> the weighted nodes in the stretch that begins there; none where an earlier stretch has taken it in.

    :raises UsageError: see :func:`rescaled`.
    """
    _, found = _rescaled(model, rows)
    return found


def _rescaled(model: onnx.ModelProto, rows: Rows) -> tuple[onnx.ModelProto, dict[str, set[str]]]:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    floors = dict(rows)
    weighted = with_rows(made)
    if missing := sorted(floors.keys() - weighted):
        raise UsageError(
            f"no weighted node {missing[0]!r} that reads rows",
            where="rescaled rows",
            todo="the plan was made for another model; search again: harness mix MODEL",
        )
    found: dict[str, set[str]] = {}
    for name in [one.name for one in made.graph.node if one.name in floors]:
        node = next(one for one in made.graph.node if one.name == name)
        if not any(name in taken for taken in found.values()):  # it reads what an earlier one reads
            found[name] = _Rescaling(made, node, floors[name], floors.keys() - {name}).done() & weighted
    return made, found


@dataclass(frozen=True)
class _Value:
    """A tensor within a stretch: the true value is s ** degree times what is there.

    :param rank: 0 where rows are vectors: nothing on the way changes the rank then.
    """

    degree: Fraction
    rank: int


class _Rescaling:
    """One stretch of one model, which is changed in place."""

    def __init__(self, model: onnx.ModelProto, first: onnx.NodeProto, floor: float, others: AbstractSet[str]) -> None:
        self.model, self.graph, self.first, self.floor = model, model.graph, first, floor
        self.taken, self.origin = names_in(model.graph), first.input[0]
        self.ranks = _ranks_of_weights(model)
        self.by_sample = first.op_type in _CONVOLUTIONS
        self.constants = {one.name: one for one in model.graph.initializer}
        self.outputs = {one.name for one in model.graph.output}
        self.weighted = with_rows(model)
        self.stops = {node.input[0] for node in self.graph.node if node.name in others} - {self.origin}
        self.inside: dict[str, _Value] = {self.origin: _Value(Fraction(1), self._rank(first))}
        self.scales: dict[tuple[Fraction, int], str] = {}
        self.tag = first.name

    def done(self) -> set[str]:
        """Names of the nodes that compute on divided rows from now on."""
        within = self._stretch()
        scale = fresh(f"{self.tag}/scale", self.taken)
        self.scales[self.inside[self.origin].degree, self.inside[self.origin].rank] = scale
        divided = fresh(f"{self.tag}/rescaled", self.taken)
        nodes: list[onnx.NodeProto] = []
        restored: dict[str, str] = {}
        for node in self.graph.node:
            if node.name not in within:
                for place, name in enumerate(node.input):
                    node.input[place] = restored.get(name, name)
                nodes.append(node)
                continue
            if divided not in self.inside:
                nodes += self._divide(scale, divided)
            for place, name in enumerate(node.input):
                if name == self.origin:
                    node.input[place] = divided
            nodes.append(node)
            nodes += self._leave(node, within, restored)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        return within

    def _stretch(self) -> set[str]:
        inner: list[onnx.NodeProto] = []
        covered: set[str] = set()
        for node in self.graph.node:
            if not any(name in self.inside for name in node.input):
                continue
            if node.name in self.weighted and self._takes(node):
                inner.append(node)
                covered.add(node.name)
                if len(_bias(node)) == 0 and not self.outputs.intersection(node.output):
                    self.inside[node.output[0]] = _Value(self.inside[node.input[0]].degree, self._rank(node))
            elif not self.outputs.intersection(node.output) and (value := self._through(node)) is not None:
                inner.append(node)
                self.inside[node.output[0]] = value
        needed: set[str] = set()
        for node in reversed(inner):  # what leads to no further product ends the stretch before it begins
            if node.name in covered or needed.intersection(node.output):
                covered.add(node.name)
                needed.update(name for name in node.input if name in self.inside)
        return covered

    def _rank(self, node: onnx.NodeProto) -> int:
        """Of what a weighted node reads and writes."""
        return self.ranks[node.input[1]] if self.by_sample else 0

    def _takes(self, node: onnx.NodeProto) -> bool:
        read = node.input[0]
        alike = (node.op_type in _CONVOLUTIONS) is self.by_sample
        known = all(name in self.constants for name in [node.input[1], *_bias(node)])
        return alike and known and read in self.inside and read not in self.stops

    def _through(self, node: onnx.NodeProto) -> _Value | None:
        """What a node makes of divided rows; None where it is not homogeneous, or mixes rows."""
        given = [self.inside.get(name) for name in node.input if name]
        if len(node.output) != 1 or node.domain not in {"", "ai.onnx"} or self.stops.intersection(node.input):
            return None
        others = [name for name in node.input[1:] if name]
        read, alone = given[0], all(name in self.constants for name in others)
        if read is None:
            return None
        if alone and node.op_type in _KEEP_DEGREE:
            return read
        if alone and node.op_type in _BY_NUMBER:
            return self._by_number(node, read)
        if alone and self.by_sample:
            return self._moved(node, read)
        values = [one for one in given if one is not None]
        return self._joined(node, values) if len(values) == len(given) else None

    def _by_number(self, node: onnx.NodeProto, read: _Value) -> _Value | None:
        """Of one tensor and one constant number."""
        number = Fraction(1, 2) if node.op_type == "Sqrt" else self._number(node.input[1], read.rank)
        if number is None or node.op_type in {"Mul", "Div"}:
            return None if number is None else read
        return _Value(read.degree * number, read.rank) if number > 0 else None

    def _joined(self, node: onnx.NodeProto, values: list[_Value]) -> _Value | None:
        """Of several tensors that are all divided."""
        if len({one.rank for one in values}) > 1:
            return None
        if node.op_type == "Mul":
            return _Value(sum((one.degree for one in values), Fraction(0)), values[0].rank)
        return values[0] if node.op_type in _SAME_DEGREE and len({*values}) == 1 else None

    def _moved(self, node: onnx.NodeProto, read: _Value) -> _Value | None:
        """Of what moves values about within a sample, or pools them; the first axis has to stay what it is."""
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        stays = node.op_type in _POOLS
        if node.op_type == "Transpose":
            stays = attributes.get("perm", [1])[0] == 0
        elif node.op_type == "Pad":
            pads, value = self._integers(node, 1), node.input[2:3]
            zero = attributes.get("mode", b"constant") != b"constant" or not any(value) or self._number(value[0]) == 0
            stays = zero and len(pads) == 2 * read.rank and pads[0] == pads[read.rank] == 0 and not any(node.input[3:])
        elif node.op_type == "Slice":
            axes = self._integers(node, 3)
            stays = bool(axes) and all(axis % read.rank for axis in axes)
        elif node.op_type in {"Squeeze", "Unsqueeze"}:
            axes, adds = self._integers(node, 1), node.op_type == "Unsqueeze"
            rank = read.rank + (len(axes) if adds else -len(axes))
            stays = bool(axes) and rank > 0 and all(axis % max(rank, read.rank) for axis in axes)
            read = _Value(read.degree, rank)
        return read if stays else None

    def _number(self, name: str, rank: int = 0) -> Fraction | None:
        """A constant's value, where it has one only, and not more axes than what it meets."""
        tensor = self.constants.get(name)
        if tensor is None or len(tensor.dims) > max(rank, 1):
            return None
        array = numpy_helper.to_array(tensor)
        return Fraction(float(array.ravel()[0])) if array.size == 1 and np.isfinite(array).all() else None

    def _integers(self, node: onnx.NodeProto, place: int) -> list[int]:
        """A constant input's values; none where it is not there or no constant."""
        tensor = self.constants.get(node.input[place]) if len(node.input) > place else None
        return [] if tensor is None else [int(one) for one in numpy_helper.to_array(tensor).ravel()]

    def _divide(self, scale: str, divided: str) -> Iterator[onnx.NodeProto]:
        largest, floor = fresh(f"{self.tag}/largest", self.taken), fresh(f"{self.tag}/floor", self.taken)
        self.graph.initializer.append(numpy_helper.from_array(np.array(self.floor, np.float32), floor))
        self.inside[divided] = self.inside[self.origin]
        yield from largest_of_rows(self.model, self.taken, self.first, largest)
        yield self._node("Max", [largest, floor], scale)
        yield self._node("Div", [self.origin, scale], divided)

    def _leave(self, node: onnx.NodeProto, within: set[str], restored: dict[str, str]) -> Iterator[onnx.NodeProto]:
        """What others read of a node's output: true values, its bias added."""
        output, bias = node.output[0], _bias(node)
        outside = output in self.outputs or any(
            output in reader.input for reader in self.graph.node if reader.name not in within
        )
        if not outside:
            return
        value = self.inside.get(output)
        if value is None:  # it ends here
            value = _Value(self.inside[node.input[0]].degree, self._rank(node))
        true = output
        if output in self.outputs:
            node.output[0] = fresh(f"{output}/divided", self.taken)
        else:
            true = restored[output] = fresh(f"{output}/restored", self.taken)
        product = fresh(f"{output}/multiplied", self.taken) if bias else true
        # one by one: in float16 the square of a scale may overflow where the product does not
        degrees = [Fraction(1)] * int(value.degree) + [value.degree % 1] * bool(value.degree % 1)
        steps = [*(fresh(f"{output}/step", self.taken) for _ in degrees[1:]), product]
        given = node.output[0]
        for degree, step in zip(degrees, steps, strict=True):
            yield from self._scale_for(degree, value.rank)
            yield self._node("Mul", [given, self.scales[degree, value.rank]], step)
            given = step
        if bias:
            yield self._node("Add", [product, self._bias_constant(node, value.rank)], true)
            del node.input[2:]

    def _scale_for(self, degree: Fraction, rank: int) -> Iterator[onnx.NodeProto]:
        """The scale to a power of at most 1 and in the rank that a tensor needs, made once."""
        if (degree, rank) in self.scales:
            return
        origin = self.inside[self.origin]
        made = self.scales[origin.degree, origin.rank]
        if degree != origin.degree:
            exponent = fresh(f"{self.tag}/degree", self.taken)
            self.graph.initializer.append(numpy_helper.from_array(np.array(float(degree), np.float32), exponent))
            made, base = fresh(f"{self.tag}/scale", self.taken), made
            yield self._node("Pow", [base, exponent], made)
        if rank != origin.rank:
            axes = fresh(f"{self.tag}/axes", self.taken)
            low, high = sorted((rank, origin.rank))
            self.graph.initializer.append(numpy_helper.from_array(np.arange(low, high, dtype=np.int64), axes))
            made, base = fresh(f"{self.tag}/scale", self.taken), made
            yield self._node("Unsqueeze" if rank > origin.rank else "Squeeze", [base, axes], made)
        self.scales[degree, rank] = made

    def _bias_constant(self, node: onnx.NodeProto, rank: int) -> str:
        array = numpy_helper.to_array(self.constants[node.input[2]]).astype(np.float32)
        if node.op_type == "Gemm":
            array = array * next((one.f for one in node.attribute if one.name == "beta"), 1.0)
        else:
            array = array.reshape(-1, *[1] * (rank - 2))
        name = fresh(f"{node.name}/bias", self.taken)
        self.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [output], fresh(f"{self.tag}/{operator}", self.taken))


def largest_of_rows(
    model: onnx.ModelProto, taken: set[str], node: onnx.NodeProto, output: str
) -> Iterator[onnx.NodeProto]:
    """Nodes that give the largest magnitude of each row of what a node reads, axes kept.

    :param taken: names in the model; those of the nodes are added. Axes may become a constant of the model.
    :param output: the name of what they give.
    """
    tensor, axes = node.input[0], _axes(node, _ranks_of_weights(model))
    maker = next((node.op_type for node in model.graph.node if tensor in node.output), "")
    absolute = tensor if maker in _NOT_NEGATIVE else fresh(f"{output}/magnitude", taken)
    if absolute != tensor:
        yield helper.make_node("Abs", [tensor], [absolute], fresh(f"{output}/Abs", taken))
    opset = next(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"})
    name = fresh(f"{output}/ReduceMax", taken)
    if opset < _AXES_ARE_INPUTS:
        yield helper.make_node("ReduceMax", [absolute], [output], name, axes=axes, keepdims=1)
        return
    constant = fresh(f"{output}/axes", taken)
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), constant))
    yield helper.make_node("ReduceMax", [absolute, constant], [output], name, keepdims=1)


def _axes(node: onnx.NodeProto, ranks: Mapping[str, int]) -> list[int]:
    """Over which one row of what the node reads extends."""
    return list(range(1, ranks[node.input[1]])) if node.op_type in _CONVOLUTIONS else [-1]


def _ranks_of_weights(model: onnx.ModelProto) -> dict[str, int]:
    return {one.name: len(one.dims) for one in model.graph.initializer}


def with_rows(model: onnx.ModelProto) -> set[str]:
    """Names of the weighted nodes that read rows: no Gemm that turns them, no MatMul that takes their axis away."""
    ranks, weighted = _ranks_of_weights(model), set(weighted_nodes(model))
    return {
        node.name
        for node in model.graph.node
        if node.name in weighted
        and ranks.get(node.input[1], 0) > 1
        and not (node.op_type == "Gemm" and any(one.name == "transA" and one.i for one in node.attribute))
    }


def _bias(node: onnx.NodeProto) -> list[str]:
    return [name for name in node.input[2:3] if name] if node.op_type in WEIGHTED_TYPES else []
