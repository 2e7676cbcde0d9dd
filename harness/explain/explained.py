"""A case explained: its tables at some lengths, those of what it stands beside, the roof above them, what was found."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnx

from harness.calibration import pipeline
from harness.calibration.rows import SAMPLES, Spread, spreads
from harness.corpus.content import Draw, make
from harness.errors import UsageError
from harness.explain.beside import beside
from harness.explain.data import beside_data, longest, roofline_data, table_data
from harness.explain.roofline import roofline
from harness.explain.rules import findings
from harness.explain.tables import tables as tables_at
from harness.measure.arms import Input
from harness.spec.calibration import Policy, Precision
from harness.spec.shapes import single

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.explain.finding import Finding
    from harness.explain.layer import LayerTable, Roofline
    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["Explained", "as_data", "explained", "inputs_at", "record"]


@dataclass(frozen=True)
class Explained:
    """One case's tables, a length each; with those of what it stands beside, or none.

    :param unit: of the lengths.
    """

    unit: str
    tables: tuple[LayerTable, ...]
    baseline: tuple[LayerTable, ...] = ()
    roofline: Roofline | None = None
    findings: tuple[Finding, ...] = ()


def explained(
    bench: Workbench,
    case: Case,
    other: Case | None = None,
    lengths: Sequence[int] = (),
    told: Callable[[str], None] = lambda _: None,
    switch_us: float | None = None,
) -> Explained:
    """Build and profile a case, and what it stands beside.

    :param lengths: each bucket's opt where none is given.
    :param told: hears of what takes a while.
    :param switch_us: what a change of profile costs; without it nothing is said of that.
    :raises UsageError: a length out of the model's range.
    :raises HarnessError: see :func:`harness.explain.tables.table`.
    """
    inputs = inputs_at(bench, case.model, lengths)
    roof = roofline(bench, case.runtime, told=told) if bench.environment(case).can_run else None
    tables = tuple(tables_at(bench, case, inputs))
    baseline = tuple(tables_at(bench, other, inputs)) if other is not None else ()
    found = _findings(bench, case, tables, baseline, roof, switch_us)
    return Explained(bench.model(case.model).axis_name, tables, baseline, roof, tuple(found))


def _findings(
    bench: Workbench,
    case: Case,
    tables: Sequence[LayerTable],
    baseline: Sequence[LayerTable],
    roof: Roofline | None,
    switch_us: float | None,
) -> list[Finding]:
    """What the rules say of the file that is built from, its tables, the calibration's ranges and the traffic."""
    corpus = bench.corpus(case.model, "calibration")
    observation, rows = None, list[Spread]()
    if case.precision is Precision.INT8:
        seen = pipeline.observed(
            bench.prepared(case.model), bench.model(case.model), corpus, Policy.RAGGED, single(bench.model(case.model))
        )
        observation = seen[0][0]
        rows = spreads(bench.formed(case), itertools.islice(corpus, SAMPLES))
    runs_profiles = bench.environment(case).runtime != "onnxruntime"
    return findings(
        onnx.load(bench.artefacts(case)[0]),
        tables,
        baseline,
        roof,
        observation=observation,
        rows=rows,
        model_spec=bench.model(case.model),
        dialect=bench.dialect(case) if case.precision is Precision.INT8 else None,
        layout=bench.layout(case) if runs_profiles else None,
        lengths=corpus.lengths if runs_profiles else (),
        switch_us=switch_us,
    )


def inputs_at(bench: Workbench, key: str, lengths: Sequence[int]) -> list[Input]:
    """A feed of each length, out of the test corpus; each bucket's opt where none is asked for.

    :raises UsageError: a length out of the model's range.
    """
    if not lengths:
        return list(bench.inputs(key))
    entry, model = bench.entries[key], bench.model(key)
    for length in lengths:
        if not model.minimum <= length <= model.maximum:
            what = f"{length} {model.axis_name} are not in the model's range"
            raise UsageError(what, where="--length", todo=f"{model.minimum} to {model.maximum}")
    corpus = None if entry.synthetic else bench.corpus(key, "test")
    return [Input(str(length), length, make(Draw(length), entry, corpus)) for length in lengths]


def record(bench: Workbench, case: Case, found: Explained) -> None:
    """One record a length: what it took, by role, beside what the other side took; and the layers that take longest."""
    for index, one in enumerate(found.tables):
        against = None
        if found.baseline:
            said = table_data(found.baseline[index])
            against = {name: value for name, value in said.items() if name not in {"layers", "log"}}
        values = {name: value for name, value in table_data(longest(one), found.roofline).items() if name != "case"}
        values |= {"layers_of": len(one.layers), "against": against, "roofline": roofline_data(found.roofline)}
        values |= {"profiled_us": one.profiled_us, "by_role_us": table_data(one)["by_role_us"]}
        bench.record("layers", case, "", **values)


def as_data(found: Explained) -> dict[str, Any]:
    """All of it as plain data."""
    pairs = zip(found.baseline, found.tables, strict=True) if found.baseline else ()
    return {
        "unit": found.unit,
        "roofline": roofline_data(found.roofline),
        "tables": [table_data(one, found.roofline) for one in found.tables],
        "baseline": [table_data(one, found.roofline) for one in found.baseline],
        "beside": [{"length": new.length, **beside_data(beside(old, new))} for old, new in pairs],
        "findings": [asdict(one) for one in found.findings],
    }
