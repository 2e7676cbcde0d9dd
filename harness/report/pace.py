"""How far a long run is, and when it will end: counted in units of work, by what units of the same kind took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Pace"]

_ENOUGH = 3
"""So many units must have ended before an end is foretold."""


class Pace:
    """Units of work by name.

    :param units: all that will run, as far as is known; one that is begun and is not among them is added.
    :param kinds: unit -> what it is like, from the nearest likeness to the widest. What is left is taken to last as
        long as the mean of what has ended and is like it in the nearest sense that anything has ended in.
    :param clock: seconds.
    """

    def __init__(
        self,
        units: Iterable[str],
        kinds: Callable[[str], Sequence[str]] = lambda _: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = dict.fromkeys(units)
        self._kinds, self._clock = kinds, clock
        self._begun: dict[str, float] = {}
        self._took: dict[str, list[float]] = {}
        self._widest = 0
        self.done = 0

    def add(self, units: Iterable[str]) -> None:
        """More that will run; what is known is not counted twice."""
        self._waiting |= dict.fromkeys(unit for unit in units if unit not in self._begun)

    def begin(self, unit: str) -> None:
        """It runs from now on."""
        self._waiting.pop(unit, None)
        self._begun.setdefault(unit, self._clock())
        self._widest = max(self._widest, len(self._begun))

    def end(self, unit: str, *, counts: bool = True) -> None:
        """It has ended. One that was skipped counts for no other: it says nothing about how long they take."""
        took = self._clock() - self._begun.pop(unit, self._clock())
        self._waiting.pop(unit, None)
        self.done += 1
        for kind in ("", *self._kinds(unit)) if counts else ():
            self._took.setdefault(kind, []).append(took)

    @property
    def running(self) -> list[str]:
        """What runs, the longest first."""
        return list(self._begun)

    @property
    def left(self) -> int:
        """Units that have not ended."""
        return len(self._waiting) + len(self._begun)

    @property
    def total(self) -> int:
        """All units."""
        return self.done + self.left

    @property
    def left_s(self) -> float | None:
        """Seconds until all has ended; None as long as too little has, to tell."""
        if len(self._took.get("", ())) < _ENOUGH:
            return None
        now = self._clock()
        ahead = sum(self._expected(unit) for unit in self._waiting)
        ahead += sum(max(0.0, self._expected(unit) - (now - begun)) for unit, begun in self._begun.items())
        return ahead / max(1, self._widest)

    def _expected(self, unit: str) -> float:
        took = next((self._took[kind] for kind in self._kinds(unit) if kind in self._took), self._took[""])
        return sum(took) / len(took)
