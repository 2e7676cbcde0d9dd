"""One row of a layer table, whatever the runtime; and the table of one case at one length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ROLES", "Layer", "LayerTable", "Role", "Roofline"]

Role = Literal["compute", "quantize", "reformat", "other"]
"""What a layer is there for: a weighted operator or a product; Q/DQ; a change of layout or type; all else."""

ROLES: tuple[Role, ...] = ("compute", "quantize", "reformat", "other")


@dataclass(frozen=True)
class Roofline:
    """What a host can do at most, measured on it (Williams, Waterman, Patterson 2009), through one runtime.

    What fits into a cache is faster than memory, so there is a roof for each size (Ilic, Pratas, Sousa 2014).

    :param operations_per_s: precision (``fp32``, ``tf32``, ``fp16``, ``int8``) -> multiplications and additions a
        second.
    :param bytes_per_s: of memory traffic, read and write together.
    :param in_cache: (bytes moved, bytes a second) of smaller traffic that was measured, from the smallest on.
    """

    operations_per_s: dict[str, float]
    bytes_per_s: float
    in_cache: tuple[tuple[int, float], ...] = ()

    def least_us(self, precision: str, operations: int, moved_bytes: int) -> float | None:
        """The time below which no such layer can run here, us; None for a precision that was not measured."""
        peak = self.operations_per_s.get(precision)
        if not peak:
            return None
        return 1e6 * max(operations / peak, moved_bytes / self._bytes_per_s(moved_bytes))

    def _bytes_per_s(self, moved_bytes: int) -> float:
        """The best that was measured for as much as this, or the next smaller size, or any larger one."""
        smaller = [size for size, _ in self.in_cache if size <= moved_bytes]
        since = max(smaller, default=0)
        return max([rate for size, rate in self.in_cache if size >= since] + [self.bytes_per_s])

    def reached(self, layer: Layer) -> float | None:
        """How near a layer comes to the roof: least time / its time, 1 on the roof; None where either is unknown, and
        for a view, which need not take any time.
        """
        if not layer.time_us or layer.operations is None or layer.moved_bytes is None:
            return None
        least = self.least_us(layer.precision, layer.operations, layer.moved_bytes)
        return least / layer.time_us if least else None

    def memory_bound(self, layer: Layer) -> bool | None:
        """Whether the roof above a layer is that of bytes; None where it is not known."""
        peak = self.operations_per_s.get(layer.precision)
        if not peak or layer.intensity is None or layer.moved_bytes is None:
            return None
        return layer.intensity < peak / self._bytes_per_s(layer.moved_bytes)


@dataclass(frozen=True)
class Layer:
    """What one layer of a runtime's graph is, and what it costs at one length.

    :param name: as the runtime names it.
    :param operator: ONNX operator type, or the runtime's own word.
    :param nodes: nodes of the prepared model that it computes; empty where that is not told.
    :param precision: what it really ran in: ``int8``, ``fp16``, ``tf32``, ``fp32``; empty where nobody tells.
    :param time_us: mean of the faster half of its runs; None for a runtime that only builds.
    :param operations: multiplications and additions, two for each product; None where the shape is not known.
    :param moved_bytes: inputs, weights and outputs, each once; None where the shape is not known.
    :param kernel: the kernel's or tactic's name; empty where nobody tells.
    """

    name: str
    operator: str
    nodes: tuple[str, ...]
    precision: str
    role: Role
    time_us: float | None = None
    operations: int | None = None
    moved_bytes: int | None = None
    kernel: str = ""

    @property
    def intensity(self) -> float | None:
        """Operations a byte; None where either is not known."""
        if self.operations is None or not self.moved_bytes:
            return None
        return self.operations / self.moved_bytes


@dataclass(frozen=True)
class LayerTable:
    """The layers of one case at one length, in the order in which they run.

    :param case: its id. :param length: of the timed feed, in the model's unit.
    :param whole_us: median of whole runs without a profiler, by the device's clock or processor time, us; None for a
        runtime that only builds.
    :param size_bytes: of the file that is loaded.
    :param log: what the builder said, its last lines.
    """

    case: str
    length: int
    layers: tuple[Layer, ...]
    whole_us: float | None = None
    size_bytes: int = 0
    log: tuple[str, ...] = ()

    @property
    def profiled_us(self) -> float | None:
        """Sum of the layers' times; a profiler makes it larger than ``whole_us``."""
        times = [layer.time_us for layer in self.layers if layer.time_us is not None]
        return sum(times) if times else None

    def share(self, layer: Layer) -> float | None:
        """Of all layers' time, 0 to 1."""
        return layer.time_us / self.profiled_us if layer.time_us is not None and self.profiled_us else None
