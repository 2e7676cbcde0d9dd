"""Files by content, on the coordinator's side: the code that workers run, and models and engines by SHA-256."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache, lru_cache
from pathlib import Path

from harness import runtimes
from harness.paths import cache_dir, written

__all__ = ["blob", "code_tree", "file_digest", "is_sound", "keep"]


@cache
def code_tree() -> tuple[str, dict[str, bytes]]:
    """Digest of ``harness/runtimes``, and its files by name."""
    folder = Path(runtimes.__file__).parent
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    manifest = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:24], files


def file_digest(path: Path) -> str:
    """SHA-256 of a file; remembered for as long as size and modification time stay.

    :raises OSError: the file cannot be read.
    """
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


def blob(digest: str) -> Path:
    """Where a file of that digest is kept, if it is."""
    return cache_dir("blobs") / digest


def is_sound(digest: str) -> bool:
    """Whether the file of that digest is kept, and is what its name says: a full disk may have cut it short."""
    try:
        return file_digest(blob(digest)) == digest
    except OSError:
        return False


def keep(path: Path, digest: str) -> Path:
    """Bring a file into the store. A copy, not a link: the original may be written to in place afterwards.

    :raises OSError: it cannot be read or written.
    """
    target = blob(digest)
    if not is_sound(digest):
        with path.open("rb") as source, written(target) as copy:
            shutil.copyfileobj(source, copy)
    return target


@lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
