"""The reference of harness.toml, from the structures that read it; what a key means stands in their docstrings."""

from __future__ import annotations

import inspect
import re
import types
import typing
from typing import Annotated, Any

import msgspec

from harness.corpus.own import own_entry
from harness.spec import config
from harness.spec.latency import LatencyConfig, LatencySettings
from harness.spec.model import Bounds, Model
from harness.spec.options import DECIDED, FAMILIES

_TABLES: tuple[tuple[str, str, type[msgspec.Struct], tuple[object, ...]], ...] = (
    ("The file itself", "", config._Table, (config.Config,)),
    ("`[[models]]`", "A model of your own.", config._ModelTable, (own_entry, Model, config.OwnModel)),
    ("`bounds` of a model", "Length bucket -> a table of these.", config._BoundsTable, (Bounds,)),
    (
        "`[environments]`",
        "Name -> an interpreter's path, or a table of these.",
        config._EnvironmentTable,
        (config.EnvironmentConfig,),
    ),
    ("`[latency]`", "", config._LatencyDefaults, (LatencySettings, LatencyConfig)),
    ("`[latency] overrides`", "A list of tables.", config._LatencyOverride, (config._LatencyOverride, LatencySettings)),
)


def page() -> str:
    """All tables of the configuration."""
    doc = inspect.getdoc(config) or ""
    example = doc.partition("::\n")[2].partition("\nA name under")[0]
    parts = [
        "# Configuration",
        "",
        "`harness.toml`, or `[tool.harness]` in `pyproject.toml`: the nearest one, from the working directory upwards.",
        "Paths are relative to the file. Unknown keys are refused. `harness init MODEL.onnx` writes one; what the keys",
        "of a model are for is told in [your own model](../guide/own-model.md).",
        "",
        "```toml",
        inspect.cleandoc(example),
        "```",
        "",
    ]
    for title, about, struct, documented in _TABLES:
        parts += [f"## {title}", "", *([about, ""] if about else []), *_table(struct, _meanings(*documented)), ""]
    parts += _options()
    return "\n".join(parts)


def _table(struct: type[msgspec.Struct], meanings: dict[str, str]) -> list[str]:
    hints = typing.get_type_hints(struct, include_extras=True)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        name = field.encode_name
        if name not in meanings:
            raise LookupError(f"{struct.__name__}.{name}: no docstring says what it means")
        rows.append(f"| `{name}` | {_type(hints[field.name])} | {_default(field)} | {meanings[name]} |")
    return rows


def _meanings(*documented: object) -> dict[str, str]:
    """``:param name: meaning`` of docstrings, the first one of a name."""
    found: dict[str, str] = {}
    for one in documented:
        pairs = re.findall(r":param (\w+):\s*(.*?)(?=;?\s*:param|\s*:raises|\Z)", inspect.getdoc(one) or "", re.DOTALL)
        for name, text in pairs:
            if not text.startswith(("see ", "the same")):
                found.setdefault(name.rstrip("_"), _prose(text))
    return found


def _prose(text: str) -> str:
    """A docstring's sentence in a cell: code in single backquotes, references as code, no line breaks."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", " ".join(text.split()).replace("``", "`")).rstrip(".;")
    return (text[:1].upper() + text[1:]).replace("|", "\\|") + "."


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value: Any = field.default_factory()
    elif field.default is not msgspec.NODEFAULT:
        value = field.default
    else:
        return "required"
    if value is None or value in ("", [], {}) or isinstance(value, msgspec.Struct | msgspec.UnsetType):
        return ""
    return f"`{value!r}`".replace("'", '"').replace("(1.0,)", "[1.0]")


_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): ""}


def _type(hint: Any) -> str:  # noqa: ANN401 - whatever a hint may be
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        limits = [
            f"{sign} {value:g}"
            for sign, value in (
                (">", arguments[1].gt),
                ("≥", arguments[1].ge),
                ("<", arguments[1].lt),
                ("≤", arguments[1].le),
            )
            if value is not None
        ]
        return f"{_type(arguments[0])}{' ' + ', '.join(limits) if limits else ''}"
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(filter(None, (_type(one) for one in arguments if one is not msgspec.UnsetType)))
    if origin in {list, tuple}:
        return f"list of {_plural(_type(arguments[0]))}"
    if origin is dict:
        return f"table of {_plural(_type(arguments[1]))}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "table"
    return _NAMES.get(hint, "any")


def _plural(name: str) -> str:
    return {"text": "texts", "number": "numbers", "table": "tables"}.get(name, name.replace("number >", "numbers >"))


def _options() -> list[str]:
    parts = [
        "## `[options]`",
        "",
        "Of builds and loads: a runtime's name, or the beginning of one -> a table of these. What each one does:",
        "[environments](../guide/environments.md#options-of-a-runtime).",
        "",
    ]
    for family, struct in FAMILIES.items():
        hints = typing.get_type_hints(struct, include_extras=True)
        parts += [f"### {family}", "", "| key | type |", "|---|---|"]
        parts += [f"| `{name}` | {_type(hint)} |" for name, hint in hints.items()] + [""]
    parts += ["### What cannot be said", "", "| key | why |", "|---|---|"]
    return parts + [f"| `{name}` | {why} |" for name, why in DECIDED.items()] + [""]
