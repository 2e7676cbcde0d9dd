"""The lines of a run's file as rows: what queries ask for, each field of the type that it must have.

A line that is no record, or has a field of another type, is not read as something else: it is counted, with its place
and the reason. msgspec checks and skips what is not asked for without building it, so that samples cost nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - msgspec reads it
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import ResultsError
from harness.results import record
from harness.results.store import BadLine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["TRAFFIC", "Entry", "FileState", "Line", "Lines", "Texts"]

TRAFFIC = "traffic"
"""What stands in ``bucket`` for a latency record of the whole session."""

_SHOWN = 60
_KEPT_BAD = 5
_BUFFER_BYTES = 1 << 18
_EMPTY = msgspec.Raw(b"{}")


class _Fields(msgspec.Struct, gc=False, frozen=True):
    model: str | None = None
    runtime: str | None = None
    precision: str | None = None
    method: str | None = None
    policy: str | None = None
    route: str | None = None
    layout: str | None = None


class _Gpu(msgspec.Struct, gc=False, frozen=True):
    name: str | None = None
    driver: str | None = None


class _Worker(msgspec.Struct, gc=False, frozen=True):
    library: str | None = None
    version: str | None = None


_NO_GPU, _NO_WORKER = _Gpu(), _Worker()


class _Environment(msgspec.Struct, gc=False, frozen=True):
    host: str | None = None
    cpu: str | None = None
    commit: str | None = None
    gpus: list[_Gpu] | None = None
    worker: _Worker | None = None

    @property
    def gpu(self) -> _Gpu:
        """The first one."""
        return self.gpus[0] if self.gpus else _NO_GPU

    @property
    def program(self) -> _Worker:
        """What the runtime's process says of itself."""
        return self.worker or _NO_WORKER


class _Values(msgspec.Struct, gc=False, frozen=True):
    session: msgspec.Raw = _EMPTY
    buckets: msgspec.Raw = _EMPTY


_NO_VALUES, _NO_FIELDS, _NO_ENVIRONMENT = _Values(), _Fields(), _Environment()


class Line(msgspec.Struct, gc=False):
    """A record's fields that queries ask for; the names are the record's own."""

    schema: int
    kind: str
    run: str
    time: datetime
    values: _Values
    harness: str | None = None
    verdict: str = ""
    synthetic: bool = False
    historical: bool = False
    case: str | None = None
    fields: _Fields = _NO_FIELDS
    environment: _Environment = _NO_ENVIRONMENT


class Texts(msgspec.Struct, gc=False):
    """A record's large fields as they stand in the file, JSON."""

    values: dict[str, msgspec.Raw]
    seed: int | None = None
    environment: msgspec.Raw = _EMPTY
    model: msgspec.Raw = _EMPTY
    corpus: msgspec.Raw = _EMPTY
    samples: msgspec.Raw = _EMPTY


_LINE = msgspec.json.Decoder(Line)
_TEXTS = msgspec.json.Decoder(Texts)
_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Entry(msgspec.Struct, gc=False):
    """One record and where it stands.

    :param file: the run file's name.
    :param number: of its line, from 1.
    :param offset_bytes: where the line begins.
    :param bucket: of a latency record: the name of its length bucket, or :data:`TRAFFIC`.
    :param texts: where they were asked for.
    """

    file: str
    number: int
    offset_bytes: int
    length_bytes: int
    line: Line
    bucket: str | None
    texts: Texts | None


@dataclass
class FileState:
    """What a file was when it was read: enough to see later whether it is still that.

    :param size_bytes: as far as it was read.
    :param sha256: of those bytes.
    :param records: good lines.
    :param bad: lines that are none, of which ``examples`` holds the first few.
    """

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str = ""
    records: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)


class Lines:
    """The records of one file, once; after that, ``state`` says what was read.

    :param whole: with :class:`Texts`, and the digest.
    :param about: only lines that hold this text are read, records or not; empty takes every line.
    """

    def __init__(self, path: Path, *, whole: bool = False, about: str = "") -> None:
        self.path, self.whole, self.about = path, whole, about.encode()
        self.state = FileState(path.name, 0, 0)

    def __iter__(self) -> Iterator[Entry]:
        """:raises ResultsError: the file cannot be read."""
        name, digest, offset, state = self.path.name, hashlib.sha256(), 0, self.state
        whole, about = self.whole, self.about
        try:
            with self.path.open("rb", buffering=_BUFFER_BYTES) as file:
                # What is added meanwhile is the next reader's: the state must describe what was read.
                there = os.fstat(file.fileno())
                size, state.mtime_ns = there.st_size, there.st_mtime_ns
                for number, line in enumerate(file, 1):
                    line = line[: size - offset]  # noqa: PLW2901
                    if not line:
                        break
                    if whole:
                        digest.update(line)
                    if about and about not in line:
                        offset += len(line)
                        continue
                    try:
                        one, bucket, texts = _read(line, whole)
                    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                        if not line.isspace():
                            self._bad(number, line, error)
                    else:
                        state.records += 1
                        yield Entry(name, number, offset, len(line), one, bucket, texts)
                    offset += len(line)
        except OSError as error:
            raise ResultsError(
                f"cannot be read: {error.strerror}", where=str(self.path), todo="check its permissions"
            ) from error
        state.size_bytes = offset
        state.sha256 = digest.hexdigest() if whole else ""

    def _bad(self, number: int, line: bytes, error: Exception) -> None:
        self.state.bad += 1
        if len(self.state.examples) < _KEPT_BAD:
            reason = str(error) if line.endswith(b"\n") else "unfinished"
            text = line[:_SHOWN].decode(errors="replace").strip()
            self.state.examples.append(str(BadLine(number, reason, text)))


def _read(line: bytes, whole: bool) -> tuple[Line, str | None, Texts | None]:  # noqa: FBT001
    try:
        one = _LINE.decode(line)
    except msgspec.MsgspecError:
        one = None
    if one is None or one.schema != record.SCHEMA:
        # An older schema, odd text, or no record at all: by the slow way, which says so.
        line = _well_formed(record.encode(record.decode(line)))
        one = _LINE.decode(line)
    bucket = _bucket(one.values) if one.kind == "latency" else None
    one.values = _NO_VALUES  # it would keep the whole line in memory
    return one, bucket, _TEXTS.decode(line) if whole else None


def _bucket(values: _Values) -> str | None:
    if bytes(values.session) != b"{}":
        return TRAFFIC
    return ",".join(_PARTS.decode(values.buckets)) or None


def _well_formed(line: bytes) -> bytes:
    """Half of a surrogate pair is text to Python, but to nobody else: it becomes a question mark."""
    return json.dumps(_replaced(json.loads(line)), separators=(",", ":")).encode()


def _replaced(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    return value
