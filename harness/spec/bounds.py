"""Bounds as options give them: ``sqnr_db=15``, ``short:score=0.9``, ``drawn:cosine=0.4``."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError, close_to
from harness.spec.model import Bounds
from harness.spec.shapes import bucket_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.corpus.catalogue import Entry
    from harness.spec.model import Model

__all__ = ["bounded", "check_bounds", "read_bounds"]

_BOUND = re.compile(r"(?:(?P<bucket>[^:=]+):)?(?P<name>\w+)=(?P<value>[^=]+)")
_NAMES = tuple(field.name for field in fields(Bounds))


def read_bounds(texts: Sequence[str]) -> tuple[tuple[str, Bounds], ...]:
    """``[BUCKET:]NAME=NUMBER``, each one bound; without a bucket it holds in all of them.

    What is given for one bucket is laid over what is given for all. ``drawn`` and ``drawn-BUCKET`` are for single
    examples and stand alone (see :meth:`harness.spec.model.Model.bounds_for_draw`); ``traffic`` takes a speedup alone.

    :raises UsageError: a text of another form, or a name that no bound has.
    """
    table: dict[str, Bounds] = {}
    parsed = [_parsed(text) for text in texts]
    for bucket, name, value in parsed:
        table[bucket] = replace(table.get(bucket, Bounds()), **{name: value})
    return tuple(table.items())


def bounded(entry: Entry, asked: Sequence[tuple[str, Bounds]], *, of: int) -> Entry:
    """The entry with bounds of options laid over those that it has, one bound at a time.

    An option without a bucket holds in every length bucket, also where the model has a bound of that name for one
    bucket: who says ``score=0.97`` means all of them. Options for one bucket win over it. Single examples and the
    traffic stand alone, as in the file.

    :param of: how many models were chosen.
    :raises UsageError: more than one: what is enough for one model says nothing of another.
    """
    if of > 1:
        raise UsageError(f"--bound is for one model, and {of} are chosen", todo="choose one: --models KEY")
    table, laid = dict(entry.model.bounds), dict(asked)
    everywhere = dict.fromkeys(_given(laid.get("*", Bounds())))
    for bucket in bucket_names(entry.model):
        if bucket in table:
            table[bucket] = replace(table[bucket], **everywhere)
    for bucket, bounds in laid.items():
        table[bucket] = replace(table.get(bucket, Bounds()), **_given(bounds))
    return replace(entry, model=replace(entry.model, bounds=tuple(table.items())))


def _given(bounds: Bounds) -> dict[str, float]:
    return {name: value for name, value in vars(bounds).items() if value is not None}


def check_bounds(model: Model) -> None:
    """Refuse bounds that would never be asked: for a length bucket that the model does not have, or of another kind.

    Also one on a task score that the model does not have: nothing could meet it.

    :raises UsageError: the bucket, and the ones there are; a speed-up that is no positive number; no score.
    """
    names = bucket_names(model)
    known = ["*", *names, "traffic", "drawn", *(f"drawn-{name}" for name in names)]
    for bucket, bounds in model.bounds:
        _check_speedup(model, bucket, bounds)
        if bounds.score is not None and not model.score:
            raise UsageError(
                f"a score of {bounds.score:g} is asked for, and the model has no task score",
                where=model.key,
                todo="score = 'MODULE:FUNCTION' in harness.toml (pytest: --score), or --bound sqnr_db=15",
            )
        if bucket not in known:
            close = close_to(bucket, known)
            raise UsageError(
                f"bounds for {bucket!r}, which is no length bucket",
                where=model.key,
                todo=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}",
            )


def _check_speedup(model: Model, bucket: str, bounds: Bounds) -> None:
    if bounds.speedup is not None and bucket.startswith("drawn"):
        raise UsageError(f"a speedup for {bucket!r}: no single example is timed", where=model.key, todo="speedup=1.3")
    if bounds.speedup is not None and not 0 < bounds.speedup < math.inf:
        raise UsageError(f"a speedup of {bounds.speedup}", where=model.key, todo="give a ratio, such as 1.3")
    if bucket == "traffic" and bounds:
        raise UsageError("the traffic is bounded by a speedup alone", where=model.key, todo="traffic:speedup=1.3")


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
        value = float(match["value"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{match['value']!r} is no number", where=f"--bound {text}", todo="sqnr_db=15")
    return match["bucket"] or "*", match["name"], value
