"""What every rewriting of an ONNX graph needs: names that are free, and constants that nothing reads taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["drop_unread", "fresh", "names_in"]


def names_in(graph: GraphProto) -> set[str]:
    """Names that nodes and tensors have."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
    return names


def fresh(stem: str, taken: set[str]) -> str:
    """``stem``, or ``stem`` and a number, that is not taken; from now on it is."""
    name, more = stem, 1
    while name in taken:
        name, more = f"{stem}_{more}", more + 1
    taken.add(name)
    return name


def drop_unread(graph: GraphProto) -> None:
    """Take out initializers that no node reads and that are no output."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
