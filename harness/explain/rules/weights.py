"""Rules on the values of weights and how they are stored. All are read off the file; nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from harness.explain.rules.registry import Told, counted, first, number, rule
from harness.explain.rules.weighted import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from harness.explain.rules.quantizers import Quantizer
    from harness.explain.rules.registry import Subject
    from harness.explain.rules.weighted import Weighted

_SPREAD_DB = 3.0
"""Below this, scales by channel are not worth a finding: what trained weights of even channels have."""
_WRONG_DB = 6.0
"""A bit: from here on outputs suffer."""
_POOR_DB = 28.0
"""SQNR of weights in INT8 by channel; Gaussian ones have 40 dB, real layers 33 and more."""
_EXACT_DB = 100.0
"""Beyond that it is float32's own rounding."""
_KEPT = 0.999
_SATURATED = 0.01
_FEW_VALUES = 16
_BEYOND = 128.5
"""What is cut off by more than rounding."""


@rule("wrong-axis", "wrong")
def wrong_axes(subject: Subject) -> Iterator[Told]:
    """Scales of a weight along another axis than that of output channels."""
    found = []
    for one in subject.weighted:
        dq, dims = one.weight_dq, _dims(subject, one)
        if dq is None or not dq.per_channel or dq.block or one.channel_axis is None or not dims or dq.scale is None:
            continue
        axis = dq.axis % len(dims)
        if axis != one.channel_axis and dq.scale.size == dims[axis]:
            found.append((one, axis))
    if found:
        one, axis = found[0]
        yield Told(
            f"{counted(len(found), 'weight')} with scales along axis {axis}, such as that of a {one.node.op_type},"
            f" whose output channels are axis {one.channel_axis}: no INT8 kernel takes scales by input channel, it"
            " computes in float or is refused",
            first(one.name for one, _ in found),
            "scales by output channel: axis 0 for Conv, 1 for ConvTranspose, the last one for MatMul, 0 for Gemm with"
            " transB=1; harness calibrate writes them so",
            {"count": len(found), "axis": axis, "expected": one.channel_axis or 0},
            subject.lost_us(one.name for one, _ in found),
        )


@rule("scale-length", "wrong")
def scale_lengths(subject: Subject) -> Iterator[Told]:
    """Scales that are not as many as there are channels, or in no order that a runtime knows."""
    found = []
    for one in subject.quantizers.values():
        if one.scale is None or one.block:
            continue
        dims = subject.graph.symbols(one.node.input[0])
        size = (dims[one.axis] if -len(dims) <= one.axis < len(dims) else 0) if dims else None
        counts = one.scale.ndim == 1 and one.scale.size > 1
        if not one.scale.size or one.scale.ndim > 1 or (counts and isinstance(size, int) and size != one.scale.size):
            found.append((one, one.scale.size, size if isinstance(size, int) else 0))
    if found:
        one, length, size = found[0]
        yield Told(
            f"{counted(len(found), 'Q/DQ node')} with {length} scales for {size} channels on axis {one.axis}: no"
            " runtime loads that",
            first(one.name for one, _, _ in found),
            "one scale for each element of the axis, in one dimension; check that axis was not left at its default, 1",
            {"count": len(found), "scales": length, "channels": size},
        )


@rule("bad-weight", "wrong")
def bad_weights(subject: Subject) -> Iterator[Told]:
    """NaN in a constant; infinities in a weight or bias, for masks have them by design."""
    own = {name for one in subject.weighted for name in (one.constant, *one.node.input[2:])}
    found: dict[str, int] = {}
    for name in subject.graph.constants:
        values = subject.graph.array(name) if subject.graph.readers.get(name) else None
        if values is None or values.dtype.kind != "f":
            continue
        bad = int(np.count_nonzero(~np.isfinite(values) if name in own else np.isnan(values)))
        if bad and name not in subject.scales:
            found[name] = bad
    if found:
        name = next(iter(found))
        yield Told(
            f"{counted(len(found), 'constant')} with NaN or infinity, {found[name]} of the values of {name}: outputs"
            " become NaN, and no range can be chosen",
            first(found),
            "export it again from a checkpoint whose weights are finite",
            {"count": len(found), "values": found[name]},
        )


@rule("per-tensor-weights", "wrong", "note")
def per_tensor_weights(subject: Subject) -> Iterator[Told]:
    """One scale for a whole weight whose channels differ in range."""
    found: list[tuple[float, float, Weighted]] = []
    for one in subject.weighted:
        dq, values = one.weight_dq, values_of(subject.graph, one)
        if dq is None or dq.scale is None or dq.scale.size != 1 or values is None or one.channel_axis is None:
            continue
        ranges = _ranges(values, one.channel_axis)
        ranges = ranges[ranges > 0]
        if ranges.size < 2:
            continue
        # a rounding error has the variance scale^2 / 12 (Nagel et al. 2021, section 2.1)
        gain = 10 * float(np.log10(ranges.max() ** 2 / np.mean(ranges**2)))
        if gain >= _SPREAD_DB:
            found.append((gain, float(ranges.max() / np.median(ranges)), one))
    if found:
        found.sort(key=lambda item: -item[0])
        gain, spread, one = found[0]
        yield Told(
            f"{counted(len(found), 'weight')} with one scale for all channels; in {one.name} the widest is"
            f" {spread:.1f} times the median one, and scales by channel would round with {gain:.1f} dB less noise",
            first(one.name for _, _, one in found),
            "scales by output channel: harness calibrate writes them (ONNX Runtime: per_channel=True; torch:"
            " per_channel_symmetric)",
            {"count": len(found), "spread": number(spread), "gain_db": number(gain)},
            cost_db=gain,
            severity="wrong" if gain >= _WRONG_DB else "note",
        )


@rule("outlier-weights", "note")
def outlier_weights(subject: Subject) -> Iterator[Told]:
    """Weights of which a few values set the range, so that INT8 rounds all others coarsely, also by channel."""
    found: list[tuple[float, float, Weighted]] = []
    for one in subject.weighted:
        values = values_of(subject.graph, one)
        if values is None or one.channel_axis is None or not np.all(np.isfinite(values)):
            continue
        rows = np.moveaxis(values, one.channel_axis, 0).reshape(values.shape[one.channel_axis], -1)
        if rows.shape[1] < _FEW_VALUES:
            continue
        ours, without = _sqnr(rows, 1.0), _sqnr(rows, _KEPT)
        if ours < _POOR_DB and without - ours > _SPREAD_DB:
            found.append((ours, without - ours, one))
    if found:
        found.sort(key=lambda item: item[0])
        reached, gain, one = found[0]
        yield Told(
            f"{counted(len(found), 'weight')} with a range set by few values: in INT8 that of {one.name} keeps"
            f" {reached:.1f} dB, and {gain:.1f} dB more without the largest 0.1 %",
            first(one.name for _, _, one in found),
            "leave the operator in float if accuracy is short; when training, decay or clip"
            " weights; for a transformer, smooth the scales of activations and weights before exporting",
            {"count": len(found), "sqnr_db": number(reached), "gain_db": number(gain)},
            cost_db=gain,
        )


@rule("saturated-weights", "wrong")
def saturated_weights(subject: Subject) -> Iterator[Told]:
    """Weights of which many stand at the ends of their integers."""
    found: list[tuple[float, Weighted]] = []
    for one in subject.weighted:
        share = _saturated(subject, one)
        if share > _SATURATED:
            found.append((share, one))
    if found:
        found.sort(key=lambda item: -item[0])
        share, one = found[0]
        yield Told(
            f"{counted(len(found), 'weight')} with more than {_SATURATED:.0%} of the values at the ends of INT8,"
            f" {share:.1%} of {one.name}: the scale is too small, they are cut off",
            first(one.name for _, one in found),
            "take scales from the largest weight of each channel: harness calibrate MODEL does so",
            {"count": len(found), "share": number(share)},
        )


def _saturated(subject: Subject, one: Weighted) -> float:
    """Share of values cut off; 0 where that cannot be told."""
    dq, stored = one.weight_dq, subject.graph.array(one.constant)
    if dq is None or dq.scale is None or stored is None or not stored.size:
        return 0.0
    if stored.dtype.kind == "f":
        return _cut_off(stored, subject.quantizers.get(dq.node.input[0]))
    # of stored integers the largest of each channel stand at the ends anyway; few levels are so by design
    if dq.kind != TensorProto.INT8 or len(np.unique(np.abs(stored.astype(np.int16)))) < _FEW_VALUES:
        return 0.0
    at_ends = int(np.count_nonzero((stored >= 127) | (stored <= -127)))
    return max(0.0, at_ends - 2 * max(1, dq.scale.size)) / stored.size


def _cut_off(values: NDArray[np.floating], quantize: Quantizer | None) -> float:
    """Share of a weight in float that its own QuantizeLinear cuts off."""
    scale = (
        quantize.scale.astype(np.float64) if quantize is not None and quantize.scale is not None else np.zeros((0, 0))
    )
    if quantize is not None and scale.ndim == 1 and scale.size > 1:
        axis = quantize.axis % values.ndim
        if scale.size != values.shape[axis]:
            return 0.0
        scale = scale.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    elif scale.size != 1:
        return 0.0
    with np.errstate(all="ignore"):
        return float(np.mean(np.abs(values / scale) > _BEYOND))


def _ranges(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    others = tuple(index for index in range(values.ndim) if index != axis)
    found = np.abs(values).max(axis=others)
    return np.asarray(found[np.isfinite(found)])


def _sqnr(rows: NDArray[np.float64], kept: float) -> float:
    """Of weights [channels, values] in INT8 by channel, dB; those beyond a quantile are left out of range and error."""
    size = np.abs(rows)
    top = (
        np.quantile(size, kept, axis=1, keepdims=True, method="lower") if kept < 1 else size.max(axis=1, keepdims=True)
    )
    inside = size <= top
    step = np.where(top > 0, top / 127, 1.0)
    error = np.where(inside, np.rint(rows / step) * step - rows, 0.0)
    signal = np.where(inside, rows, 0.0)
    noise = float(np.sum(error**2))
    return min(_EXACT_DB, 10 * float(np.log10(np.sum(signal**2) / noise))) if noise > 0 else _EXACT_DB


def _dims(subject: Subject, one: Weighted) -> tuple[int, ...]:
    tensor = subject.graph.constants.get(one.constant)
    return tuple(tensor.dims) if tensor is not None else ()
