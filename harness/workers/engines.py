"""Engines that were built once: the facts of a build, by what the engine belongs to; its file lies in the store."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from harness.errors import WriteFailed
from harness.paths import cache_dir, written
from harness.workers import store

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["forgotten", "key_of", "recall", "remember"]


def key_of(*parts: object) -> str:
    """A name for an engine: two that differ in any part have two names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def recall(key: str) -> dict[str, Any] | None:
    """The facts of a build whose engine is there, whole; ``artefact`` is its digest. None if it has to be built."""
    facts = _facts(key)
    return facts if facts is not None and store.is_sound(facts["artefact"]) else None


def forgotten(key: str) -> str:
    """Why :func:`recall` knows nothing of an engine that was built before; empty if it never was."""
    if not _file(key).is_file():
        return ""
    facts = _facts(key)
    if facts is None:
        return f"what was kept of an earlier build was damaged ({_file(key)}); it was built again"
    blob = store.blob(facts["artefact"])
    state = "damaged" if blob.is_file() else "gone"
    return f"the engine of an earlier build was {state} ({blob}); it was built again"


def remember(key: str, facts: dict[str, Any]) -> None:
    """Keep the facts of a build whose engine is in the store. Of two at once the later one stays.

    :raises WriteFailed: they cannot be written.
    """
    try:
        with written(_file(key)) as file:
            file.write(json.dumps(facts).encode())
    except OSError as error:
        raise WriteFailed(
            f"the build cannot be kept: {error.strerror or error}",
            where=str(_file(key)),
            todo="make room, or set TRT_INT8_HARNESS_CACHE to a folder that has some",
        ) from error


def _file(key: str) -> Path:
    return cache_dir("engines") / f"{key}.json"


def _facts(key: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(_file(key).read_bytes())
    except (OSError, ValueError):  # not there; cut short, or no text at all
        return None
    return facts if isinstance(facts, dict) and isinstance(facts.get("artefact"), str) else None
