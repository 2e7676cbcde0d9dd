"""Run the FP32 model over samples, one at a time, and keep what range methods need of every activation.

Memory is the model's, plus one sample's observed tensors, plus a fixed table per tensor: it does not grow with
the number of samples. Nothing depends on the order of samples.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx

from harness.errors import CalibrationFailed
from harness.paths import cache_dir
from harness.sessions import quiet_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds

__all__ = ["BINS", "Extremes", "Histogram", "Observation", "Statistic", "observe"]

BINS = 1 << 16
_CHUNK = 1 << 16
_PAGE = 512  # bins: 4 octaves
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

    # page number -> counts of its bins: values lie in few octaves, a dense table would be nine parts zeros
    pages: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many values fell into each bin, shape [65536]; a copy, made anew on every access."""
        dense = np.zeros((BINS // _PAGE, _PAGE), np.int64)
        for page, counts in self.pages.items():
            dense[page] = counts
        dense.setflags(write=False)  # writing to a copy would be lost without a word
        return dense.reshape(-1)

    def add(self, array: NDArray[np.float32]) -> None:
        super().add(array)
        # little-endian: the second half-word is the upper one
        upper = np.ascontiguousarray(array).reshape(-1).view(np.uint16)[1::2]
        for start in range(0, upper.size, _CHUNK):  # bincount casts to int64: bound that copy
            self.add_counts(np.bincount(upper[start : start + _CHUNK], minlength=BINS))

    def add_counts(self, counts: NDArray[np.int64]) -> None:
        """Add the bins of another histogram, shape [65536]; extremes stay as they are."""
        dense = counts.reshape(-1, _PAGE)
        for page in np.flatnonzero(dense.max(axis=1)).tolist():
            if page in self.pages:
                self.pages[page] += dense[page]
            else:
                self.pages[page] = dense[page].copy()


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
    inputs, outputs = _ends(model)
    seen = {name: statistic() for name in tensors}
    inner = [name for name in seen if name not in inputs]
    session = open_session(model, [name for name in inner if name not in outputs], threads)
    done = 0
    for feeds in samples:
        try:
            values = dict(zip(inner, session.run(inner, feeds), strict=True)) if inner else {}
        except Exception as error:  # onnxruntime raises a family of its own, and plain ones for bad feeds
            raise CalibrationFailed(
                f"the FP32 model does not run: {error}",
                where=f"calibration sample {done}",
                todo="check the sample's names, dtypes and shapes against the model's inputs",
            ) from error
        missing = [name for name in tensors if name in inputs and name not in feeds]
        if missing:  # where only inputs are observed, no run has refused the sample
            raise CalibrationFailed(
                f"no input {missing[0]!r}; it has {', '.join(sorted(feeds)) or 'nothing'}",
                where=f"calibration sample {done}",
                todo="name the arrays as the model names its inputs",
            )
        for name, statistic_of_it in seen.items():
            # Nothing of a sample may be alive when the next one runs: ONNX Runtime's arena would grow around it.
            array = feeds[name] if name in inputs else values.pop(name)
            _take_in(statistic_of_it, array, name, done)
            del array
        done += 1
        if on_sample is not None:
            on_sample(done)
    if not done:
        raise CalibrationFailed(
            "no calibration sample", where="calibration", todo="give data whose lengths the layout admits"
        )
    return Observation(seen, done)


def open_session(model: onnx.ModelProto | Path, more_outputs: Sequence[str], threads: int) -> Any:  # noqa: ANN401
    """An ONNX Runtime session on the CPU, as :func:`observe` runs its samples in.

    :param more_outputs: tensors to give out besides the graph's own outputs.
    """
    import onnxruntime

    named = [onnx.helper.make_empty_tensor_value_info(name) for name in more_outputs]
    more = onnx.ModelProto(graph=onnx.GraphProto(output=named)).SerializeToString()
    options = quiet_options()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # samples differ in shape: patterns would be planned anew and kept for each of them
    options.enable_mem_pattern = False
    # The outputs are added in a file, not in memory: a session that is given bytes keeps them, and a copy of the
    # model in objects stays in the process as memory that is freed but not returned.
    with tempfile.TemporaryDirectory(prefix="observe.", dir=cache_dir("scratch")) as folder:
        augmented = Path(folder, "model.onnx")
        try:
            _write(augmented, model, more)
        except OSError as error:
            raise CalibrationFailed(
                f"no copy of the model can be written: {error}",
                where=folder,
                todo="free disk space, or set TRT_INT8_HARNESS_CACHE to a folder on another disk",
            ) from error
        return onnxruntime.InferenceSession(augmented, options, providers=["CPUExecutionProvider"])


def _write(path: Path, model: onnx.ModelProto | Path, more: bytes) -> None:
    if isinstance(model, onnx.ModelProto):
        path.write_bytes(model.SerializeToString())
    else:
        shutil.copyfile(model, path)
    with path.open("ab") as file:
        file.write(more)  # a message appended to another is merged into it (Protocol Buffers, "Encoding")


def _ends(model: onnx.ModelProto | Path) -> tuple[set[str], set[str]]:
    graph = (model if isinstance(model, onnx.ModelProto) else onnx.load(str(model))).graph
    return {value.name for value in graph.input}, {value.name for value in graph.output}


def _take_in(statistic: Statistic, array: NDArray[Any], name: str, sample: int) -> None:
    try:
        statistic.add(np.asarray(array, np.float32))
    except FloatingPointError:
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise CalibrationFailed(
            f"{bad} of {np.size(array)} values are NaN or infinite",
            where=f"calibration sample {sample}, tensor {name!r}",
            todo="repair or drop the sample; no range can be chosen from it",
        ) from None
