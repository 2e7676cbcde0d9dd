"""``compacted/`` beside the runs: their records as Parquet, and a manifest of which run files these are.

The runs' own files stay what counts: this folder can be deleted at any time, and nothing is lost but the time that the
next compacting takes. A run is taken from here only while its file is what the manifest says; otherwise it is read
itself. The manifest is replaced in one step, and pieces that it no longer names stay for a while, so that whoever reads
goes on reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from harness.errors import ResultsError
from harness.results import record
from harness.results.index import clear_indexes
from harness.results.lines import FileState
from harness.results.pieces import COLUMNS, Piece, connect, make_pieces, read_pieces, write_query
from harness.results.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Compacted", "Held", "Manifest", "compact", "held"]

_FORMAT = 1
_MANIFEST = "manifest.json"
_GRACE_S = 3600.0
_MOST_PIECES = 200
_SMALL_ROWS = 50_000
_SMALL_BYTES = 8_000_000


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What is compacted.

    :param format: of this folder.
    :param schema: of the records in it.
    :param files: run file's name -> what it was.
    :param pieces: piece's name -> what it holds.
    :param owners: run file's name -> the pieces that hold its rows as it is now; others may hold older ones.
    """

    format: int = _FORMAT
    schema: int = -1
    files: dict[str, FileState] = {}
    pieces: dict[str, Piece] = {}
    owners: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Held:
    """What of a folder is compacted now.

    :param states: of the run files whose rows are in ``pieces``, by name.
    :param outdated: (piece, run file's name): rows to be left out.
    :param rest: run files that have to be read themselves.
    """

    pieces: tuple[Path, ...]
    states: dict[str, FileState]
    outdated: tuple[tuple[str, str], ...]
    rest: tuple[Path, ...]


@dataclass(frozen=True)
class Compacted:
    """What :func:`compact` did.

    :param read: run files that were read.
    :param kept: run files that were compacted before.
    :param forgotten: run files that were, and are no longer there.
    :param states: of all of them.
    """

    read: int
    kept: int
    forgotten: int
    records: int
    size_bytes: int
    states: tuple[FileState, ...]


def folder_of(results: Path) -> Path:
    """Where a folder of runs keeps what is compacted."""
    return results / "compacted"


def held(results: Path) -> Held:
    """What can be taken from Parquet, and what cannot. Nothing is read but the manifest.

    A file of the same size with another time (a copy) is compared by its digest.
    """
    return _held(results, _read_manifest(results))


def _held(results: Path, manifest: Manifest) -> Held:
    place = folder_of(results)
    whole = {name for name, piece in manifest.pieces.items() if _size(place / name) == piece.size_bytes}
    states, rest = {}, []
    for path in Store(results).runs():
        known = manifest.files.get(path.name)
        if known and whole.issuperset(manifest.owners.get(path.name, ())) and _is_same(path, known):
            states[path.name] = known
        else:
            rest.append(path)
    owned = {(piece, name) for name in states for piece in manifest.owners.get(name, ())}
    used = sorted({piece for piece, _ in owned})
    outdated = [(one, name) for one in used for name in manifest.pieces[one].files if (one, name) not in owned]
    return Held(tuple(place / name for name in used), states, tuple(outdated), tuple(rest))


def _is_same(path: Path, known: FileState) -> bool:
    try:
        about = path.stat()
        if about.st_size != known.size_bytes:
            return False
        if about.st_mtime_ns == known.mtime_ns:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == known.sha256
    except OSError:
        return False  # reading it says what is wrong


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_manifest(results: Path) -> Manifest:
    try:
        found = msgspec.json.decode((folder_of(results) / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Manifest()  # none, or not one of ours: the runs themselves say everything
    current = (found.format, found.schema) == (_FORMAT, record.SCHEMA)
    return found if current else Manifest()


def compact(results: Path) -> Compacted:
    """Bring ``compacted/`` up to date: only runs that are new or have grown are read.

    :raises ResultsError: it cannot be written, somebody else is compacting, or a run cannot be read.
    """
    place = folder_of(results)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            return _compact(results, place)
    except OSError as error:
        raise ResultsError(
            f"cannot be written: {error.strerror}",
            where=str(place),
            todo="make room, or check its permissions; the runs' own files are not touched",
        ) from error


def _compact(results: Path, place: Path) -> Compacted:
    before = _read_manifest(results)
    there = _held(results, before)
    new, states = make_pieces(there.rest, place)
    files = {name: _touched(results / name, state) for name, state in there.states.items()}
    files |= {state.name: state for state in states}
    pieces = {path.name: before.pieces[path.name] for path in there.pieces} | {one.name: one for one in new}
    owners = {name: before.owners.get(name, ()) for name in there.states}
    owners |= {state.name: tuple(one.name for one in new if state.name in one.files) for state in states}
    manifest = Manifest(_FORMAT, record.SCHEMA, files, pieces, owners)
    if len(pieces) > _MOST_PIECES or there.outdated:
        manifest = _merged(results, manifest)
    _replace(place / _MANIFEST, msgspec.json.encode(manifest))
    _clear(place, before, manifest)
    clear_indexes(results, Store(results).runs())
    gone = before.files.keys() - files.keys()
    return Compacted(
        read=len(states),
        kept=len(there.states),
        forgotten=len(gone),
        records=sum(one.records for one in files.values()),
        size_bytes=sum(one.size_bytes for one in manifest.pieces.values()),
        states=tuple(files.values()),
    )


def _touched(path: Path, state: FileState) -> FileState:
    """The same with the file's present time, so that the next reader needs no digest."""
    try:
        return FileState(**{**vars(state), "mtime_ns": path.stat().st_mtime_ns})
    except OSError:
        return state


def _merged(results: Path, manifest: Manifest) -> Manifest:
    """Small pieces as one, and rows of files that are gone or have changed left out."""
    place = folder_of(results)
    owned = {(piece, name) for name, pieces in manifest.owners.items() for piece in pieces}
    again = [
        one
        for one in manifest.pieces.values()
        if (one.rows < _SMALL_ROWS and one.size_bytes < _SMALL_BYTES)
        or any((one.name, name) not in owned for name in one.files)
    ]
    database = connect()
    kept, made = {**manifest.pieces}, []
    for group in _groups(again):
        names = [one.name for one in group]
        valid = sorted((piece, name) for piece, name in owned if piece in names)
        for one in group:
            del kept[one.name]
        if valid:
            database.execute("CREATE OR REPLACE TEMP TABLE valid (piece VARCHAR, file VARCHAR)")
            database.executemany("INSERT INTO valid VALUES (?, ?)", valid)
            query = f"SELECT {', '.join(COLUMNS)} FROM ({read_pieces([place / n for n in names])}) SEMI JOIN valid USING (piece, file)"  # noqa: E501, S608
            made.append(write_query(database, query, place, tuple(dict.fromkeys(name for _, name in valid))))
    database.close()
    pieces = kept | {one.name: one for one in made}
    owners = {
        name: tuple(piece for piece in of if piece in kept) + tuple(one.name for one in made if name in one.files)
        for name, of in manifest.owners.items()
    }
    return Manifest(_FORMAT, record.SCHEMA, manifest.files, pieces, owners)


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for one in pieces:
        group.append(one)
        if sum(p.rows for p in group) >= _SMALL_ROWS or sum(p.size_bytes for p in group) >= _SMALL_BYTES:
            yield group
            group = []
    if group:
        yield group


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    file = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise ResultsError(
            "somebody else is compacting here", where=str(place), todo="wait until that ends; reading needs no waiting"
        ) from error
    try:
        yield
    finally:
        os.close(file)


def _replace(path: Path, content: bytes) -> None:
    for piece in path.parent.glob("*.parquet"):
        with piece.open("rb") as file:
            os.fsync(file.fileno())
    scratch = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _clear(place: Path, before: Manifest, manifest: Manifest) -> None:
    """Remove what no manifest names any longer, if nobody can still be reading it."""
    for name in before.pieces.keys() - manifest.pieces.keys():
        with contextlib.suppress(OSError):
            os.utime(place / name)  # it may be old, but readers of the manifest before hold it now
    old = time.time() - _GRACE_S
    for path in [*place.glob("*.parquet"), *place.glob("*.tmp")]:
        if path.name not in manifest.pieces:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < old:
                    path.unlink()
