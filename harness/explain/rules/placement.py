"""Rules on where Q/DQ stand: what they keep kernels from fusing, and what they do for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from harness.explain.rules.graph import MOVERS, is_default, name_of
from harness.explain.rules.registry import Told, counted, first, number, rule
from harness.modelfile import WEIGHTED_TYPES
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from harness.explain.rules.quantizers import Pair
    from harness.explain.rules.registry import Subject

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
_FUSED_BEHIND = ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "BatchNormalization", "InstanceNormalization")
_IN_INT8 = frozenset({*WEIGHTED_TYPES, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", _Q})
"""What takes INT8 in both runtimes, or lets Q/DQ through, whatever comes behind."""
_IN_INT8_BEFORE_Q = frozenset({"Add", "Mul", "Sigmoid", "LeakyRelu", "Relu", "Clip", "Resize", "ReduceMean", "Where"})
"""What ONNX Runtime has INT8 kernels for where a QuantizeLinear comes behind; TensorRT takes all element by element."""
_NOT_BY_ELEMENT = ("LSTM", "GRU", "RNN")
_BY_ELEMENT = frozenset({
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min",
    "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
})  # fmt: skip
"""What TensorRT fuses in a row into one kernel, INT8 at its ends where Q/DQ stand there."""
_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization")


@rule("split-fusion", "slow")
def split_fusions(subject: Subject) -> Iterator[Told]:
    """Q/DQ between a weighted operator and what would be computed in its kernel."""
    found = _split(subject)
    if found:
        makers = [name_of(subject.graph.producers[pair.source]) for pair, _ in found]
        what = ", ".join(sorted({kind for _, kind in found}))
        yield Told(
            f"{counted(len(found), 'Q/DQ pair')} between a weighted operator and its {what}: two kernels where there"
            " could be one, and the tensor goes through memory",
            first(makers),
            "move the pair behind it; fold BatchNormalization into the weights before calibrating (the harness does"
            " when it prepares an FP32 model); harness calibrate MODEL --emit qdq-s8s8 puts Q/DQ on inputs alone",
            {"count": len(found), "before": what},
            subject.spent_us(name for pair, _ in found for name in _nodes(pair)),
        )


@rule("quantized-output", "slow")
def quantized_outputs(subject: Subject) -> Iterator[Told]:
    """In the TensorRT dialect: Q/DQ on a weighted operator's output that nothing in INT8 reads."""
    if subject.dialect is not Dialect.S8S8:
        return
    split = {pair.output for pair, _ in _split(subject)}
    found = [
        pair
        for pair in subject.pairs
        if _made_by_weights(subject, pair)
        and pair.output not in split
        and not _read_in_int8(subject, pair)
        and not any(is_default(node, *_NORMS, "Softmax", _Q) for node in _readers(subject, pair))
    ]
    if found:
        yield Told(
            f"{counted(len(found), 'Q/DQ pair')} on outputs that nothing in INT8 reads: rounds, and costs a kernel",
            first(name_of(subject.graph.producers[pair.source]) for pair in found),
            "quantize inputs of weighted operators, not outputs: harness calibrate MODEL --emit qdq-s8s8 (ONNX Runtime:"
            " OpTypesToExcludeOutputQuantization)",
            {"count": len(found)},
            subject.spent_us(name for pair in found for name in _nodes(pair)),
        )


@rule("idle-qdq", "slow")
def idle(subject: Subject) -> Iterator[Told]:
    """Q/DQ that only operators read which compute in float, or move data."""
    found = [
        pair
        for pair in subject.pairs
        if not _made_by_weights(subject, pair)
        and not _read_in_int8(subject, pair)
        and not any(is_default(node, *_NORMS, "Softmax") for node in _readers(subject, pair))
        and not _behind_dequantize(subject, pair.source)
        and not (subject.dialect is Dialect.U8S8 and subject.graph.leaves(pair.output))  # its maker is in INT8 by it
    ]
    if found:
        moved = sum(any(is_default(n, *MOVERS) for n in subject.graph.readers[pair.output]) for pair in found)
        yield Told(
            f"{counted(len(found), 'Q/DQ pair')} that nothing in INT8 reads ({moved} before operators that only move"
            " data): rounds for nothing, and costs kernels",
            first(pair.source for pair in found),
            "quantize weighted operators only (op_types_to_quantize; harness calibrate does so)",
            {"count": len(found), "before_movers": moved},
            subject.spent_us(name for pair in found for name in _nodes(pair)),
        )


@rule("double-qdq", "slow")
def doubled(subject: Subject) -> Iterator[Told]:
    """Two pairs in a row with one scale: the second does nothing."""
    found = [(left, right) for left, right in _in_a_row(subject) if _scale(left) == _scale(right)]
    if found:
        yield Told(
            f"{counted(len(found), 'tensor')} quantized twice in a row with the same scale: the second pair does"
            " nothing, and may keep the first from fusing",
            first(left.source for left, _ in found),
            "remove one of the two pairs; quantize a model once, from its FP32 file",
            {"count": len(found)},
            subject.spent_us(name for _, right in found for name in _nodes(right)),
        )


@rule("requantized", "wrong")
def requantized(subject: Subject) -> Iterator[Told]:
    """Two pairs in a row with two scales: two roundings."""
    found = [(left, right) for left, right in _in_a_row(subject) if _scale(left) != _scale(right)]
    if found:
        left, right = found[0]
        finer, coarser = sorted((_scale(left), _scale(right)))
        # two independent roundings, s1^2 / 12 and s2^2 / 12, against the finer one alone
        lost = 10 * float(np.log10(1 + (coarser / finer) ** 2)) if finer > 0 and np.isfinite(coarser) else None
        yield Told(
            f"{counted(len(found), 'tensor')} rounded twice in a row, with scales {_scale(left):.4g} and"
            f" {_scale(right):.4g}: the coarser one decides, and the finer adds its error",
            first(left.source for left, _ in found),
            "keep one pair, the one with the range of what the next operator reads; quantize a model once",
            {"count": len(found), "scale": number(_scale(left)), "next_scale": number(_scale(right))},
            cost_db=lost,
        )


@rule("lone-dequantize", "wrong")
def lone_dequantize(subject: Subject) -> Iterator[Told]:
    """DequantizeLinear on integers that no QuantizeLinear made."""
    graph = subject.graph
    found = [
        one
        for one in subject.quantizers.values()
        if not one.is_quantize
        and not one.constant
        and one.node.input[0] not in graph.inputs
        and (made := graph.behind(one.node.input[0], through=MOVERS | {"MaxPool"})) is not None
        and made.op_type != _Q
        and not made.op_type.startswith(("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize"))
    ]
    if found:
        makers = [graph.producers[one.node.input[0]].op_type for one in found]
        yield Told(
            f"{counted(len(found), 'DequantizeLinear', 'DequantizeLinear')} without a QuantizeLinear before: what"
            f" {makers[0]} makes is taken for INT8",
            first(one.name for one in found),
            "put the QuantizeLinear back, with the same scale; a Cast to int8 neither scales nor rounds",
            {"count": len(found), "maker": makers[0]},
        )


@rule("lone-quantize", "wrong")
def lone_quantize(subject: Subject) -> Iterator[Told]:
    """QuantizeLinear whose integers nothing turns back."""
    graph = subject.graph
    found = []
    for one in subject.quantizers.values():
        readers = graph.ahead(one.node.output[0], through=MOVERS | {"MaxPool"}) if one.is_quantize else []
        known = all(node.op_type == _DQ or "Integer" in node.op_type or node.op_type[0] == "Q" for node in readers)
        if one.is_quantize and (not readers or not known) and not graph.leaves(one.node.output[0]):
            found.append((one, [node.op_type for node in readers if node.op_type != _DQ]))
    if found:
        readers_of = found[0][1]
        yield Told(
            f"{counted(len(found), 'QuantizeLinear', 'QuantizeLinear')} that no DequantizeLinear undoes: read by"
            f" {', '.join(readers_of) or 'nothing'}",
            first(one.name for one, _ in found),
            "every QuantizeLinear needs its DequantizeLinear before the next operator; calibrate again from the FP32"
            " file",
            {"count": len(found), "reader": readers_of[0] if readers_of else ""},
        )


@rule("cast-beside-qdq", "slow")
def casts(subject: Subject) -> Iterator[Told]:
    """Casts between a DequantizeLinear and its operator, or before a QuantizeLinear in the other type."""
    graph, found = subject.graph, []
    for node in graph.of("Cast"):
        before = graph.producers.get(node.input[0])
        from_dq = before is not None and before.op_type == _DQ
        weighted = any(is_default(reader, *WEIGHTED_TYPES) for reader in graph.ahead(node.output[0]))
        halves = {graph.type_of(node.input[0]), graph.type_of(node.output[0])} == {
            TensorProto.FLOAT16,
            TensorProto.FLOAT,
        }
        if (from_dq and weighted) or (
            halves
            and before is not None
            and is_default(before, *WEIGHTED_TYPES, "Relu", "Add")
            and any(reader.op_type == _Q for reader in graph.readers[node.output[0]])
        ):
            found.append(node)
    if found:
        yield Told(
            f"{counted(len(found), 'Cast')} between Q/DQ and an operator: the pattern of an INT8 kernel is broken, it"
            " computes in float",
            first(map(name_of, found)),
            "write scales in float16 (opset 19), so that no cast is needed: harness calibrate MODEL --emit"
            " qdq-s8s8-fp16",
            {"count": len(found)},
            subject.lost_us(name_of(reader) for node in found for reader in graph.ahead(node.output[0])),
        )


@rule("half-quantized-add", "slow")
def half_quantized_adds(subject: Subject) -> Iterator[Told]:
    """In the TensorRT dialect: a residual Add of a convolutional network with Q/DQ at its convolution's side alone."""
    if subject.dialect is not Dialect.S8S8:
        return
    graph, found = subject.graph, []
    for node in graph.of("Add"):
        if any(name in graph.derived for name in node.input):
            continue
        through = [subject.dequantized(name) for name in node.input]
        sides = [one is not None for one in through]
        if sum(sides) != 1:
            continue
        pair, other = through[sides.index(True)], node.input[1 - sides.index(True)]
        maker = graph.behind(other, through=(*_FUSED_BEHIND, *MOVERS))
        fused = maker is not None and is_default(maker, "Conv", "ConvTranspose")  # with the other side as its residual
        if pair is not None and _made_by(subject, pair, "Conv", "ConvTranspose") and not fused:
            found.append(node)
    if found:
        yield Told(
            f"{counted(len(found), 'residual Add')} with Q/DQ on one side: computes in float, and the convolution"
            " before it writes float",
            first(map(name_of, found)),
            "quantize both inputs of the Add, or only the residual, so that it is computed in the convolution's kernel",
            {"count": len(found)},
            subject.lost_us(map(name_of, found)),
        )


def _split(subject: Subject) -> list[tuple[Pair, str]]:
    """Pairs between a weighted operator and what its kernel would compute as well, which alone reads it."""
    on_x86 = subject.dialect is Dialect.U8S8
    found = []
    for pair in subject.pairs:
        readers = subject.graph.readers[pair.output]
        if not _made_by_weights(subject, pair) or len(readers) != 1:
            continue
        if is_default(readers[0], *(("BatchNormalization",) if on_x86 else _FUSED_BEHIND)):
            found.append((pair, readers[0].op_type))
        elif not on_x86 and _adds_constant(subject, readers[0]):
            found.append((pair, f"constant {readers[0].op_type}"))
    return found


def _made_by(subject: Subject, pair: Pair, *kinds: str) -> bool:
    node = subject.graph.producers.get(pair.source)
    return node is not None and is_default(node, *kinds)


def _made_by_weights(subject: Subject, pair: Pair) -> bool:
    return _made_by(subject, pair, *WEIGHTED_TYPES)


def _readers(subject: Subject, pair: Pair) -> list[NodeProto]:
    return subject.graph.ahead(pair.output, through=(*MOVERS, "Cast"))


def _read_in_int8(subject: Subject, pair: Pair) -> bool:
    """By an operator that may compute in INT8: always, or because its output is quantized too."""
    return any(_in_int8(subject, node) for node in _readers(subject, pair))


def _in_int8(subject: Subject, node: NodeProto) -> bool:
    if is_default(node, *_IN_INT8) or (is_default(node, "Add", "Sum") and not _adds_constant(subject, node)):
        return True
    if subject.dialect is Dialect.U8S8 and not is_default(node, *_IN_INT8_BEFORE_Q):
        return False
    if is_default(node, *_NOT_BY_ELEMENT):
        return False
    in_a_row = subject.dialect is not Dialect.U8S8
    pending, seen = [node], {id(node)}
    while pending:
        current = pending.pop()
        behind = [reader for name in current.output for reader in subject.graph.ahead(name)]
        if any(reader.op_type == _Q for reader in behind):
            return True
        if in_a_row and is_default(current, *_BY_ELEMENT):
            new = [one for one in behind if is_default(one, *_BY_ELEMENT) and id(one) not in seen]
            seen.update(map(id, new))
            pending += new
    return False


def _adds_constant(subject: Subject, node: NodeProto) -> bool:
    return is_default(node, "Add", "Mul") and any(name in subject.graph.derived for name in node.input)


def _behind_dequantize(subject: Subject, tensor: str) -> bool:
    node = subject.graph.producers.get(tensor)
    return node is not None and node.op_type == _DQ


def _in_a_row(subject: Subject) -> Iterator[tuple[Pair, Pair]]:
    by_output = {pair.output: pair for pair in subject.pairs}
    for right in subject.pairs:
        left = by_output.get(right.source)
        if left is not None:
            yield left, right


def _scale(pair: Pair) -> float:
    scale = pair.quantize.scale
    return float(np.asarray(scale, np.float64).reshape(-1)[0]) if scale is not None and scale.size else float("nan")


def _nodes(pair: Pair) -> tuple[str, str]:
    return pair.quantize.name, pair.dequantize.name
