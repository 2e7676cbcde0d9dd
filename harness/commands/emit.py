"""What ``harness calibrate`` writes: bytes of a file from ranges, and files that appear whole or not at all."""

from __future__ import annotations

import abc
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from harness.calibration import cache
from harness.calibration.artefacts import cache_of, cached_tensors, with_float16
from harness.calibration.qdq import tensors_to_observe, write_qdq
from harness.errors import UsageError, WriteFailed
from harness.modelfile import read_facts, weighted_nodes
from harness.onnx_facts import called
from harness.paths import cache_dir
from harness.spec.calibration import Dialect
from harness.trt_forms import aliases, for_parser, weights_for, with_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.calibration.pipeline import Calibrated
    from harness.calibration.ranges import Ranges
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["QDQ", "Form", "Json", "TrtCache", "check_target", "targets", "write_all"]

Facts = dict[str, Any]

_OPSET_OF_8_6 = 17  # its operators.md: "opset 9 to opset 17"; that of 10.15 says 24
_DIGITS_BEFORE_10 = 4  # 8601 for 8.6.1, 101600 for 10.16.0
_WITH_CALIBRATORS = re.compile(r"[2-9]\d{3}|10\d{4}", re.ASCII)
_SINCE_11 = re.compile(r"1[1-9]\d{2,4}|[2-9]\d{5}", re.ASCII)  # also 1100, as 8.x would have written it
_FLAT = 3  # dimensions of the weights of a one-dimensional convolution


class Form(abc.ABC):
    """One form of output. Subclasses say which tensors it needs and what its files hold."""

    dialect: Dialect

    def tensors(self, proto: onnx.ModelProto) -> list[str]:
        """The tensors that get a range."""
        return tensors_to_observe(proto, weighted_nodes(proto), self.dialect)

    def built_from(self, prepared: Path, model: Model) -> Path:  # noqa: ARG002
        """The FP32 file that a runtime builds from: the prepared one, or one in the form that its parser takes."""
        return prepared

    @abc.abstractmethod
    def contents(
        self, prepared: Path, built_from: Path, found: Calibrated, layout: Layout, facts: Facts
    ) -> list[bytes]:
        """What to write: one file, or one for each profile.

        :param built_from: see :meth:`built_from`.
        :param facts: what the ranges were made from, JSON values; kept in the file where its format has room.
        """

    def beside(self, out: Path) -> tuple[Path, ...]:  # noqa: ARG002
        """Where the file of :meth:`built_from` is written too, for what cannot be used without it."""
        return ()

    def warnings(self, proto: onnx.ModelProto) -> list[str]:  # noqa: ARG002
        """Which TensorRT will refuse the files, as far as it is known; one sentence each.

        :param proto: what is built from.
        """
        return []


@dataclass(frozen=True)
class QDQ(Form):
    """A Q/DQ graph; what it was made from is in its metadata, under ``harness.*``.

    :param version: of a TensorRT, as a cache's header has it: the graph gets the form that its parser takes. Empty for
        the model as it is prepared.
    :param rest: what is not INT8: ``fp32``, or ``fp16`` for strongly typed networks.
    """

    dialect: Dialect
    version: str = ""
    rest: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        if self.version and not (_WITH_CALIBRATORS.fullmatch(self.version) or _SINCE_11.fullmatch(self.version)):
            raise _no_version(self.version)

    def built_from(self, prepared: Path, model: Model) -> Path:
        return _formed(prepared, model, self.version) if self.version else prepared

    def contents(
        self, prepared: Path, built_from: Path, found: Calibrated, layout: Layout, facts: Facts
    ) -> list[bytes]:
        del prepared, layout
        return [self._graph(built_from, with_aliases(ranges, built_from), facts) for ranges in found.ranges]

    def _graph(self, built_from: Path, ranges: Ranges, facts: Facts) -> bytes:
        nodes = weighted_nodes(onnx.load(built_from))
        with tempfile.TemporaryDirectory(prefix="emit.", dir=cache_dir("artefacts")) as folder:
            path = Path(folder) / "model.onnx"
            weights = weights_for("tensorrt", _release(self.version)) if self.version else "int8"
            write_qdq(built_from, nodes, ranges, self.dialect, path, weights)
            graph = onnx.load(path)
            if self.rest == "fp16":
                graph = with_float16(graph, built_from)
        for name, value in facts.items():
            text = value if isinstance(value, str) else json.dumps(value)
            graph.metadata_props.add(key=f"harness.{name}", value=text)
        data: bytes = graph.SerializeToString(deterministic=True)
        return data

    def warnings(self, proto: onnx.ModelProto) -> list[str]:
        if self.dialect is not Dialect.S8S8:
            return []
        if self.version:  # its form is what the parser takes; the opset is lowered only beside a change
            return _opset(proto) if len(self.version) == _DIGITS_BEFORE_10 else []
        return [*_opset(proto), *_flat_convolutions(proto)]


@dataclass(frozen=True)
class TrtCache(Form):
    """A TensorRT calibration cache (implicit quantization, up to TensorRT 10.16).

    Holds the weighted operators' outputs beside their inputs: TensorRT falls back to float for every layer that
    consumes *or produces* a tensor without a scale. It goes by tensor names: those of the prepared model, and those
    of the form that the version's parser takes, which is therefore written beside it.
    """

    version: str
    algorithm: str
    dialect: Dialect = Dialect.S8S8

    def __post_init__(self) -> None:
        if _SINCE_11.fullmatch(self.version):
            raise UsageError(
                f"{self.version} is TensorRT 11 or newer: 11.0 removed calibration, and no cache is read there",
                where="--trt-version",
                todo="--emit qdq-s8s8, without --trt-version",
            )
        if not _WITH_CALIBRATORS.fullmatch(self.version):
            raise _no_version(self.version)
        if self.algorithm not in cache.ALGORITHMS:
            raise UsageError(
                f"unknown algorithm {self.algorithm!r}",
                where="--trt-algorithm",
                todo=f"one of {', '.join(cache.ALGORITHMS)}",
            )

    def tensors(self, proto: onnx.ModelProto) -> list[str]:
        return cached_tensors(proto)

    def built_from(self, prepared: Path, model: Model) -> Path:
        return _formed(prepared, model, self.version)

    def contents(
        self, prepared: Path, built_from: Path, found: Calibrated, layout: Layout, facts: Facts
    ) -> list[bytes]:
        del layout, facts
        proto, names = onnx.load(prepared, load_external_data=False), aliases(built_from)
        return [cache_of(proto, one, self.version, self.algorithm, names).dumps().encode() for one in found.ranges]

    def beside(self, out: Path) -> tuple[Path, ...]:
        return (out.with_name(f"{out.stem}.prepared.onnx"),)

    def warnings(self, proto: onnx.ModelProto) -> list[str]:
        return _opset(proto) if len(self.version) == _DIGITS_BEFORE_10 else []


@dataclass(frozen=True)
class Json(Form):
    """The ranges of every profile, and what they were made from."""

    dialect: Dialect

    def contents(
        self, prepared: Path, built_from: Path, found: Calibrated, layout: Layout, facts: Facts
    ) -> list[bytes]:
        del prepared, built_from
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


def _formed(prepared: Path, model: Model, version: str) -> Path:
    return for_parser(prepared, "tensorrt", _release(version), model, read_facts(prepared))


def _release(version: str) -> str:
    """:param version: as a cache's header has it: major and minor have a digit each before 10, else two."""
    digits = 1 if len(version) == _DIGITS_BEFORE_10 else 2
    return f"{version[:digits]}.{int(version[digits : 2 * digits])}"


def _no_version(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no version as a cache's header has it",
        where="--trt-version",
        todo="8503 for 8.5.3, 8601 for 8.6.1, 101600 for 10.16.0",
    )


def _opset(proto: onnx.ModelProto) -> list[str]:
    opset = max(entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"})
    if opset <= _OPSET_OF_8_6:
        return []
    needs = "This file needs TensorRT 10 or newer, which is not tested here; for 8.x export the model with opset 17"
    return [f"opset {opset}: TensorRT 8.6's parser knows up to {_OPSET_OF_8_6}. {needs}"]


def _flat_convolutions(proto: onnx.ModelProto) -> list[str]:
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    chosen = set(weighted_nodes(proto))
    flat = [n for n in proto.graph.node if n.name in chosen and n.op_type == "Conv" and ranks.get(n.input[1]) == _FLAT]
    if not flat:
        return []
    what = f"{len(flat)} one-dimensional Conv (3-D weights), the first is {called(flat[0])}"
    refused = "TensorRT 8.5.3.1 refuses those in a Q/DQ file (UNSUPPORTED_NODE)"
    return [f"{what}: {refused}. --trt-version 8503 writes them in the form that its parser takes"]


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
