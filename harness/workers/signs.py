"""What TensorRT would take for another network, or crash on, and a file tells: unsigned quantized activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import BuildFailed, ModelRefused, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_signs"]

_WHY = """TensorRT's integers are signed and symmetric. Seen in TensorRT-RTX 1.7.1: a zero point other than 0 is
refused; with zero point 0, or none, uint8 is taken for int8, and what is above 127 saturates: another network,
with a warning or without; with the parser's flag for DLA, which its messages name, the process ends with a
segmentation fault."""


def check_signs(source: Path, where: str) -> None:
    """Before TensorRT sees it: does a model quantize to unsigned integers?

    A file that cannot be read passes: what is wrong with it the parser says.

    :raises BuildFailed: it does; the message names the first node.
    """
    from harness.onnx_facts import called, parse, unsigned_quantizers

    try:
        found = unsigned_quantizers(parse(source))
    except (ModelRefused, UsageError):
        return
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BuildFailed(
            f"{called(found[0])}{more} has an unsigned type, which TensorRT does not compute in",
            where=where,
            todo="quantize in int8 with zero point 0: harness calibrate MODEL --emit qdq-s8s8",
            detail=_WHY,
        )
