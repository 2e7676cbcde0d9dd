"""Versions as numbers that compare."""

from __future__ import annotations

import re

__all__ = ["numbers_of"]


def numbers_of(version: str) -> tuple[int, ...]:
    """``(8, 5, 3, 1)`` of 8.5.3.1; compare as many of them as matter."""
    return tuple(int(number) for number in re.findall(r"\d+", version))
