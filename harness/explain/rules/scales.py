"""Rules on the numbers of Q/DQ: scales, zero points, types, and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from harness.explain.rules.quantizers import UNSIGNED
from harness.explain.rules.registry import Told, counted, first, number, rule
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from harness.explain.rules.quantizers import Quantizer
    from harness.explain.rules.registry import Subject
    from harness.explain.rules.weighted import Weighted

_AGAIN = "calibrate again: harness calibrate MODEL --emit qdq-s8s8, or qdq-u8s8 for x86"
_LEAST_FLOAT32 = float(np.finfo(np.float32).tiny)
_LEAST_FLOAT16 = 3e-6
"""Steps of float16 are 6e-8 down there: below this, rounding moves a scale by more than 1 %."""
_DEAD = 1e-2
_SCALES_DIFFER = 1e-3
_EIGHT_BITS = frozenset({TensorProto.INT8, TensorProto.UINT8})
_INTEGER_BIAS = frozenset({TensorProto.INT32})


@rule("bad-scale", "wrong")
def bad_scales(subject: Subject) -> Iterator[Told]:
    """Scales that are 0, negative, infinite or NaN."""
    bad: dict[str, list[float]] = {}
    for one in subject.quantizers.values():
        values = _flat(one)
        outside = values[~(np.isfinite(values) & (values > 0))]
        if outside.size:
            bad.setdefault(one.node.input[1], []).extend(outside.tolist())
    if bad:
        worst = next(iter(bad.values()))[0]
        yield Told(
            f"{counted(len(bad), 'scale')}, such as {worst:g}, not positive and finite: all that passes is lost",
            first(bad),
            f"a tensor that is always 0 needs a scale of its own choosing, such as 1/127; {_AGAIN}",
            {"count": len(bad), "value": number(worst)},
        )


@rule("tiny-scale", "wrong")
def tiny_scales(subject: Subject) -> Iterator[Told]:
    """Scales that their type holds with few digits, or that kernels flush to 0."""
    tiny: dict[str, float] = {}
    for one in subject.quantizers.values():
        values = _flat(one)
        # a channel that is all but 0 beside the others adds nothing, whatever its scale is
        values = values[values >= _DEAD * values.max(initial=0)] if np.all(np.isfinite(values)) else np.zeros(0)
        half = one.scale is not None and one.scale.dtype == np.float16
        least = _LEAST_FLOAT16 if half else _LEAST_FLOAT32
        below = values[(values > 0) & (values < least)]
        if below.size and not (one.constant and one.kind == TensorProto.INT32):
            tiny[one.node.input[1]] = float(below.min())
    if tiny:
        least_seen = min(tiny.values())
        yield Told(
            f"{counted(len(tiny), 'scale')} too small for its type to hold, down to {least_seen:g}",
            first(tiny),
            "the tensor is nearly always 0: leave its operator in float, or write its scale in float32; " + _AGAIN,
            {"count": len(tiny), "least": number(least_seen)},
        )


@rule("computed-scale", "wrong")
def computed_scales(subject: Subject) -> Iterator[Told]:
    """Scales or zero points that are no constants."""
    found = [
        one for one in subject.quantizers.values() if set(one.node.input[1:]) - {""} - set(subject.graph.constants)
    ]
    if found:
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} with a scale or zero point that is computed: TensorRT takes constants"
            " only, and ONNX Runtime's INT8 kernels do too",
            first(one.name for one in found),
            "export with fixed ranges (static quantization; torch: observers frozen), or fold constants first",
            {"count": len(found)},
        )


@rule("unequal-pair", "wrong")
def unequal_pairs(subject: Subject) -> Iterator[Told]:
    """A DequantizeLinear that does not undo its QuantizeLinear."""
    found = []
    for pair in subject.pairs:
        left, right = pair.quantize, pair.dequantize
        if left.scale is None or right.scale is None or left.zero is None or right.zero is None:
            continue
        if not (_same(left.scale, right.scale) and _same(left.zero, right.zero)):
            found.append(pair)
    if found:
        pair = found[0]
        there, back = _flat(pair.quantize)[0], _flat(pair.dequantize)[0]
        yield Told(
            f"{counted(len(found), 'Q/DQ pair')} with two scales or zero points: {there:g} there and {back:g} back"
            " changes the tensor",
            first(pair.source for pair in found),
            f"give both nodes of a pair the same scale and zero point; {_AGAIN}",
            {"count": len(found), "quantize": number(there), "dequantize": number(back)},
        )


@rule("zero-point", "wrong")
def zero_points(subject: Subject) -> Iterator[Told]:
    """Signed zero points other than 0, which TensorRT refuses."""
    if subject.dialect is not Dialect.S8S8:
        return
    found = [
        one
        for one in subject.quantizers.values()
        if one.zero is not None and one.kind not in UNSIGNED and np.any(one.zero.astype(np.float64) != 0)
    ]
    if found and found[0].zero is not None:
        value = float(found[0].zero.astype(np.float64).reshape(-1)[0])
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} with a zero point other than 0, such as {value:g}: TensorRT refuses"
            " them",
            first(one.name for one in found),
            "quantize symmetrically: harness calibrate MODEL --emit qdq-s8s8 (ONNX Runtime: ActivationSymmetric)",
            {"count": len(found), "value": number(value)},
        )


@rule("unsigned", "wrong")
def unsigned(subject: Subject) -> Iterator[Told]:
    """Unsigned integers in a file for TensorRT; of a file that mixes both, ``mixed-dialects`` tells."""
    if subject.dialect is not Dialect.S8S8 or _is_mixed(subject):
        return
    found = [one for one in subject.quantizers.values() if one.kind in UNSIGNED]
    if found:
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} in unsigned integers: TensorRT takes them for signed ones, and what is"
            " above 127 saturates, or refuses them",
            first(one.name for one in found),
            "write the file for TensorRT: harness calibrate MODEL --emit qdq-s8s8",
            {"count": len(found)},
        )


@rule("mixed-dialects", "wrong")
def mixed(subject: Subject) -> Iterator[Told]:
    """Activations of both signs in one file."""
    if not _is_mixed(subject):
        return
    unsigned_ones = [one for one in subject.activations if one.kind == TensorProto.UINT8]
    signed_ones = [one for one in subject.activations if one.kind == TensorProto.INT8]
    rarer = min(unsigned_ones, signed_ones, key=len)
    yield Told(
        f"{len(unsigned_ones)} activations in uint8 and {len(signed_ones)} in int8: TensorRT takes int8 alone, and x86"
        " kernels fuse operators whose activations are all uint8",
        first(one.name for one in rarer),
        "write the whole file in one dialect: harness calibrate MODEL --emit qdq-s8s8 or qdq-u8s8",
        {"uint8": len(unsigned_ones), "int8": len(signed_ones)},
    )


@rule("not-int8", "slow")
def other_types(subject: Subject) -> Iterator[Told]:
    """Q/DQ in other integers, or in floats of 8 bits."""
    biases = _INTEGER_BIAS | {TensorProto.UNDEFINED}
    found = [one for one in subject.quantizers.values() if one.kind not in _EIGHT_BITS | biases]
    if found:
        kinds = sorted({TensorProto.DataType.Name(one.kind).lower() for one in found})
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} in {', '.join(kinds)}: INT8 kernels do not take it, the operators"
            " behind compute in float",
            first(one.name for one in found),
            "quantize to 8 bits: harness calibrate MODEL --emit qdq-s8s8, or qdq-u8s8 for x86",
            {"count": len(found), "types": ", ".join(kinds)},
        )


@rule("per-channel-activation", "slow")
def per_channel_activations(subject: Subject) -> Iterator[Told]:
    """Activations with a scale for each channel."""
    found = [one for one in subject.activations if one.per_channel]
    if found and found[0].scale is not None:
        yield Told(
            f"{counted(len(found), 'activation')} with a scale for each channel ({found[0].scale.size}): no INT8"
            " kernel takes that, the operator behind computes in float and nothing says so",
            first(one.node.input[0] for one in found),
            "one scale for a whole activation, scales by channel for weights alone: harness calibrate does so",
            {"count": len(found), "scales": found[0].scale.size},
        )


@rule("block-scale", "slow")
def block_scales(subject: Subject) -> Iterator[Told]:
    """A scale for each block of values, as files with 4-bit weights have them."""
    found = [one for one in subject.quantizers.values() if one.block]
    if found:
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} with a scale for every {found[0].block} values: no INT8 kernel takes"
            " that, the operator behind computes in float",
            first(one.name for one in found),
            "one scale for each output channel of a weight, one for all of an activation: harness calibrate does so",
            {"count": len(found), "block": found[0].block},
        )


@rule("quantized-bias", "wrong")
def quantized_biases(subject: Subject) -> Iterator[Told]:
    """Integer biases in a file for TensorRT, which refuses them."""
    if subject.dialect is not Dialect.S8S8:
        return
    found = [one for one, _ in _biases(subject)]
    if found:
        yield Told(
            f"{counted(len(found), 'operator')} with a bias that comes through a DequantizeLinear: TensorRT refuses"
            " int32 there",
            first(one.name for one in found),
            "leave biases in float: harness calibrate MODEL --emit qdq-s8s8 (ONNX Runtime: QuantizeBias=False)",
            {"count": len(found)},
        )


@rule("bias-scale", "wrong")
def bias_scales(subject: Subject) -> Iterator[Told]:
    """Integer biases whose scale is not input scale times weight scale, which kernels take it for."""
    found: list[tuple[Weighted, float]] = []
    for one, bias in _biases(subject):
        parts = [part.scale for part in (bias, one.activation_dq, one.weight_dq) if part is not None]
        if len(parts) < 3 or any(part is None for part in parts) or bias.kind != TensorProto.INT32:
            continue
        ours, activation, weight = (np.asarray(part, np.float64).reshape(-1) for part in parts)
        expected = activation * weight if activation.size == 1 else np.zeros(0)
        if not expected.size or ours.size not in {1, expected.size}:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.abs(ours / expected - 1)
        if np.any(off > _SCALES_DIFFER):
            found.append(
                (one, float(ours[0] / expected[0]) if ours.size == 1 else float((ours / expected)[off.argmax()]))
            )
    if found:
        one, ratio = found[0]
        yield Told(
            f"{counted(len(found), 'bias', 'biases')} with a scale {ratio:.4g} times that of input and weights"
            " together: kernels add it as if it were that, and it counts by that factor too little or too much",
            first(one.name for one, _ in found),
            f"a bias' scale is input scale times weight scale, channel by channel; {_AGAIN}",
            {"count": len(found), "ratio": number(ratio)},
        )


def _biases(subject: Subject) -> Iterator[tuple[Weighted, Quantizer]]:
    for one in subject.weighted:
        name = one.node.input[2] if len(one.node.input) > 2 else ""
        bias = subject.quantizers.get(name)
        if bias is not None and not bias.is_quantize:
            yield one, bias


def _is_mixed(subject: Subject) -> bool:
    return {one.kind for one in subject.activations} >= _EIGHT_BITS


def _flat(one: Quantizer) -> NDArray[np.float64]:
    return np.zeros(0) if one.scale is None else np.asarray(one.scale, np.float64).reshape(-1)


def _same(left: NDArray[np.generic], right: NDArray[np.generic]) -> bool:
    return left.size == right.size and bool(
        np.array_equal(left.astype(np.float64).reshape(-1), right.astype(np.float64).reshape(-1), equal_nan=True)
    )
