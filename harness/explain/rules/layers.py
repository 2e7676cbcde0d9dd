"""Rules on layer tables: where the measured time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.explain.rules.registry import Told, counted, first, number, rule
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.explain.layer import Layer, Roofline
    from harness.explain.rules.registry import Subject

_LEAST_SHARE = 0.05
"""Of a run's time: what is less is no finding."""
_SLOWER = 1.1
_HELPERS = 0.1
_IN_LAYERS = 0.6
_FAR = 10.0
_NEAR = 4.0
_GROWS = 3.0
_FLOATS = frozenset({"fp32", "tf32", "fp16", "bf16"})
_IN_TENSORRTS_FORM = (
    "that is so with Q/DQ in TensorRT's form, which stand on inputs alone: ONNX Runtime's kernels take the form that"
    " --emit qdq-u8s8 writes; where they stand on outputs as well, "
)


@rule("float-fallback", "slow", needs="tables")
def float_fallback(subject: Subject) -> Iterator[Told]:
    """Operators with Q/DQ on both operands that ran in float."""
    quantized = {one.name for one in subject.weighted if one.quantized}
    found: dict[str, str] = {}
    for table in subject.tables:
        for layer in table.layers:
            for name in sorted(quantized & {*layer.nodes, layer.name}):
                if layer.precision in _FLOATS and layer.role == "compute":
                    found.setdefault(name, layer.precision)
    if not found:
        return
    spent = subject.spent_us(found)
    precision = ", ".join(sorted(set(found.values())))
    evidence: dict[str, float | int | str] = {"count": len(found), "of": len(quantized), "precision": precision}
    if spent is not None:
        evidence["time_us"] = number(spent)
    yield Told(
        f"{len(found)} of {counted(len(quantized), 'quantized operator')} ran in {precision} although both operands"
        " have"
        " Q/DQ" + (f": {spent:.1f} us at length {subject.table.length}" if spent and subject.table else ""),
        first(found),
        (_IN_TENSORRTS_FORM if subject.asked is Dialect.U8S8 and subject.written_as is Dialect.S8S8 else "")
        + "other findings may say why (scales by input channel, shapes, casts); else the runtime has no INT8 kernel for"
        " it: leave it in float, which saves its Q/DQ, or try another version and compare their tables",
        evidence,
        subject.could_save_us(found),
    )


@rule("memory-bound", "note", needs="roofline")
def memory_bound(subject: Subject) -> Iterator[Told]:
    """Float layers that wait for memory, so that quicker arithmetic gains nothing."""
    table, roofline = subject.table, subject.roofline
    if table is None or roofline is None or not table.profiled_us:
        return
    found = []
    for layer in table.layers:
        if layer.precision not in _FLOATS or layer.role not in {"compute", "other"} or not layer.time_us:
            continue
        moving, computing = _least(roofline, layer)
        # below that bound the bytes came from a cache; far above it the layer waits for something else
        if moving > computing and moving <= layer.time_us <= _NEAR * moving:
            found.append(layer)
    spent = _sum(found) or 0.0
    share = spent / table.profiled_us
    if found and share >= _LEAST_SHARE:
        found.sort(key=lambda layer: -(layer.time_us or 0))
        least = sum(_least(roofline, layer)[0] for layer in found)
        yield Told(
            f"{counted(len(found), 'float layer')} with {share:.0%} of the time ({spent:.1f} us at length"
            f" {table.length}) wait for memory (at least {least:.1f} us): INT8 arithmetic gains nothing there, only"
            " fewer bytes do",
            first(_names(found)),
            "FP16 beside INT8 halves the bytes (--emit qdq-s8s8-fp16); fewer element-wise operators in a row"
            " in the model",
            {"count": len(found), "share": round(share, 4), "time_us": number(spent), "least_us": number(least)},
        )


@rule("slower-in-int8", "slow", needs="baseline")
def slower(subject: Subject) -> Iterator[Told]:
    """Layers that take longer than those that compute the same in the float model."""
    table = subject.table
    base = subject.baseline_of(table) if table else None
    if table is None or base is None or not table.profiled_us:
        return
    found = []
    for layer in table.layers:
        if layer.role != "compute" or layer.precision != "int8" or layer.time_us is None or not layer.nodes:
            continue
        same = [one for one in base.layers if set(one.nodes) & set(layer.nodes) and one.role == "compute"]
        before = _sum(same)
        # a float layer that also computes what others do here would make the comparison unfair to it
        if before and {n for one in same for n in one.nodes} <= set(layer.nodes) and layer.time_us > _SLOWER * before:
            found.append((layer.time_us - before, layer))
    lost = sum(more for more, _ in found)
    if found and lost >= 0.01 * table.profiled_us:
        found.sort(key=lambda item: -item[0])
        more, layer = found[0]
        yield Told(
            f"{counted(len(found), 'layer')} slower in INT8 than in float at length {table.length}, by {lost:.1f} us"
            f" together, {layer.name} by {more:.1f} us",
            first(_names([one for _, one in found])),
            "leave these operators in float; small and thin operators are usual",
            {"count": len(found), "lost_us": number(lost), "length": table.length},
            lost,
        )


@rule("reformat-share", "slow", needs="tables")
def reformats(subject: Subject) -> Iterator[Told]:
    """Time that goes into Q/DQ and changes of layout or type."""
    table = subject.table
    if table is None or not table.profiled_us:
        return
    helpers = [layer for layer in table.layers if layer.role in {"quantize", "reformat"}]
    spent = _sum(helpers) or 0.0
    base = subject.baseline_of(table)
    before = _sum([one for one in base.layers if one.role in {"quantize", "reformat"}]) or 0.0 if base else 0.0
    share = spent / table.profiled_us
    if share > _HELPERS and spent > before:
        helpers.sort(key=lambda layer: -(layer.time_us or 0))
        quantize = _sum([one for one in helpers if one.role == "quantize"]) or 0.0
        reformat = max(0.0, spent - quantize)  # sums of floats: not -0.0
        yield Told(
            f"{share:.0%} of the time goes into Q/DQ ({quantize:.1f} us) and changes of layout or type"
            f" ({reformat:.1f} us) at length {table.length}, in {counted(len(helpers), 'layer')}",
            first(_names(helpers)),
            "longer chains in INT8: quantize what stands between two quantized operators as well, or leave islands of"
            " one operator in float",
            {
                "share": round(share, 4),
                "quantize_us": number(quantize),
                "reformat_us": number(reformat),
                "length": table.length,
            },
            spent - before,
        )


@rule("launch-bound", "slow", needs="tables")
def launch_bound(subject: Subject) -> Iterator[Told]:
    """Runs that take much longer than their layers together."""
    table = subject.table
    if table is None or not table.whole_us or not table.profiled_us:
        return
    rest = table.whole_us - table.profiled_us
    everywhere = [one.whole_us - one.profiled_us for one in subject.tables if one.whole_us and one.profiled_us]
    # launches cost the same at every length; what grows with it is contention, or a noisy machine
    constant = max(everywhere) <= _GROWS * max(1.0, min(everywhere))
    if table.profiled_us / table.whole_us < _IN_LAYERS and constant:
        yield Told(
            f"{counted(len(table.layers), 'layer')} take {table.profiled_us:.1f} us of {table.whole_us:.1f} us at"
            f" length {table.length}: the rest is spent between them, and quicker kernels do not help",
            first(_names(sorted(table.layers, key=lambda layer: layer.time_us or 0))[:3]),
            "fewer, larger layers; a batch of several inputs; on a GPU, CUDA graphs ([options] cuda_graph = true)",
            {"whole_us": number(table.whole_us), "layers_us": number(table.profiled_us), "length": table.length},
            rest,
        )


@rule("far-from-roofline", "note", needs="roofline")
def far_from_roofline(subject: Subject) -> Iterator[Told]:
    """INT8 layers that take ten times what this host could do them in."""
    table, roofline = subject.table, subject.roofline
    if table is None or roofline is None or not table.profiled_us:
        return
    found = []
    for layer in table.layers:
        if layer.precision != "int8" or layer.role != "compute" or not layer.operations or not layer.moved_bytes:
            continue
        least = roofline.least_us("int8", layer.operations, layer.moved_bytes)
        if least and layer.time_us and layer.time_us > _FAR * least and (table.share(layer) or 0) >= _LEAST_SHARE:
            found.append((layer.time_us / least, layer.time_us - least, layer))
    if found:
        found.sort(key=lambda item: -item[1])
        ratio, _, layer = found[0]
        yield Told(
            f"{counted(len(found), 'INT8 layer')} more than {_FAR:.0f} times slower than this host could be,"
            f" {layer.name} {ratio:.0f} times at length {table.length}",
            first(_names([one for _, _, one in found])),
            "depthwise and thin convolutions, and short inputs, are usual; longer inputs or a batch fill the machine;"
            " compare it with the same layer of the float model",
            {"count": len(found), "times": number(ratio), "length": table.length},
        )


def _least(roofline: Roofline, layer: Layer) -> tuple[float, float]:
    """The least time of a layer for its bytes, and for its operations, us; 0 where that is not known."""
    if layer.operations is None or not layer.moved_bytes:
        return 0.0, 0.0
    moving = roofline.least_us(layer.precision, 0, layer.moved_bytes)
    return moving or 0.0, roofline.least_us(layer.precision, layer.operations, 0) or 0.0


def _sum(layers: Sequence[Layer]) -> float | None:
    times = [layer.time_us for layer in layers if layer.time_us is not None]
    return sum(times) if times else None


def _names(layers: Sequence[Layer]) -> list[str]:
    """The nodes of each layer, its own name where they are not told."""
    return [layer.nodes[0] if layer.nodes else layer.name for layer in layers]
