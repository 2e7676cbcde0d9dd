"""How the configuration names models and runtimes: a whole name with wildcards, or its start."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["matches"]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of them fits; an empty sequence fits everything.

    ``tensorrt-10`` is the start of ``tensorrt-10.3.0`` by its version, and not of ``tensorrt-101``; ``tensorrt`` is
    not the start of ``tensorrt-rtx-1.7.1``, which is another runtime. What says no host fits on every host:
    ``tensorrt-10`` fits ``tensorrt-10.3.0@gpu1``, and so does ``tensorrt-10@gpu*``.
    """
    plain, _, host = name.partition("@")
    return not patterns or any(fnmatchcase(name, one) or _fits(plain, host, one) for one in patterns)


def _fits(plain: str, host: str, pattern: str) -> bool:
    runtime, at, place = pattern.partition("@")
    if at and not (host and fnmatchcase(host, place)):
        return False
    return fnmatchcase(plain, runtime) or _starts(plain, runtime)


def _starts(name: str, start: str) -> bool:
    rest = name.removeprefix(start)
    if rest == name or not rest.startswith(("-", ".")):
        return False
    return not (start == "tensorrt" and rest.startswith("-rtx"))
