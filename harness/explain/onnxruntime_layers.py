"""ONNX Runtime's layers, read off its optimized graph as the worker tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.explain.cost import COMPUTE, Tensor
from harness.explain.origins import End, Row, peeled
from harness.runtimes.optimized_graph import INT8_OPERATORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.explain.layer import Role

__all__ = ["rows"]

_QUANTIZE = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_REORDERS = frozenset({"ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost"})
_MAY_BE_INSERTED = frozenset({"Cast", "Transpose"})
_PRECISIONS = {
    "float": "fp32", "float32": "fp32", "float16": "fp16", "int8": "int8", "uint8": "int8", "double": "fp64",
    "bfloat16": "bf16",
}  # fmt: skip


def rows(told: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Row]:
    """A row a node of the optimized graph.

    An operator between Q/DQ nodes that nothing fused reads floating point, and is called so.

    :param told: as the worker's ``layers`` has it (``harness/runtimes/onnxruntime_profile.py``).
    :param names: node of the model -> its operator type.
    """
    return [_row(one, names) for one in told]


def _row(one: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    operator, name = str(one.get("LayerType", "")), str(one.get("Name", ""))
    known = any(names.get(word) == operator for word in peeled(name))
    inserted = operator in _REORDERS or (operator in _MAY_BE_INSERTED and not known)
    role: Role = "other"
    if operator in _QUANTIZE:
        role = "quantize"
    elif inserted:
        role = "reformat"
    elif operator in COMPUTE or operator in INT8_OPERATORS:
        role = "compute"
    inputs = tuple(_end(end) for end in one.get("Inputs", ()))
    library = str(one.get("Domain", "")).removeprefix("com.microsoft").lstrip(".")  # "nchwc" is one of its own kernels
    provider = str(one.get("Provider", "")).removesuffix("ExecutionProvider")
    where = library or ("" if provider == "CPU" else provider)
    return Row(
        name=name,
        operator=operator,
        precision="int8" if operator in INT8_OPERATORS else _precision(inputs),
        role=role,
        inputs=inputs,
        outputs=tuple(_end(end) for end in one.get("Outputs", ())),
        words=(name,),
        kernel=f"{where}.{operator}" if where else "",
        inserted=inserted,
        swallows=role == "other" and not known,
    )


def _precision(inputs: Sequence[End]) -> str:
    """By what it reads that is no constant, else by any; empty for shapes and other integers."""
    typed = [end for end in inputs if end.tensor is not None]
    for end in (*(end for end in typed if not end.constant), *(end for end in typed if end.constant)):
        assert end.tensor is not None
        return _PRECISIONS.get(end.tensor.dtype, "")
    return ""


def _end(told: Mapping[str, Any]) -> End:
    dims = told.get("Dimensions")
    tensor = None if dims is None else Tensor(str(told.get("Datatype", "")), tuple(int(n) for n in dims))
    return End(str(told.get("Name", "")), tensor, constant=bool(told.get("Constant")))
