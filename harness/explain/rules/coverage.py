"""Rules on what computes in INT8 and what stays in float, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.explain.rules.graph import is_default, name_of
from harness.explain.rules.registry import Told, counted, first, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.explain.rules.registry import Subject
    from harness.explain.rules.weighted import Weighted

_CALIBRATE = "harness calibrate MODEL --emit qdq-s8s8, or qdq-u8s8 for x86"
_RECURRENT = ("LSTM", "GRU", "RNN")
_OPERATOR_FORMAT = frozenset(
    {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QLinearAdd"}
    | {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QLinearConcat", "QLinearMul"}
    | {"QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearAveragePool", "QAttention"}
)


@rule("float-activation", "slow")
def float_activations(subject: Subject) -> Iterator[Told]:
    """Quantized weights whose activation has no Q/DQ."""
    found = [one for one in subject.weighted if one.weight_dq is not None and one.activation_dq is None]
    if found:
        yield _in_float(
            subject,
            found,
            "weights in INT8 and an input without Q/DQ: weights are turned back, and the operator computes in float",
            f"put a Q/DQ pair on the input as well: {_CALIBRATE}; or leave its weights in float",
        )


@rule("float-weight", "slow")
def float_weights(subject: Subject) -> Iterator[Told]:
    """Quantized activations that meet a weight in float."""
    found = [
        one for one in subject.weighted if one.activation_dq is not None and one.weight_dq is None and one.constant
    ]
    if found:
        yield _in_float(
            subject,
            found,
            "an input with Q/DQ and a weight without: the input is rounded, and the operator computes in float",
            f"quantize the weight, by output channel: {_CALIBRATE}; or take the Q/DQ off its input",
        )


@rule("computed-weight", "slow")
def computed_weights(subject: Subject) -> Iterator[Told]:
    """Weights that the graph computes of constants, in each run; and a convolution's that depend on its input."""
    folded = [one for one in subject.weighted if not one.constant]
    own = {id(one.node) for one in subject.weighted}
    depending = [node for node in subject.graph.of("Conv", "ConvTranspose") if id(node) not in own]
    if folded:
        yield _in_float(
            subject,
            folded,
            "weights that are computed of constants: no Q/DQ finds them, and they are computed in each run",
            "fold constants: the harness does when it prepares an FP32 model; torch: remove_weight_norm before"
            " exporting",
        )
    if depending:
        nodes = [name_of(node) for node in depending]
        yield Told(
            f"{counted(len(nodes), 'convolution')} with weights that depend on the input: stay in float",
            first(nodes),
            "INT8 takes constant weights; write the operator as a product, or leave it in float",
            {"count": len(nodes), "share_of_weights": 0.0},
            subject.lost_us(nodes),
        )


@rule("float-operator", "note")
def float_operators(subject: Subject) -> Iterator[Told]:
    """Operators without any Q/DQ in a model whose others have them."""
    found = [one for one in subject.weighted if one.weight_dq is None and one.activation_dq is None and one.constant]
    if subject.is_qdq and found:
        share = _share(subject, found)
        nodes = [one.name for one in found]
        yield Told(
            f"{len(found)} of {counted(len(subject.weighted), 'operator')} with weights ({share:.0%} of the weights)"
            " in float, without Q/DQ on input or weight",
            first(nodes),
            f"if nobody chose so for accuracy, quantize them: {_CALIBRATE}",
            {"count": len(found), "of": len(subject.weighted), "share_of_weights": round(share, 4)},
            subject.could_save_us(nodes),
        )


@rule("recurrent", "note")
def recurrent(subject: Subject) -> Iterator[Told]:
    """LSTM, GRU and RNN, which stay in float."""
    found = list(subject.graph.of(*_RECURRENT))
    if found:
        sizes = [sum(_elements(subject, name) for name in node.input[1:3]) for node in found]
        share = sum(sizes) / max(1, _all_weights(subject))
        kinds = ", ".join(sorted({node.op_type for node in found}))
        spent = subject.spent_us(map(name_of, found))
        evidence: dict[str, float | int | str] = {"count": len(found), "share_of_weights": round(share, 4)}
        if spent is not None:
            evidence["time_us"] = round(spent, 2)
        yield Told(
            f"{counted(len(found), 'recurrent operator')} ({kinds}) with {share:.0%} of the weights in float: Q/DQ do"
            " not reach into them",
            first(map(name_of, found)),
            "expect no speed-up of that part; FP16 serves it (--precision fp16 beside INT8), or a model with"
            " convolutions or attention in its place",
            evidence,
        )


@rule("einsum-weight", "note")
def einsum_weights(subject: Subject) -> Iterator[Told]:
    """Products with weights that are written as Einsum, which nothing quantizes."""
    graph = subject.graph
    found = [node for node in graph.of("Einsum") if any(name in graph.derived for name in node.input)]
    if found:
        values = sum(_elements(subject, name) for node in found for name in node.input)
        yield Told(
            f"{counted(len(found), 'Einsum', 'Einsum nodes')} with {values / 1e6:.2f} M values of weights: stays in"
            " float, for no writer gives it Q/DQ and few runtimes have an INT8 kernel for it",
            first(map(name_of, found)),
            "write it as a MatMul before exporting (torch: x @ w, or a Linear layer), with transpositions where they"
            " are needed",
            {"count": len(found), "values": values},
            subject.could_save_us(map(name_of, found)),
        )


@rule("operator-format", "wrong", "note")
def operator_format(subject: Subject) -> Iterator[Told]:
    """Quantized operators in ONNX Runtime's own format, or quantization at run time."""
    found = [node for node in subject.graph.nodes if node.op_type in _OPERATOR_FORMAT]
    if found:
        kinds = sorted({node.op_type for node in found})
        yield Told(
            f"{counted(len(found), 'integer operator')} ({', '.join(kinds)}): TensorRT parses Q/DQ alone",
            first(map(name_of, found)),
            f"give the FP32 model and write Q/DQ: {_CALIBRATE} (ONNX Runtime: quantize_static, QuantFormat.QDQ)",
            {"count": len(found), "types": ", ".join(kinds)},
            severity="wrong" if subject.for_tensorrt else "note",
        )


@rule("activation-products", "note")
def activation_products(subject: Subject) -> Iterator[Told]:
    """In a float model: products of two activations, which calibration leaves in float."""
    if subject.is_qdq or not subject.products:
        return
    nodes = [name_of(node) for node in subject.products]
    yield Told(
        f"{counted(len(nodes), 'matrix product')} of two activations beside {len(subject.weighted)} with weights:"
        " harness calibrate leaves them in float, for INT8 costs accuracy there and fused attention",
        first(nodes),
        "nothing, unless attention takes most of the time: FP16 beside INT8 (--emit qdq-s8s8-fp16) speeds it up",
        {"count": len(nodes), "with_weights": len(subject.weighted)},
    )


@rule("shared-weights", "note")
def shared_weights(subject: Subject) -> Iterator[Told]:
    """Weights that something else reads too, as a tied embedding does."""
    readers: dict[str, list[str]] = {}
    for one in subject.weighted:
        if one.constant:
            readers.setdefault(one.constant, []).append(one.name)
    shared = {}
    for constant, nodes in readers.items():
        others = [
            name_of(node)
            for node in subject.graph.ahead(constant)
            if name_of(node) not in nodes and not is_default(node, "QuantizeLinear", "DequantizeLinear", "Shape")
        ]
        gathers = [name_of(node) for node in subject.graph.readers[constant] if is_default(node, "Gather")]
        kept = dict.fromkeys([*others, *gathers])
        if kept:
            shared[constant] = [*kept]
    if shared:
        size = sum(_elements(subject, name) for name in shared)
        yield Told(
            f"{counted(len(shared), 'weight')} ({size / 1e6:.2f} M values) read by other operators too: the file keeps"
            " them in float beside INT8, and grows",
            first(shared),
            "nothing if size does not matter; else leave that product in float, so that one copy serves both",
            {"count": len(shared), "values": size},
        )


def _in_float(subject: Subject, found: Sequence[Weighted], why: str, todo: str) -> Told:
    nodes, share = [one.name for one in found], _share(subject, found)
    return Told(
        f"{counted(len(found), 'operator')} ({share:.0%} of the weights) with {why}",
        first(nodes),
        todo,
        {"count": len(found), "share_of_weights": round(share, 4)},
        subject.lost_us(nodes) or subject.could_save_us(nodes),
    )


def _share(subject: Subject, found: Sequence[Weighted]) -> float:
    total = sum(_elements(subject, one.constant) for one in subject.weighted)
    return sum(_elements(subject, one.constant) for one in found) / total if total else 0.0


def _all_weights(subject: Subject) -> int:
    """Values of all constants of two and more dimensions, whoever reads them."""
    found = {tensor.name: tensor.dims for tensor in subject.graph.constants.values() if len(tensor.dims) > 1}
    return sum(int(np.prod(dims, dtype=np.int64)) for dims in found.values())


def _elements(subject: Subject, name: str) -> int:
    tensor = subject.graph.constants.get(name)
    return int(np.prod(tensor.dims, dtype=np.int64)) if tensor is not None else 0
