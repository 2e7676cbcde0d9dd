"""Clocks: which one judges, and whether what it gave can be durations at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.measure.arms import Clock

__all__ = ["checked_burst", "judging_clock"]

_JUMP = 1_000.0
_ASLEEP_NS = 500_000_000
"""A run of some microseconds that a busy machine keeps from its core for milliseconds is no jump of a clock."""


def judging_clock(wanted: Clock | None, available: Sequence[str], *, one_thread: bool) -> Clock:
    """The clock whose values become block values.

    Device events where the runtime has them. For an engine on one CPU thread the processor time of its process:
    it is the wall clock's time on an idle machine, and leaves out what was spent waiting for a core.

    :param available: clocks that every arm offers.
    :param one_thread: every arm computes on one CPU thread; only then is processor time a latency.
    :raises UsageError: the wanted clock is not offered by every arm.
    """
    if wanted is not None:
        if wanted not in available:
            raise UsageError(f"no clock {wanted!r} here", where="session", todo=f"use one of {', '.join(available)}")
        return wanted
    if "device_ns" in available:
        return "device_ns"
    return "cpu_ns" if "cpu_ns" in available and one_thread else "wall_ns"


def checked_burst(burst: Sequence[int], where: str) -> list[int]:
    """The burst's durations, if they can be true.

    :raises DataError: none, zero, negative or not finite ones, or one of over half a second that is over 1,000 times
        the shortest (a clock that jumped, or a machine that slept).
    """
    if not burst:
        raise DataError("a burst without durations", where=where)
    for value in burst:
        if not math.isfinite(value) or value <= 0:
            raise DataError(f"a duration of {value} ns", where=where, todo="this clock is not usable here")
    if max(burst) > max(_JUMP * min(burst), _ASLEEP_NS):
        raise DataError(
            f"durations from {min(burst)} to {max(burst)} ns in one burst", where=where, todo="the clock jumped"
        )
    return list(burst)
