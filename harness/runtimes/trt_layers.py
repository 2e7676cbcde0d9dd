"""What the engine inspector's layers say: which compute in INT8."""

from __future__ import annotations

import json
import re
from typing import Any, Mapping, Sequence

__all__ = ["coverage", "is_int8", "parsed"]

_WEIGHTED = re.compile(r"conv|gemm|matrix|matmul|fully|deconv", re.IGNORECASE)
_INT8_TACTIC = re.compile(r"int8|i8i8|i8816|i16832|imma|s8s8", re.IGNORECASE)
_BACKSLASH = re.compile(r'\\(?!")')


def parsed(text: str) -> dict[str, Any]:
    """What the inspector says as JSON, which it is not always.

    8.6 copies an ONNX node's ``doc_string`` into ``Metadata`` as it is: line breaks, and the backslashes of paths
    that exporters on Windows leave there, which are no escapes.

    :raises ValueError: it is no JSON, even so.
    """
    try:
        found = json.loads(text, strict=False)
    except ValueError:
        found = json.loads(_BACKSLASH.sub(r"\\\\", text), strict=False)
    return found if isinstance(found, dict) else {}


def is_int8(layer: Mapping[str, Any]) -> bool | None:
    """Whether a layer computes in INT8, by its inputs' format, its weights, or its tactic; None where nothing tells."""
    tactic = str(layer.get("TacticName", ""))
    weights = layer.get("Weights")
    kinds = [str(weights.get("Type", ""))] if isinstance(weights, dict) else []
    kinds += [_format(tensor) for tensor in layer.get("Inputs", ()) if isinstance(tensor, dict)]
    if any("int8" in kind.lower() for kind in kinds) or _INT8_TACTIC.search(tactic):
        return True
    return False if any(kinds) or tactic else None


def coverage(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """``{int8, float, operators, in_float}``: layers with weights by what they compute in; those in float by name.

    None where the inspector is silent of all of them, or of some while none of the others is INT8.
    """
    weighted = [one for one in layers if _WEIGHTED.search(f"{one.get('LayerType', '')} {one.get('Name', '')}")]
    said = [is_int8(one) for one in weighted]
    if not weighted or (None in said and True not in said):
        return None
    operators: dict[str, int] = {}
    for one in layers:
        kind = str(one.get("LayerType", "unknown"))
        operators[kind] = operators.get(kind, 0) + 1
    in_float = [str(one.get("Name", "")) for one, int8 in zip(weighted, said, strict=True) if int8 is False]
    return {"int8": said.count(True), "float": said.count(False), "operators": operators, "in_float": in_float}


def _format(tensor: Mapping[str, Any]) -> str:
    """8.x to 10.x write ``Format/Datatype``, 11 ``Format`` and ``Datatype``; where shapes vary it may say "N/A ..."."""
    written = f"{tensor.get('Format/Datatype', '')} {tensor.get('Datatype', '')}".strip()
    return "" if written.startswith("N/A") else written
