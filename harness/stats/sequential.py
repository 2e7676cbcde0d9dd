"""When a session may stop: pre-declared looks over launches, and an any-time sign test that proposes to stop.

The looks decide; they hold their level whatever the launches do. The sign test is exact for the launches it has seen
and for nothing else: a launch's own effect (1 to 2 % on a shared host) is part of what it measures. So its stop is a
proposal that needs launches that agree.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from harness.stats.verdict import Margins

    Floats = NDArray[np.float64]

__all__ = [
    "PowerSpending",
    "Proposal",
    "launch_word",
    "log_e_above",
    "log_e_below",
    "log_e_value",
    "look_confidence",
    "obrien_fleming",
    "proposal",
    "sign_values",
]

Proposal = Literal["regression", "pass", "improved"]


def log_e_value(successes: ArrayLike, n: ArrayLike) -> Floats:
    """Log e-value of the sign test: uniform mixture over p in [1/2, 1] against p <= 1/2.

    ``log E = log 2 + betaln(S+1, n-S+1) + log betaincc(S+1, n-S+1, 1/2) + n log 2``: the likelihood ratio of S
    successes in n, integrated over the alternative (the method of mixtures, Robbins 1970). Under p <= 1/2 E is a
    non-negative supermartingale that starts at 1, so ``P(E ever >= 1/alpha) <= alpha`` (Ville 1939) and one may look
    after every block. Seven unanimous blocks reach 20 (alpha = 5 %), nine reach 100 (1 %).

    :param successes: blocks on the far side of the margin, any shape; :param n: blocks in all, broadcast against it.
    :raises DataError: fewer than 0 or more than ``n`` successes.
    """
    from scipy import special

    hits, total = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    if (hits < 0).any() or (hits > total).any():
        raise DataError(f"{hits.tolist()} successes of {total.tolist()}", where="the sign test")
    with np.errstate(divide="ignore"):  # hardly any success: the e-value is 0 to double precision
        upper = np.log(special.betaincc(hits + 1, total - hits + 1, 0.5))
    return np.asarray(
        math.log(2) + special.betaln(hits + 1, total - hits + 1) + upper + total * math.log(2), np.float64
    )


def sign_values(block_logs: ArrayLike) -> Floats:
    """One log ratio for each block, (blocks,): the mean over the columns of (blocks, 2), see ``estimate.against_both``.

    :param block_logs: (blocks,) or (blocks, columns).
    """
    logs = np.asarray(block_logs, np.float64)
    return logs if logs.ndim == 1 else np.asarray(logs.mean(axis=1), np.float64)


def log_e_above(block_logs: ArrayLike, margin: float) -> Floats:
    """Running log e-values of "the launch's median log ratio is above ``log(1 + margin)``", (blocks,)."""
    return _running(sign_values(block_logs) > math.log1p(margin))


def log_e_below(block_logs: ArrayLike, margin: float) -> Floats:
    """Running log e-values of "the launch's median log ratio is below ``log(1 + margin)``", (blocks,)."""
    return _running(sign_values(block_logs) < math.log1p(margin))


def _running(hits: NDArray[np.bool_]) -> Floats:
    return log_e_value(np.cumsum(hits), np.arange(1, hits.size + 1))


def launch_word(block_logs: ArrayLike, margins: Margins, alpha: float) -> Proposal | None:
    """What one launch says by itself, at any time so far.

    The running maximum counts, because the level holds for "ever". A launch that is proved both above the tolerated and
    below the caught margin lies between them and says nothing.
    """
    limit = -math.log(alpha)

    def ever(values: Floats) -> bool:
        return bool(values.size and values.max() >= limit)

    if ever(log_e_below(block_logs, 1 / (1 + margins.tolerated) - 1)):
        return "improved"
    above, below = ever(log_e_above(block_logs, margins.tolerated)), ever(log_e_below(block_logs, margins.caught))
    if above == below:
        return None
    return "regression" if above else "pass"


def proposal(
    per_launch_logs: Sequence[ArrayLike], margins: Margins, alpha: float, *, agree: int = 2
) -> Proposal | None:
    """What the launches so far propose: at least ``agree`` of them say the same and none says anything else.

    :param per_launch_logs: launches of (blocks,) log ratios, blocks in the order they were run.
    :param alpha: level of each launch's sign test and side.
    """
    words = [launch_word(logs, margins, alpha) for logs in per_launch_logs]
    said = {word for word in words if word is not None}
    if len(said) != 1 or len([word for word in words if word is not None]) < agree:
        return None
    return said.pop()


def obrien_fleming(fraction: float, alpha: float) -> float:
    """One-sided level spent at an information fraction: ``2 - 2 Phi(z_(1 - alpha/2) / sqrt(t))``.

    Lan & DeMets, *Discrete sequential boundaries for clinical trials*, Biometrika 1983, after O'Brien & Fleming 1979:
    next to nothing is spent early.
    """
    from scipy import stats

    return float(2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(fraction)))


@dataclass(frozen=True)
class PowerSpending:
    """One-sided level spent at an information fraction: ``alpha * t**power`` (Kim & DeMets, *Biometrika* 1987).

    Power 1 is near Pocock's boundaries and 3 near O'Brien and Fleming's. With t quantiles of few degrees of freedom the
    latter spend so little that the first looks cannot decide; 2 lets four launches decide a clear case.
    """

    power: float = 2.0

    def __call__(self, fraction: float, alpha: float) -> float:
        return float(alpha * fraction**self.power)


def look_confidence(
    look_index: int,
    looks: Sequence[int],
    alpha: float,
    *,
    spending: Callable[[float, float], float] = obrien_fleming,
) -> float:
    """Two-sided confidence for the interval at one of the pre-declared looks.

    Each side spends ``alpha / 2`` over all looks by ``spending`` at information fraction ``looks[i] / looks[-1]``. The
    boundary z_i solves ``P(Z_1 < z_1, ..., Z_(i-1) < z_(i-1), Z_i >= z_i) = spent_i - spent_(i-1)`` for a Brownian
    motion, by the recursive integration of Armitage, McPherson & Rowe (1969). It is used as a nominal level,
    ``1 - 2 (1 - Phi(z_i))``, with the t quantile of the launches at hand (significance-level approach,
    Jennison & Turnbull, *Group Sequential Methods*, 2000, section 11.5: close to exact for t tests).

    :param look_index: 0 for the first look.
    :param looks: launches at each look, increasing, e.g. (4, 6, 8, 12).
    :param alpha: two-sided level of the session, so 0.10 gives one-sided tests at 5 %.
    :param spending: (fraction, one-sided alpha) -> level spent so far.
    :raises DataError: looks that do not increase, or an index outside them.
    """
    from scipy import stats

    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 2 or not 0 <= look_index < len(looks):
        raise DataError(
            f"look {look_index} of launches {list(looks)}",
            where="the stopping rule",
            todo="declare looks as increasing numbers of launches, the first at least 2",
        )
    return 1 - 2 * float(stats.norm.sf(_boundaries(tuple(looks), alpha / 2, spending)[look_index]))


@functools.cache
def _boundaries(looks: tuple[int, ...], alpha: float, spending: Callable[[float, float], float]) -> tuple[float, ...]:
    from scipy import stats

    fractions = [n / looks[-1] for n in looks]
    spent = [spending(fraction, alpha) for fraction in fractions]
    bounds = [float(stats.norm.isf(spent[0]))]
    upper = bounds[0] * math.sqrt(fractions[0])
    grid = np.linspace(-8 * math.sqrt(fractions[0]), upper, 801)
    density = stats.norm.pdf(grid, scale=math.sqrt(fractions[0]))
    for i in range(1, len(fractions)):
        sd = math.sqrt(fractions[i] - fractions[i - 1])
        step = spent[i] - spent[i - 1]
        bound = _solve_upper(grid, density, sd, step)
        bounds.append(bound / math.sqrt(fractions[i]))
        finer = np.linspace(-8 * math.sqrt(fractions[i]), bound, 801)
        kernel = stats.norm.pdf((finer[:, None] - grid[None, :]) / sd) / sd
        density = np.trapezoid(kernel * density[None, :], grid, axis=1)
        grid = finer
    return tuple(bounds)


def _solve_upper(grid: Floats, density: Floats, sd: float, step: float) -> float:
    from scipy import optimize, stats

    def crossed(bound: float) -> float:
        return float(np.trapezoid(density * stats.norm.sf((bound - grid) / sd), grid)) - step

    return float(optimize.brentq(crossed, -8.0, 12.0, xtol=1e-10))
