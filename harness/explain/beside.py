"""Two tables of one model at one length, layer by layer: what got slower, what got faster, what came in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.explain.layer import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.explain.layer import Layer, LayerTable, Role

__all__ = ["Beside", "Pair", "beside", "by_role"]


@dataclass(frozen=True)
class Pair:
    """Layers of both sides that compute the same nodes, as few as can be told apart; or a layer that has no other side.

    :param nodes: of the model; empty for what a runtime inserted.
    """

    nodes: tuple[str, ...]
    baseline: tuple[Layer, ...]
    candidate: tuple[Layer, ...]

    @property
    def baseline_us(self) -> float | None:
        return _total(self.baseline)

    @property
    def candidate_us(self) -> float | None:
        return _total(self.candidate)

    @property
    def change_us(self) -> float:
        """How much longer the candidate takes; 0 where no time is known."""
        return (self.candidate_us or 0.0) - (self.baseline_us or 0.0)


@dataclass(frozen=True)
class Beside:
    """Both tables, and what is what in them.

    :param pairs: what got slower first.
    """

    baseline: LayerTable
    candidate: LayerTable
    pairs: tuple[Pair, ...]


def beside(baseline: LayerTable, candidate: LayerTable) -> Beside:
    """Join two tables by the nodes of the model: layers that share a node are one pair, with all that these share.

    What has no node (Q/DQ, reorders) stands alone.
    """
    sides = [(0, layer) for layer in baseline.layers] + [(1, layer) for layer in candidate.layers]
    parent = list(range(len(sides)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, (_, layer) in enumerate(sides):
        for node in layer.nodes:
            parent[root(index)] = root(first.setdefault(node, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(sides)):
        groups.setdefault(root(index), []).append(index)
    pairs = [_pair([sides[index] for index in group]) for group in groups.values()]
    return Beside(baseline, candidate, tuple(sorted(pairs, key=lambda pair: -pair.change_us)))


def by_role(table: LayerTable) -> dict[Role, float]:
    """What a table's layers take, us, by what they are there for; each role, also with nothing in it."""
    sums: dict[Role, float] = dict.fromkeys(ROLES, 0.0)
    for layer in table.layers:
        sums[layer.role] += layer.time_us or 0.0
    return sums


def _pair(found: Iterable[tuple[int, Layer]]) -> Pair:
    sides: tuple[list[Layer], list[Layer]] = ([], [])
    for side, layer in found:
        sides[side].append(layer)
    nodes = dict.fromkeys(node for side in sides for layer in side for node in layer.nodes)
    return Pair(tuple(nodes), tuple(sides[0]), tuple(sides[1]))


def _total(layers: Sequence[Layer]) -> float | None:
    times = [layer.time_us for layer in layers if layer.time_us is not None]
    return sum(times) if times else None
