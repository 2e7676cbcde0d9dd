"""Samples and corpora: a sample is ``{input name: array}``, a corpus an ordered, hashed list of them on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.corpus.fetch import locked
from harness.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from harness.spec.model import Model

__all__ = ["Corpus", "Feeds", "cut", "digest_of", "length_of", "pad", "valid_length"]

Feeds = dict[str, "NDArray[Any]"]

_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def length_of(model: Model, feeds: Mapping[str, NDArray[Any]]) -> int:
    """The sample's length: the size of the model's first varying axis.

    :raises DataError: the axes that must agree do not, or an input is missing.
    """
    sizes = {}
    for axis in model.axes:
        if axis.input not in feeds:
            raise DataError(
                f"no input {axis.input!r}; it has {', '.join(sorted(feeds)) or 'nothing'}",
                where=f"a sample for {model.key}",
                todo="name the arrays as the model names its inputs",
            )
        array = feeds[axis.input]
        if not -array.ndim <= axis.dim < array.ndim:
            raise DataError(
                f"input {axis.input!r} has {array.ndim} dimensions, none numbered {axis.dim}",
                where=f"a sample for {model.key}",
            )
        sizes[f"{axis.input}:{axis.dim}"] = int(array.shape[axis.dim])
    if len(set(sizes.values())) != 1:
        raise DataError(
            f"axes that follow one length disagree: {sizes}",
            where=f"a sample for {model.key}",
            todo="make them equal, or name only the axes that follow the length",
        )
    return next(iter(sizes.values()))


def valid_length(model: Model, feeds: Mapping[str, NDArray[Any]]) -> int:
    """How many elements count: the length input's value where there is one, else the length."""
    length = length_of(model, feeds)
    for name in model.length_inputs:
        return min(length, int(np.ravel(feeds[name])[0]))
    return length


def cut(model: Model, feeds: Mapping[str, NDArray[Any]], start: int, stop: int) -> Feeds:
    """Elements ``start..stop`` of every varying axis; length inputs are lowered to what is left valid."""
    valid = valid_length(model, feeds)
    out = dict(feeds)
    for axis in model.axes:
        index: list[slice] = [slice(None)] * out[axis.input].ndim
        index[axis.dim] = slice(start, stop)
        out[axis.input] = np.ascontiguousarray(out[axis.input][tuple(index)])
    return _with_valid_length(model, out, max(0, min(valid, stop) - start))


def pad(model: Model, feeds: Mapping[str, NDArray[Any]], length: int) -> Feeds:
    """Extend every varying axis to ``length`` with the model's pad values; length inputs keep what is valid."""
    missing = length - length_of(model, feeds)
    if missing <= 0:
        return dict(feeds)
    valid = valid_length(model, feeds)
    out = dict(feeds)
    for axis in model.axes:
        array = out[axis.input]
        widths = [(0, 0)] * array.ndim
        widths[axis.dim] = (0, missing)
        value = np.asarray(model.pad_value(axis.input)).astype(array.dtype)
        out[axis.input] = np.pad(array, widths, constant_values=value)
    return _with_valid_length(model, out, valid)


def _with_valid_length(model: Model, feeds: Feeds, valid: int) -> Feeds:
    for name in model.length_inputs:
        feeds[name] = np.full_like(feeds[name], valid)
    return feeds


def digest_of(samples: Iterable[Mapping[str, NDArray[Any]]]) -> str:
    """SHA-256 over the samples in order: names, dtypes, shapes and bytes. Streams; 64 hex digits."""
    outer = hashlib.sha256()
    for feeds in samples:
        outer.update(_sample_digest(feeds))
    return outer.hexdigest()


def _sample_digest(feeds: Mapping[str, NDArray[Any]]) -> bytes:
    inner = hashlib.sha256()
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name]) if feeds[name].ndim else feeds[name]
        inner.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        inner.update(array.tobytes())
    return inner.digest()


@dataclass(frozen=True)
class Corpus:
    """An ordered list of samples in a folder, one ``.npz`` each, read one at a time.

    :param folder: holds ``manifest.json`` and ``00000.npz``, ``00001.npz``, ...
    :param digest: SHA-256 of the samples in order (see :func:`digest_of`).
    :param lengths: length of each sample along the model's varying axis.
    :param origin: where the samples come from ("espeak-ng speech, seed 3, n 64"), or ``synthetic``.
    """

    folder: Path
    digest: str
    lengths: tuple[int, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Feeds]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Feeds:
        path = self.folder / f"{index:05d}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (
            *_DAMAGED,
            RuntimeError,
        ) as error:  # zipfile's own for an encrypted or unknown method: a flipped bit
            raise DataError(
                str(error) or "unfinished", where=str(path), todo="delete the folder; it is made anew"
            ) from error

    @classmethod
    def write(cls, folder: Path, model: Model, samples: Iterable[Feeds], origin: str) -> Corpus:
        """Write samples as they come and return the corpus. The folder appears whole or not at all.

        Where another process wrote the same samples meanwhile, its folder stays: it may be reading from it. Another
        corpus that stands there is replaced.

        :raises DataError: there are no samples.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        lengths: list[int] = []
        outer = hashlib.sha256()
        scratch = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
        replaced = scratch.with_name(f"{scratch.name}.replaced")
        try:
            for index, feeds in enumerate(samples):
                lengths.append(length_of(model, feeds))
                outer.update(_sample_digest(feeds))
                np.savez(scratch / f"{index:05d}.npz", **feeds)  # type: ignore[arg-type]
            if not lengths:
                raise DataError("an empty corpus", where=origin, todo="give at least one sample")
            manifest = {"digest": outer.hexdigest(), "lengths": lengths, "origin": origin}
            (scratch / "manifest.json").write_text(json.dumps(manifest))
            with locked(folder.parent / ".lock"):
                there = cls.open(folder)
                if there is not None and there.digest == outer.hexdigest():
                    return there
                if folder.exists():
                    folder.rename(replaced)
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
        return cls(folder, outer.hexdigest(), tuple(lengths), origin)

    @classmethod
    def open(cls, folder: Path) -> Corpus | None:
        """The corpus in ``folder``, or None if there is none that is whole."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            corpus = cls(folder, manifest["digest"], tuple(manifest["lengths"]), manifest["origin"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return corpus if all((folder / f"{i:05d}.npz").exists() for i in range(len(corpus))) else None
