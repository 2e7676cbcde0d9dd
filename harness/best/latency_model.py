"""What a run takes at a length, by the profile that serves it: a measured curve, and what opt far away costs.

The time at length ``l`` behind a profile with opt ``o`` is ``t(l) * 2 ** (above * max(0, log2(l / o)) + below *
max(0, log2(o / l)))``, in an engine of several profiles times ``2 ** several``: ``t(l)`` is the time in an engine of
one profile with its opt at ``l``. The three exponents are fitted to engines of one and of three profiles that were
timed at the same lengths (:func:`fitted`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from harness.spec.shapes import Layout

    Floats = NDArray[np.float64]

__all__ = ["H200", "H200_SWITCH_US", "Curve", "FarOpt", "Timed", "fitted"]


@dataclass(frozen=True)
class FarOpt:
    """What a profile costs where its opt is far away, in doublings of the time for each doubling of the distance.

    :param above: at lengths above opt; :param below: below.
    :param several: in an engine of several profiles, at every length.
    """

    above: float
    below: float
    several: float

    def exponent(self, lengths: ArrayLike, opt: ArrayLike) -> Floats:
        """log2 of the factor on t(l), without ``several``."""
        far = np.log2(np.asarray(lengths, float)) - np.log2(np.asarray(opt, float))
        return np.asarray(self.above * np.maximum(far, 0) + self.below * np.maximum(-far, 0))


H200 = FarOpt(above=0.268, below=0.118, several=0.368)
"""Fitted to 12 pairs: two chains, FP16 and INT8, three lengths, on an H200 with TensorRT 8.5.3.1, of one profile and of
three (``results/reference/``; a test fits it again). It is within 8 % of the median pair, and of each within 36 %: what
a build chooses for a profile moves times as much as opt does."""

H200_SWITCH_US = 171.0
"""What the first run after a change of profile took there beyond one after a change of shape alone: mean of 12, from
-354 to 1,347 us."""


@dataclass(frozen=True)
class Timed:
    """One length, timed in an engine of one profile and in one of several.

    :param opt_of_one: the opt of the one profile; :param opt_of_several: of the one that serves the length there.
    """

    length: int
    one_us: float
    several_us: float
    opt_of_one: int
    opt_of_several: int


def fitted(timed: Iterable[Timed]) -> FarOpt:
    """The exponents that explain pairs of times best: least squares on log2 of their ratio, none below 0.

    :raises UsageError: fewer than three pairs.
    """
    from scipy.optimize import nnls

    pairs = list(timed)
    if len(pairs) < 3:
        raise UsageError(f"{len(pairs)} pairs of times do not show three numbers", todo="time three lengths or more")
    rows, ratios = [], []
    for one in pairs:
        mine, theirs = math.log2(one.length / one.opt_of_several), math.log2(one.length / one.opt_of_one)
        rows.append([max(mine, 0) - max(theirs, 0), max(-mine, 0) - max(-theirs, 0), 1.0])
        ratios.append(math.log2(one.several_us / one.one_us))
    above, below, several = nnls(np.array(rows), np.array(ratios))[0]
    return FarOpt(float(above), float(below), float(several))


@dataclass(frozen=True)
class Curve:
    """Times at some lengths: straight between them on a log-log scale, flat beyond the ends.

    :param lengths: growing; :param times_us: in an engine of one profile with its opt at each length.
    """

    lengths: tuple[int, ...]
    times_us: tuple[float, ...]
    far: FarOpt = H200

    def __post_init__(self) -> None:
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)) or self.lengths[0] < 1:
            raise UsageError("lengths of a latency model do not grow from 1 on", todo="give each length once")
        if len(self.times_us) != len(self.lengths) or not all(0 < one < math.inf for one in self.times_us):
            raise UsageError("a latency model wants a time above 0 for each length", todo="measure again")

    @classmethod
    def measured(cls, lengths: Sequence[int], times_us: Sequence[float], layout: Layout, far: FarOpt = H200) -> Curve:
        """Out of times behind a layout: what its opts' distance costs by ``far`` is taken out."""
        opts = [layout.profiles[layout.dispatch(length)].opt for length in lengths]
        exponents = far.exponent(lengths, opts) + (far.several if len(layout.profiles) > 1 else 0.0)
        return cls(tuple(lengths), tuple(np.asarray(times_us, float) / 2**exponents), far)

    def at_opt_us(self, lengths: ArrayLike) -> Floats:
        """t(l)."""
        known = np.log(np.asarray(self.lengths, float))
        logs = np.interp(np.log(np.asarray(lengths, float)), known, np.log(np.asarray(self.times_us)))
        return np.asarray(np.exp(logs))

    def time_us(self, lengths: ArrayLike, opt: ArrayLike, profiles: int = 1) -> Floats:
        """Times at lengths behind a profile with this opt, in an engine of so many profiles."""
        exponents = self.far.exponent(lengths, opt) + (self.far.several if profiles > 1 else 0.0)
        return np.asarray(self.at_opt_us(lengths) * 2**exponents)
