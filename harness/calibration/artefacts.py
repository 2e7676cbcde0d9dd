"""Artefacts: the files a runtime builds from, made from the prepared FP32 model and cached by content.

One that is damaged (cut short by a crash, say) is made anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import onnx

from harness.calibration.qdq import write_qdq
from harness.errors import BuildFailed
from harness.modelfile import weighted_nodes
from harness.onnx_facts import is_whole
from harness.paths import cache_dir, written

if TYPE_CHECKING:
    from pathlib import Path

    from harness.calibration.ranges import Ranges
    from harness.spec.calibration import Dialect

__all__ = ["ARTEFACT_VERSION", "fp16", "int8"]

ARTEFACT_VERSION = 1


def int8(prepared: Path, ranges: Ranges, dialect: Dialect) -> Path:
    """The Q/DQ graph of ``prepared`` with ``ranges``, weighted operators only.

    :raises CalibrationFailed: see :func:`harness.calibration.qdq.write_qdq`.
    """
    described = json.dumps({name: [repr(low), repr(high)] for name, (low, high) in sorted(ranges.items())})
    target = _target(prepared, "int8", dialect.value, described)
    if not is_whole(target):
        proto = onnx.load(prepared)
        write_qdq(prepared, weighted_nodes(proto), ranges, dialect, target)
    return target


def fp16(prepared: Path) -> Path:
    """``prepared`` in float16 with float32 inputs and outputs, by ONNX Runtime's own converter.

    On a CPU this is an accuracy arm only: the kernels compute in float32 between casts.

    :raises BuildFailed: the converter cannot take the model.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    target = _target(prepared, "fp16")
    if not is_whole(target):
        try:
            model = convert_float_to_float16(onnx.load(prepared), keep_io_types=True)
        except (ValueError, RuntimeError, KeyError) as error:
            raise BuildFailed(f"not convertible to float16: {error}", where=str(prepared)) from error
        with written(target) as file:
            file.write(model.SerializeToString(deterministic=True))
    return target


def _target(prepared: Path, *parts: str) -> Path:
    import onnxruntime

    digest = hashlib.sha256(prepared.read_bytes())
    digest.update("\0".join([str(ARTEFACT_VERSION), onnxruntime.__version__, *parts]).encode())
    return cache_dir("artefacts") / f"{digest.hexdigest()[:32]}.onnx"
