"""What is asked of a case: how fast, over the traffic or in one length bucket. How right is the model's bounds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError, close_to
from harness.measure.session import TRAFFIC
from harness.spec.shapes import bucket_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.spec.model import Model

__all__ = ["Ask", "Goal", "Kind", "goal_of", "read_goal"]

Kind = Literal["speedup", "latency_ms"]

_ASK = re.compile(r"(?:(?P<bucket>[^:=]+):)?(?P<kind>\w+)=(?P<value>[^=]+)")
_KINDS: tuple[Kind, ...] = ("speedup", "latency_ms")


@dataclass(frozen=True)
class Ask:
    """One thing that is asked.

    :param bucket: a length bucket, or ``traffic``: all of them, weighted by how often lengths fall into them.
    :param kind: ``speedup``: how many times faster than FP32 at least; ``latency_ms``: ms a run at most.
    """

    bucket: str
    kind: Kind
    value: float

    def short_of(self, reached: float) -> float:
        """By which factor it is missed: 1 where it is met exactly, less where it is met with something to spare."""
        if self.kind == "latency_ms":
            return reached / self.value
        return self.value / reached if reached > 0 else math.inf  # an interval of one launch begins at 0

    def __str__(self) -> str:
        where = "" if self.bucket == TRAFFIC else f"{self.bucket}:"
        return f"{where}{self.kind}={self.value:g}"


@dataclass(frozen=True)
class Goal:
    """All that is asked; without any, the fastest case within the accuracy bounds is looked for."""

    asks: tuple[Ask, ...] = ()

    def speedups(self) -> dict[str, float]:
        """Bucket or ``traffic`` -> speed-up, as sessions take them."""
        return {ask.bucket: ask.value for ask in self.asks if ask.kind == "speedup"}

    def latencies(self) -> tuple[Ask, ...]:
        return tuple(ask for ask in self.asks if ask.kind == "latency_ms")

    def __str__(self) -> str:
        return ", ".join(map(str, self.asks)) or "as fast as can be"


def read_goal(texts: Iterable[str], model: Model) -> Goal:
    """``[BUCKET:]speedup=NUMBER`` and ``[BUCKET:]latency_ms=NUMBER``; without a bucket it is the traffic's.

    :raises UsageError: another form, a bucket that the model does not have, a number that is not above 0, one thing
        asked twice.
    """
    asks = [_read(text, model) for text in texts]
    places = [(ask.bucket, ask.kind) for ask in asks]
    twice = [ask for ask, place in zip(asks, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError(f"asked twice: {', '.join(map(str, twice))}", where="--goal", todo="keep one")
    return Goal(tuple(asks))


def goal_of(texts: Sequence[str], model: Model) -> tuple[Goal, Model]:
    """The goal, and the model without the speed-ups among its bounds, which are the goal where none is given.

    :raises UsageError: see :func:`read_goal`; the model has no accuracy bound in any bucket.
    """
    goal = read_goal(texts, model)
    bare = tuple((name, replace(bounds, speedup=None)) for name, bounds in model.bounds)
    if not any(bounds for name, bounds in bare if not name.startswith("drawn")):
        raise UsageError(
            "how far may outputs be off? the model has no bounds, so that whatever is fastest would be best",
            where=model.key,
            todo="--bound sqnr_db=15, or short:score=0.9 for one bucket; or bounds in harness.toml",
        )
    if not goal.asks:
        own = {name: model.bounds_for(name).speedup for name in bucket_names(model)}
        own[TRAFFIC] = model.speedup_of_traffic()
        goal = Goal(tuple(Ask(name, "speedup", value) for name, value in own.items() if value is not None))
    return goal, replace(model, bounds=bare)


def _read(text: str, model: Model) -> Ask:
    match = _ASK.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no goal", where="--goal", todo="speedup=1.5, latency_ms=3, or long:latency_ms=8")
    kind = next((one for one in _KINDS if one == match["kind"]), None)
    if kind is None:
        close = close_to(match["kind"], _KINDS)
        todo = f"did you mean {close[0]}?" if close else "speedup or latency_ms; how right it is to be: --bound"
        raise UsageError(f"unknown goal {match['kind']!r}", where=f"--goal {text}", todo=todo)
    bucket, known = match["bucket"] or TRAFFIC, (*bucket_names(model), TRAFFIC)
    if bucket not in known:
        what = f"{bucket!r} is no length bucket of {model.key}"
        raise UsageError(what, where=f"--goal {text}", todo=f"one of {', '.join(known)}")
    try:
        value = float(match["value"])
    except ValueError:
        raise UsageError(f"{match['value']!r} is no number", where=f"--goal {text}", todo="speedup=1.5") from None
    if not 0 < value < math.inf:
        raise UsageError(f"{kind} = {value:g}", where=f"--goal {text}", todo="give a number above 0")
    return Ask(bucket, kind, value)
