"""Files of any assignment, made by rewiring plain Q/DQ files: no writer runs while a search tries hundreds of them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from harness.calibration.artefacts import target_of
from harness.calibration.qdq import write_qdq
from harness.errors import UsageError
from harness.graphs import drop_unread
from harness.modelfile import weighted_nodes
from harness.onnx_facts import is_whole
from harness.paths import written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.calibration.qdq import Weights
    from harness.calibration.ranges import Ranges
    from harness.calibration.rescaling import Rows
    from harness.mixed.assignment import Assignment
    from harness.spec.calibration import Dialect

__all__ = ["Palette", "mixed_file"]


_ALIKE = 0.01
"""Ranges that differ by less give the same file, near enough."""


@dataclass(frozen=True)
class Palette:
    """The plain Q/DQ file of a model by each method of choosing ranges; an assignment is painted from them.

    :param prepared: the FP32 model, its rows rescaled. :param plain: method -> its file; the first one is that of the
        whole model.
    :param ranges: method -> ranges. :param rows: that are rescaled. :param others: the palette of other rows.
    """

    prepared: onnx.ModelProto
    plain: dict[str, onnx.ModelProto]
    dialect: Dialect
    ranges: Mapping[str, Ranges]
    rows: Rows = ()
    others: Callable[[Rows], Palette] | None = None

    @classmethod
    def of(
        cls,
        prepared: Path,
        ranges: Mapping[str, Ranges],
        dialect: Dialect,
        weights: Weights = "int8",
        rows: Rows = (),
        others: Callable[[Rows], Palette] | None = None,
    ) -> Palette:
        """Write the plain files.

        :param prepared: the FP32 model with these ``rows`` rescaled.
        :param ranges: method -> ranges, the default first.
        :raises CalibrationFailed: see :func:`harness.calibration.qdq.write_qdq`.
        """
        model = onnx.load(prepared)
        nodes, plain = weighted_nodes(model), {}
        with tempfile.TemporaryDirectory(prefix="palette.") as folder:
            target = Path(folder, "plain.onnx")
            for method, found in ranges.items():
                write_qdq(prepared, nodes, found, dialect, target, weights)
                plain[method] = onnx.load(target)
        return cls(model, plain, dialect, ranges, rows, others)

    def of_rows(self, rows: Rows) -> Palette:
        """The palette of the same model with other rows rescaled.

        :raises UsageError: it can make no other.
        """
        if rows == self.rows:
            return self
        if self.others is None:
            raise UsageError(
                f"no ranges for a model with rows of {[name for name, _ in rows]} rescaled",
                where="an assignment of mixed precision",
                todo="it was made for another model; search again",
            )
        return self.others(rows)

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The weighted nodes, in graph order."""
        return tuple(weighted_nodes(self.prepared))

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Weighted node -> the activation that it reads."""
        chosen = set(self.nodes)
        return {node.name: node.input[0] for node in self.prepared.graph.node if node.name in chosen}

    @cached_property
    def operators(self) -> dict[str, str]:
        """Weighted node -> operator type."""
        chosen = set(self.nodes)
        return {node.name: node.op_type for node in self.prepared.graph.node if node.name in chosen}

    @cached_property
    def graph_outputs(self) -> frozenset[str]:
        """Names of the model's outputs."""
        return frozenset(value.name for value in self.prepared.graph.output)

    def by_width(self, tensor: str, own: str) -> tuple[str, ...]:
        """Methods by the range that they give a quantized activation, the narrowest first; of equal ones the first, or
        ``own``, which is always among them.
        """
        found = {own: self._scales[own][tensor]}
        for method, scales in self._scales.items():
            scale = scales[tensor]
            if not any(abs(scale - other) < _ALIKE * other for other in found.values()):
                found[method] = scale
        return tuple(sorted(found, key=lambda method: found[method]))

    @cached_property
    def _scales(self) -> dict[str, dict[str, float]]:
        """Method -> quantized activation -> scale."""
        return {method: self._scales_of(file) for method, file in self.plain.items()}

    def _scales_of(self, file: onnx.ModelProto) -> dict[str, float]:
        constants = {tensor.name: tensor for tensor in file.graph.initializer}
        quantizers = (node for node in file.graph.node if node.op_type == "QuantizeLinear")
        return {
            _tensor_of(node, self): float(numpy_helper.to_array(constants[node.input[1]]).max())
            for node in quantizers
            if node.input[1] in constants
        }

    @cached_property
    def shared_with_float(self) -> tuple[str, ...]:
        """Quantized activations that something else than a weighted operator reads, too, in graph order."""
        quantized = set(self.inputs.values())
        found: dict[str, None] = {}
        for node in self.prepared.graph.node:
            for place, name in enumerate(node.input):
                if name in quantized and not (place == 0 and node.name in self.operators):
                    found[name] = None
        return tuple(found)

    def paint(self, assignment: Assignment) -> onnx.ModelProto:
        """The Q/DQ graph of an assignment.

        :raises UsageError: it names a node, a tensor or a method that is not there.
        """
        if assignment.rows != self.rows:
            return self.of_rows(assignment.rows).paint(assignment)
        self._check(assignment)
        model = onnx.ModelProto()
        model.CopyFrom(next(iter(self.plain.values())))
        _take_methods(model, dict(assignment.methods), self)
        return _Rewiring(model, self.prepared, self.operators, assignment).done()

    def _check(self, assignment: Assignment) -> None:
        tensors = {*self.inputs.values(), *(n.output[0] for n in self.prepared.graph.node if n.name in self.operators)}
        for what, named, known in (
            ("weighted node", assignment.in_float | assignment.float_outputs, set(self.operators)),
            ("quantized tensor", assignment.float_readers | dict(assignment.methods).keys(), tensors),
            ("method", set(dict(assignment.methods).values()), set(self.plain)),
        ):
            if missing := sorted(set(named) - known):
                raise UsageError(
                    f"no {what} {missing[0]!r}",
                    where="an assignment of mixed precision",
                    todo="it was made for another model; search again",
                )


def mixed_file(
    prepared: Path, ranges: Ranges, assignment: Assignment, dialect: Dialect, weights: Weights = "int8"
) -> Path:
    """The Q/DQ file of an assignment, cached by content.

    :param prepared: with the assignment's rows rescaled already, see :func:`harness.calibration.rows.rescaled_file`.
    :param ranges: quantized tensor -> its range, which already follow the assignment's methods.
    :raises CalibrationFailed: see :func:`harness.calibration.qdq.write_qdq`.
    :raises UsageError: the assignment was made for another model.
    """
    described = json.dumps([assignment.as_data(), sorted(ranges.items())], sort_keys=True)
    target = target_of(prepared, "mixed", weights, dialect.value, described)
    if not is_whole(target):
        palette = Palette.of(prepared, {"own": ranges}, dialect, weights, assignment.rows)
        model = palette.paint(replace(assignment, methods=()))
        with written(target) as file:
            file.write(model.SerializeToString(deterministic=True))
    return target


def _take_methods(model: onnx.ModelProto, methods: Mapping[str, str], palette: Palette) -> None:
    """Replace a tensor's scale and zero point by those of its method, and the biases that follow from them."""
    if not methods:
        return
    own = {tensor.name: tensor for tensor in model.graph.initializer}
    for method in set(methods.values()):
        source = palette.plain[method]
        theirs = {tensor.name: tensor for tensor in source.graph.initializer}
        makers = {output: node for node in source.graph.node for output in node.output}
        wanted = {tensor for tensor, one in methods.items() if one == method}
        for node in source.graph.node:
            if node.op_type == "QuantizeLinear" and _tensor_of(node, palette) in wanted:
                names = list(node.input[1:])
            elif palette.inputs.get(node.name) in wanted:  # weights and bias, in terms of its input's scale
                feeding = (makers.get(name) for name in node.input[1:])
                names = [name for one in feeding if one is not None for name in one.input]
            else:
                continue
            for name in names:
                if name in own and name in theirs:
                    own[name].CopyFrom(theirs[name])


def _tensor_of(quantize: onnx.NodeProto, palette: Palette) -> str:
    name = str(quantize.input[0])
    return name.removesuffix(_RENAMED) if name.removesuffix(_RENAMED) in palette.graph_outputs else name


_RENAMED = "_QuantizeLinear_Input"


class _Rewiring:
    """One copy of a plain file while it is changed; see :meth:`done`."""

    def __init__(
        self, model: onnx.ModelProto, prepared: onnx.ModelProto, operators: Mapping[str, str], assignment: Assignment
    ) -> None:
        self.model, self.assignment, self.operators = model, assignment, operators
        self.nodes = {node.name: node for node in model.graph.node}
        self.before = {node.name: node for node in prepared.graph.node}
        self.floats = {tensor.name: tensor for tensor in prepared.graph.initializer}
        self.outputs = {value.name for value in prepared.graph.output}
        self.restored: set[str] = set()
        # where a tensor of the prepared model is found in floating point: the writer renames those that are outputs
        self.raw = {value.name: value.name for value in prepared.graph.input}
        for node in prepared.graph.node:
            there = self.nodes.get(node.name)
            for place, name in enumerate(node.output):
                self.raw[name] = there.output[place] if there is not None else name

    def done(self) -> onnx.ModelProto:
        for name in sorted(self.assignment.in_float):
            self._restore(name)
        in_int8 = [self.before[name] for name in self.operators if name not in self.assignment.in_float]
        needed = {node.input[0] for node in in_int8} | {
            node.output[0] for node in in_int8 if node.name not in self.assignment.float_outputs
        }
        free = {
            self.before[name].output[0] for name in self.assignment.in_float | self.assignment.float_outputs
        } | self.assignment.float_readers
        # what no operator reads as INT8 any more
        free |= {self.before[name].input[0] for name in self.assignment.in_float} - needed
        for tensor in sorted(free):
            self._read_in_float(tensor)
        _drop_unread(self.model)
        return self.model

    def _restore(self, name: str) -> None:
        """A node's float inputs: activation, weight, bias."""
        node, before = self.nodes[name], self.before[name]
        for place, tensor in enumerate(before.input):
            node.input[place] = self._constant(tensor) if tensor in self.floats else self.raw.get(tensor, tensor)

    def _constant(self, tensor: str) -> str:
        """A float weight under a new name: what the writer dequantizes a bias to has the bias' own."""
        name = f"{tensor}_in_float"
        if name not in self.restored:
            self.model.graph.initializer.append(self.floats[tensor])
            self.model.graph.initializer[-1].name = name
            self.restored.add(name)
        return name

    def _read_in_float(self, tensor: str) -> None:
        """All but weighted operators that stay in INT8 read a tensor without its Q/DQ."""
        raw = self.raw[tensor]
        dequantized = {
            after.output[0]
            for node in self.model.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] == raw
            for after in self.model.graph.node
            if after.op_type == "DequantizeLinear" and after.input[0] == node.output[0]
        }
        if not dequantized:
            return
        for node in self.model.graph.node:
            in_int8 = node.name in self.operators and node.name not in self.assignment.in_float
            for place, name in enumerate(node.input):
                if name in dequantized and not (in_int8 and place == 0):
                    node.input[place] = raw
        if tensor in self.outputs and raw != tensor:
            self._give_out(tensor, raw)

    def _give_out(self, tensor: str, raw: str) -> None:
        """The graph's output is the floating-point value, under its own name; what was called so gets another one."""
        for node in self.model.graph.node:
            for place, name in enumerate(node.input):
                if name in {tensor, raw}:
                    node.input[place] = tensor if name == raw else f"{tensor}_dequantized"
            for place, name in enumerate(node.output):
                if name in {tensor, raw}:
                    node.output[place] = tensor if name == raw else f"{tensor}_dequantized"
        self.raw[tensor] = tensor


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove nodes and initializers that no output depends on."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    left = list(reversed(kept))
    if len(left) != len(graph.node):
        del graph.node[:]
        graph.node.extend(left)
    drop_unread(graph)
