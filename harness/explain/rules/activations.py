"""Rules on activations, from what calibration saw of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.observe import BINS, Histogram
from harness.calibration.rows import WORTH_BITS
from harness.explain.rules.graph import is_default
from harness.explain.rules.registry import Told, counted, first, number, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.explain.rules.quantizers import Pair
    from harness.explain.rules.registry import Subject

_CUT = 0.01
"""Ten times what the narrowest method that is offered, percentile99.9, cuts off."""
_OUTLIER = 4.0
"""Two bits of eight."""
_QUANTILE = 0.9999
_COVERED = 0.9
_EDGES = np.arange(1 << 15, dtype=np.uint32)


@rule("saturated-activation", "wrong", needs="observation")
def saturated_activations(subject: Subject) -> Iterator[Told]:
    """Activations of which much lies outside of their scale."""
    found: list[tuple[float, Pair]] = []
    for pair, seen in _seen(subject):
        limits = pair.quantize.limits
        if limits is None or not seen.count:
            continue
        low = -np.inf if _cut_off_anyway(subject, pair) else limits[0]
        share = _outside(seen, low, limits[1])
        if share > _CUT:
            found.append((share, pair))
    if found:
        found.sort(key=lambda item: -item[0])
        share, pair = found[0]
        yield Told(
            f"{counted(len(found), 'activation')} with more than {_CUT:.0%} of the values cut off, {share:.1%} of"
            f" {pair.source}: its scale is too small for these data",
            first(pair.source for _, pair in found),
            "calibrate with data like these (--data, --samples), or with a method that cuts less: --method minmax, mse",
            {"count": len(found), "share": number(share)},
        )


@rule("outlier-activation", "note", needs="observation")
def outlier_activations(subject: Subject) -> Iterator[Told]:
    """Activations whose range one value in ten thousand sets."""
    found: list[tuple[float, float, str]] = []
    by_tensor = {pair.source: pair for pair in subject.pairs}
    for name, seen in _histograms(subject):
        largest, usual = max(seen.maximum, -seen.minimum), _quantile(seen)
        limits = by_tensor[name].quantize.limits if name in by_tensor else None
        covered = not subject.is_qdq or (limits is not None and max(limits[1], -limits[0]) >= _COVERED * largest)
        if usual > 0 and largest / usual >= _OUTLIER and covered:
            found.append((largest / usual, largest, name))
    if found:
        found.sort(reverse=True)
        ratio, largest, name = found[0]
        lost = 20 * float(np.log10(ratio))
        yield Told(
            f"{counted(len(found), 'activation')} with a range set by a few values: {name} reaches {largest:.4g},"
            f" {ratio:.1f} times what 99.99 % stay below, so all else is rounded {lost:.0f} dB more coarsely",
            first(name for _, _, name in found),
            "if these values carry nothing, cut them off: --method percentile or auto; if they do (transformers),"
            " leave the operator that reads them in float",
            {"count": len(found), "ratio": number(ratio), "largest": number(largest)},
            cost_db=lost,
        )


@rule("quiet-rows", "note", needs="rows")
def quiet_rows(subject: Subject) -> Iterator[Told]:
    """Operators whose static scale fits a few rows, and leaves the others few codes."""
    in_int8 = {one.name for one in subject.weighted if one.quantized or not subject.is_qdq}
    found = [one for one in subject.rows if one.bits >= WORTH_BITS and one.node in in_int8]
    if found:
        found.sort(key=lambda one: -one.bits)
        yield Told(
            f"{counted(len(found), 'operator')} with rows (frames, tokens) that are much smaller than the largest one:"
            f" {found[0].node} reads rows of which the mean one does not use {found[0].bits:.1f} of the eight bits",
            first(one.node for one in found),
            "let harness mix divide rows by their own largest value, or leave the operator in float",
            {"count": len(found), "bits": number(found[0].bits), "largest": number(found[0].largest)},
            cost_db=20 * float(np.log10(2)) * found[0].bits,
        )


def _histograms(subject: Subject) -> Iterator[tuple[str, Histogram]]:
    tensors = subject.observation.tensors if subject.observation is not None else {}
    yield from ((name, seen) for name, seen in tensors.items() if isinstance(seen, Histogram) and seen.count)


def _seen(subject: Subject) -> Iterator[tuple[Pair, Histogram]]:
    seen = dict(_histograms(subject))
    yield from ((pair, seen[pair.source]) for pair in subject.pairs if pair.source in seen)


def _cut_off_anyway(subject: Subject, pair: Pair) -> bool:
    """By a ReLU or a Clip, which is all that reads it: ranges are chosen behind those on purpose."""
    readers = subject.graph.readers[pair.output]
    return bool(readers) and all(is_default(node, "Relu", "Clip") for node in readers)


def _magnitudes() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Lower edges of the bins of positive values; those of negative ones are the same, mirrored."""
    with np.errstate(invalid="ignore"):  # the last bins are those of NaN, and empty
        return (_EDGES << 16).view(np.float32).astype(np.float64)


def _outside(seen: Histogram, low: float, high: float) -> float:
    """Share of values beyond a range; a bin counts where all of it lies beyond."""
    counts, edges = seen.counts, _magnitudes()
    half = BINS // 2
    with np.errstate(invalid="ignore"):
        above = int(counts[:half][edges > high].sum())
        below = int(counts[half:][edges > -low].sum())
    return (above + below) / seen.count


def _quantile(seen: Histogram) -> float:
    """The magnitude below which 99.99 % of the values lie, within 0.8 %."""
    half = BINS // 2
    together = seen.counts[:half] + seen.counts[half:]
    place = int(np.searchsorted(np.cumsum(together), _QUANTILE * seen.count))
    return float(_magnitudes()[min(place + 1, half - 1)])
