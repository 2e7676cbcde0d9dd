"""How far a candidate's outputs are from the FP32 ones, and whether that is near enough. NaN never passes.

A task score is ``module:function``. The function takes two dicts ``{output name: array}``, the FP32 reference and
the candidate of one sample, and returns its value, or (value, weight). Higher is better unless it has an
attribute ``lower_is_better = True`` (or ``higher_is_better = False``)::

    def word_errors(reference, candidate):
        ...
        return errors / words, words

    word_errors.lower_is_better = True
"""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError, HarnessError, UsageError, close_to, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from harness.spec.model import Bounds

    Array = NDArray[Any]

__all__ = ["Aggregate", "Comparison", "Score", "compare", "cosine", "load_score", "sqnr_db", "verdict", "worst"]


@dataclass(frozen=True)
class Score:
    """A task score and its direction.

    :param name: ``module:function``.
    """

    name: str
    function: Callable[[Mapping[str, Array], Mapping[str, Array]], Any]
    lower_is_better: bool

    def __call__(self, reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> tuple[float, float]:
        """Value and weight for one sample; a bare value weighs 1.

        :raises DataError: the function raised, or returned something else than numbers or a weight below 0.
        """
        try:
            result = self.function(reference, candidate)
            value, weight = result if isinstance(result, tuple) else (result, 1.0)
            value, weight = float(value), float(weight)
        except HarnessError:
            raise
        except Exception as error:  # the user's code may raise anything
            given = ", ".join(map(repr, reference)) or "(none)"
            raise DataError(
                f"the score failed: {type(error).__name__}: {error}",
                where=self.name,
                todo=f"it takes (reference, candidate), dicts of the outputs {given}, and "
                "returns a number or (number, weight)",
                detail=last_lines(error),
            ) from error
        if not weight >= 0.0:
            raise DataError(f"the score's weight is {weight}", where=self.name, todo="return 0 or more")
        return value, weight


def load_score(name: str) -> Score | None:
    """The score that ``module:function`` names; None for the empty string.

    The working directory is looked in last.

    :raises UsageError: no such module or function (close names are given); importing it fails.
    """
    if not name:
        return None
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} is no score", where="--score", todo="write module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import {module_name!r}: {error}",
            where=f"--score {name}",
            todo="run from the folder it lies in, or install it",
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(
            f"importing {module_name!r} fails: {type(error).__name__}: {error}",
            where=f"--score {name}",
            todo=f"repair it; try python -c 'import {module_name}'",
            detail=last_lines(error),
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        close = close_to(function_name, [key for key, value in vars(module).items() if callable(value)])
        raise UsageError(
            f"no function {function_name!r} in {module_name}",
            where=f"--score {name}",
            todo=f"did you mean {module_name}:{close[0]}?" if close else f"define it in {module.__file__}",
        )
    lower = getattr(function, "lower_is_better", not getattr(function, "higher_is_better", True))
    return Score(name, function, bool(lower))


def _pair(reference: Array, candidate: Array) -> tuple[Array, Array]:
    if reference.shape != candidate.shape:
        raise DataError(
            f"shapes {reference.shape} and {candidate.shape} cannot be compared",
            where="accuracy",
            todo="both sides must run on the same sample",
        )
    return reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()


def _powers(reference: Array, candidate: Array) -> tuple[float, float]:
    """Sums of squares of the signal and of the noise."""
    left, right = _pair(reference, candidate)
    noise = left - right
    return float(left @ left), float(noise @ noise)


def _ratio_db(signal: float, noise: float) -> float:
    if math.isnan(signal) or math.isnan(noise) or math.isinf(signal):
        return math.nan
    if noise == 0.0:
        return math.inf
    if signal == 0.0 or math.isinf(noise):
        return -math.inf
    return 10.0 * (math.log10(signal) - math.log10(noise))


def sqnr_db(reference: Array, candidate: Array) -> float:
    """Signal-to-quantization-noise ratio, 10 log10(sum r^2 / sum (r - c)^2), in dB, in float64.

    inf where both are equal, -inf where only the reference is all zeros, NaN where the reference is not finite or
    the candidate holds a NaN.

    :raises DataError: the shapes differ.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return _ratio_db(*_powers(reference, candidate))


def cosine(reference: Array, candidate: Array) -> float:
    """Cosine similarity of the flattened arrays, -1..1, in float64; 1 where both are all zeros, 0 where one is.

    :raises DataError: the shapes differ.
    """
    left, right = _pair(reference, candidate)
    with np.errstate(invalid="ignore", over="ignore"):
        # Scaled first: squares of large or of tiny values leave the range of a float.
        large = [float(np.max(np.abs(side), initial=0.0)) for side in (left, right)]
        if any(math.isnan(value) or math.isinf(value) for value in large):
            return math.nan
        if 0.0 in large:
            return 1.0 if large == [0.0, 0.0] else 0.0
        left, right = left / large[0], right / large[1]
        value = float(left @ right) / math.sqrt(float(left @ left) * float(right @ right))
    return min(1.0, max(-1.0, value))


def worst(reference: Array, candidate: Array) -> float:
    """Largest absolute difference of one element, in float64; 0 for empty arrays; NaN if any difference is NaN.

    :raises DataError: the shapes differ.
    """
    left, right = _pair(reference, candidate)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.max(np.abs(left - right), initial=0.0))


@dataclass(frozen=True)
class Comparison:
    """One sample, or many pooled: how far the candidate is from FP32.

    :param sqnr_db: in dB; pooled: total signal power over total noise power.
    :param cosine: pooled: the least. :param worst: pooled: the largest.
    :param score: the task score; pooled: its mean by weight; None where the model has none.
    :param score_weight: pooled: the sum.
    :param finite: every element of the scored output is finite on both sides, and ``spoiled`` is empty.
    :param n: samples.
    :param spoiled: floating-point outputs, scored or not, in which the candidate is NaN or infinite where the
        reference is finite.
    """

    sqnr_db: float
    cosine: float
    worst: float
    score: float | None
    score_weight: float
    finite: bool
    n: int = 1
    spoiled: tuple[str, ...] = ()


def compare(
    reference: Mapping[str, Array], candidate: Mapping[str, Array], output: str, score: Score | None
) -> Comparison:
    """One sample's outputs against FP32's.

    :param output: the output that is measured; the first floating-point one of the reference if empty.
    :raises DataError: an output is missing, shapes differ, or the score fails.
    """
    return _compared(reference, candidate, output, score)[0]


def _compared(
    reference: Mapping[str, Array], candidate: Mapping[str, Array], output: str, score: Score | None
) -> tuple[Comparison, float, float]:
    name = output or next((n for n, a in reference.items() if np.issubdtype(a.dtype, np.floating)), "")
    for side, outputs in (("reference", reference), ("candidate", candidate)):
        if name not in outputs:
            raise DataError(
                f"the {side} has no output {name!r}" if name else "no floating-point output",
                where="accuracy",
                todo=f"it has {', '.join(outputs) or 'none'}; name one of them",
            )
    left, right = reference[name], candidate[name]
    with np.errstate(invalid="ignore", over="ignore"):
        signal, noise = _powers(left, right)
    value, weight = score(reference, candidate) if score else (None, 0.0)
    spoiled = tuple(one for one in candidate if _spoiled(reference.get(one), candidate[one]))
    comparison = Comparison(
        sqnr_db=_ratio_db(signal, noise),
        cosine=cosine(left, right),
        worst=worst(left, right),
        score=value,
        score_weight=weight,
        finite=bool(np.isfinite(left).all() and np.isfinite(right).all() and not spoiled),
        spoiled=spoiled,
    )
    return comparison, signal, noise


def _spoiled(reference: Array | None, candidate: Array) -> bool:
    """Whether the candidate is not finite where the reference is; a mask's own infinities are no fault."""
    if not np.issubdtype(candidate.dtype, np.floating):
        return False
    bad = ~np.isfinite(candidate)
    if reference is not None and reference.shape == candidate.shape and np.issubdtype(reference.dtype, np.floating):
        bad &= np.isfinite(reference)
    return bool(bad.any())


class Aggregate:
    """Samples pooled one at a time, in any order; holds a handful of numbers however many there are."""

    def __init__(self, output: str = "", score: Score | None = None) -> None:
        self._output, self._score = output, score
        self._signal: list[float] = []
        self._noise: list[float] = []
        self._weighted: list[float] = []
        self._weights: list[float] = []
        self._pooled: Comparison | None = None

    @property
    def n(self) -> int:
        """Samples so far."""
        return self._pooled.n if self._pooled else 0

    @property
    def silent(self) -> bool:
        """Whether FP32 gave nothing but zeros so far: a comparison with nothing, which any dead model wins."""
        return self.n > 0 and _sum(self._signal) == 0.0

    def add(self, reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> Comparison:
        """Take in one sample's outputs and return its own comparison; raises as :func:`compare`."""
        one, signal, noise = _compared(reference, candidate, self._output, self._score)
        _take(self._signal, signal)
        _take(self._noise, noise)
        if one.score is not None:
            _take(self._weighted, one.score * one.score_weight if one.score_weight else 0.0 * one.score)
            _take(self._weights, one.score_weight)
        before = self._pooled or replace(one, n=0)
        self._pooled = replace(
            one,
            cosine=_nan_or(min, before.cosine, one.cosine),
            worst=_nan_or(max, before.worst, one.worst),
            finite=before.finite and one.finite,
            n=before.n + 1,
            spoiled=tuple(dict.fromkeys((*before.spoiled, *one.spoiled))),
        )
        return one

    @property
    def comparison(self) -> Comparison:
        """All samples so far as one.

        :raises DataError: there were none.
        """
        if self._pooled is None:
            raise DataError("no sample was compared", where="accuracy", todo="give at least one test sample")
        weight = math.fsum(self._weights)
        mean = (_sum(self._weighted) / weight if weight else math.nan) if self._score else None
        return replace(
            self._pooled,
            sqnr_db=_ratio_db(_sum(self._signal), _sum(self._noise)),
            score=mean,
            score_weight=weight,
        )


_EXACT_PARTS = 64


def _take(parts: list[float], value: float) -> None:
    """Add to a running sum kept as few parts; their exact sum hardly depends on the order."""
    parts.append(value)
    if len(parts) > _EXACT_PARTS:
        parts[:] = [_sum(parts)]


def _sum(parts: list[float]) -> float:
    try:
        return math.fsum(parts)
    except (ValueError, OverflowError):  # inf and -inf, or beyond the range
        return math.nan


def _nan_or(choose: Callable[[float, float], float], left: float, right: float) -> float:
    return math.nan if math.isnan(left) or math.isnan(right) else choose(left, right)


def verdict(
    measured: Comparison | Aggregate, bounds: Bounds, *, lower_is_better: bool = False
) -> tuple[bool, list[str]]:
    """Whether the measured values are within their bounds, and a reason for each one that is not.

    NaN never passes: not in any output, scored or not, and not in a value that is bounded.

    :param lower_is_better: the direction of the task score (:attr:`Score.lower_is_better`).
    """
    seen = measured.comparison if isinstance(measured, Aggregate) else measured
    reasons = [f"NaN or infinite values in output {name}, where FP32 has none" for name in seen.spoiled]
    if isinstance(measured, Aggregate) and measured.silent:
        reasons.append("FP32's output is 0 everywhere: nothing is compared")
    if not seen.finite and not reasons:
        reasons = ["FP32's own output holds NaN or infinite values"]
    checks = (
        ("SQNR", seen.sqnr_db, bounds.sqnr_db, "dB", False),
        ("cosine", seen.cosine, bounds.cosine, "", False),
        ("worst element", seen.worst, bounds.worst, "", True),
        ("task score", seen.score, bounds.score, "", lower_is_better),
    )
    for name, value, bound, unit, lower in checks:
        if bound is None:
            continue
        if value is None:
            reasons.append(f"{name} is bounded by {bound:g}, but the model has none")
        # Written so that a NaN on either side fails.
        elif not (value <= bound if lower else value >= bound):
            text = f"{name} {value:.4g} {unit}".rstrip()
            reasons.append(f"{text} is {'above' if lower else 'below'} {bound:g}")
    return not reasons, reasons
