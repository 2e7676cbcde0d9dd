"""What ``harness calibrate`` writes: bytes of a file from ranges, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from harness.calibration import cache
from harness.calibration.qdq import tensors_to_observe, write_qdq
from harness.errors import UsageError, WriteFailed
from harness.modelfile import weighted_nodes
from harness.paths import cache_dir
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.pipeline import Calibrated
    from harness.calibration.ranges import Ranges
    from harness.spec.shapes import Layout

__all__ = ["QDQ", "Form", "Json", "TrtCache", "check_target", "targets", "write_all"]

Facts = dict[str, Any]


class Form:
    """One form of output. Subclasses say which tensors it needs and what its files hold."""

    dialect: Dialect

    def tensors(self, proto: onnx.ModelProto) -> list[str]:
        """The tensors that get a range."""
        return tensors_to_observe(proto, weighted_nodes(proto), self.dialect)

    def contents(self, prepared: Path, found: Calibrated, layout: Layout, facts: Facts) -> list[bytes]:
        """What to write: one file, or one for each profile.

        :param facts: what the ranges were made from, JSON values; kept in the file where its format has room.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class QDQ(Form):
    """A Q/DQ graph; what it was made from is in its metadata, under ``harness.*``."""

    dialect: Dialect

    def contents(self, prepared: Path, found: Calibrated, layout: Layout, facts: Facts) -> list[bytes]:
        del layout
        return [self._graph(prepared, ranges, facts) for ranges in found.ranges]

    def _graph(self, prepared: Path, ranges: Ranges, facts: Facts) -> bytes:
        nodes = weighted_nodes(onnx.load(prepared))
        with tempfile.TemporaryDirectory(prefix="emit.", dir=cache_dir("artefacts")) as folder:
            path = Path(folder) / "model.onnx"
            write_qdq(prepared, nodes, ranges, self.dialect, path)
            graph = onnx.load(path)
        for name, value in facts.items():
            text = value if isinstance(value, str) else json.dumps(value)
            graph.metadata_props.add(key=f"harness.{name}", value=text)
        data: bytes = graph.SerializeToString(deterministic=True)
        return data


@dataclass(frozen=True)
class TrtCache(Form):
    """A TensorRT calibration cache (implicit quantization, up to TensorRT 10.16).

    Holds the weighted operators' outputs beside their inputs: TensorRT falls back to float for every layer that
    consumes *or produces* a tensor without a scale.
    """

    version: str
    algorithm: str
    dialect: Dialect = Dialect.S8S8

    def __post_init__(self) -> None:
        if not (self.version.isascii() and self.version.isdigit() and 4 <= len(self.version) <= 6):
            raise UsageError(
                f"{self.version!r} is no version as a cache's header has it",
                where="--trt-version",
                todo="8503 for 8.5.3, 8601 for 8.6.1, 101600 for 10.16.0",
            )
        if self.algorithm not in cache.ALGORITHMS:
            raise UsageError(
                f"unknown algorithm {self.algorithm!r}",
                where="--trt-algorithm",
                todo=f"one of {', '.join(cache.ALGORITHMS)}",
            )

    def tensors(self, proto: onnx.ModelProto) -> list[str]:
        chosen = set(weighted_nodes(proto))
        outputs = [node.output[0] for node in proto.graph.node if node.name in chosen]
        after_activation = tensors_to_observe(proto, sorted(chosen), Dialect.U8S8)
        return list(dict.fromkeys([*super().tensors(proto), *outputs, *after_activation]))

    def contents(self, prepared: Path, found: Calibrated, layout: Layout, facts: Facts) -> list[bytes]:
        del prepared, layout, facts
        caches = (cache.from_ranges(ranges, self.version, self.algorithm) for ranges in found.ranges)
        return [one.dumps().encode() for one in caches]


@dataclass(frozen=True)
class Json(Form):
    """The ranges of every profile, and what they were made from."""

    dialect: Dialect

    def contents(self, prepared: Path, found: Calibrated, layout: Layout, facts: Facts) -> list[bytes]:
        del prepared
        profiles = [
            {
                "min": profile.min,
                "opt": profile.opt,
                "max": profile.max,
                "ranges": {name: list(pair) for name, pair in found.for_profile(index).items()},
            }
            for index, profile in enumerate(layout.profiles)
        ]
        return [(json.dumps({"format": 1, **facts, "profiles": profiles}, indent=1) + "\n").encode()]


def check_target(out: Path, model: Path | None = None) -> None:
    """Refuse, before any work is done, a place where nothing can be written.

    :param model: the file that is calibrated; never written over.
    :raises UsageError: the folder is not there, ``out`` is a folder or a device, or it is the model.
    :raises WriteFailed: the folder admits no new file.
    """
    folder = out.resolve().parent
    if not folder.is_dir():
        raise UsageError("no such folder", where=str(out.parent), todo=f"mkdir -p {out.parent}")
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "no regular file"
        raise UsageError(f"{kind}, not a file to write", where=str(out), todo="give the name of a file: -o FILE")
    if model is not None and out.exists() and out.samefile(model):
        raise UsageError("is the model itself", where=f"-o {out}", todo="give another name, e.g. model.int8.onnx")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteFailed("no permission to write there", where=str(folder), todo="choose another folder")


def targets(out: Path, count: int) -> list[Path]:
    """``out``, or for several profiles ``STEM.profile0.SUFFIX``, ``STEM.profile1.SUFFIX``, ..."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}.profile{index}{out.suffix}") for index in range(count)]


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write the files, all of them or none; what stood there before stays until then.

    :raises WriteFailed: the disk is full, or there is no permission.
    """
    real = {path.resolve(): data for path, data in files.items()}
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in real}
    try:
        for path, part in parts.items():
            with part.open("wb") as file:
                file.write(real[path])
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        raise WriteFailed(
            f"cannot be written: {error.strerror}",
            where=str(error.filename2 or _first(files)),
            todo="free some space, or choose another folder with -o",
        ) from error
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _first(files: Mapping[Path, bytes]) -> Path:
    names: Sequence[Path] = list(files)
    return names[0]
