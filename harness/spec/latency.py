"""How latency is judged and what it may cost, by model and runtime."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.spec.patterns import matches

__all__ = ["CAUGHT", "TOLERATED", "LatencyConfig", "LatencySettings"]

TOLERATED, CAUGHT = 0.02, 0.05
"""Margins where nothing is said: slowdowns up to 2 % are tolerated, 5 % must be caught."""


@dataclass(frozen=True)
class LatencySettings:
    """How latency is judged and what it may cost; None where the configuration says nothing.

    :param tolerated: slowdown that is tolerated, as a ratio minus 1; :param caught: one that must be caught.
    :param budget_s: no launch of a case is begun after so many seconds.
    :param launches: at most so many; :param blocks: random-order blocks in each.
    """

    tolerated: float | None = None
    caught: float | None = None
    budget_s: float | None = None
    launches: int | None = None
    blocks: int | None = None


@dataclass(frozen=True)
class LatencyConfig:
    """How latency is judged.

    :param defaults: for everything.
    :param overrides: (models, runtimes, settings) laid over them where both patterns match; what stands later wins.
    """

    defaults: LatencySettings = field(default_factory=LatencySettings)
    overrides: tuple[tuple[tuple[str, ...], tuple[str, ...], LatencySettings], ...] = ()

    def settings(self, model: str, runtime: str) -> LatencySettings:
        """What holds for a model in a runtime; of several overrides that match, the last one wins, key by key.

        :param runtime: an environment's name. Patterns match a whole name, or its start: ``tensorrt-10``.
        """
        found = vars(self.defaults)
        for models, runtimes, over in self.overrides:
            if matches(model, models) and matches(runtime, runtimes):
                found = {**found, **{name: value for name, value in vars(over).items() if value is not None}}
        return LatencySettings(**found)
