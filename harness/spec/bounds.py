"""Bounds as options give them: ``sqnr_db=15``, ``short:score=0.9``, ``drawn:cosine=0.4``."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError, close_to
from harness.spec.model import Bounds
from harness.spec.shapes import bucket_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.spec.model import Model

__all__ = ["check_bounds", "read_bounds"]

_BOUND = re.compile(r"(?:(?P<bucket>[^:=]+):)?(?P<name>\w+)=(?P<value>[^=]+)")
_NAMES = tuple(field.name for field in fields(Bounds))


def read_bounds(texts: Sequence[str]) -> tuple[tuple[str, Bounds], ...]:
    """``[BUCKET:]NAME=NUMBER``, each one bound; without a bucket it holds in all of them.

    What is given for one bucket is laid over what is given for all. ``drawn`` and ``drawn-BUCKET`` are for single
    examples and stand alone (see :meth:`harness.spec.model.Model.bounds_for_draw`).

    :raises UsageError: a text of another form, or a name that no bound has.
    """
    table: dict[str, Bounds] = {}
    parsed = [_parsed(text) for text in texts]
    for bucket, name, value in sorted(parsed, key=lambda one: one[0] != "*"):
        everywhere = Bounds() if bucket.startswith("drawn") else table.get("*", Bounds())
        table[bucket] = replace(table.get(bucket, everywhere), **{name: value})
    return tuple(table.items())


def check_bounds(model: Model) -> None:
    """Refuse bounds for a length bucket that the model does not have: they would never be asked.

    :raises UsageError: the bucket, and the ones there are.
    """
    names = bucket_names(model)
    known = ["*", *names, "drawn", *(f"drawn-{name}" for name in names)]
    for bucket, _ in model.bounds:
        if bucket not in known:
            close = close_to(bucket, known)
            raise UsageError(
                f"bounds for {bucket!r}, which is no length bucket",
                where=model.key,
                todo=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}",
            )


def _parsed(text: str) -> tuple[str, str, float]:
    match = _BOUND.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"{text!r} is no bound", where="--bound", todo="write sqnr_db=15, or short:score=0.9 for one bucket"
        )
    if match["name"] not in _NAMES:
        close = close_to(match["name"], _NAMES)
        raise UsageError(
            f"unknown bound {match['name']!r}",
            where=f"--bound {text}",
            todo=f"did you mean {close[0]!r}?" if close else f"one of {', '.join(_NAMES)}",
        )
    try:
        return match["bucket"] or "*", match["name"], float(match["value"])
    except ValueError:
        raise UsageError(f"{match['value']!r} is no number", where=f"--bound {text}", todo="sqnr_db=15") from None
