"""How much the rows that operators read differ in size: which are worth a scale of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from harness.calibration.observe import open_session
from harness.calibration.rescaling import largest_of_rows, with_rows
from harness.graphs import fresh, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds

__all__ = ["SAMPLES", "WORTH_BITS", "Spread", "spreads"]

WORTH_BITS = 2.0
"""By which the mean row has to be smaller than the largest one to be worth a scale of its own."""
SAMPLES = 24
"""Of calibration, that rows are compared on."""
_FLOOR = 2.0**-12
"""Of the largest row that calibration saw: silence is not blown up."""
_LEAST_FLOOR = 2.0**-14
"""The smallest normal number of float16: a silent row must not be divided by 0 there."""


@dataclass(frozen=True)
class Spread:
    """How much the rows of what one node reads differ in size.

    :param node: the first weighted node that reads the tensor. :param largest: magnitude over all rows.
    :param bits: of the eight that a row does not use when the largest one sets the scale, the mean over rows that are
        not silent: log2(largest / the row's own largest), at most 12.
    """

    node: str
    largest: float
    bits: float

    @property
    def row(self) -> tuple[str, float]:
        """To :func:`rescaled`."""
        return self.node, max(float(np.float32(self.largest * _FLOOR)), _LEAST_FLOOR)


def spreads(prepared: Path, samples: Iterable[Feeds]) -> list[Spread]:
    """Of every tensor that a weighted node reads, in graph order, where there is more than one row to compare.

    :param samples: run once each by the FP32 model.
    """
    model = onnx.load(prepared)
    weighted = with_rows(model)
    readers: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if node.name in weighted:
            readers.setdefault(node.input[0], node)
    if not readers:
        return []
    taken = names_in(model.graph)
    outputs = {}
    for node in readers.values():
        outputs[node.name] = fresh(f"{node.name}/largest", taken)
        model.graph.node.extend(largest_of_rows(model, taken, node, outputs[node.name]))
    session = open_session(model, list(outputs.values()), 1)
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in outputs}
    for feeds in samples:
        for name, values in zip(outputs, session.run(list(outputs.values()), feeds), strict=True):
            rows[name].append(values.ravel())
    return [one for name, found in rows.items() if (one := _spread(name, np.concatenate(found))) is not None]


def _spread(node: str, rows: NDArray[np.float32]) -> Spread | None:
    largest = float(rows.max())
    if rows.size == 1 or not np.isfinite(largest) or largest <= 0:
        return None
    bits = -np.log2(np.maximum(rows[rows > 0] / largest, _FLOOR))
    return Spread(node, largest, float(bits.mean()))
