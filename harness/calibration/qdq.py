"""Write a Q/DQ graph from our ranges with ONNX Runtime's writer, in one of two dialects.

The dialects differ in more than the zero point. ``u8s8`` is what x86 kernels fuse: asymmetric uint8 activations,
int32 bias, Q/DQ on outputs (the writer's defaults). ``s8s8`` is what TensorRT parses: zero point 0, float bias,
Q/DQ on the inputs of weighted operators only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from harness.errors import CalibrationFailed, WriteFailed
from harness.modelfile import WEIGHTED_TYPES
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.calibration.ranges import Ranges

__all__ = ["Weights", "quantized_tensors", "quiet_writer", "tensors_to_observe", "write_qdq"]

Weights = Literal["int8", "float"]
"""How weights are stored: quantized, before a DequantizeLinear; or in float32, before a QuantizeLinear of their own.

Both compute the same. Newer runtimes take either, see :func:`harness.trt_forms.weights_for`.
"""


def tensors_to_observe(model: onnx.ModelProto, nodes: Sequence[str], dialect: Dialect) -> list[str]:
    """Names of the float activations to observe: inputs of ``nodes``, and for ``u8s8`` what becomes of their outputs.

    An output that only a ReLU or a Clip reads is observed behind it (see :func:`quantized_tensors`).

    :param nodes: names of the weighted nodes to quantize.
    """
    return list(dict.fromkeys(quantized_tensors(model, nodes, dialect).values()))


def quantized_tensors(model: onnx.ModelProto, nodes: Sequence[str], dialect: Dialect) -> dict[str, str]:
    """Tensor that gets a Q/DQ pair -> tensor whose range it gets; mostly itself.

    What a ReLU is about to cut off needs no codes: an output that nothing but a ReLU or a Clip reads takes the range
    behind it, which halves the step where the data are symmetric, and changes nothing that comes through.
    """
    chosen = set(nodes)
    picked = [node for node in model.graph.node if node.name in chosen]
    found = {node.input[0]: node.input[0] for node in picked}
    if dialect is Dialect.U8S8:
        readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in model.graph.output}
        kept = set(readers)
        for node in model.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        for output in (node.output[0] for node in picked):
            only = readers.get(output, [])
            cut_off = len(only) == 1 and only[0].op_type in {"Relu", "Clip"} and output not in kept
            found.setdefault(output, only[0].output[0] if cut_off else output)
    return found


def write_qdq(
    prepared: Path, nodes: Sequence[str], ranges: Ranges, dialect: Dialect, target: Path, weights: Weights = "int8"
) -> None:
    """Write ``target``: ``prepared`` (FP32, opset >= 17) with Q/DQ around ``nodes``, weights per channel.

    :param nodes: names of the weighted nodes to quantize; all others stay float.
    :param ranges: (low, high) of every tensor that :func:`tensors_to_observe` names; a quantized tensor that is
        named itself keeps its own.
    :raises CalibrationFailed: a range is missing or not finite.
    :raises WriteFailed, OSError: the disk is full.
    """
    import onnxruntime.quantization as ortq
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

    for name, (low, high) in ranges.items():
        if not (np.isfinite(low) and np.isfinite(high) and low <= 0 <= high and low < high):
            raise CalibrationFailed(
                f"range [{low}, {high}] is not finite, empty, or leaves out 0", where=f"tensor {name!r}"
            )
    taken = quantized_tensors(onnx.load(prepared), nodes, dialect)
    ranges = {
        name: ranges[name if name in ranges else source]
        for name, source in taken.items()
        if {name, source} & set(ranges)
    }
    symmetric = dialect is Dialect.S8S8
    extra: dict[str, object] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": weights == "float",
    }
    if symmetric:
        # TensorRT: "input has type Int32 but must have type ... Int8" for a quantized bias
        extra |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": list(WEIGHTED_TYPES)}
    data = TensorsData(
        ortq.CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()},
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="qdq.", dir=target.parent) as scratch:
        cache, out = Path(scratch, "ranges.json"), Path(scratch, "model.onnx")
        # The writer leaves a file beside its input while it works: another process must not meet it there.
        source = Path(shutil.copyfile(prepared, Path(scratch, "fp32.onnx")))
        save_tensors_data(data, cache)
        try:
            with quiet_writer():
                ortq.quantize_static(
                    source,
                    out,
                    None,
                    quant_format=ortq.QuantFormat.QDQ,
                    per_channel=True,
                    nodes_to_quantize=list(nodes),
                    op_types_to_quantize=list(WEIGHTED_TYPES),
                    activation_type=ortq.QuantType.QInt8 if symmetric else ortq.QuantType.QUInt8,
                    weight_type=ortq.QuantType.QInt8,
                    extra_options=extra,
                    calibration_cache_path=cache,
                )
        except ValueError as error:
            raise CalibrationFailed(
                f"ONNX Runtime's Q/DQ writer refused the ranges: {error}",
                where=str(prepared),
                todo="observe every tensor that tensors_to_observe names",
            ) from error
        except DecodeError as error:  # onnx's C++ does not notice that the disk is full
            raise WriteFailed(
                "a temporary file was not written whole",
                where=str(target.parent),
                todo="free some space there",
            ) from error
        os.replace(out, target)


@contextlib.contextmanager
def quiet_writer() -> Iterator[None]:
    """The writer logs advice on the root logger (run pre-processing first, ...) that does not apply here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
