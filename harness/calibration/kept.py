"""Observations kept in the cache: what was seen of a model over a corpus, found again by content."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.observe import BINS, Histogram, Observation, Statistic
from harness.calibration.policies import Seen
from harness.paths import cache_dir, written

if TYPE_CHECKING:
    from pathlib import Path

    from harness.spec.model import Model

__all__ = ["OBSERVATION_VERSION", "load", "path", "save"]

OBSERVATION_VERSION = 3
"""Raise it whenever the same model and samples would give other observations."""

# RuntimeError is zipfile's own for an encrypted or unknown method: a flipped bit
_DAMAGED = (OSError, ValueError, EOFError, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error)


def path(prepared: Path, model: Model, *parts: str) -> Path:
    """Where the observation is kept: its name follows the model's file and description, ``parts``, and ONNX Runtime.

    :param parts: the corpus's digest, the policy, the profile.
    """
    import onnxruntime

    described = (model.axes, model.length_inputs, sorted(model.pad_values))  # what cuts and pads go by
    stamp = hashlib.sha256(prepared.read_bytes())
    stamp.update("\0".join([str(OBSERVATION_VERSION), onnxruntime.__version__, repr(described), *parts]).encode())
    return cache_dir("observations") / f"{stamp.hexdigest()[:32]}.npz"


def save(path: Path, observation: Observation, seen: Seen) -> None:
    """Write histograms, which are mostly empty: the codes that occur.

    :raises OSError: the disk is full.
    """
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
    for index, statistic in enumerate(observation.tensors.values()):
        if not isinstance(statistic, Histogram):
            raise TypeError(statistic)
        counts = statistic.counts
        codes = np.flatnonzero(counts)
        arrays[f"codes{index}"] = codes.astype(np.uint16)
        arrays[f"counts{index}"] = counts[codes]
        arrays[f"facts{index}"] = np.array([statistic.count, statistic.minimum, statistic.maximum])
    arrays["names"] = np.array(list(observation.tensors))
    arrays["samples"] = np.array(observation.samples)
    arrays["lengths"] = np.array(seen.lengths)
    arrays["seen"] = np.array(
        [seen.supplied, seen.batches, seen.left_out, seen.elements, seen.padded, seen.lost], np.int64
    )
    with written(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load(path: Path, tensors: list[str]) -> tuple[Observation, Seen] | None:
    """What :func:`save` wrote; None where there is nothing, a damaged file, or other tensors."""
    if not path.exists():
        return None
    try:
        return _read(path, tensors)
    except _DAMAGED:
        return None


def _read(path: Path, tensors: list[str]) -> tuple[Observation, Seen] | None:
    with np.load(path, allow_pickle=False) as data:
        names = [str(name) for name in data["names"]]
        if names != tensors:
            return None
        found: dict[str, Statistic] = {}
        for index, name in enumerate(names):
            count, low, high = (float(v) for v in data[f"facts{index}"])
            statistic = Histogram(int(count), low, high)
            dense = np.zeros(BINS, np.int64)
            dense[data[f"codes{index}"]] = data[f"counts{index}"]
            statistic.add_counts(dense)
            found[name] = statistic
        supplied, batches, left_out, elements, padded, lost = (int(value) for value in data["seen"])
        lengths = [int(value) for value in data["lengths"]]
        seen = Seen(supplied, batches, left_out, elements, padded, lost, lengths)
        return Observation(found, int(data["samples"])), seen
