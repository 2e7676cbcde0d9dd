"""Tables of what ``benchmarks/gpu/layers.py`` wrote on a machine with a GPU: JSON lines, one a case and length."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
from onnx import ModelProto

from harness.errors import DataError, UsageError
from harness.explain import assemble, tables
from harness.explain.cost import Costs, costs
from harness.explain.explained import Explained
from harness.explain.layer import LayerTable
from harness.explain.roofline import GPU, from_tables, probe_entries
from harness.modelfile import prepare, read_facts
from harness.spec.calibration import Precision
from harness.spec.case import Case, read_case
from harness.trt_forms import for_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.corpus.catalogue import Entry

__all__ = ["read_dumps"]

_FIELDS = {"case": str, "runtime": str, "version": str, "length": int, "shapes": dict, "layers": list, "times_ms": dict}
_PROBE = "roofline_"
_TODO = "give a file of benchmarks/gpu/layers.py"


def read_dumps(files: Sequence[Path], wanted: str = "") -> list[Explained]:
    """Every case of the files whose id begins with ``wanted``, beside FP32 where that is in them too.

    A model that the catalogue has here is looked at, so that layers are told apart by its nodes and their cost is
    known; of another one there are names and times alone.

    :raises DataError: a line that is none of these. :raises UsageError: no case of that name.
    """
    lines = [one for file in files for one in _lines(file)]
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for one in lines:
        by_case.setdefault(one["case"], []).append(one)
    cases = {name: case for name in by_case if (case := read_case(name)) is not None}
    if stranger := next((name for name in by_case if name not in cases), None):
        raise DataError(f"{stranger!r} is no case's id", where=str(files[0]), todo="write the dump anew")
    known = _Models()
    made = {
        name: tuple(sorted((known.table(case, one) for one in by_case[name]), key=lambda table: table.length))
        for name, case in cases.items()
    }
    found: list[Explained] = []
    for name, case in cases.items():
        if case.model.startswith(_PROBE) or not name.startswith(wanted):
            continue
        fp32 = replace(case, precision=Precision.FP32, calibration=None).id
        at = {table.length: table for table in made.get(fp32, ())} if fp32 != name else {}
        both = [(table, at[table.length]) for table in made[name] if table.length in at]
        alike = [one for other, one in made.items() if cases[other].model.startswith(_PROBE)
                 and cases[other].runtime == case.runtime]  # fmt: skip
        roof = from_tables(table for probe in alike for table in probe) if alike else None
        mine, other = (tuple(side) for side in zip(*both, strict=True)) if both else (made[name], ())
        found.append(Explained(known.unit(case.model), mine, other, roof))
    if not found:
        names = ", ".join(name for name, case in cases.items() if not case.model.startswith(_PROBE))
        raise UsageError(f"no case {wanted!r} in there", where=str(files[0]), todo=f"it has {names or 'none'}")
    return found


class _Models:
    """The models of this machine's catalogue, each looked at once a length."""

    def __init__(self) -> None:
        from harness.corpus.registry import load_catalogue
        from harness.spec.config import find_config

        self._entries: Mapping[str, Entry] = {**load_catalogue(find_config()), **probe_entries(GPU)}
        self._models: dict[tuple[str, str], ModelProto] = {}
        self._costs: dict[tuple[str, str, int], Costs] = {}

    def unit(self, key: str) -> str:
        return self._entries[key].model.axis_name if key in self._entries else "long"

    def table(self, case: Case, one: Mapping[str, Any]) -> LayerTable:
        model = self._model(case.model, one["runtime"], one["version"])
        at = (case.model, one["version"], one["length"])
        if at not in self._costs:
            self._costs[at] = costs(model, one["shapes"]) if model.graph.node else Costs()
        names = {node.name: node.op_type for node in model.graph.node}
        rows = tables.read_rows(one["runtime"], one["layers"], one["times_ms"], names)
        layers = assemble.layers(model, self._costs[at], rows, one["times_ms"])
        log = tuple(str(line) for line in one.get("log", ()))
        return LayerTable(case.id, one["length"], layers, one.get("whole_us"), int(one.get("size_bytes", 0)), log)

    def _model(self, key: str, runtime: str, version: str) -> ModelProto:
        if key not in self._entries:
            return ModelProto()
        if (key, version) not in self._models:
            entry = self._entries[key]
            prepared = prepare(entry.onnx(), entry.model)
            formed = for_parser(prepared, runtime, version, entry.model, read_facts(prepared))
            self._models[key, version] = onnx.load(formed)
        return self._models[key, version]


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    try:
        texts = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(file), todo="give a file of benchmarks/gpu/layers.py"
        ) from error
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            one = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"no JSON: {error}", where=f"{file}:{number}", todo="a line that was cut short may go"
            ) from error
        if not isinstance(one, dict) or "failed" in one:
            continue
        wrong = [name for name, kind in _FIELDS.items() if not isinstance(one.get(name), kind)]
        if wrong:
            what = f"a line without {wrong[0]}, or with another kind of it"
            raise DataError(what, where=f"{file}:{number}", todo=_TODO)
        yield one
