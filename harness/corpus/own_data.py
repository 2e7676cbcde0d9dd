"""A user's own samples: a folder of ``.npz`` files or a Polygraphy data-loader script, read one at a time."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.corpus.samples import Feeds, digest_of
from harness.errors import DataError, close_to, last_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Folder", "Script", "Source", "open_source", "split_of"]


class Source(Protocol):
    """Where samples come from. ``read`` may be called more than once and begins anew each time."""

    def read(self, indices: slice) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(where it is from, the raw feed) of the samples in the slice, in order, one at a time."""

    def version(self) -> str:
        """Changes when the samples change, if they are ``lasting``."""

    @property
    def lasting(self) -> bool:
        """Whether an unchanged version means unchanged samples."""

    @property
    def name(self) -> str:
        """Where it is, for messages and records."""


def open_source(data: str | Path) -> Source:
    """A folder of ``.npz`` files (or a single one), ``loader.py`` or ``loader.py:function``.

    :raises DataError: there is nothing of that name, or it is none of these.
    """
    text = str(data)
    script, _, function = text.rpartition(":")
    if not script.endswith(".py"):
        script, function = text, "load_data"
    path = Path(script)
    if not path.exists():
        close = close_to(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
        raise DataError(
            "no such file or folder",
            where=script,
            todo=f"did you mean {path.parent / close[0]}?" if close else "--data FOLDER_OF_NPZ or --data LOADER.py",
        )
    if path.is_dir():
        return Folder(_npz_files(path))
    if path.suffix == ".npz":
        return Folder((path,))
    if path.suffix == ".py":
        return Script(path, function)
    raise DataError(
        f"data of type {path.suffix or '(none)'!r}",
        where=script,
        todo="give a folder of .npz files, one a sample, or a Python file with load_data()",
    )


def _npz_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(sorted(folder.glob("*.npz")))
    if not files:
        others = sorted({p.suffix or p.name for p in folder.iterdir()})
        raise DataError(
            f"no .npz file in it{'; it holds ' + ', '.join(others[:5]) if others else ', it is empty'}",
            where=str(folder),
            todo="one .npz a sample: np.savez('00001.npz', **{'input name': array})",
        )
    return files


@dataclass(frozen=True)
class Folder:
    """``.npz`` files in the order of their names, one a sample; its arrays are named as the model's inputs."""

    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder, or the only file."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    def read(self, indices: slice) -> Iterator[tuple[str, Feeds]]:
        """See :class:`Source`.

        :raises DataError: a file that is damaged or holds pickled objects.
        """
        for path in self.files[indices]:
            yield str(path), _read_npz(path)

    def version(self) -> str:
        """SHA-256 over the files' names, sizes and times of change."""
        stats = [(path.name, path.stat()) for path in self.files]
        listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return hashlib.sha256(repr(listing).encode()).hexdigest()

    @property
    def lasting(self) -> bool:
        """True: files that changed have another size or time."""
        return True


def _read_npz(path: Path) -> Feeds:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise DataError("a bare array, not an archive of named arrays", where=str(path), todo="np.savez")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if "pickle" in str(error):
            raise DataError(
                "holds pickled Python objects, which could run code when read",
                where=str(path),
                todo="save plain arrays: np.asarray(..., dtype=np.float32), no object arrays",
            ) from error
        raise DataError(
            "cannot be read as .npz", where=str(path), todo="write it again with np.savez", detail=str(error)
        ) from error


@dataclass(frozen=True)
class Script:
    """A Python file with ``load_data()`` (or another function) that gives an iterable of feed dicts.

    That is Polygraphy's ``--data-loader-script``, and such a script works as it is. The function is called anew
    for every pass; its folder is put at the end of ``sys.path`` for what it imports.

    It should give the same samples every time: which half a sample belongs to goes by its number. A pass that
    differs from the one before brings a warning.
    """

    path: Path
    function: str = "load_data"
    _digests: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file and the function."""
        return f"{self.path}:{self.function}()"

    def read(self, indices: slice) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """See :class:`Source`.

        :raises DataError: the script fails, has no such function, or gives something else than dicts.
        """
        stream = self._stream()
        wanted = range(*indices.indices(sys.maxsize))
        same = True
        for index in range(wanted.stop):
            where = f"{self.name}, sample {index}"
            try:
                feeds = next(stream)
            except StopIteration:
                if same and index < len(self._digests):
                    _warn_of_change(self.name, index)
                return
            except (Exception, SystemExit) as error:  # the user's code may raise anything
                raise self._failed(error, where) from error
            if not isinstance(feeds, Mapping):
                raise DataError(
                    f"gave {type(feeds).__name__}, not a dict of arrays",
                    where=where,
                    todo="yield {'input name': array}",
                )
            if same and not self._as_before(index, feeds):
                same = False
                _warn_of_change(self.name, index)
            if index in wanted:
                yield where, feeds

    def version(self) -> str:
        """SHA-256 of the script alone: nothing is read before it is wanted."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def lasting(self) -> bool:
        """False: what a script reads or draws may change while the script does not."""
        return False

    def _as_before(self, index: int, feeds: Mapping[str, Any]) -> bool:
        arrays = {
            str(name): array
            for name, array in feeds.items()
            if isinstance(array, np.ndarray) and not array.dtype.hasobject
        }
        digest = digest_of([arrays])
        if index == len(self._digests):
            self._digests.append(digest)
        return self._digests[index] == digest

    def _stream(self) -> Iterator[Any]:
        folder = str(self.path.resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)
        spec = importlib.util.spec_from_file_location(f"_data_loader_{self.path.stem}", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        where = str(self.path)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise self._failed(error, where) from error
        function = getattr(module, self.function, None)
        if not callable(function):
            functions = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            raise DataError(
                f"no function {self.function!r}",
                where=where,
                todo=f"define load_data(), or name one: {self.path}:{(functions or ['my_function'])[0]}",
            )
        try:
            return iter(function())
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise self._failed(error, where) from error

    def _failed(self, error: BaseException, where: str) -> DataError:
        return DataError(
            f"the data loader failed: {type(error).__name__}: {error}",
            where=where,
            todo="repair the script; it can be run alone",
            detail=last_lines(error, str(self.path)),
        )


def _warn_of_change(name: str, index: int) -> None:
    warnings.warn(
        f"{name} gave other samples than the last time (from sample {index} on): what calibrates may also be in the "
        "test, and no result can be repeated. Seed it, and sort what it lists",
        stacklevel=4,
    )


def split_of(source: Source, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One of two halves that never share a sample: ``calibration`` has the even-numbered, ``test`` the odd ones.

    ``all`` has both, in the source's own order. A lone sample serves both halves, with a warning: what it was
    calibrated on says little about accuracy.

    :raises DataError: there is no sample at all.
    """
    empty = True
    wanted = {"all": slice(None), "calibration": slice(0, None, 2)}.get(split, slice(1, None, 2))
    for item in source.read(wanted):
        empty = False
        yield item
    if empty and split not in {"all", "calibration"}:
        for item in source.read(slice(0, 1)):
            warnings.warn("only one sample: it serves for calibration and for the test", stacklevel=2)
            empty = False
            yield item
    if empty:
        raise DataError("no samples", where=source.name, todo="give at least two")
