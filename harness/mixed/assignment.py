"""What a mixed-precision file leaves in float: whole operators, their outputs alone, or readers beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.calibration.rescaling import Rows

__all__ = ["Assignment"]


@dataclass(frozen=True)
class Assignment:
    """Where a file departs from plain INT8, in which every weighted operator is quantized in its dialect's form.

    :param in_float: nodes that compute in floating point.
    :param float_outputs: nodes that compute in INT8 and write floating point; no Q/DQ stands behind them. It is how
        every node of ``s8s8`` writes; in ``u8s8`` a MatMul or Gemm stays one kernel without it, a Conv does not.
    :param float_readers: tensors that only weighted operators read through Q/DQ; all others (a residual Add, a
        LayerNormalization) read them in floating point. The writer lets every reader have the quantized values.
    :param methods: (tensor, method): ranges that another method chose than the one of the whole file.
    :param rows: rows that are divided by their largest value, see :mod:`harness.calibration.rescaling`. Tensors of
        ``methods`` and ``float_readers`` are then those of the model that this makes of the prepared one.
    """

    in_float: frozenset[str] = frozenset()
    float_outputs: frozenset[str] = frozenset()
    float_readers: frozenset[str] = frozenset()
    methods: tuple[tuple[str, str], ...] = ()
    rows: Rows = ()

    def with_float(self, *nodes: str) -> Assignment:
        return replace(self, in_float=self.in_float | set(nodes))

    def without_float(self, *nodes: str) -> Assignment:
        return replace(self, in_float=self.in_float - set(nodes))

    def with_method(self, tensor: str, method: str) -> Assignment:
        """The same with another method for one tensor."""
        return replace(self, methods=tuple(sorted({**dict(self.methods), tensor: method}.items())))

    def as_data(self) -> dict[str, Any]:
        """Sorted lists and a mapping: equal assignments give equal data."""
        return {
            "in_float": sorted(self.in_float),
            "float_outputs": sorted(self.float_outputs),
            "float_readers": sorted(self.float_readers),
            "methods": dict(sorted(self.methods)),
            **({"rows": dict(sorted(self.rows))} if self.rows else {}),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Assignment:
        return cls(
            frozenset(data["in_float"]),
            frozenset(data["float_outputs"]),
            frozenset(data["float_readers"]),
            tuple(sorted(data["methods"].items())),
            tuple(sorted((name, _floor(floor)) for name, floor in data.get("rows", {}).items())),
        )


def _floor(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"a floor of {value!r}")
    return float(value)
