"""TensorRT's layers, read off what its inspector says of each; versions 8.5 to 11, and TensorRT-RTX's engine files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.explain.cost import Tensor
from harness.explain.origins import End, Row
from harness.runtimes.trt_layers import is_int8

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.explain.layer import Role

__all__ = ["rows"]

_COMPUTE = re.compile(r"conv|gemm|matrix|matmul|fully|mha|attention", re.IGNORECASE)
_QUANTIZE = re.compile(r"quantize(linear)?|_q\b|_dq\b", re.IGNORECASE)
_SAID = re.compile(r"\[ONNX Layer: ([^\x1e\x1f]*)\]")
_PROFILE = re.compile(r" \[profile \d+\]$")
_FOREIGN = re.compile(r"^\{ForeignNode\[(.*)\.\.\.(.*)\]\}")
_JOINS = re.compile(r" \+ | \|\| |, |PWN\(|[()]")
_DTYPES = (
    ("int8", re.compile(r"\bint8\b|s8", re.IGNORECASE)),
    ("float16", re.compile(r"fp16|half|float16", re.IGNORECASE)),
    ("bfloat16", re.compile(r"bf16|bfloat", re.IGNORECASE)),
    ("float", re.compile(r"fp32|float", re.IGNORECASE)),
    ("int64", re.compile(r"int64", re.IGNORECASE)),
    ("int32", re.compile(r"int32", re.IGNORECASE)),
    ("bool", re.compile(r"bool", re.IGNORECASE)),
)
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8"}
_HALF_TACTIC = re.compile(r"f16f16|h16816|_fp16|h884|hmma", re.IGNORECASE)


def rows(
    told: Sequence[Mapping[str, Any]], times: Mapping[str, Sequence[float]], names: Mapping[str, str]
) -> list[Row]:
    """A row a layer; of an engine with several profiles those of the one that ran.

    :param told: the inspector's layers. :param times: by layer, as the profiler gives them; empty without.
    :param names: node of the model -> its operator type.
    """
    ran = [one for one in told if not times or one.get("Name") in times or not _PROFILE.search(str(one.get("Name")))]
    return [_row(one, names) for one in ran]


def _row(one: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    name, kind = str(one.get("Name", "")), str(one.get("LayerType", ""))
    metadata = str(one.get("Metadata", ""))
    tactic = str(one.get("TacticName", ""))
    copies = name.startswith("Reformatting CopyNode")  # "... for Input Tensor 0 to NODE"
    words = () if copies else tuple(word for word in _words(name, metadata) if word in names)
    inserted = copies or (not words and kind.lower() in {"reformat", "noop"})
    foreign = bool(_FOREIGN.match(name)) and not metadata
    role: Role = "other"
    if inserted:
        role = "reformat"
    elif not words and _QUANTIZE.search(f"{kind} {name} {metadata}"):
        role = "quantize"
    elif _COMPUTE.search(kind) or (not names and _COMPUTE.search(name)):
        role = "compute"
    return Row(
        name=name,
        operator="" if words else str(one.get("ParameterType", "") or kind),
        precision=_precision(one, tactic, told_by_ends=not foreign),
        role=role,
        inputs=(*_ends(one.get("Inputs", ())), *_weights(one)),
        outputs=tuple(_ends(one.get("Outputs", ()))),
        words=words,
        kernel=tactic or (name if kind == "kernel" else kind),
        inserted=inserted,
        named=bool(words) and not foreign,
        swallows=foreign,
    )


def _words(name: str, metadata: str) -> Iterator[str]:
    """Names of nodes: from 8.6 on the metadata hold them, ``[ONNX Layer: NODE]``, with a doc string behind a bar."""
    said = [word for part in re.split(r"[\x1e\x1f]", metadata) for word in _SAID.findall(part)]
    if said:
        yield from (word.partition(" | ")[0].strip() for word in said)
        return
    name = _PROFILE.sub("", name)
    foreign = _FOREIGN.match(name)
    if foreign:
        yield from foreign.groups()
        return
    yield name
    yield from (word.strip() for word in _JOINS.split(name) if word and word.strip())


def _precision(one: Mapping[str, Any], tactic: str, *, told_by_ends: bool) -> str:
    """By what it reads, its weights or its tactic; empty where nothing tells.

    :param told_by_ends: False for a piece of the graph that changes types inside, as FP16 ones do behind FP32 inputs.
    """
    if is_int8(one):
        return "int8"
    if "tf32" in tactic:
        return "tf32"
    weights = one.get("Weights")
    said = [str(weights.get("Type", ""))] if isinstance(weights, dict) else []
    ends = _ends(one.get("Inputs", ())) if told_by_ends else ()
    said += [end.dtype or (end.tensor.dtype if end.tensor else "") for end in ends]
    kinds = [dtype for text in said if (dtype := _dtype(text)) in _PRECISIONS]
    if kinds:
        return _PRECISIONS[kinds[0]]
    return "fp16" if _HALF_TACTIC.search(tactic) else ""


def _ends(told: Sequence[Any]) -> Iterator[End]:
    for one in told:
        if not isinstance(one, dict):
            continue
        dims = one.get("Dimensions", ())
        written = f"{one.get('Format/Datatype', '')} {one.get('Datatype', '')}"
        dtype = "" if "N/A" in written else _dtype(written)
        known = bool(dtype) and "Dimensions" in one and all(isinstance(n, int) and n >= 0 for n in dims)
        yield End(str(one.get("Name", "")), Tensor(dtype, tuple(dims)) if known else None, dtype=dtype)


def _weights(one: Mapping[str, Any]) -> Iterator[End]:
    for key in ("Weights", "Bias"):
        said = one.get(key)
        if isinstance(said, dict) and isinstance(said.get("Count"), int) and said["Count"] > 0:
            yield End(key, Tensor(_dtype(str(said.get("Type", ""))) or "float", (said["Count"],)), constant=True)


def _dtype(text: str) -> str:
    return next((name for name, pattern in _DTYPES if pattern.search(text)), "")
