"""Findings: rules on a model's graph, on what calibration saw, and on layer tables.

Each rule is a function that is entered in :data:`RULES` under the kind of its findings. A rule that lacks what it needs
(lengths, an observation, tables) finds nothing. The documents' page of findings has an entry for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from harness.explain.finding import Finding, Severity
from harness.explain.rules import (
    activations,
    attention,
    coverage,
    layers,
    placement,
    scales,
    shapes,
    traffic,
    weights,
)
from harness.explain.rules.graph import Graph
from harness.explain.rules.registry import RULES, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from harness.calibration.observe import Observation
    from harness.calibration.rows import Spread
    from harness.explain.layer import LayerTable, Roofline
    from harness.spec.calibration import Dialect
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["RULES", "Graph", "Rule", "Subject", "findings", "findings_of", "modules", "silent"]

modules = (activations, attention, coverage, layers, placement, scales, shapes, traffic, weights)
"""Where the rules are."""

_ORDER = {severity: place for place, severity in enumerate(get_args(Severity))}


def findings(
    model: ModelProto,
    tables: Sequence[LayerTable] = (),
    baseline: Sequence[LayerTable] = (),
    roofline: Roofline | None = None,
    *,
    observation: Observation | None = None,
    rows: Sequence[Spread] = (),
    model_spec: Model | None = None,
    dialect: Dialect | None = None,
    layout: Layout | None = None,
    lengths: Sequence[int] = (),
    switch_us: float | None = None,
) -> list[Finding]:
    """Everything that the rules find, what is wrong first, then what is slow, the dearest first.

    :param model: with its weights: FP32, or with Q/DQ. With layer tables: the file that was built from.
    :param tables: of the model, one for each length that was measured; :param baseline: of its float model.
    :param observation: of the FP32 model, tensors named as in ``model`` (:mod:`harness.calibration.observe`).
    :param rows: of the FP32 model, its nodes named alike (:func:`harness.calibration.rows.spreads`).
    :param model_spec: which axes vary, and how far; without it, rules on lengths are silent.
    :param dialect: what runs it; without it, the file decides.
    :param layout: the profiles; :param lengths: of the traffic, or of a sample of it (a corpus).
    :param switch_us: what the first run after a change of profile takes more than a further one.
    """
    return findings_of(
        Subject(
            graph=Graph(model),
            asked=dialect,
            spec=model_spec,
            observation=observation,
            rows=rows,
            tables=tables,
            baseline=baseline,
            roofline=roofline,
            layout=layout,
            lengths=lengths,
            switch_us=switch_us,
        )
    )


def findings_of(subject: Subject) -> list[Finding]:
    """The same of a subject that is made already."""
    found = [finding for one in RULES.values() for finding in one.check(subject)]
    return sorted(found, key=lambda one: (_ORDER[one.severity], -(one.cost_us or 0), -(one.cost_db or 0), one.kind))


def silent(subject: Subject) -> list[str]:
    """Kinds of rules that could say nothing, for what they need is not there."""
    there = {
        "graph": True,
        "lengths": subject.spec is not None,
        "observation": subject.observation is not None,
        "rows": bool(subject.rows),
        "tables": bool(subject.tables),
        "baseline": bool(subject.tables and subject.baseline),
        "roofline": bool(subject.tables) and subject.roofline is not None,
        "traffic": subject.layout is not None and bool(subject.lengths),
    }
    return [one.kind for one in RULES.values() if not there[one.needs]]
