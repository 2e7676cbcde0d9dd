"""INT8 files that others make of the same model and samples: NVIDIA ModelOpt, and ONNX Runtime's quantize_static.

Each file is kept in the cache, by the content of what it was made from; what its making cost lies beside it as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime
from measuring import ROOT
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    TensorsData,
    load_tensors_data,
    save_tensors_data,
)

from harness.accuracy import Aggregate
from harness.calibration.qdq import quiet_writer
from harness.errors import EnvironmentMissing, HarnessError
from harness.modelfile import WEIGHTED_TYPES, read_facts, weighted_nodes
from harness.onnx_facts import is_whole
from harness.paths import cache_dir, written
from harness.sessions import quiet_options
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.calibration.ranges import Ranges
    from harness.corpus.samples import Corpus, Feeds

__all__ = [
    "ONNXRUNTIME_METHODS",
    "ModelOptMethod",
    "cost_of",
    "modelopt",
    "modelopt_python",
    "onnxruntime_best",
    "onnxruntime_quantized",
    "onnxruntime_ranges",
]

ModelOptMethod = Literal["entropy", "max"]

ONNXRUNTIME_METHODS = ("MinMax", "Entropy", "Percentile")
"""Those of ONNX Runtime's calibrators that take samples of different lengths."""

_PERCENTILE = 99.99
_DEADLINE_S = 1_800.0


def modelopt(prepared: Path, corpus: Corpus, method: ModelOptMethod) -> Path:
    """What NVIDIA ModelOpt makes of a model: int8 with Q/DQ, the rest FP32.

    The corpus is given in its order: ModelOpt decides by the first sample's shapes which MatMuls it leaves in float.

    :param prepared: an FP32 ONNX file, opset 13 or newer.
    :raises EnvironmentMissing: there is no environment ``modelopt``.
    :raises HarnessError: ModelOpt failed; what it printed last is in the message.
    """
    program = Path(__file__).with_name("modelopt_quantize.py")
    target = _kept("modelopt", prepared, corpus, method, hashlib.sha256(program.read_bytes()).hexdigest())
    if is_whole(target):
        return target
    with tempfile.TemporaryDirectory(prefix="modelopt.") as scratch:
        # ModelOpt leaves files of its own beside what it reads and what it writes
        source, made = Path(scratch, "model.onnx"), Path(scratch, "model.int8.onnx")
        source.write_bytes(prepared.read_bytes())
        command = [modelopt_python(), str(program), str(source), str(corpus.folder), method, str(made)]
        began = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=scratch, check=False, timeout=_DEADLINE_S,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        if done.returncode:
            raise HarnessError(
                f"ModelOpt ended with {done.returncode}",
                where=f"{method} on {prepared}, samples {corpus.folder}",
                detail=done.stderr[-3000:],
            )
        cost = json.loads(done.stdout.splitlines()[-1])
        _keep(target, made, {"seconds": round(time.perf_counter() - began, 1), **cost})
    return target


def modelopt_python() -> str:
    """The interpreter of the environment ``modelopt``: ``HARNESS_MODELOPT_PYTHON``, or tox's.

    :raises EnvironmentMissing: neither is there.
    """
    python = os.environ.get("HARNESS_MODELOPT_PYTHON") or str(ROOT / ".tox/peers/modelopt/bin/python")
    if not os.access(python, os.X_OK):
        raise EnvironmentMissing(
            "no environment with NVIDIA ModelOpt",
            where=python,
            todo="python -m tox run -e modelopt --notest, or name an interpreter in HARNESS_MODELOPT_PYTHON",
        )
    return python


def onnxruntime_best(prepared: Path, corpus: Corpus, dialect: Dialect, output: str = "") -> Path:
    """What ONNX Runtime's ``quantize_static`` makes with the best of its methods, weights per channel.

    The best is the one with the highest SQNR against FP32 on the calibration samples: no test sample has a part in it.

    :param output: that is compared; else the model's first one.
    """
    made = {method: onnxruntime_quantized(prepared, corpus, method, dialect) for method in ONNXRUNTIME_METHODS}
    output = output or read_facts(prepared).outputs[0].name
    pooled = {method: Aggregate(output, None) for method in made}
    candidates = [_outputs(path, output, corpus) for path in made.values()]
    for reference, *others in zip(_outputs(prepared, output, corpus), *candidates, strict=True):
        for aggregate, other in zip(pooled.values(), others, strict=True):
            aggregate.add(reference, other)
    return made[max(made, key=lambda method: pooled[method].comparison.sqnr_db)]


def onnxruntime_quantized(prepared: Path, corpus: Corpus, method: str, dialect: Dialect) -> Path:
    """What ``quantize_static`` makes with one of :data:`ONNXRUNTIME_METHODS`, Conv, MatMul and Gemm only.

    ``u8s8`` is its default form, ``s8s8`` the one that TensorRT parses.
    """
    target = _kept("onnxruntime", prepared, corpus, method, dialect.value, onnxruntime.__version__)
    if is_whole(target):
        return target
    symmetric = dialect is Dialect.S8S8
    extra: dict[str, Any] = {"ActivationSymmetric": symmetric}
    if symmetric:
        extra |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": list(WEIGHTED_TYPES)}
    ranges, seconds = _onnxruntime_calibrated(prepared, corpus, method)
    began = time.perf_counter()
    data = TensorsData(
        CalibrationMethod.MinMax, {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    )
    with tempfile.TemporaryDirectory(prefix="peer.") as scratch, quiet_writer():
        cache, made = Path(scratch, "ranges.json"), Path(scratch, "model.onnx")
        save_tensors_data(data, cache)
        quantize_static(
            prepared, made, None, quant_format=QuantFormat.QDQ, per_channel=True,
            nodes_to_quantize=weighted_nodes(onnx.load(prepared)), op_types_to_quantize=list(WEIGHTED_TYPES),
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8, weight_type=QuantType.QInt8,
            extra_options=extra, calibration_cache_path=cache,
        )  # fmt: skip
        _keep(target, made, {"seconds": round(seconds + time.perf_counter() - began, 1), "method": method})
    return target


def onnxruntime_ranges(prepared: Path, corpus: Corpus, method: str) -> Ranges:
    """Ranges by ONNX Runtime's own calibrator, for the operators with constant weights; kept between runs.

    Histogram methods run with ``CalibStridedMinMax=1``: without it they fail on ragged data.
    """
    ranges, _ = _onnxruntime_calibrated(prepared, corpus, method)
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in ranges.items()}


def cost_of(made: Path) -> dict[str, Any]:
    """What is known of a peer's file: ``seconds`` of wall time in all, and what else its maker said."""
    return dict(json.loads(made.with_suffix(".json").read_text()))


def _onnxruntime_calibrated(prepared: Path, corpus: Corpus, method: str) -> tuple[Ranges, float]:
    """Ranges as found, and the seconds that it took when they were found."""
    described = f"2/{prepared.name}/{corpus.digest}/{method}/{onnxruntime.__version__}"
    path = cache_dir("benchmarks", "onnxruntime") / f"{hashlib.sha256(described.encode()).hexdigest()[:24]}.json"
    if not path.exists():
        began = time.perf_counter()
        ranges = _calibrated(prepared, weighted_nodes(onnx.load(prepared)), corpus, method)
        with written(path) as file:
            file.write(json.dumps({"seconds": time.perf_counter() - began, "ranges": ranges}).encode())
    kept = json.loads(path.read_text())
    return kept["ranges"], kept["seconds"]


def _calibrated(prepared: Path, nodes: list[str], corpus: Corpus, method: str) -> Ranges:
    extra = {} if method == "MinMax" else {"CalibStridedMinMax": 1, "CalibPercentile": _PERCENTILE}
    with tempfile.TemporaryDirectory(prefix="peer.") as scratch, quiet_writer():
        cache = Path(scratch, "ranges.json")
        quantize_static(
            prepared, Path(scratch, "out.onnx"), _Reader(corpus), per_channel=True,
            nodes_to_quantize=nodes, op_types_to_quantize=list(WEIGHTED_TYPES),
            calibrate_method=getattr(CalibrationMethod, method), extra_options=extra, calibration_cache_path=cache,
        )  # fmt: skip
        found = load_tensors_data(cache)
    return {name: tuple(float(np.ravel(bound)[0]) for bound in one.range_value) for name, one in found.items()}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.indices = corpus, iter(range(len(corpus)))

    def __len__(self) -> int:
        return len(self.corpus)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.indices = iter(range(start_index, end_index))

    def get_next(self) -> Feeds | None:
        index = next(self.indices, None)
        return None if index is None else self.corpus[index]


def _outputs(path: Path, output: str, corpus: Corpus) -> Iterator[dict[str, np.ndarray]]:
    session = onnxruntime.InferenceSession(str(path), quiet_options(), providers=["CPUExecutionProvider"])
    for feeds in corpus:
        yield {output: session.run([output], feeds)[0]}


def _kept(maker: str, prepared: Path, corpus: Corpus, *parts: str) -> Path:
    digest = hashlib.sha256(prepared.read_bytes())
    digest.update("\0".join([corpus.digest, *parts]).encode())
    return cache_dir("benchmarks", "peers") / f"{maker}-{digest.hexdigest()[:24]}.onnx"


def _keep(target: Path, made: Path, cost: dict[str, Any]) -> None:
    with written(target.with_suffix(".json")) as file:
        file.write(json.dumps(cost).encode())
    with written(target) as file:
        file.write(made.read_bytes())
