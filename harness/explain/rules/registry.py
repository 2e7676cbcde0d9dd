"""Rules by name, and what they are given to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from harness.explain.finding import Finding
from harness.explain.rules.quantizers import UNSIGNED, Pair, Quantizer, pairs, quantizers
from harness.explain.rules.weighted import Weighted, products, weighted
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import NodeProto

    from harness.calibration.observe import Observation
    from harness.calibration.rows import Spread
    from harness.explain.finding import Severity
    from harness.explain.layer import Layer, LayerTable, Roofline
    from harness.explain.rules.graph import Graph
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["RULES", "Check", "Needs", "Rule", "Subject", "Told", "counted", "first", "number", "rule"]

Needs = Literal["graph", "lengths", "observation", "rows", "tables", "baseline", "roofline", "traffic"]
"""What a rule cannot do without, beside the graph."""

_SHOWN = 8


@dataclass(frozen=True)
class Subject:
    """What findings are about.

    :param graph: of the model.
    :param asked: the dialect that it is meant for; None where the file decides.
    :param spec: the axes and lengths; None where nobody told.
    :param rows: how much the rows that its operators read differ in size.
    :param tables: layer tables of the model, one a length; :param baseline: of its float model.
    :param layout: its profiles; :param lengths: of the traffic, or of a sample of it.
    :param switch_us: what the first run after a change of profile costs more than a further one.
    """

    graph: Graph
    asked: Dialect | None = None
    spec: Model | None = None
    observation: Observation | None = None
    rows: Sequence[Spread] = ()
    tables: Sequence[LayerTable] = ()
    baseline: Sequence[LayerTable] = ()
    roofline: Roofline | None = None
    layout: Layout | None = None
    lengths: Sequence[int] = ()
    switch_us: float | None = None

    @cached_property
    def quantizers(self) -> dict[str, Quantizer]:
        """QuantizeLinear and DequantizeLinear by their output."""
        return quantizers(self.graph)

    @cached_property
    def scales(self) -> set[str]:
        """Tensors that are a scale of one of them."""
        return {one.node.input[1] for one in self.quantizers.values()}

    @cached_property
    def pairs(self) -> list[Pair]:
        """Q/DQ between operators."""
        return pairs(self.quantizers)

    @cached_property
    def weighted(self) -> list[Weighted]:
        """Operators with weights."""
        return weighted(self.graph, self.quantizers)

    @cached_property
    def products(self) -> list[NodeProto]:
        """Matrix products of two activations."""
        return products(self.graph, self.weighted)

    @cached_property
    def activations(self) -> list[Quantizer]:
        """Every QuantizeLinear on an activation; where a DequantizeLinear has none before it, that one."""
        kept = [one for one in self.quantizers.values() if not one.constant]
        return [one for one in kept if one.is_quantize or one.node.input[0] not in self.quantizers]

    @cached_property
    def is_qdq(self) -> bool:
        """Whether the model carries Q/DQ."""
        return bool(self.quantizers)

    @cached_property
    def dialect(self) -> Dialect | None:
        """The one that was asked for, else the one of most activations; None for a float model."""
        return self.asked or self.written_as

    @cached_property
    def written_as(self) -> Dialect | None:
        """The one of most activations, whatever was asked for; None for a float model."""
        if not self.is_qdq:
            return None
        unsigned = sum(one.kind in UNSIGNED for one in self.activations)
        return Dialect.U8S8 if 2 * unsigned > len(self.activations) else Dialect.S8S8

    @cached_property
    def for_tensorrt(self) -> bool:
        """Whether TensorRT may be what runs it: s8s8, or a float model of which nothing was said."""
        return self.dialect is not Dialect.U8S8

    @cached_property
    def _by_output(self) -> dict[str, Pair]:
        return {pair.output: pair for pair in self.pairs}

    def dequantized(self, tensor: str) -> Pair | None:
        """The pair that a tensor comes out of."""
        return self._by_output.get(tensor)

    @cached_property
    def table(self) -> LayerTable | None:
        """The table at the length nearest to the model's opt, or the middle one."""
        if not self.tables:
            return None
        ordered = sorted(self.tables, key=lambda table: table.length)
        if self.spec is None:
            return ordered[len(ordered) // 2]
        opt = self.spec.opt
        return min(ordered, key=lambda table: abs(math.log(table.length / opt)))

    def baseline_of(self, table: LayerTable) -> LayerTable | None:
        """The float model's table at the same length."""
        return next((one for one in self.baseline if one.length == table.length), None)

    def spent_us(self, nodes: Iterable[str]) -> float | None:
        """What layers that compute any of these nodes take; None where nobody measured them."""
        return _time(self.table, nodes)

    def lost_us(self, nodes: Iterable[str]) -> float | None:
        """How much longer these nodes take than in the float model; None where that is not known, or not so."""
        wanted = list(nodes)
        base = self.baseline_of(self.table) if self.table else None
        ours, theirs = _time(self.table, wanted), _time(base, wanted)
        return ours - theirs if ours is not None and theirs is not None and ours > theirs else None

    def could_save_us(self, nodes: Iterable[str]) -> float | None:
        """What these nodes take beyond the pace of the table's INT8 layers; None where that is not known, or not so."""
        layers = self.table.layers if self.table else ()
        wanted = set(nodes)
        timed = [one for one in layers if one.operations and one.time_us]
        quick = [one for one in timed if one.precision == "int8"]
        slow = [one for one in timed if wanted & {*one.nodes, one.name}]
        if not quick or not slow:
            return None
        pace = sum(one.time_us or 0 for one in quick) / sum(one.operations or 0 for one in quick)
        saved = sum((one.time_us or 0) - (one.operations or 0) * pace for one in slow)
        return saved if saved > 0 else None


def _time(table: LayerTable | None, nodes: Iterable[str]) -> float | None:
    wanted = set(nodes)
    layers: list[Layer] = [one for one in table.layers if wanted & {*one.nodes, one.name}] if table else []
    times = [one.time_us for one in layers if one.time_us is not None]
    return sum(times) if times else None


@dataclass(frozen=True)
class Rule:
    """One rule.

    :param kind: its findings' ``kind``.
    :param severities: that its findings can have.
    :param needs: what it says nothing without.
    :param check: a subject's findings.
    """

    kind: str
    severities: tuple[Severity, ...]
    needs: Needs
    check: Callable[[Subject], Iterable[Finding]]


RULES: dict[str, Rule] = {}
"""Every rule by its kind; documents and tests are held against this."""


@dataclass(frozen=True)
class Told:
    """A finding but for its kind, which is the rule's; :class:`harness.explain.finding.Finding` has the fields.

    :param severity: where the rule has several.
    """

    what: str
    where: tuple[str, ...]
    todo: str
    evidence: dict[str, float | int | str]
    cost_us: float | None = None
    cost_db: float | None = None
    severity: Severity | None = None


Check = Callable[["Subject"], Iterable[Told]]


def rule(kind: str, *severities: Severity, needs: Needs = "graph") -> Callable[[Check], Check]:
    """Enter a function into :data:`RULES`."""

    def enter(check: Check) -> Check:
        if kind in RULES:
            raise ValueError(f"two rules {kind!r}")

        def findings(subject: Subject) -> Iterator[Finding]:
            for one in check(subject):
                said = {name: value for name, value in vars(one).items() if name != "severity"}
                yield Finding(kind=kind, severity=one.severity or severities[0], **said)

        RULES[kind] = Rule(kind, severities, needs, findings)
        return check

    return enter


def first(names: Iterable[str]) -> tuple[str, ...]:
    """The first names that are shown, each once."""
    return tuple(dict.fromkeys(names))[:_SHOWN]


def number(value: float) -> float | str:
    """For evidence: NaN and infinities as words, for JSON has no numbers for them; others to six digits."""
    plain = float(value)
    return float(f"{plain:.6g}") if math.isfinite(plain) else str(plain)


def counted(count: int, what: str, several: str = "") -> str:
    """``1 scale``, ``2 scales``."""
    return f"1 {what}" if count == 1 else f"{count} {several or what + 's'}"
