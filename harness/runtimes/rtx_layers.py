"""What operators of a TensorRT-RTX engine compute in, read off the engine file, which needs no GPU.

Beside its kernels an engine holds the program that calls them, as text: a line a tensor with its type, a line an
operator with its operands. Seen so in files of 1.4 to 1.7; it is documented nowhere, so where it is not found, nothing
is said. An engine's size does not tell what it computes in, and neither does what its weights are stored as: weights
that are INT8 in the model stay so when a kernel turns them to float each time.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Iterator

__all__ = ["coverage", "layers"]

_WEIGHTED = {"corrltn": "Conv", "deconvolution": "ConvTranspose", "fully_connected": "MatMul"}
_INT8 = "int8"
_SHAPES = frozenset({"int64", "int32", "bool"})
_TENSOR = re.compile(
    r'^ *(?:sub_)?tensor=\{ (?P<rest>.*\bname="(?P<name>[^"]*)".*) type=(?P<type>\w+) \}', re.MULTILINE
)
_BASE = re.compile(r'\bbase="([^"]*)"')
_OPERATOR = re.compile(
    r'^ *(?P<kind>\w+)=\{ name=(?:"(?P<name>[^"]*)"|\S+) .*?\b(?:output|input_args)=\{(?P<first>[^}]*)\}.*?'
    r"\b(?:input|output_args)=\{(?P<second>[^}]*)\}",
    re.MULTILINE,
)
_NAMES = re.compile(r'"([^"]*)"')
_SAID = re.compile(r'\blayers="([^"]*)"')
_KERNEL_NAME = re.compile(r"\bname=\"?([^\s\"]*)")
_PROFILE = re.compile(r" \[profile \d+\]$")


def coverage(engine: bytes) -> dict[str, Any] | None:
    """``{int8, float, operators, in_float}``: operators with weights by what both their operands are; None where it is
    not told.

    One that several profiles have counts once, and as INT8 if it is in all of them. Products of one input that became
    one operator are one. What was compiled into one kernel with its neighbours has no line, and does not count: so it
    was with products of a vector and with a convolution of 4 channels, all of them in float.
    ``operators``: how many there are of ``Conv``, ``ConvTranspose`` and ``MatMul``; ``in_float``: who is in float.
    """
    found: dict[tuple[str, str], bool] = {}
    constant: set[str] = set()
    for text in _programs(engine):
        types = {one["name"]: one["type"] for one in _TENSOR.finditer(text)}
        constant |= _constants(text)
        for kind, name, operands, outputs in _operators(text):
            if kind not in _WEIGHTED:
                # What is computed from constants alone is one: weights on their way to another type.
                values = [one for one in operands if types.get(one, "") not in _SHAPES or one in constant]
                if values and constant.issuperset(values):
                    constant.update(outputs)
                continue
            pair = operands[:2]
            if any(one not in types for one in pair):
                return None
            if not constant.isdisjoint(pair):
                key = (kind, _PROFILE.sub("", name))
                found[key] = found.get(key, True) and {types[one] for one in pair} == {_INT8}
    if not found:
        return None
    in_int8 = sum(found.values())
    operators = Counter(_WEIGHTED[kind] for kind, _ in found)
    in_float = [name for (_, name), int8 in found.items() if not int8]
    return {"int8": in_int8, "float": len(found) - in_int8, "operators": dict(operators), "in_float": in_float}


def layers(engine: bytes) -> list[dict[str, Any]]:
    """What computes nodes of the model, in the form of TensorRT's inspector; empty where nothing is told.

    ``Name``; ``LayerType``: ``Conv``, ``ConvTranspose``, ``MatMul``, or ``kernel`` for what was compiled of several
    nodes; ``Inputs`` and ``Outputs`` with ``Name`` and ``Datatype``; ``Metadata``: ``[ONNX Layer: NODE]`` of each node.
    What several profiles have is told once.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in _programs(engine):
        types = {one["name"]: one["type"] for one in _TENSOR.finditer(text)}
        for line in text.splitlines():
            operator, said = next(_operators(line), None), _SAID.search(line)
            metadata = said[1] if said else ""
            if operator is None or not (metadata or operator[0] in _WEIGHTED):
                continue
            kind, name, operands, outputs = operator
            name = _PROFILE.sub("", name) or _KERNEL_NAME.findall(line)[0]
            found.setdefault((name, metadata), {
                "Name": name,
                "LayerType": _WEIGHTED.get(kind, "kernel"),
                "Inputs": [{"Name": one, "Datatype": types.get(one, "")} for one in operands],
                "Outputs": [{"Name": one, "Datatype": types.get(one, "")} for one in outputs],
                "Metadata": metadata,
            })  # fmt: skip
    return list(found.values())


def _programs(engine: bytes) -> Iterator[str]:
    """A network has one a profile, and one for each fused kernel that is compiled where it runs."""
    start = engine.find(_MAGIC)
    while start >= 0:
        begin = engine.find(b"header {", start, start + 64)
        end = engine.find(b"\0", begin) if begin >= 0 else -1
        if end >= 0:
            yield engine[begin:end].decode("utf-8", "replace")
        start = engine.find(_MAGIC, start + 1)


_MAGIC = b"NLYM"


def _constants(text: str) -> set[str]:
    named: set[str] = set()
    for one in _TENSOR.finditer(text):
        base = _BASE.search(one["rest"])
        if "const_payload_size=" in one["rest"] or (base and base[1] in named):
            named.add(one["name"])
    return named


def _operators(text: str) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Kind, name, operands, outputs. Compiled kernels (``function``) name their operands first."""
    for one in _OPERATOR.finditer(text):
        first, second = _NAMES.findall(one["first"]), _NAMES.findall(one["second"])
        operands, outputs = (first, second) if one["name"] is None else (second, first)
        yield one["kind"], one["name"] or "", operands, outputs
