"""Run the FP32 model over samples, one at a time, and keep what range methods need of every activation.

Memory is the model's, plus one sample's observed tensors, plus a fixed table per tensor: it does not grow with
the number of samples. Nothing depends on the order of samples.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx

from harness.errors import CalibrationFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds

__all__ = ["BINS", "Extremes", "Histogram", "Observation", "Statistic", "observe"]

BINS = 1 << 16
_CHUNK = 1 << 18
log = logging.getLogger(__name__)


class Statistic(Protocol):
    """What is kept of one tensor over all samples."""

    count: int
    minimum: float
    maximum: float

    def add(self, array: NDArray[np.float32]) -> None:
        """Take in one sample's values (any shape, float32).

        :raises FloatingPointError: a value is NaN or infinite.
        """


@dataclass
class Extremes:
    """Smallest and largest value, and how many values there were."""

    count: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf

    def add(self, array: NDArray[np.float32]) -> None:
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):  # min and max propagate NaN
            raise FloatingPointError
        self.count += array.size
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)


@dataclass
class Histogram(Extremes):
    """Extremes, and a histogram over the upper 16 bits of each float32 (its sign, exponent and 7 mantissa bits).

    Bins are logarithmic with 128 to an octave, the same for every tensor and every sample. So one pass is enough
    (no range has to be known first), the result does not depend on the order of samples, and histograms of
    several corpora add up. A threshold read off it is within 0.8 % of the exact one.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, array: NDArray[np.float32]) -> None:
        super().add(array)
        # little-endian: the second half-word is the upper one
        upper = np.ascontiguousarray(array).reshape(-1).view(np.uint16)[1::2]
        for start in range(0, upper.size, _CHUNK):  # bincount casts to int64: bound that copy
            self.counts += np.bincount(upper[start : start + _CHUNK], minlength=BINS)


@dataclass(frozen=True)
class Observation:
    """What was seen of each tensor.

    :param tensors: name -> statistic.
    :param samples: how many samples were run.
    """

    tensors: dict[str, Statistic]
    samples: int


def observe(
    model: onnx.ModelProto | Path,
    tensors: Sequence[str],
    samples: Iterable[Feeds],
    *,
    statistic: Callable[[], Statistic] = Histogram,
    threads: int = 1,
    on_sample: Callable[[int], None] | None = None,
) -> Observation:
    """Run ``model`` (FP32, prepared) over ``samples`` and collect ``statistic`` for each of ``tensors``.

    :param tensors: names of float activations or graph inputs.
    :param samples: consumed one at a time; feeds as the model names its inputs.
    :param threads: intra-op threads of ONNX Runtime.
    :param on_sample: called with the number of samples done, after each one.
    :raises CalibrationFailed: there was no sample; a sample does not run; a value is NaN or infinite (the message
        names the sample and the tensor).
    """
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(str(model))
    inputs = {value.name for value in proto.graph.input}
    inner = [name for name in tensors if name not in inputs]
    session = _session_with_outputs(proto, inner, threads)
    seen = {name: statistic() for name in tensors}
    done = 0
    for feeds in samples:
        try:
            values: list[NDArray[Any]] = session.run(inner, feeds) if inner else []
        except Exception as error:  # onnxruntime raises a family of its own, and plain ones for bad feeds
            raise CalibrationFailed(
                f"the FP32 model does not run: {error}",
                where=f"calibration sample {done}",
                todo="check the sample's names, dtypes and shapes against the model's inputs",
            ) from error
        for name in tensors:
            array = feeds[name] if name in inputs else values[inner.index(name)]
            try:
                seen[name].add(np.asarray(array, np.float32))
            except FloatingPointError:
                bad = int(np.size(array) - np.isfinite(array).sum())
                raise CalibrationFailed(
                    f"{bad} of {np.size(array)} values are NaN or infinite",
                    where=f"calibration sample {done}, tensor {name!r}",
                    todo="repair or drop the sample; no range can be chosen from it",
                ) from None
        del values
        done += 1
        if on_sample is not None:
            on_sample(done)
    if not done:
        raise CalibrationFailed(
            "no calibration sample", where="calibration", todo="give data whose lengths the layout admits"
        )
    return Observation(seen, done)


def _session_with_outputs(proto: onnx.ModelProto, names: Sequence[str], threads: int) -> Any:  # noqa: ANN401
    import onnxruntime

    augmented = onnx.ModelProto()
    augmented.CopyFrom(proto)
    present = {value.name for value in augmented.graph.output}
    augmented.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in present)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # samples differ in shape: patterns would be planned anew and kept for each of them
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(augmented.SerializeToString(), options, providers=["CPUExecutionProvider"])
