"""Tables of what ``benchmarks/gpu/layers.py`` wrote on a machine with a GPU: JSON lines, one a case and length."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
from onnx import ModelProto

from harness.corpus.content import content
from harness.errors import DataError, HarnessError, UsageError
from harness.explain import assemble, tables
from harness.explain.cost import Costs, costs
from harness.explain.explained import Explained
from harness.explain.layer import LayerTable
from harness.explain.roofline import GPU, from_tables, probe_entries
from harness.explain.rules import findings
from harness.modelfile import prepare, read_facts
from harness.spec.calibration import Precision
from harness.spec.case import Case, read_case
from harness.trt_forms import for_parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Feeds
    from harness.spec.model import Model

__all__ = ["read_dumps"]

_MOST = 2**48
"""Beyond any length, size or time: protobuf's dimensions have 64 bits."""
_GZIP = b"\x1f\x8b"
_PROBE = "roofline_"
_TODO = "give a file of benchmarks/gpu/layers.py"


def read_dumps(files: Sequence[Path], wanted: str = "") -> list[Explained]:
    """Every case of the files whose id begins with ``wanted``, beside FP32 where that is in them too.

    A model that the catalogue has here is looked at, so that layers are told apart by its nodes and their cost is
    known; of another one there are names and times alone. What is found goes by the tables: the file that was built
    from is not here.

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
        told = findings(ModelProto(), mine, other, roof, model_spec=known.spec(case.model))
        found.append(Explained(known.unit(case.model), mine, other, roof, tuple(told)))
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

    def spec(self, key: str) -> Model | None:
        return self._entries[key].model if key in self._entries else None

    def table(self, case: Case, one: Mapping[str, Any]) -> LayerTable:
        model = self._model(case.model, one["runtime"], one["version"])
        at = (case.model, one["version"], one["length"])
        if at not in self._costs:
            self._costs[at] = self._counted(case.model, model, one)
        names = {node.name: node.op_type for node in model.graph.node}
        rows = tables.read_rows(one["runtime"], one["layers"], one["times_ms"], names)
        layers = assemble.layers(model, self._costs[at], rows, one["times_ms"], tables.only_precision(case))
        log = tuple(one.get("log") or ())
        return LayerTable(case.id, one["length"], layers, one.get("whole_us"), one.get("size_bytes") or 0, log)

    def _counted(self, key: str, model: ModelProto, one: Mapping[str, Any]) -> Costs:
        """Run once here where inference alone does not tell every shape, on a sample of the same shapes."""
        if not model.graph.node:
            return Costs()
        found = costs(model, one["shapes"])
        if all(None not in (node.operations, node.moved_bytes) for node in found.nodes.values()):
            return found
        feeds = _sample(self._entries[key], one["length"])
        alike = {name: list(value.shape) for name, value in feeds.items()} == one["shapes"]
        return costs(model, one["shapes"], feeds) if alike else found

    def _model(self, key: str, runtime: str, version: str) -> ModelProto:
        if key not in self._entries:
            return ModelProto()
        if (key, version) not in self._models:
            entry = self._entries[key]
            prepared = prepare(entry.onnx(), entry.model)
            formed = for_parser(prepared, runtime, version, entry.model, read_facts(prepared))
            self._models[key, version] = onnx.load(formed)
        return self._models[key, version]


def _sample(entry: Entry, length: int) -> Feeds:
    """One of that length; empty where there are no data here: then what inference tells has to do."""
    if entry.draw is not None:
        return entry.draw(length, 0)
    try:
        first = next(entry.samples("test", 0), None)
    except HarnessError:
        return {}
    return {} if first is None else content(entry.model, [first], length, 0)


def _lines(file: Path) -> Iterable[dict[str, Any]]:
    try:
        read = file.read_bytes()
        texts = (gzip.decompress(read) if read.startswith(_GZIP) else read).decode("utf-8").splitlines()
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(file), todo="give a file of benchmarks/gpu/layers.py"
        ) from error
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            one = json.loads(text, parse_constant=_no_number)
        except ValueError as error:
            raise DataError(
                f"no JSON: {error}", where=f"{file}:{number}", todo="a line that was cut short may go"
            ) from error
        if not isinstance(one, dict) or "failed" in one:
            continue
        wrong = next((name for name, fits in _FIELDS.items() if not fits(one.get(name))), "")
        if wrong:
            what = f"a line without {wrong}, or with another kind of it"
            raise DataError(what, where=f"{file}:{number}", todo=_TODO)
        yield one


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_length(value: object) -> bool:
    return _is_count(value) and value != 0


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST


def _are(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _by_name(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(_are(one, fits) for one in value.values())


def _is_layer(value: object) -> bool:
    """As far as what reads it counts on: its ends are lists, and so are their dimensions."""
    if not isinstance(value, dict):
        return False
    ends = [value.get("Inputs", []), value.get("Outputs", [])]
    if not all(isinstance(side, list) for side in ends):
        return False
    told = [end for side in ends for end in side if isinstance(end, dict)]
    return all(isinstance(end.get("Dimensions", []), list) for end in told)


_FIELDS: dict[str, Callable[[object], bool]] = {
    "case": _is_text,
    "runtime": _is_text,
    "version": _is_text,
    "length": _is_length,
    "shapes": lambda value: _by_name(value, _is_count),
    "layers": lambda value: _are(value, _is_layer),
    "times_ms": lambda value: _by_name(value, _is_time),
    "whole_us": lambda value: value is None or _is_time(value),
    "size_bytes": lambda value: value is None or _is_count(value),
    "log": lambda value: value is None or _are(value, _is_text),
}
"""Field -> whether a value of it is one."""
