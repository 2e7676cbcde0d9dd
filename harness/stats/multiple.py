"""Many cases at once: which regressions are believed at a stated error rate over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from harness.stats.estimate import Estimate
    from harness.stats.verdict import Margins

__all__ = ["e_bh", "holm", "holm_adjusted", "regression_p"]


def regression_p(estimate: Estimate, margins: Margins) -> float:
    """One-sided p-value of "not slower than the tolerated margin": t = (point - d0) / SE with the launches' degrees.

    1.0 where nothing was replicated: a single launch proves nothing. It is nominal: for a session that could have ended
    in k places take ``min(1, k p)`` (Bonferroni; ``P(min p_i <= x) <= k x``, whichever rule ended it).
    """
    from scipy import stats

    if not estimate.degrees:
        return 1.0
    t = (estimate.point - margins.log_tolerated) / estimate.standard_error
    return float(stats.t.sf(t, estimate.degrees))


def holm_adjusted(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values, in the order given (Holm, *Scand. J. Statist.* 1979).

    Compare them with the family-wise alpha: valid under any dependence between the cases.

    :raises DataError: a value outside [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p-values {p.tolist()}", where="Holm's procedure", todo="give probabilities")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def holm(p_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected at family-wise error rate ``alpha``, in the order given."""
    return np.asarray(holm_adjusted(p_values) <= alpha)


def e_bh(e_values: ArrayLike, level: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected at false discovery rate ``level``, in the order given.

    Rejects the k largest e-values, k the largest with ``e_[k] >= K / (k level)`` (Wang & Ramdas, *False discovery rate
    control with e-values*, JRSS-B 2022). Valid under any dependence, and whenever each case stopped.

    :param e_values: (K,) e-values, not logarithms; may be infinite.
    :raises DataError: a value that is negative or NaN.
    """
    e = np.asarray(e_values, np.float64)
    if not (e >= 0).all():
        raise DataError(f"e-values {e.tolist()}", where="e-BH", todo="give e-values, not their logarithms")
    order = np.argsort(-e, kind="stable")
    ranks = np.arange(1, e.size + 1)
    enough = np.flatnonzero(e[order] >= e.size / (ranks * level))
    rejected = np.zeros(e.size, np.bool_)
    if enough.size:
        rejected[order[: enough[-1] + 1]] = True
    return rejected
