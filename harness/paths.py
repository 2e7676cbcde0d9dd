"""Where the harness keeps what it makes: one cache folder for models, corpora, artefacts, engines and code trees."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from harness.errors import WriteFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

__all__ = ["cache_dir", "written"]

_VARIABLE = "TRT_INT8_HARNESS_CACHE"


def cache_dir(*parts: str) -> Path:
    """A folder below the user's cache (``$TRT_INT8_HARNESS_CACHE`` or the platform's own), made if missing.

    :raises WriteFailed: it cannot be made: no permission, a file is in the way.
    """
    root = os.environ.get(_VARIABLE) or platformdirs.user_cache_dir("trt-int8-harness")
    folder = Path(root).joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteFailed(
            f"the cache folder cannot be made: {error.strerror or error}",
            where=str(folder),
            todo=f"set {_VARIABLE} to a folder that can be written",
        ) from error
    return folder


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A new binary file that stands at ``path`` when the block ends: whole, or not at all.

    :raises OSError: the disk is full, or there is no permission.
    """
    descriptor, scratch = tempfile.mkstemp(suffix=".part", prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
