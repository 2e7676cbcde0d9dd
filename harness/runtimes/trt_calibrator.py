"""An INT8 calibrator of any class that TensorRT has, fed with prepared batches or with a cache."""

# ruff: noqa: ANN401 - no types hold for every version

from __future__ import annotations

import zipfile
import zlib
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from .base import BatchPlayback, RuntimeFailure
from .trt_common import narrowed

__all__ = ["CLASSES", "Calibrating", "load_batches", "new_calibrator"]

CLASSES = {
    "EntropyCalibration": "IInt8EntropyCalibrator",
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "LegacyCalibration": "IInt8LegacyCalibrator",
}
"""Algorithm, as the first line of a cache names it -> the calibrator's class."""


class Calibrating:
    """What goes in and out of a calibration.

    :param batches: in order, ``{input: array}`` each.
    :param cache: handed to TensorRT; with a cache it takes, no batch is asked for.
    """

    def __init__(self, batches: Sequence[Mapping[str, Any]], cache: bytes | None) -> None:
        self.playback = BatchPlayback(batches)
        self.cache = cache
        self.written: bytes | None = None
        self.asked = 0
        self.free: Callable[[], None] = lambda: None

    def facts(self) -> dict[str, Any]:
        """``supplied``, ``consumed`` (batches), ``asked`` (calls), ``cache_used``, ``written`` (a new cache's text)."""
        return {
            "supplied": self.playback.supplied,
            "consumed": self.playback.consumed,
            "asked": self.asked,
            "cache_used": self.cache is not None and self.asked == 0,
            "written": self.written.decode("utf-8", "replace") if self.written else None,
        }

    def check(self, source: str) -> None:
        """:raises RuntimeFailure: ``calibration``: a batch failed or was left over, or the cache was not taken."""
        if self.cache is not None:
            if self.asked:
                first = self.cache.decode("utf-8", "replace").partition("\n")[0]
                raise RuntimeFailure(
                    "calibration",
                    f"TensorRT did not take the cache headed {first!r} and asked for data",
                    source,
                    "the header has to name the algorithm of the calibrator, and this TensorRT's version",
                )
            return
        self.playback.check()


class _Buffers:
    """Where batches lie: one buffer an input, at least as large as opt, and as the largest batch so far."""

    def __init__(self, cuda: Any, least_bytes: Mapping[str, int], dtypes: Mapping[str, str]) -> None:
        self._cuda, self._least, self._dtypes = cuda, least_bytes, dtypes
        self._held: dict[str, Any] = {}

    def copied(self, batch: Mapping[str, Any], names: Sequence[str]) -> list[int]:
        """Addresses, in the order of the names."""
        for name in names:
            array = np.ascontiguousarray(narrowed(name, batch[name], self._dtypes.get(name, "")))
            known = self._held.get(name)
            wanted = max(array.nbytes, self._least.get(name, 0))
            if known is None or known.size_bytes < wanted:
                self._held[name] = self._cuda.allocate(wanted)
                if known is not None:
                    known.free()
            self._cuda.to_device(self._held[name], array)
        return [self._held[name].address for name in names]

    def free(self) -> None:
        """Give all of them back."""
        for buffer in self._held.values():
            buffer.free()
        self._held = {}


def new_calibrator(
    trt: Any,
    cuda: Any,
    algorithm: str,
    calibrating: Calibrating,
    least_bytes: Mapping[str, int],
    dtypes: Mapping[str, str],
) -> Any:
    """A calibrator object; keep it alive until the build has returned.

    TensorRT reads as many bytes as the calibration profile's opt shape has, whatever lies behind the pointer. The
    buffers are at least so large, so nothing is ever read outside; a batch shorter than opt is followed by what its
    predecessors left there, as in a buffer that only grows.

    :param least_bytes: input -> bytes at opt.
    :param dtypes: input -> numpy's name of what the network takes: int32 where an ONNX file has int64 in TensorRT 8.
    :raises RuntimeFailure: ``usage``: an unknown algorithm, or one that this TensorRT has no class for.
    """
    name = CLASSES.get(algorithm)
    if name is None or not hasattr(trt, name):
        there = [one for one, cls in CLASSES.items() if hasattr(trt, cls)]
        todo = f"there are {', '.join(there)}" if there else "TensorRT 11 takes Q/DQ models only: route qdq_strong"
        raise RuntimeFailure("usage", f"no calibrator for {algorithm!r}", f"tensorrt {trt.__version__}", todo)
    buffers = _Buffers(cuda, least_bytes, dtypes)
    calibrating.free = buffers.free
    return _class_of(getattr(trt, name), calibrating, buffers)()


def _class_of(base: Any, calibrating: Calibrating, buffers: _Buffers) -> Any:
    class Calibrator(base):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 wants the genuine one called

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Sequence[str], *_: Any) -> list[int] | None:
            calibrating.asked += 1
            return calibrating.playback.next(lambda batch: buffers.copied(batch, names))

        def read_calibration_cache(self, *_: Any) -> bytes | None:
            return calibrating.cache

        def write_calibration_cache(self, cache: Any, *_: Any) -> None:
            calibrating.written = bytes(memoryview(cache))

        # IInt8LegacyCalibrator asks for these, too
        def get_quantile(self) -> float:
            return 0.9999

        def get_regression_cutoff(self) -> float:
            return 1.0

        def read_histogram_cache(self, *_: Any) -> None:
            return None

        def write_histogram_cache(self, *_: Any) -> None:
            return None

    return Calibrator


def load_batches(path: str) -> list[dict[str, Any]]:
    """Batches of an ``.npz`` file whose arrays are named ``NUMBER:INPUT``, in the order of the numbers.

    :raises RuntimeFailure: ``calibration``, when it is no such file.
    """
    batches: dict[int, dict[str, Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                number, _, name = key.partition(":")
                batches.setdefault(int(number), {})[name] = file[key]
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        # TypeError: an .npy, which is no context; in CPython 3.10 it is an AttributeError
        what = f"these calibration batches cannot be read: {error}"
        raise RuntimeFailure("calibration", what, path, "an .npz with arrays named NUMBER:INPUT") from error
    return [batches[number] for number in sorted(batches)]
