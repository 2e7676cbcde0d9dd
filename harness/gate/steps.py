"""A gate's steps as they are told, as pairs of cases that begin and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.live import View
    from harness.report.pace import Pace

__all__ = ["Steps", "like"]


def like(pair: str) -> Sequence[str]:
    """A pair takes about as long as others of its model and precision, then of its model."""
    words = pair.split("-")
    return ["-".join(words[:2]), words[0]]


class Steps:
    """Hears ``(pair, step)`` from :class:`harness.gate.gate.Gate`: the pair before has ended when another begins.

    A pair that is told of again after another is in the second stage, which adds to what is left.
    """

    def __init__(self, pace: Pace, view: View) -> None:
        self._pace, self._view = pace, view
        self._seen: set[str] = set()
        self._unit = ""

    def __call__(self, pair: str, step: str) -> None:
        """The next step of a pair."""
        again = f"{pair}, asked again"
        unit = again if self._unit == again or (pair in self._seen and self._unit != pair) else pair
        if unit == pair and step == "build" and self._unit == pair:
            unit = again  # the only pair, or the last one: nothing came between its stages
        if unit != self._unit:
            if self._unit:
                self._pace.end(self._unit)
            self._pace.begin(unit)
            self._unit = unit
            self._seen.add(pair)
        self._view.show(self._pace, f"{unit}: {step}")
