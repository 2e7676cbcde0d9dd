"""The calibrator protocol, with TensorRT's pointer contract: it reads opt-volume elements, whatever lies there."""

from __future__ import annotations

import re
import struct
import sys
from typing import Any, Callable, Mapping

import numpy as np

import fake_cuda

from . import _graph
from ._execution import NUMPY, converted, session

_HEADINGS = {
    "LEGACY_CALIBRATION": "LegacyCalibration",
    "ENTROPY_CALIBRATION": "EntropyCalibration",
    "ENTROPY_CALIBRATION_2": "EntropyCalibration2",
    "MINMAX_CALIBRATION": "MinMaxCalibration",
}
# Stand-ins: the genuine entropy search is not public. A quantile keeps what matters to a test: rare large values
# count for less than with MinMax, and zeros from padding pull the scale down.
_QUANTILES = {
    "MinMaxCalibration": 1.0,
    "LegacyCalibration": 0.99999,
    "EntropyCalibration": 0.9999,
    "EntropyCalibration2": 0.9999,
}


class CalibrationFailed(Exception):
    """Its text is what goes to the log."""


def cache_version(release: tuple[int, int, int]) -> int:
    """8503 for 8.5.3, 100300 for 10.3.0: NV_TENSORRT_VERSION."""
    major, minor, patch = release
    return major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch


def scales_of(
    api: Any,
    calibrator: Any,
    model: Any,
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    warn: Callable[[str], None],
) -> dict[str, float]:
    """Tensor -> scale, from the calibrator's cache or from its batches.

    :param inputs: name -> (member of DataType, opt shape), in the network's order.
    :raises CalibrationFailed: no data, or a read outside an allocation.
    """
    algorithm = _HEADINGS[calibrator.get_algorithm().name]
    calibrator.get_batch_size()
    cache = _called("read_calibration_cache", calibrator.read_calibration_cache)
    text = bytes(memoryview(cache)).decode("utf-8", "replace") if cache is not None else ""
    heading = re.match(r"TRT-\d+-(\w+)\s*(?:\n|$)", text)
    if heading and heading[1] == algorithm:
        return _parsed(text)
    collected = _observe(calibrator, model, inputs, _QUANTILES[algorithm])
    if not collected:
        raise CalibrationFailed(
            "Calibration failure occurred with no scaling factors detected. This could be due to no int8 calibrator or "
            "insufficient custom scales for network layers. Please see int8 sample to setup calibration correctly."
        )
    scales = {name: float(np.float32(np.float32(value) / np.float32(127))) for name, value in collected.items()}
    lines = [f"TRT-{cache_version(api.release)}-{algorithm}"]
    lines += [f"{name}: {struct.pack('!f', scale).hex()}" for name, scale in scales.items()]
    written = memoryview(("\n".join(lines) + "\n").encode())
    _called("write_calibration_cache", lambda: calibrator.write_calibration_cache(written))
    return scales


def _observe(
    calibrator: Any, model: Any, inputs: Mapping[str, tuple[str, tuple[int, ...]]], quantile: float
) -> dict[str, float]:
    names = list(inputs)
    running = session(_graph.observed(model).SerializeToString(), plain=True)
    wanted = _graph.float_tensors(model)
    collected: dict[str, float] = {}
    while True:
        pointers = _called("get_batch", lambda: [int(p) for p in calibrator.get_batch(list(names)) or []])
        if not pointers:
            return collected
        if len(pointers) < len(names):
            # The genuine binding copies as many pointers as there are inputs, from beyond the list's end.
            fake_cuda.note(f"get_batch gave {len(pointers)} pointers for {len(names)} inputs")
            raise CalibrationFailed("Cuda Runtime (an illegal memory access was encountered)")
        feeds = {}
        for name, pointer in zip(names, pointers):
            dtype, shape = inputs[name]
            kind = np.dtype(NUMPY[dtype])
            size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            try:
                read = fake_cuda.view(pointer, size, f"calibration batch of {name}")
            except fake_cuda.IllegalAddress as error:
                raise CalibrationFailed(
                    f"1: [calibrator.cu::calibrate::1183] Error Code 1: Cuda Runtime ({error})"
                ) from None
            feeds[name] = read.view(kind).reshape(shape).copy()
        outputs = [o for o in wanted if o not in feeds]
        seen = dict(zip(outputs, running.run(outputs, converted(running, feeds))))
        for name in wanted:
            values = np.abs(np.asarray(seen.get(name, feeds.get(name)), np.float32))
            if values.size:
                largest = float(values.max() if quantile == 1 else np.quantile(values, quantile))
                collected[name] = max(collected.get(name, 0.0), largest)


def _called(name: str, call: Callable[[], Any]) -> Any:
    """A callback's answer; what it raises is printed and swallowed, as by the genuine trampolines."""
    try:
        return call()
    except Exception as error:
        print(f"[ERROR] Exception caught in {name}(): {error}", file=sys.stderr)
        return None


def _parsed(text: str) -> dict[str, float]:
    scales = {}
    for line in text.splitlines()[1:]:
        name, colon, number = line.rpartition(":")
        if colon:
            scales[name] = struct.unpack("!f", bytes.fromhex(number.strip()))[0]
    return scales
