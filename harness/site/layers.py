"""Layer tables on a model's page: what a run takes at each length, by layers' roles, and the longest layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.site.reading import as_mapping, as_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from harness.results.query import Found

__all__ = ["ROLES", "AtLength", "Layer", "Layers", "newest_layers"]

ROLES = ("compute", "quantize", "reformat", "other")
"""What a layer is there for, as records name it."""

_TOP = 10
_LENGTHS = 6
_BOUND = {True: "bytes", False: "operations"}


@dataclass(frozen=True)
class Layer:
    """One layer of what really ran.

    :param share: of all layers' time, 0 to 1. :param roof: least time that this host could need / its time.
    :param bound: ``bytes`` or ``operations``, whichever the roof above it is made of; empty where nobody knows.
    """

    name: str
    operator: str
    precision: str
    role: str
    time_us: float | None
    share: float | None
    operations: float | None
    roof: float | None
    bound: str


@dataclass(frozen=True)
class AtLength:
    """A case at one length; times in us.

    :param whole_us: a run without the profiler; None for a runtime that only builds.
    :param beside_us: one of the case that it stands beside. :param roles: share of the layers' time by role.
    :param layers: those that take longest, the longest first. :param count: how many layers there are.
    """

    length: float
    whole_us: float | None
    beside_us: float | None
    roles: Mapping[str, float]
    layers: tuple[Layer, ...]
    count: int

    @property
    def faster(self) -> float | None:
        """How many times faster than the case that it stands beside; two medians, and no interval."""
        return self.beside_us / self.whole_us if self.beside_us and self.whole_us else None


@dataclass(frozen=True)
class Layers:
    """The tables of one case on one host, those of its newest run.

    :param name: the case without its model. :param beside: the case that it stands beside; empty where there is none.
    """

    name: str
    host: str
    run: str
    time: datetime
    beside: str
    tables: tuple[AtLength, ...] = field(repr=False)

    @property
    def timed(self) -> bool:
        return any(layer.time_us is not None for one in self.tables for layer in one.layers)


def newest_layers(found: Iterable[Found]) -> dict[str, list[Layers]]:
    """Model -> the tables of its cases, the newest first.

    :param found: records of kind ``layers``, the newest first. One without a length or layers is passed over.
    :raises ResultsError: a run's file is no longer what it was.
    """
    heads: dict[tuple[str, str, str], Layers] = {}
    tables: dict[tuple[str, str, str], dict[float, AtLength]] = {}
    for one in found:
        key = one.model or "", one.case or "", one.host or ""
        if not one.case or (key in heads and heads[key].run != one.run):
            continue
        values = one.values()
        if (table := _at_length(values)) is None:
            continue
        heads.setdefault(key, _head(one, as_mapping(values.get("against")).get("case")))
        tables.setdefault(key, {}).setdefault(table.length, table)
    by_model: dict[str, list[Layers]] = {}
    for key, head in heads.items():
        mine = sorted(tables[key].values(), key=lambda table: table.length)[-_LENGTHS:]
        by_model.setdefault(key[0], []).append(replace(head, tables=tuple(mine)))
    return by_model


def _head(one: Found, beside: object) -> Layers:
    prefix = f"{one.model}-"
    said = beside.removeprefix(prefix) if isinstance(beside, str) else ""
    return Layers((one.case or "").removeprefix(prefix), one.host or "", one.run, one.time, said, ())


def _at_length(values: Mapping[str, Any]) -> AtLength | None:
    length, data = as_number(values.get("length")), values.get("layers")
    layers = [made for one in data if (made := _layer(as_mapping(one)))] if isinstance(data, list) else []
    if length is None or not layers:
        return None
    layers.sort(key=lambda one: (-(one.time_us or 0.0), -(one.operations or 0.0)))
    sums = {name: as_number(as_mapping(values.get("by_role_us")).get(name)) or 0.0 for name in ROLES}
    total = sum(sums.values())
    count = as_number(values.get("layers_of"))
    return AtLength(
        length,
        _positive(values.get("whole_us")),
        _positive(as_mapping(values.get("against")).get("whole_us")),
        {name: part / total for name, part in sums.items()} if total > 0 else {},
        tuple(layers[:_TOP]),
        int(count) if count and count >= len(layers) else len(layers),
    )


def _layer(data: Mapping[str, Any]) -> Layer | None:
    name, operator, precision, role = (
        text if isinstance(text := data.get(what), str) else "" for what in ("name", "operator", "precision", "role")
    )
    if not (name or operator):
        return None
    share, operations, roof = (as_number(data.get(what)) for what in ("share", "operations", "roof_reached"))
    bound = next((said for known, said in _BOUND.items() if data.get("memory_bound") is known), "")
    return Layer(
        name or operator, operator, precision, role, as_number(data.get("time_us")), share, operations, roof,
        "" if roof is None else bound,
    )  # fmt: skip


def _positive(value: object) -> float | None:
    number = as_number(value)
    return number if number is not None and number > 0 else None
