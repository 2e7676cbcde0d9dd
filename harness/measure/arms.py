"""What is compared: arms (an engine in an environment), inputs (a feed of one length and its share of the traffic)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UsageError
from harness.workers.places import check_one_place

if TYPE_CHECKING:
    from harness.corpus.samples import Feeds
    from harness.workers import Environment

__all__ = ["NULL", "Arm", "Clock", "Design", "Engines", "Input", "Question", "null_of"]

Engines = Path | Mapping[str, Path]
"""Files of one build: one that serves every input, or input label -> the one that serves it."""

Clock = Literal["wall_ns", "cpu_ns", "device_ns"]

_CPU = "CPUExecutionProvider"

NULL = "null control"
"""Label of A': a second copy of the baseline in a process of its own."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    :param label: unique within a session ("fp32", "tensorrt-10.3 int8").
    :param artefact: what to load: an ONNX file or an engine; a mapping where a layout has an engine for each profile.
    :param options: laid over the environment's options at load time.
    :param rebuilt: the same engine built again, any number of times. Launch i measures build i (modulo) of both sides,
        and the builds become the unit of inference.
    :param batch: the feed is stacked so many times along axis 0; durations count for one of them.
    :param contexts: so many runs go at once, each in its own context; durations count for one of them.
    :param process: arms that name the same process share one; each has its own where it is empty.
    :raises UsageError: a batch or a number of contexts below 1.
    """

    label: str
    environment: Environment
    artefact: Engines = field(hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rebuilt: tuple[Engines, ...] = field(default=(), hash=False)
    batch: int = 1
    contexts: int = 1
    process: str = ""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.contexts < 1:
            raise UsageError(f"batch {self.batch}, contexts {self.contexts}", where=self.label, todo="give 1 or more")

    @property
    def builds(self) -> int:
        """How many builds there are."""
        return 1 + len(self.rebuilt)

    @property
    def items(self) -> int:
        """Samples that one timed run serves."""
        return self.batch * self.contexts

    def file(self, build: int, input_label: str) -> Path:
        """What serves an input in a build.

        :raises UsageError: the arm has no engine for the input.
        """
        engines = (self.artefact, *self.rebuilt)[build]
        if isinstance(engines, Path):
            return engines
        if input_label not in engines:
            raise UsageError(f"no engine for input {input_label!r}", where=f"arm {self.label!r}, build {build}")
        return engines[input_label]

    @property
    def on_one_thread(self) -> bool:
        """Whether it computes on one CPU thread that does not spin, as ONNX Runtime does unless told otherwise."""
        defaults = {"threads": 1, "provider": _CPU} if self.environment.runtime == "onnxruntime" else {"provider": _CPU}
        said = {"threads": None, "spinning": False, **defaults, **self.settings}
        alone = said["threads"] == 1 and not said["spinning"] and self.contexts == 1
        return alone and said["provider"] == _CPU

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that must be the same on both sides for their times to be comparable."""
        return {**self.environment.options, **self.options}


@dataclass(frozen=True)
class Input:
    """A feed that every arm is timed on.

    :param length: of the varying axis, in its elements.
    :param weight: this length's share of the traffic, in any unit; 0 measures it without counting it there.
    """

    label: str
    length: int
    feeds: Feeds = field(hash=False)
    weight: float = 1.0


@dataclass(frozen=True)
class Question:
    """Baseline against candidate, on some inputs.

    :raises UsageError: arms of one name, no input, an input that a build has no engine for, arms on different hosts or
        GPUs, or settings that differ (the difference is named).
    """

    baseline: Arm
    candidate: Arm
    inputs: tuple[Input, ...]

    def __post_init__(self) -> None:
        if self.baseline.label == self.candidate.label or NULL in {self.baseline.label, self.candidate.label}:
            raise UsageError(f"two arms are called {self.candidate.label!r}", todo="give each arm its own label")
        if not self.inputs:
            raise UsageError("no input to time", where=self.candidate.label)
        if not all(one.weight >= 0 for one in self.inputs) or not any(one.weight > 0 for one in self.inputs):
            raise UsageError("an input's weight is negative or NaN, or all are 0", where=self.candidate.label)
        if len({one.label for one in self.inputs}) < len(self.inputs):
            raise UsageError("two inputs have one label", where=self.candidate.label, todo="name them apart")
        if self.baseline.builds != self.candidate.builds:
            raise UsageError(
                f"{self.baseline.builds} builds against {self.candidate.builds}",
                where=f"{self.baseline.label} against {self.candidate.label}",
                todo="build both sides equally often",
            )
        for arm in (self.baseline, self.candidate):
            for build, one in itertools.product(range(arm.builds), self.inputs):
                arm.file(build, one.label)
        sides = f"{self.baseline.label} against {self.candidate.label}"
        check_one_place(self.baseline.environment, self.candidate.environment, sides)
        if self.baseline.process and self.baseline.process == self.candidate.process:
            self._check_one_process()
        ours, theirs = self.baseline.settings, self.candidate.settings
        differing = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        if differing:
            shown = ", ".join(f"{key}: {ours.get(key)!r} against {theirs.get(key)!r}" for key in differing)
            raise UsageError(
                f"the two sides run with different settings: {shown}",
                where=f"{self.baseline.label} against {self.candidate.label}",
                todo="measure both with the same settings; a difference in them is not the engine's",
            )

    def _check_one_process(self) -> None:
        if self.baseline.environment != self.candidate.environment:
            raise UsageError(
                f"{self.baseline.environment.name} and {self.candidate.environment.name} in one process",
                where=f"process {self.baseline.process!r}",
                todo="one process has one environment; leave process empty",
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
    :param pinned: run all workers of a launch on one core, drawn anew for each launch: cores of a shared host differ,
        and by more than what is to be measured. None: where every arm computes on one CPU thread.
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
    pinned: bool | None = None
    budget_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 2:
            raise UsageError(f"looks {self.looks} are not growing numbers of launches from 2 on")
        if min(self.blocks, self.burst_least, self.warm_runs) < 1 or self.burst_most < self.burst_least:
            raise UsageError("at least one block a launch, one run a burst and one to warm up")
        times = {"burst_ms": self.burst_ms, "warm_ms": self.warm_ms, "budget_s": self.budget_s}
        for name, value in times.items():
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} = {value}", where="the design of a session", todo="give a time, 0 or more")


def null_of(baseline: Arm) -> Arm:
    """A': the baseline again, under its own label and always in its own process."""
    return replace(baseline, label=NULL, process="")
