"""How the configuration names models and runtimes: a whole name with wildcards, or its start."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["fits", "matches"]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of them fits; an empty sequence fits everything."""
    return not patterns or any(fits(name, one) for one in patterns)


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern names a model or an environment.

    ``tensorrt-10`` is the start of ``tensorrt-10.3.0`` by its version, and not of ``tensorrt-101``; ``tensorrt`` is
    not the start of ``tensorrt-rtx-1.7.1``, which is another runtime.
    """
    if fnmatchcase(name, pattern):
        return True
    rest = name.removeprefix(pattern)
    if rest == name or not rest.startswith(("-", ".")):
        return False
    return not (pattern == "tensorrt" and rest.startswith("-rtx"))
