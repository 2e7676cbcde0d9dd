"""The reference of records: what recorded runs hold, field by field, and the schema of a gate's report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.gate.report import schema_text
from harness.results.record import KINDS, SCHEMA
from harness.results.store import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
_RUNS = ROOT / "results" / "reference"
_DEEPEST = 3
_ANY_NAME = {"buckets", "corpus", "model", "samples", "libraries", "rebuilt", "samples_ns"}
"""Tables whose keys are names of the user's or of a model's, and no fields."""


def seen() -> str:
    """Every field of the recorded GPU runs, by kind, with its types and a value."""
    kinds: dict[str, dict[str, tuple[set[str], Any]]] = {}
    count = 0
    for path in sorted(_RUNS.rglob("*.jsonl")):
        for one in read_run(path):
            count += 1
            fields = kinds.setdefault(str(one["kind"]), {})
            for name, value in _flat(one):
                types, example = fields.setdefault(name, (set(), value))
                types.add(_type(value))
                if example in (None, "", [], {}):
                    fields[name] = (types, value)
    every = set.intersection(*(set(fields) for fields in kinds.values()))
    first = next(iter(kinds.values()))
    parts = [
        "\n## Fields as recorded\n",
        f"Read from the {count} records of `results/reference/` when this page was built; schema {SCHEMA}. Kinds: "
        + ", ".join(f"`{kind}`" for kind in sorted(KINDS))
        + ". `*` stands for a name of a model's, a bucket's or a library's.\n",
        "### In every kind\n",
        *_table({name: first[name] for name in first if name in every}),
    ]
    for kind, fields in sorted(kinds.items()):
        parts += [f"\n### {kind}\n", *_table({name: fields[name] for name in fields if name not in every})]
    return "\n".join(parts) + "\n"


def _flat(one: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in one.items():
        path = f"{before}{name}"
        if isinstance(value, dict) and value and depth < _DEEPEST:
            inner = {"*": next(iter(value.values()))} if name in _ANY_NAME else value
            yield from _flat(inner, f"{path}.", depth + 1)
        else:
            yield path, value


def _type(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "integer", float: "number", type(None): "null", list: "list", dict: "table"}
    return names.get(type(value), "text")


def _table(fields: Mapping[str, tuple[set[str], Any]]) -> list[str]:
    rows = ["| field | type | for example |", "|---|---|---|"]
    for name, (types, example) in fields.items():
        text = json.dumps(example, ensure_ascii=False)
        short = text if len(text) <= 60 else text[:57] + "..."
        rows.append(f"| `{name}` | {' or '.join(sorted(types))} | `{short.replace('|', '¦').replace('`', ' ')}` |")
    return rows


def gate_report() -> str:
    """The JSON Schema of ``harness gate --report`` as a table."""
    schema = json.loads(schema_text())
    parts = [
        "# Report of a gate",
        "",
        str(schema.get("description", "")),
        "",
        "What `harness gate --report FILE` writes;",
    ]
    parts += ["`harness gate --schema` prints the [schema](report.schema.json) that this page was made from.", ""]
    parts += ["| field | type | meaning |", "|---|---|---|", *_rows(schema, schema)]
    return "\n".join(parts) + "\n"


def _rows(schema: Mapping[str, Any], whole: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, about in schema.get("properties", {}).items():
        found = _resolved(about, whole)
        yield f"| `{before}{name}` | {_kind(found)} | {' '.join(str(found.get('description', '')).split())} |"
        inner = _resolved(found.get("items", {}), whole) if found.get("type") == "array" else found
        if isinstance(inner, dict) and before.count(".") < 2:
            yield from _rows(inner, whole, f"{before}{name}{'[]' if found.get('type') == 'array' else ''}.")


def _resolved(about: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = about.get("$ref", "")
    if not reference.startswith("#/"):
        return about
    found: Any = whole
    for word in reference.removeprefix("#/").split("/"):
        found = found[word]
    return {**found, **{name: value for name, value in about.items() if name != "$ref"}}


def _kind(about: Mapping[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    kind = about.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
