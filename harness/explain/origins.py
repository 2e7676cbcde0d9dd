"""Which nodes of a model each layer of a runtime's graph computes.

Runtimes fuse, rename and insert. A layer is found by what its name says, then by the tensors at its ends: what lies
between its inputs and its outputs is its own. What a fusion left no trace of goes to the layer beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.explain.cost import COMPUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from onnx import ModelProto

    from harness.explain.cost import Tensor
    from harness.explain.layer import Role

__all__ = ["End", "Row", "origins", "peeled"]

_NODE_MARKS = re.compile(r"(_token_\d+|_nchwc|_nhwc|/\w+Fusion/?|/duplicated.*|_myl\d.*| \[profile \d+\])$")
_TENSOR_MARKS = re.compile(
    r"(_token_\d+|_(Quantize|Dequantize)Linear(_Output)?(_\d+)?|_pre_q|_q_to_dq|_dq|_q|/duplicated.*|_nchwc| copy)$"
)
_FOLLOWS = frozenset({
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "PRelu", "Softplus", "Gelu",
    "Add", "Sub", "Mul", "Div", "BatchNormalization", "Cast", "Squeeze", "Unsqueeze", "Identity",
})  # fmt: skip
"""What a kernel of a product takes along behind it."""


@dataclass(frozen=True)
class End:
    """A tensor at a layer's end, by the runtime's name; what it is where that is told.

    :param dtype: its element type, where that is told and its shape is not.
    """

    name: str
    tensor: Tensor | None = None
    constant: bool = False
    dtype: str = ""


@dataclass(frozen=True)
class Row:
    """A layer as a runtime tells of it.

    :param inserted: it can have no node of the model (a reorder, a reformat).
    :param named: its words are all of its nodes.
    :param swallows: it may compute more of the model than its words name.
    :param operator: empty where the runtime's word for it says less than the node that computes most.
    :param words: names of nodes that its name or its metadata hold, the surest first.
    """

    name: str
    operator: str
    precision: str
    role: Role
    inputs: tuple[End, ...] = ()
    outputs: tuple[End, ...] = ()
    words: tuple[str, ...] = ()
    kernel: str = ""
    inserted: bool = False
    named: bool = False
    swallows: bool = False
    nodes: tuple[str, ...] = ()


class _Graph:
    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.names = [node.name or f"{node.op_type}_{index}" for index, node in enumerate(self.nodes)]
        self.by_name = {name: index for index, name in enumerate(self.names)}
        self.producer = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(index)
        self.inputs = {value.name for value in model.graph.input}

    def before(self, index: int) -> Iterator[int]:
        return (self.producer[name] for name in self.nodes[index].input if name in self.producer)

    def behind(self, index: int) -> Iterator[int]:
        return (one for name in self.nodes[index].output for one in self.readers.get(name, ()))

    def tensor(self, name: str) -> str:
        """The model's tensor that a runtime's name stands for; empty where it is none of them."""
        return next((one for one in peeled(name, _TENSOR_MARKS) if one in self.producer or one in self.inputs), "")


def origins(model: ModelProto, rows: Sequence[Row]) -> list[Row]:
    """The rows with ``nodes``: each node of the model is in one row at most.

    :param rows: in an order in which they may run.
    """
    graph = _Graph(model)
    owner: dict[int, int] = {}
    # What several rows name is that of the one which is there for a product: the others are its head and tail.
    for at in sorted(range(len(rows)), key=lambda at: rows[at].role != "compute"):
        for index in _named(graph, rows[at]):
            owner.setdefault(index, at)
    anchored = {at: [index for index, one in owner.items() if one == at] for at in set(owner.values())}
    known = _known_tensors(graph, rows)
    for at, row in enumerate(rows):
        if row.inserted or row.named or row.role == "quantize":
            continue
        ends = {known[one.name] for one in row.outputs if known.get(one.name)}
        starts = {known[one.name] for one in row.inputs if known.get(one.name)}
        told = all(known.get(one.name) for one in row.inputs if not one.constant)
        _between(graph, owner, at, ends, starts, stops=set() if told else set(anchored.get(at, ())))
        if row.role == "compute":
            _find_product(graph, owner, at, anchored.get(at, ()))
        if not ends and row.role == "compute":
            _take_along(graph, owner, at, anchored.get(at, []))
    _fill_unnamed(graph, owner, rows)
    for at, row in enumerate(rows):
        if row.swallows:
            _flood(graph, owner, at, anchored.get(at, ()))
    found: list[list[int]] = [[] for _ in rows]
    for index, at in sorted(owner.items()):
        found[at].append(index)
    return [
        replace(row, nodes=tuple(graph.names[index] for index in mine)) for row, mine in zip(rows, found, strict=True)
    ]


def peeled(name: str, marks: re.Pattern[str] = _NODE_MARKS) -> Iterator[str]:
    """A layer's name, and it without one more mark of the runtime each time."""
    yield name
    while (shorter := marks.sub("", name)) != name:
        name = shorter
        yield name


def _named(graph: _Graph, row: Row) -> Iterator[int]:
    """Nodes that a row's words name: all of a node's own names, else the first tensor that is one."""
    if row.inserted:
        return
    any_found = False
    for word in row.words:
        for name in peeled(word):
            index = graph.by_name.get(name)
            if index is not None and (row.role != "quantize" or graph.nodes[index].op_type == row.operator):
                any_found = True
                yield index
                break
    if any_found or row.role == "quantize":
        return
    for name in (one for word in row.words for one in peeled(word)):
        if name in graph.producer:  # some fusions name a node by what it makes
            yield graph.producer[name]
            return


def _known_tensors(graph: _Graph, rows: Sequence[Row]) -> dict[str, str]:
    """A runtime's tensor -> the model's that it holds, in whatever type or layout; those that can be told.

    Where a runtime calls a tensor by the node that makes it, nothing is told: a fusion may have moved its end.
    """
    known: dict[str, str] = {}
    for row in rows:
        for end in row.inputs:
            if end.name not in known and not end.constant:
                known[end.name] = graph.tensor(end.name) if end.name not in graph.by_name else _same(graph, end.name)
        passes = row.inserted or row.role == "quantize"
        source = next((known.get(end.name, "") for end in row.inputs if not end.constant), "")
        for end in row.outputs:
            if passes:
                known[end.name] = source or graph.tensor(end.name)
            elif end.name in graph.by_name:
                known[end.name] = _same(graph, end.name)
            else:
                known[end.name] = graph.tensor(end.name)
    return known


def _same(graph: _Graph, name: str) -> str:
    """A name that is a node's and the tensor's that it makes is the tensor's; another node's says nothing."""
    index = graph.by_name[name]
    return name if name in graph.nodes[index].output else ""


def _between(
    graph: _Graph, owner: dict[int, int], at: int, ends: Iterable[str], starts: set[str], stops: set[int]
) -> None:
    """Give a row what lies between the model's tensors at its ends, as far as no other row has it.

    :param stops: nodes behind which nothing before them is its own, where not all of its inputs can be told.
    """
    todo = [graph.producer[name] for name in ends if name not in starts and name in graph.producer]
    seen: set[int] = set()
    while todo:
        index = todo.pop()
        if index in seen or owner.get(index, at) != at:
            continue
        seen.add(index)
        owner[index] = at
        if index in stops:
            continue
        todo += [graph.producer[name] for name in graph.nodes[index].input
                 if name in graph.producer and name not in starts]  # fmt: skip


def _find_product(graph: _Graph, owner: dict[int, int], at: int, anchors: Iterable[int]) -> None:
    """A product that is called by the activation behind it is what stands before that."""
    way = list(anchors)
    if any(graph.nodes[index].op_type in COMPUTE for index, one in owner.items() if one == at):
        return
    while way and graph.nodes[way[-1]].op_type not in COMPUTE:
        way.append(next((one for one in graph.before(way[-1]) if one not in owner), -1))
        if way[-1] < 0:
            return
    for index in way:
        owner.setdefault(index, at)


def _take_along(graph: _Graph, owner: dict[int, int], at: int, anchors: Sequence[int]) -> None:
    """Give a product whose output has another name the activation behind it, unless that has a row of its own."""
    todo = list(anchors)
    while todo:
        behind = set(graph.behind(todo.pop()))
        if len(behind) != 1:
            continue
        (index,) = behind
        if index not in owner and graph.nodes[index].op_type in _FOLLOWS:
            owner[index] = at
            todo.append(index)


def _fill_unnamed(graph: _Graph, owner: dict[int, int], rows: Sequence[Row]) -> None:
    """A fusion that kept no name has what lies between its neighbours and belongs to nobody."""
    made_by = {end.name: at for at, row in enumerate(rows) for end in row.outputs}
    taken = set(owner.values())
    for at, row in enumerate(rows):
        if at in taken or row.inserted or row.role == "quantize":
            continue
        todo = [end.name for end in row.inputs if not end.constant]
        sources: set[int] = set()
        while todo:  # the rows before it, through what was inserted between them
            one = made_by.get(todo.pop(), -1)
            if one < 0 or one in sources:
                continue
            if rows[one].inserted or rows[one].role == "quantize":
                todo += [end.name for end in rows[one].inputs if not end.constant]
            sources.add(one)
        begin = [index for index, one in owner.items() if one in sources]
        free = [index for one in begin for index in graph.behind(one) if index not in owner]
        _flood(graph, owner, at, free)


def _flood(graph: _Graph, owner: dict[int, int], at: int, begin: Sequence[int]) -> None:
    """Give a row these nodes and all that hang together with them and belong to nobody."""
    todo = list(begin)
    for index in todo:
        owner.setdefault(index, at)
    while todo:
        index = todo.pop()
        for one in (*graph.before(index), *graph.behind(index)):
            if one not in owner:
                owner[one] = at
                todo.append(one)
