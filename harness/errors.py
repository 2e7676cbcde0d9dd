"""Everything that can go wrong, in one tree. Each message says what was wrong, where, and what to do next.

A worker's error arrives as plain data (``kind``, ``what``, ``where``, ``detail``) and becomes one of these
classes by its ``kind``: see :func:`from_remote`.
"""

from __future__ import annotations

import difflib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BuildFailed",
    "CacheMismatch",
    "CalibrationFailed",
    "ConfigError",
    "DataError",
    "EnvironmentMissing",
    "FetchFailed",
    "HarnessError",
    "HostLost",
    "HostUnreachable",
    "LayoutError",
    "LengthOutOfRange",
    "ModelRefused",
    "ResultsError",
    "RunFailed",
    "UsageError",
    "WorkerDied",
    "WorkerError",
    "WorkerHung",
    "WriteFailed",
    "close_to",
    "from_remote",
    "last_lines",
]


class HarnessError(Exception):
    """Base of all errors that the harness reports to a person.

    :param what: what was wrong, with the value that was wrong.
    :param where: the file, model, tensor, sample or environment it was found in.
    :param todo: what the reader can do about it.
    :param detail: longer evidence (a log tail, a parser's messages); shown last.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", todo: str = "", detail: str = "") -> None:
        self.what, self.where, self.todo, self.detail = what, where, todo, detail
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.todo:
            text += f"\n  -> {self.todo}"
        if self.detail:
            text += "\n" + "\n".join(f"  | {line}" for line in self.detail.rstrip().splitlines())
        return text


class UsageError(HarnessError):
    """An option or argument that cannot be what was meant."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file that cannot be read strictly."""


class LayoutError(UsageError):
    """A list of optimization profiles that does not cover its range exactly once."""


class ModelRefused(HarnessError):
    """An ONNX file that cannot be quantized or has nothing that varies."""


class DataError(HarnessError):
    """Samples that do not fit the model, or cannot be read."""


class LengthOutOfRange(DataError):
    """A length that no optimization profile of the layout admits."""


class CalibrationFailed(HarnessError):
    """Ranges that could not be found, or batches that were not all consumed."""


class CacheMismatch(CalibrationFailed):
    """A calibration cache made by another TensorRT version or another algorithm."""


class FetchFailed(HarnessError):
    """A fixture file that could not be taken out of its package."""


class EnvironmentMissing(HarnessError):
    """An interpreter with the wanted runtime that is not there."""

    exit_code = 5


class HostUnreachable(EnvironmentMissing):
    """A host that ssh does not get to, so that nothing on it can be used; ssh itself said so."""


class ResultsError(HarnessError):
    """Records that cannot be written or read."""


class WriteFailed(HarnessError):
    """A file that cannot be written: a full disk, a folder without permission."""


class WorkerError(HarnessError):
    """Base of what a worker process reports or does."""


class BuildFailed(WorkerError):
    """A runtime refused to parse or build a model."""


class RunFailed(WorkerError):
    """An engine refused an input or failed while running."""


class WorkerDied(WorkerError):
    """A worker process ended during a call: signal or exit code, and the tail of its log."""


class HostLost(WorkerDied):
    """The connection to a worker on another host was lost: its case says nothing, and may be run again or elsewhere."""

    exit_code = 5


class WorkerHung(WorkerError):
    """A worker did not answer within the deadline and was killed."""


_BY_KIND: dict[str, type[HarnessError]] = {
    "build": BuildFailed,
    "run": RunFailed,
    "calibration": CalibrationFailed,
    "usage": UsageError,
    "environment": EnvironmentMissing,
    "length": LengthOutOfRange,
    "write": WriteFailed,
}


def from_remote(error: dict[str, str]) -> HarnessError:
    """Turn a worker's plain error into an exception of this module.

    :param error: ``kind``, ``what``, ``where``, ``detail`` as strings; an unknown kind becomes
        :class:`WorkerError`.
    """
    cls = _BY_KIND.get(error.get("kind", ""), WorkerError)
    return cls(
        error.get("what", "unknown error"),
        where=error.get("where", ""),
        todo=error.get("todo", ""),
        detail=error.get("detail", ""),
    )


_LAST_LINES = 12


def last_lines(error: BaseException, file: str = "") -> str:
    """The end of ``error``'s traceback, for ``detail``: what a user's own code raised, without this harness's frames.

    :param file: the user's file, relative or absolute; frames begin there. Without it, those of Python's import
        machinery are left out, and the first one, which is the caller's.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if file:
        # The import machinery makes a script's path absolute, whatever was given.
        own = Path(file).resolve()
        theirs = [index for index, frame in enumerate(frames) if Path(frame.filename).resolve() == own]
        shown = list(frames[theirs[0] :]) if theirs else []
    else:
        shown = [frame for frame in frames[1:] if "importlib" not in frame.filename]
    lines = traceback.format_list(shown) + traceback.format_exception_only(error)
    return "\n".join("".join(lines).splitlines()[-_LAST_LINES:])


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """The known words that look like ``word``, the closest first; empty when none does."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.5)]
