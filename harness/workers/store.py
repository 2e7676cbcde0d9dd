"""Files by content, on the coordinator's side: the code that workers run, and models and engines by SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from functools import cache, lru_cache
from pathlib import Path

from harness import runtimes
from harness.paths import cache_dir

__all__ = ["blob", "code_tree", "file_digest", "keep"]


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


def keep(path: Path, digest: str) -> Path:
    """Bring a file into the store. A copy, not a link: the original may be written to in place afterwards."""
    target = blob(digest)
    if not target.is_file():
        descriptor, scratch = tempfile.mkstemp(dir=target.parent)
        os.close(descriptor)
        try:
            shutil.copyfile(path, scratch)
            Path(scratch).replace(target)
        finally:
            Path(scratch).unlink(missing_ok=True)
    return target


@lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
