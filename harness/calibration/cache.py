"""TensorRT calibration caches: text, a header line, then ``tensor: scale`` with the scale as big-endian hex.

Format: TensorRT ``samples/common/sampleEngines.cpp``, ``readScalesFromCalibrationCache``. The number is the scale;
the dynamic range is 127 x scale. Tensor names may hold colons: the last one separates.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import CacheMismatch, DataError

if TYPE_CHECKING:
    from harness.calibration.ranges import Ranges

__all__ = ["ALGORITHMS", "CalibrationCache", "from_ranges"]

ALGORITHMS = ("EntropyCalibration", "EntropyCalibration2", "MinMaxCalibration", "LegacyCalibration")
_HEADER = re.compile(r"TRT-(\d{4,6})-([A-Za-z0-9]+)")
_DIGITS = re.compile(r"[0-9a-fA-F]{8}")
_LEVELS = 127.0


@dataclass(frozen=True)
class CalibrationCache:
    """A cache's header and scales.

    :param version: TensorRT's version as its header writes it: ``8503``, ``8601``, ``101600``.
    :param algorithm: one of :data:`ALGORITHMS`.
    :param scales: tensor name -> scale (float32, > 0), in file order.
    """

    version: str
    algorithm: str
    scales: dict[str, float]

    def dumps(self) -> str:
        """The cache as TensorRT writes it."""
        lines = [f"TRT-{self.version}-{self.algorithm}"]
        lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def loads(cls, text: str, where: str = "calibration cache") -> CalibrationCache:
        """Read a cache.

        :raises DataError: no header, a line without a colon, a value that is not 8 hex digits, a scale that is
            not positive and finite, or a tensor named twice; the message names the line.
        """
        lines = text.splitlines()
        match = _HEADER.fullmatch(lines[0].strip()) if lines else None
        if match is None:
            raise DataError(
                f"no header TRT-<version>-<algorithm> in the first line: {lines[0][:60] if lines else ''!r}",
                where=where,
                todo="this is no TensorRT calibration cache (ONNX Runtime writes another format)",
            )
        scales: dict[str, float] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            name, colon, digits = line.rpartition(":")
            scale = float("nan")
            if _DIGITS.fullmatch(digits.strip()):
                (scale,) = struct.unpack(">f", bytes.fromhex(digits))
            if not colon or not 0 < scale < float("inf"):
                raise DataError(
                    f"{line!r} is not 'tensor: 8 hex digits' of a positive scale", where=f"{where}:{number}"
                )
            if name in scales:
                raise DataError(f"tensor {name!r} is listed twice", where=f"{where}:{number}")
            scales[name] = scale
        return cls(match[1], match[2], scales)

    def check(self, version: str, algorithm: str, where: str = "calibration cache") -> None:
        """Refuse a cache of another algorithm or TensorRT version.

        TensorRT 8.5.3.1 accepts another version's header silently and ignores another algorithm's (measured).

        :raises CacheMismatch: either differs.
        """
        for what, mine, wanted in (
            ("algorithm", self.algorithm, algorithm),
            ("version", self.version, version),
        ):
            if mine != wanted:
                raise CacheMismatch(
                    f"made by {what} {mine}, wanted {wanted}", where=where, todo="calibrate anew for this one"
                )

    def ranges(self) -> Ranges:
        """Symmetric ranges, 127 x scale to both sides."""
        return {name: (-_LEVELS * scale, _LEVELS * scale) for name, scale in self.scales.items()}


def from_ranges(ranges: Ranges, version: str, algorithm: str = "MinMaxCalibration") -> CalibrationCache:
    """A cache that gives TensorRT our ranges: scale = max(|low|, |high|) / 127."""
    if algorithm not in ALGORITHMS:
        raise DataError(f"unknown algorithm {algorithm!r}", todo=f"one of {', '.join(ALGORITHMS)}")
    scales = {name: max(-low, high) / _LEVELS for name, (low, high) in ranges.items()}
    # what is written is float32: keep what a reader will see
    return CalibrationCache(
        version, algorithm, {n: struct.unpack(">f", struct.pack(">f", s))[0] for n, s in scales.items()}
    )
