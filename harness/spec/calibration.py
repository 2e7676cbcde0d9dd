"""How ranges are found: method, shape policy, dialect of the Q/DQ graph, route to the runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import UsageError

__all__ = ["Calibration", "Dialect", "Method", "Policy", "Precision", "Route"]


class Policy(StrEnum):
    """What calibration sees of a sample whose length is not the profile's opt."""

    RAGGED = "ragged"
    PAD = "pad"
    TRUNCATE = "truncate"
    WINDOW = "window"
    PER_PROFILE = "per_profile"
    REINTERPRET = "reinterpret"


class Dialect(StrEnum):
    """The two forms of Q/DQ that are worth writing: for x86 kernels, and for TensorRT."""

    U8S8 = "u8s8"
    S8S8 = "s8s8"


class Route(StrEnum):
    """How a range reaches the runtime."""

    CALIBRATOR = "calibrator"
    CACHE = "cache"
    QDQ = "qdq"
    QDQ_STRONG = "qdq_strong"


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True)
class Method:
    """How a range is chosen from what was observed.

    :param name: ``minmax``, ``percentile``, ``entropy``, ``mse``, or ``auto``: ``mse`` unless another of them
        keeps this model's outputs clearly nearer to FP32 on calibration samples; ``mixed``: as a search of
        ``harness mix`` left it, some operators in float, ranges by tensor.
    :param percentile: share of values kept, in percent; only for ``percentile``.
    """

    name: str
    percentile: float | None = None

    def __post_init__(self) -> None:
        if self.name not in {"auto", "minmax", "percentile", "entropy", "mse", "mixed"}:
            raise UsageError(
                f"unknown method {self.name!r}",
                todo="use auto, minmax, percentile, percentile99.9, entropy, mse or mixed",
            )
        if self.name == "percentile" and not (self.percentile and 50.0 < self.percentile < 100.0):
            raise UsageError(f"percentile {self.percentile} is not between 50 and 100", todo="99.9, 99.99 or 99.999")

    @classmethod
    def parse(cls, text: str) -> Method:
        """``minmax``, ``entropy``, ``mse``, ``percentile`` (99.99) or ``percentile99.9``."""
        if match := re.fullmatch(r"percentile([\d.]+)?", text.strip()):
            try:
                return cls("percentile", float(match[1] or 99.99))
            except ValueError:
                raise UsageError(f"{text!r}: {match[1]!r} is no number", todo="percentile99.9") from None
        return cls(text.strip())

    def __str__(self) -> str:
        return self.name if self.percentile in {None, 99.99} else f"{self.name}{self.percentile:g}"


@dataclass(frozen=True)
class Calibration:
    """A method under a shape policy."""

    method: Method
    policy: Policy

    def __str__(self) -> str:
        return f"{self.method}-{self.policy.value}"
