"""Where the harness keeps what it makes: one cache folder for models, corpora, artefacts, engines and code trees."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_dir"]


def cache_dir(*parts: str) -> Path:
    """A folder below the user's cache (``$TRT_INT8_HARNESS_CACHE`` or the platform's own), made if missing."""
    root = os.environ.get("TRT_INT8_HARNESS_CACHE") or platformdirs.user_cache_dir("trt-int8-harness")
    folder = Path(root).joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
