"""Random-order blocks: every arm once a block, each time a short burst, in an order drawn anew.

What drifts (clocks, neighbours, temperature) then hits all arms alike, and a ratio within a block does not see it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Blocks", "Ratio", "interleave", "ratio"]


@dataclass(frozen=True)
class Blocks:
    """Raw samples of one interleaved run.

    :param samples_ns: arm -> one list a block, each with the burst's durations in ns.
    :param seed: what the order was drawn from.
    """

    samples_ns: dict[str, list[list[int]]]
    seed: int

    def __len__(self) -> int:
        return min((len(blocks) for blocks in self.samples_ns.values()), default=0)


@dataclass(frozen=True)
class Ratio:
    """Median over blocks of slow/fast, with the quartiles over blocks.

    The quartiles show the spread within one process; they are no confidence interval over launches or builds.
    """

    median: float
    low: float
    high: float
    blocks: int


def interleave(
    arms: Mapping[str, Callable[[], list[int]]], *, blocks: int, seed: int, budget_s: float, least: int = 5
) -> Blocks:
    """Run every arm once a block, in random order.

    :param arms: label -> a burst: runs a few times, returns the durations in ns (the first, cold run left out).
    :param blocks: at most so many blocks.
    :param budget_s: no new block is begun after so many seconds, once ``least`` blocks are there.
    """
    order = np.random.default_rng(seed)
    labels = list(arms)
    samples: dict[str, list[list[int]]] = {label: [] for label in labels}
    started = time.monotonic()
    for index in range(blocks):
        if index >= least and time.monotonic() - started > budget_s:
            break
        for position in order.permutation(len(labels)):
            label = labels[int(position)]
            samples[label].append(arms[label]())
    return Blocks(samples, seed)


def ratio(run: Blocks, slow: str, fast: str) -> Ratio:
    """How many times faster ``fast`` is than ``slow``: median over blocks of the ratio of the bursts' minima.

    The minimum of a short burst is the block value for host clocks (facts: within-run error 1.1 %, against 3.0 %
    for the burst's median).
    """
    logs = np.array(
        [np.log(min(a)) - np.log(min(b)) for a, b in zip(run.samples_ns[slow], run.samples_ns[fast], strict=True)]
    )
    low, median, high = np.exp(np.percentile(logs, [25, 50, 75]))
    return Ratio(float(median), float(low), float(high), len(logs))
