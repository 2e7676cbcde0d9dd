"""Rules on transformers: residual sums, normalizations, and products of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.explain.rules.graph import MOVERS, is_default, name_of
from harness.explain.rules.registry import Told, counted, first, rule
from harness.modelfile import WEIGHTED_TYPES
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from harness.explain.rules.registry import Subject

_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization")
_BESIDE_SOFTMAX = (*MOVERS, "Mul", "Div", "Add", "Where", "Cast", "QuantizeLinear", "DequantizeLinear")
_FUSED_UP_TO = 512
"""Tokens up to which TensorRT has fused INT8 attention (NVIDIA/TensorRT issue 3724)."""


@rule("quantized-residual", "wrong", "note")
def quantized_residuals(subject: Subject) -> Iterator[Told]:
    """Q/DQ on what a transformer adds up from layer to layer."""
    found, own = [], 0
    for node in subject.graph.of("Add"):
        if any(name in subject.graph.derived for name in node.input) or not _into_norm(subject, node):
            continue
        rounded = [name for name in node.input if _rounded(subject, name)]
        if rounded:
            found.append(node)
            own += not all(_serves_weights(subject, name) for name in rounded)
    if found:
        yield Told(
            f"{counted(len(found), 'residual Add')} before a normalization with Q/DQ on its inputs: outliers live"
            " there, and one scale for them leaves few steps for all else",
            first(map(name_of, found)),
            "quantize weighted operators only, not Add (op_types_to_quantize; harness calibrate does so)"
            if own
            else "let these Adds read the tensor before its Q/DQ, which a weighted operator needs and they do not",
            {"count": len(found), "own_pairs": own},
            severity="wrong" if own else "note",
        )


@rule("quantized-norm", "wrong", "note")
def quantized_norms(subject: Subject) -> Iterator[Told]:
    """Q/DQ on inputs of LayerNormalization or Softmax."""
    found = [node for node in subject.graph.of(*_NORMS, "Softmax") if _rounded(subject, node.input[0])]
    found += [node for node in _written_out(subject) if _rounded(subject, node.input[0])]
    if found:
        kinds = ", ".join(sorted({node.op_type for node in found}))
        yield Told(
            f"{counted(len(found), 'input')} of {kinds} with Q/DQ: outliers set the range, and the normalization goes"
            " by what is left of the rest; few runtimes have INT8 kernels for it",
            first(map(name_of, found)),
            "take Q/DQ off the inputs of normalizations and Softmax: quantize weighted operators only (harness"
            " calibrate does so)",
            {"count": len(found), "operators": kinds},
            subject.spent_us(name for node in found for name in _pair_nodes(subject, node.input[0])),
            severity="wrong" if any(node.op_type != "Softmax" for node in found) else "note",
        )


@rule("quantized-product", "note")
def quantized_products(subject: Subject) -> Iterator[Told]:
    """Products of two activations in INT8, where no length is known beyond which that costs time."""
    found = _quantized_products(subject)
    if found and not (subject.for_tensorrt and _long(subject, found)):
        by_outputs = sum(all(_of_weights(subject, name) for name in node.input[:2]) for node in found)
        aside = by_outputs == len(found) and not subject.for_tensorrt
        yield Told(
            f"{counted(len(found), 'product')} of two activations in INT8: both operands are rounded with one scale"
            f" for the whole tensor, and beyond {_FUSED_UP_TO} tokens TensorRT has no fused kernel for it",
            first(map(name_of, found)),
            "if accuracy is short: x86 kernels take them in INT8 because the projections before them have Q/DQ on their"
            " outputs; leave one of these in float"
            if aside
            else "leave them in float, unless measured: harness calibrate gives them no Q/DQ of their own; --range"
            " MIN:MAX tells lint which lengths come",
            {"count": len(found), "by_outputs": by_outputs},
            subject.lost_us(map(name_of, found)),
        )


@rule("long-attention", "slow", "note", needs="lengths")
def long_attention(subject: Subject) -> Iterator[Told]:
    """Attention over more tokens than TensorRT's fused INT8 kernels take."""
    if not subject.for_tensorrt:
        return
    quantized = _quantized_products(subject)
    found = _long(subject, quantized or _attention(subject))
    if not found or subject.spec is None:
        return
    longest = max(tokens for _, tokens in found)
    advice = f"put a profile's boundary at {_FUSED_UP_TO} tokens (--layouts MIN-OPT-MAX,...) and measure both sides"
    yield Told(
        f"{counted(len(found), 'product')} of attention over up to {longest} tokens at length {subject.spec.maximum}:"
        f" TensorRT fuses INT8 attention up to {_FUSED_UP_TO}, beyond it is slower than FP16",
        first(name_of(node) for node, _ in found),
        f"leave these products in float, {advice}" if quantized else f"they stay in float; {advice}",
        {"count": len(found), "tokens": longest, "fused_up_to": _FUSED_UP_TO},
        subject.lost_us(name_of(node) for node, _ in found) if quantized else None,
        severity="slow" if quantized else "note",
    )


def _rounded(subject: Subject, tensor: str) -> bool:
    """Whether it comes through Q/DQ; what x86 kernels have on outputs of weighted operators is not meant."""
    pair = subject.dequantized(tensor)
    if pair is None:
        return False
    maker = subject.graph.producers.get(pair.source)
    own = maker is not None and is_default(maker, *WEIGHTED_TYPES)
    return not (own and subject.dialect is Dialect.U8S8)


def _serves_weights(subject: Subject, tensor: str) -> bool:
    """Whether a weighted operator reads it as well."""
    return any(is_default(node, *WEIGHTED_TYPES) for node in subject.graph.ahead(tensor))


def _pair_nodes(subject: Subject, tensor: str) -> tuple[str, ...]:
    pair = subject.dequantized(tensor)
    return (pair.quantize.name, pair.dequantize.name) if pair else ()


def _into_norm(subject: Subject, node: NodeProto) -> bool:
    through = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
    ahead = subject.graph.ahead(node.output[0], through=through)
    return any(is_default(one, *_NORMS) for one in ahead) or bool(
        {one.op_type for one in ahead} >= {"ReduceMean", "Sub"}
    )


def _written_out(subject: Subject) -> list[NodeProto]:
    """ReduceMean nodes that begin a LayerNormalization of primitive operators: what they average is subtracted from."""
    return [
        node
        for node in subject.graph.of("ReduceMean")
        if any(is_default(reader, "Sub") for reader in subject.graph.readers[node.output[0]])
        and any(is_default(reader, "Sub") for reader in subject.graph.readers[node.input[0]])
    ]


def _quantized_products(subject: Subject) -> list[NodeProto]:
    return [node for node in subject.products if all(_through_qdq(subject, name) for name in node.input[:2])]


def _of_weights(subject: Subject, tensor: str) -> bool:
    """Whether it is a weighted operator's output, seen through Q/DQ and what moves it."""
    maker = subject.graph.behind(tensor, through=(*MOVERS, "QuantizeLinear", "DequantizeLinear"))
    return maker is not None and is_default(maker, *WEIGHTED_TYPES)


def _through_qdq(subject: Subject, tensor: str) -> bool:
    node = subject.graph.behind(tensor)
    return node is not None and node.op_type == "DequantizeLinear"


def _attention(subject: Subject) -> list[NodeProto]:
    """Products that lead into a Softmax, or read what one gives."""
    found = []
    for node in subject.products:
        ahead = subject.graph.ahead(node.output[0], through=_BESIDE_SOFTMAX)
        before = subject.graph.behind(node.input[0], through=_BESIDE_SOFTMAX)
        if any(is_default(one, "Softmax") for one in ahead) or (before is not None and is_default(before, "Softmax")):
            found.append(node)
    return found


def _long(subject: Subject, nodes: list[NodeProto]) -> list[tuple[NodeProto, int]]:
    """Those over more tokens than are fused, with the number at the longest input; only where shapes are known."""
    spec = subject.spec
    if spec is None:
        return []
    found = []
    for node in nodes:
        into, out = (subject.graph.shape_at(name, spec, spec.maximum) for name in (node.input[0], node.output[0]))
        # scores are [queries, keys]; what weighs values has the tokens as its summed axis
        sizes = [size for size in (*out[-2:], *into[-1:]) if size is not None] if out and into else []
        tokens = max(sizes[:1] + sizes[-1:] if len(sizes) > 2 else sizes, default=0)
        if tokens > _FUSED_UP_TO:
            found.append((node, tokens))
    return found
