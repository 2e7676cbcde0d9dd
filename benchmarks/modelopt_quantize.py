"""NVIDIA ModelOpt on a folder of samples: an FP32 ONNX file in, a Q/DQ file out. Runs in the environment ``modelopt``.

    python benchmarks/modelopt_quantize.py MODEL.onnx SAMPLES METHOD OUT.onnx

SAMPLES holds 00000.npz, 00001.npz, ...: one sample each, arrays named as the inputs, of any length. METHOD is
``entropy`` or ``max``. The last line printed is JSON: seconds, peak memory, what was quantized, versions.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Samples:
    """What ModelOpt asks of a calibration reader: ONNX Runtime's own interface, and ``get_first`` and ``rewind``."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.npz"))
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample, or None after the last one."""
        file = next(self.left, None)
        return None if file is None else _read(file)

    def get_first(self) -> dict[str, np.ndarray]:
        """The first sample: it alone decides which MatMuls ModelOpt leaves in float."""
        return _read(self.files[0])

    def rewind(self) -> None:
        """Begin again."""
        self.left = iter(self.files)


def main() -> None:
    model, folder, method, target = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    began = time.perf_counter()
    from modelopt.onnx.quantization import quantize

    imported = time.perf_counter()
    reader = Samples(folder)
    quantize(
        str(model),
        quantize_mode="int8",
        calibration_method=method,
        calibration_data_reader=reader,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(target),
        log_level="WARNING",
    )
    done = time.perf_counter()
    written = onnx.load(target)
    onnx.checker.check_model(written)
    made_by = {output: node for node in written.graph.node for output in node.output}
    quantized = Counter(
        node.op_type
        for node in written.graph.node
        if node.op_type in _WEIGHTED and all(_dequantized(name, made_by) for name in node.input[:2])
    )
    operators = Counter(node.op_type for node in written.graph.node)
    print(
        json.dumps(
            {
                "samples": len(reader.files),
                "import_s": round(imported - began, 1),
                "quantize_s": round(done - imported, 1),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
                "quantized": dict(quantized),
                "left_in_float": {kind: operators[kind] - quantized[kind] for kind in _WEIGHTED if operators[kind]},
                "quantizers": operators["QuantizeLinear"],
                "versions": {name: version(name) for name in ("nvidia-modelopt", "onnxruntime", "onnx", "torch")},
            }
        )
    )


def _dequantized(name: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    return name in made_by and made_by[name].op_type == "DequantizeLinear"


def _read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


if __name__ == "__main__":
    main()
