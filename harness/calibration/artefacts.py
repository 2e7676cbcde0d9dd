"""Artefacts: the files a runtime builds from, made from the prepared FP32 model and cached by content.

One that is damaged (cut short by a crash, say) is made anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
from onnx import version_converter

from harness.calibration.cache import from_ranges
from harness.calibration.qdq import quantized_tensors, tensors_to_observe, write_qdq
from harness.errors import BuildFailed
from harness.modelfile import weighted_nodes
from harness.onnx_facts import is_whole
from harness.paths import cache_dir, written
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from onnx import ModelProto

    from harness.calibration.cache import CalibrationCache
    from harness.calibration.qdq import Weights
    from harness.calibration.ranges import Ranges
    from harness.corpus.samples import Feeds
    from harness.spec.model import Model

__all__ = [
    "ARTEFACT_VERSION",
    "batches",
    "beside_fp16",
    "cache_of",
    "cached_tensors",
    "fp16",
    "int8",
    "target_of",
    "trt_cache",
    "with_float16",
]

ARTEFACT_VERSION = 1
_FLOAT16_SCALES_SINCE = 19


def int8(prepared: Path, ranges: Ranges, dialect: Dialect, weights: Weights = "int8") -> Path:
    """The Q/DQ graph of ``prepared`` with ``ranges``, weighted operators only.

    :raises CalibrationFailed: see :func:`harness.calibration.qdq.write_qdq`.
    """
    described = json.dumps({name: [repr(low), repr(high)] for name, (low, high) in sorted(ranges.items())})
    target = target_of(prepared, weights, dialect.value, described)
    if not is_whole(target):
        proto = onnx.load(prepared)
        write_qdq(prepared, weighted_nodes(proto), ranges, dialect, target, weights)
    return target


def fp16(prepared: Path) -> Path:
    """``prepared`` in float16 with float32 inputs and outputs, by ONNX Runtime's own converter.

    On a CPU this is an accuracy arm only: the kernels compute in float32 between casts.

    :raises BuildFailed: the converter cannot take the model.
    """
    target = target_of(prepared, "fp16")
    if not is_whole(target):
        model = _in_float16(onnx.load(prepared), prepared)
        with written(target) as file:
            file.write(model.SerializeToString(deterministic=True))
    return target


def beside_fp16(qdq: Path) -> Path:
    """A Q/DQ graph, with float16 for all that is not INT8; inputs and outputs stay float32.

    Where types in the model decide, FP16 beside INT8 has to be written there, as the flag FP16 has it elsewhere. Scales
    are float16, too, so that no cast comes between DequantizeLinear and the operator; that takes opset 19.

    :param qdq: as :func:`int8` makes it, weights in INT8.
    :raises BuildFailed: the converters cannot take the model.
    """
    target = target_of(qdq, "beside fp16")
    if not is_whole(target):
        with written(target) as file:
            file.write(with_float16(onnx.load(qdq), qdq).SerializeToString(deterministic=True))
    return target


def with_float16(model: ModelProto, where: Path) -> ModelProto:
    """What :func:`beside_fp16` writes.

    :param where: the model's file, for messages.
    """
    opset = next(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"})
    if opset < _FLOAT16_SCALES_SINCE:
        try:
            model = version_converter.convert_version(model, _FLOAT16_SCALES_SINCE)
        except (ValueError, RuntimeError) as error:
            raise BuildFailed(f"not convertible to opset {_FLOAT16_SCALES_SINCE}: {error}", where=str(where)) from error
    return _in_float16(model, where)


def _in_float16(model: ModelProto, where: Path) -> ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        return cast("ModelProto", convert_float_to_float16(model, keep_io_types=True))
    except (ValueError, RuntimeError, KeyError) as error:
        raise BuildFailed(f"not convertible to float16: {error}", where=str(where)) from error


def trt_cache(
    prepared: Path, ranges: Ranges, version: str, algorithm: str, aliases: Mapping[str, str] | None = None
) -> Path:
    """A file with :func:`cache_of`, the arguments of which these are."""
    proto = onnx.load(prepared, load_external_data=False)
    text = cache_of(proto, ranges, version, algorithm, aliases).dumps()
    target = target_of(prepared, "cache", text, suffix=".cache")
    with written(target) as file:
        file.write(text.encode())
    return target


def cache_of(
    prepared: onnx.ModelProto, ranges: Ranges, version: str, algorithm: str, aliases: Mapping[str, str] | None = None
) -> CalibrationCache:
    """A TensorRT calibration cache of ``ranges``, for a build of the prepared model or of a form of it.

    The weighted operators' outputs have scales beside their inputs: TensorRT falls back to float for every layer that
    reads or writes a tensor without one.

    :param ranges: of every tensor that :func:`cached_tensors` names.
    :param version: as the header has it, ``8503``.
    :param aliases: a form's tensors that have the range of one of these (:func:`harness.trt_forms.aliases`).
    """
    sources = quantized_tensors(prepared, weighted_nodes(prepared), Dialect.U8S8)
    found = {name: ranges[source] for name, source in sources.items()}
    found |= {new: found[old] for new, old in (aliases or {}).items() if old in found}
    return from_ranges(found, version, algorithm)


def cached_tensors(prepared: Path | onnx.ModelProto) -> list[str]:
    """The tensors whose ranges :func:`cache_of` needs."""
    proto = prepared if isinstance(prepared, onnx.ModelProto) else onnx.load(prepared, load_external_data=False)
    return tensors_to_observe(proto, weighted_nodes(proto), Dialect.U8S8)


def batches(prepared: Path, model: Model, drawn: Iterable[Feeds], described: str) -> Path:
    """Calibration batches for a calibrator, in one ``.npz``: arrays are named ``NUMBER:INPUT``.

    :param described: what they were made from, for the file's name: the same words stand for the same batches.
    """
    target = target_of(prepared, "batches", model.key, described, suffix=".npz")
    if not target.is_file():
        arrays = {f"{number}:{name}": array for number, feeds in enumerate(drawn) for name, array in feeds.items()}
        with written(target) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type] # a name is no keyword of savez
    return target


def target_of(prepared: Path, *parts: str, suffix: str = ".onnx") -> Path:
    """Where a file made of ``prepared`` and what ``parts`` say is kept."""
    import onnxruntime

    digest = hashlib.sha256(prepared.read_bytes())
    digest.update("\0".join([str(ARTEFACT_VERSION), onnxruntime.__version__, *parts]).encode())
    return cache_dir("artefacts") / f"{digest.hexdigest()[:32]}{suffix}"
