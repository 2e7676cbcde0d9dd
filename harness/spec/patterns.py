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
    not the start of ``tensorrt-rtx-1.7.1``, which is another runtime. What says no host fits on every host:
    ``tensorrt-10`` fits ``tensorrt-10.3.0@gpu1``, and so does ``tensorrt-10@gpu*``.
    """
    if fnmatchcase(name, pattern):
        return True
    plain, _, host = name.partition("@")
    runtime, at, place = pattern.partition("@")
    if at and not (host and fnmatchcase(host, place)):
        return False
    if fnmatchcase(plain, runtime):
        return True
    rest = plain.removeprefix(runtime)
    if rest == plain or not rest.startswith(("-", ".")):
        return False
    return not (runtime == "tensorrt" and rest.startswith("-rtx"))
