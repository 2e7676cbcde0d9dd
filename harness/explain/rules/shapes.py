"""Rules on sizes, types and versions: what is too small for INT8, and what a runtime does not take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from harness.explain.rules.graph import is_default, name_of
from harness.explain.rules.registry import Told, counted, first, rule
from harness.onnx_facts import has_subgraph, is_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import NodeProto

    from harness.explain.rules.registry import Subject
    from harness.explain.rules.weighted import Weighted

_LEAST = 16
"""Channels and summed products that INT8 kernels work in; ModelOpt leaves smaller products out."""
_PER_CHANNEL_SINCE = 13
_PREPARED = 17
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "MatMul", "ReduceSum", "CumSum")
_INTEGERS = frozenset({TensorProto.INT64})


@rule("small-operator", "slow", "note")
def small_operators(subject: Subject) -> Iterator[Told]:
    """Weighted operators with fewer than 16 output channels, or fewer than 16 products to a sum."""
    found = [
        one
        for one in subject.weighted
        if (one.quantized or not subject.is_qdq) and one.group == 1 and 0 < _least(subject, one) < _LEAST
    ]
    if found:
        smallest = min(found, key=lambda one: _least(subject, one))
        which = "K or N" if subject.for_tensorrt else "K"
        yield Told(
            f"{counted(len(found), 'operator')} with {which} below {_LEAST}, such as K={smallest.k}, N={smallest.n} in"
            f" {smallest.name}: INT8 kernels pad to that, and Q/DQ cost more than they save",
            first(one.name for one in found),
            "leave them in float" if subject.is_qdq else "consider leaving them in float when it is quantized",
            {"count": len(found), "k": smallest.k, "n": smallest.n, "least": _LEAST},
            subject.lost_us(one.name for one in found),
            severity="slow" if subject.is_qdq else "note",
        )


@rule("gemv", "slow", "note")
def gemv(subject: Subject) -> Iterator[Told]:
    """Products with a single row, at every length: their time is that of reading weights."""
    if not subject.for_tensorrt:
        return
    found = [
        one
        for one in subject.weighted
        if (one.quantized or not subject.is_qdq)
        and is_default(one.node, "MatMul", "Gemm")
        and min(one.k, one.n) >= _LEAST
        and _rows(subject, one) == 1
    ]
    if found:
        weights = sum(one.k * one.n for one in found)
        yield Told(
            f"{counted(len(found), 'product')} of a single row ({weights} weights): bound by reading weights, on a GPU"
            " Q/DQ make it slower",
            first(one.name for one in found),
            "leave them in float for TensorRT; on a CPU INT8 reads a quarter of the bytes: measure",
            {"count": len(found), "weights": weights},
            subject.lost_us(one.name for one in found),
            severity="slow" if subject.is_qdq else "note",
        )


@rule("old-opset", "wrong", "note")
def old_opset(subject: Subject) -> Iterator[Told]:
    """Opsets whose Q/DQ have no axis."""
    graph = subject.graph
    if not 0 < graph.opset < _PER_CHANNEL_SINCE:
        return
    by_channel = [one for one in subject.quantizers.values() if one.per_channel]
    if by_channel or not subject.is_qdq:
        yield Told(
            f"opset {graph.opset}: Q/DQ have an axis from {_PER_CHANNEL_SINCE} on"
            + (f", and {counted(len(by_channel), 'node')} here with scales by channel" if by_channel else ""),
            first(one.name for one in by_channel),
            f"export with opset {_PREPARED}"
            + ("" if by_channel else "; the harness converts an FP32 model to it when it prepares it"),
            {"opset": graph.opset, "count": len(by_channel)},
            severity="wrong" if by_channel else "note",
        )


@rule("squeeze-without-axes", "wrong", "note")
def squeeze_without_axes(subject: Subject) -> Iterator[Told]:
    """Squeeze of whatever is 1, which TensorRT refuses for dynamic shapes."""
    if not subject.for_tensorrt:
        return
    found = [
        node
        for node in subject.graph.of("Squeeze")
        if not any(one.name == "axes" for one in node.attribute)
        and (len(node.input) < 2 or not node.input[1])
        and not all(isinstance(dim, int) for dim in subject.graph.symbols(node.input[0]) or (None,))
    ]
    if found:
        yield Told(
            f"{counted(len(found), 'Squeeze', 'Squeeze nodes')} without axes on a dynamic shape: TensorRT refuses it",
            first(map(name_of, found)),
            "export with axes (torch: x.squeeze(1)); from an FP32 model harness calibrate and the suites write them for"
            " TensorRT",
            {"count": len(found)},
            severity="wrong" if subject.is_qdq else "note",
        )


@rule("nothing-varies", "note")
def nothing_varies(subject: Subject) -> Iterator[Told]:
    """Inputs whose length is fixed; perhaps the batch varies."""
    values = subject.graph.inputs
    dims = {name: subject.graph.symbols(name) for name in values}
    open_ = [
        (name, at, dim) for name, sizes in dims.items() for at, dim in enumerate(sizes) if not isinstance(dim, int)
    ]
    if not values or any(not is_batch(at, dim or "?") for _, at, dim in open_) or subject.spec is not None:
        return
    shown = "; ".join(f"{name} [{', '.join(str(dim) for dim in sizes)}]" for name, sizes in dims.items())
    yield Told(
        ("only the batch varies" if open_ else "every dimension is fixed") + f": {shown}",
        first(values),
        "export with the length as a dynamic axis (torch.onnx.export: dynamic_axes={'input': {1: 'length'}}), or, if"
        " lengths do not vary, expect nothing of buckets and profiles here",
        {"open_batches": len(open_), "inputs": len(values)},
    )


@rule("malformed", "wrong")
def malformed(subject: Subject) -> Iterator[Told]:
    """Nodes that no runtime takes; other rules pass over them."""
    found = subject.graph.malformed
    if found:
        yield Told(
            f"{counted(len(found), 'node')} without the inputs or outputs that {found[0].op_type} needs: no runtime"
            " loads it",
            first(map(name_of, found)),
            "export it again; onnx.checker.check_model(path, full_check=True) says more",
            {"count": len(found), "operator": found[0].op_type},
        )


@rule("control-flow", "note")
def control_flow(subject: Subject) -> Iterator[Told]:
    """If, Loop and Scan."""
    found = [node for node in subject.graph.nodes if has_subgraph(node)]
    if found:
        inside = sum(len(one.g.node) for node in found for one in node.attribute if one.HasField("g"))
        kinds = ", ".join(sorted({node.op_type for node in found}))
        yield Told(
            f"{counted(len(found), 'node')} of {kinds} with {inside} nodes inside: nothing in there was looked at, and"
            " the harness quantizes none of it",
            first(map(name_of, found)),
            "trace the model instead of scripting it, or fix what selects the branch",
            {"count": len(found), "inside": inside},
        )


@rule("float64", "slow")
def float64(subject: Subject) -> Iterator[Told]:
    """Computing in double precision."""
    graph = subject.graph
    found = [
        node
        for node in graph.nodes
        if not is_default(node, "Constant", "Cast", "Shape")
        and not has_subgraph(node)
        and any(graph.type_of(name) == TensorProto.DOUBLE for name in node.output if name and name not in graph.derived)
    ]
    yield from _of_type(
        subject,
        found,
        "in float64: TensorRT computes in float32 or refuses it, and nothing of it can be INT8",
        "export in float32 (torch: model.float(), and no Python or NumPy doubles in forward)",
    )


@rule("int64-arithmetic", "note")
def int64_arithmetic(subject: Subject) -> Iterator[Told]:
    """Arithmetic on int64 tensors with a length, which is no arithmetic on shapes."""
    graph = subject.graph
    found = [node for node in graph.of(*_ARITHMETIC) if _is_long(subject, node)]
    yield from _of_type(
        subject,
        found,
        "in int64 over whole tensors: GPUs are slow at it, older TensorRT narrows it to int32",
        "cast indices and masks to float32 or int32 where they are computed with",
    )


def _of_type(subject: Subject, found: Sequence[NodeProto], what: str, todo: str) -> Iterator[Told]:
    if found:
        kinds = ", ".join(sorted({node.op_type for node in found}))
        yield Told(
            f"{counted(len(found), 'operator')} ({kinds}) {what}",
            first(map(name_of, found)),
            todo,
            {"count": len(found), "operators": kinds},
            subject.spent_us(map(name_of, found)),
        )


def _is_long(subject: Subject, node: NodeProto) -> bool:
    graph = subject.graph
    output = node.output[0]
    dims = graph.symbols(output)
    large = len(dims) > 1 and (any(not isinstance(dim, int) for dim in dims) or int(np.prod(dims)) > 1024)
    return graph.type_of(output) in _INTEGERS and output not in graph.derived and large


def _least(subject: Subject, one: Weighted) -> int:
    """K or N, the smaller one. On x86 K of a product: there short sums are a loss and thin outputs are none."""
    if subject.for_tensorrt:
        return min(one.k, one.n)
    return one.k if is_default(one.node, "MatMul", "Gemm") else 0


def _rows(subject: Subject, one: Weighted) -> int:
    """Rows of a product's activation at the longest input, a batch being 1; 0 where that is not known."""
    graph, spec = subject.graph, subject.spec
    if spec is not None:
        dims: tuple[object, ...] = graph.shape_at(one.activation, spec, spec.maximum)
    else:
        dims = graph.symbols(one.activation)
        if len(dims) > 1 and not isinstance(dims[0], int) and is_batch(0, str(dims[0] or "?")):
            dims = (1, *dims[1:])
    if not dims:
        return 0
    rows = dims[:-1]
    known = [dim for dim in rows if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(rows) else 0
