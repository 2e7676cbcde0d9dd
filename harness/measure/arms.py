"""What is compared: arms (an engine in an environment), inputs (a feed of one length and its share of the traffic)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.corpus.samples import Feeds
    from harness.workers import Environment

__all__ = ["NULL", "Arm", "Clock", "Design", "Input", "Question", "null_of"]

Clock = Literal["wall_ns", "cpu_ns", "device_ns"]

NULL = "null control"
"""Label of A': a second copy of the baseline in a process of its own."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    :param label: unique within a session ("fp32", "tensorrt-10.3 int8").
    :param artefact: the file to load: an ONNX file or an engine.
    :param options: laid over the environment's options at load time.
    :param build: which build of the engine this is; launches pair build i of one arm with build i of the other.
    """

    label: str
    environment: Environment
    artefact: Path
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    build: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that must be the same on both sides for their times to be comparable."""
        return {**self.environment.options, **self.options}


@dataclass(frozen=True)
class Input:
    """A feed that every arm is timed on.

    :param length: of the varying axis, in its elements.
    :param weight: this length's share of the traffic; any positive unit.
    """

    label: str
    length: int
    feeds: Feeds = field(hash=False)
    weight: float = 1.0


@dataclass(frozen=True)
class Question:
    """Baseline against candidate, on some inputs.

    :raises UsageError: arms of one name, no input, or settings that differ (the difference is named).
    """

    baseline: Arm
    candidate: Arm
    inputs: tuple[Input, ...]

    def __post_init__(self) -> None:
        if self.baseline.label == self.candidate.label or NULL in {self.baseline.label, self.candidate.label}:
            raise UsageError(f"two arms are called {self.candidate.label!r}", todo="give each arm its own label")
        if not self.inputs:
            raise UsageError("no input to time", where=self.candidate.label)
        if any(not one.weight > 0 for one in self.inputs):
            raise UsageError("an input's weight is not positive", where=self.candidate.label)
        ours, theirs = self.baseline.settings, self.candidate.settings
        differing = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if differing:
            shown = ", ".join(f"{key}: {ours.get(key)!r} against {theirs.get(key)!r}" for key in differing)
            raise UsageError(
                f"the two sides run with different settings: {shown}",
                where=f"{self.baseline.label} against {self.candidate.label}",
                todo="measure both with the same settings; a difference in them is not the engine's",
            )


@dataclass(frozen=True)
class Design:
    """How a session measures; declared before it starts.

    :param looks: after how many launches a verdict may be read; the last one ends the session.
    :param blocks: blocks a launch.
    :param burst_ms: a burst's timed runs last about so long ...
    :param burst_least: ... and are at least so many, ...
    :param burst_most: ... and at most so many.
    :param warm_runs: untimed runs of each arm and input at least, and ...
    :param warm_ms: ... so much time for each arm at least, until two windows agree within 5 %.
    :param clock: which clock judges; None for ``device_ns`` where there is one, ``cpu_ns`` for one-threaded CPU
        engines, else ``wall_ns``. All clocks are recorded.
    :param pinned: run all workers of a launch on one core, drawn anew for each launch.
    :param budget_s: no launch is begun after so many seconds.
    """

    looks: tuple[int, ...] = (4, 6, 8, 12)
    blocks: int = 24
    burst_ms: float = 8.0
    burst_least: int = 3
    burst_most: int = 30
    warm_runs: int = 5
    warm_ms: float = 40.0
    clock: Clock | None = None
    pinned: bool = False
    budget_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 2:
            raise UsageError(f"looks {self.looks} are not growing numbers of launches from 2 on")
        if self.blocks < 1 or self.burst_least < 1 or self.burst_most < self.burst_least:
            raise UsageError("at least one block a launch and one run a burst")


def null_of(baseline: Arm) -> Arm:
    """A': the baseline again, under its own label and therefore in its own process."""
    return Arm(NULL, baseline.environment, baseline.artefact, baseline.options, baseline.build)
