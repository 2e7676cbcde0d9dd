"""Workers that replay durations: a session runs as it does in truth, but nothing waits, and the truth is known."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import WorkerDied
from harness.measure.arms import NULL, Arm, Input, Question
from harness.workers import Environment

ENVIRONMENT = Environment("fake-1", "python", "fake", "1", {"threads": 1})


def arm(label, effect=0.0, **options):
    """An arm that is ``effect`` slower than 1 ms; the path carries the effect to the worker."""
    return Arm(label, ENVIRONMENT, Path(f"{effect}.onnx"), options)


def question(effect=0.0, inputs=None):
    feed = {"x": np.zeros(1, np.float32)}
    inputs = inputs or (Input("8", 8, feed),)
    return Question(arm("baseline"), arm("candidate", effect), tuple(inputs))


class FakeEngine:
    def __init__(self, lab, label, effect, factor):
        self.lab, self.label, self.effect, self.factor = lab, label, effect, factor
        self.kept = {}

    def keep(self, label, feeds, contexts=1):
        self.kept[label] = feeds
        self.lab.kept.append((self.label, label, {name: value.shape for name, value in feeds.items()}, contexts))

    def profiles(self):
        return self.lab.profiles

    def timed(self, label, warmup, repeats):
        assert label in self.kept
        self.lab.calls.append((self.label, label, warmup, repeats))
        typical = 1e6 * self.lab.times.get(label, 1.0) * (1 + self.effect) * self.factor
        if self.label == NULL:
            typical *= 1 + self.lab.null_effect
        noise = self.lab.random.lognormal(0, self.lab.block_sd) * (1 + self.lab.random.exponential(0.02, repeats))
        values = [int(value) for value in typical * noise]
        clocks = {name: list(values) for name in self.lab.clocks}
        return self.lab.trouble(self.label, label, warmup, clocks)


class FakeWorker:
    def __init__(self, lab, arm):
        self.lab, self.arm, self.files = lab, arm, []
        self.environment = arm.environment

    def __enter__(self):
        self.lab.open += 1
        return self

    def __exit__(self, *_):
        self.lab.open -= 1

    def cores(self):
        return sorted(os.sched_getaffinity(0))

    def machine(self):
        return self.lab.machine

    def pin(self, core):
        self.lab.pinned.append((self.arm.label, core))

    def put(self, path):
        self.files.append(path)

    def load(self, path, options):
        self.options = options
        assert path in self.files
        self.lab.loaded.append((self.arm.label, path.name))
        factor = self.lab.random.lognormal(0, self.lab.launch_sd)
        return FakeEngine(self.lab, self.arm.label, float(path.stem), factor)


def _none(arm, label, warmup, clocks):
    return clocks


class Lab(SimpleNamespace):
    """Where fake workers run. What it holds may be set: noise, A' that differs, clocks, trouble.

    ``calls`` is (arm, input, warm-up, repeats) in the order in which bursts were asked for.
    """

    def __init__(self, seed=0):
        super().__init__(
            random=np.random.default_rng(seed), launch_sd=0.004, block_sd=0.005, null_effect=0.0, times={},
            clocks=("wall_ns", "cpu_ns"), open=0, calls=[], started=[],
            kept=[], loaded=[], pinned=[], trouble=_none, machine={}, profiles=[],
        )  # fmt: skip

    def start(self, arm):
        self.started.append(arm.label)
        return FakeWorker(self, arm)

    def in_block(self):
        """(arm, input) of the bursts that count; warming up discards no run."""
        return [(arm, label) for arm, label, warmup, _ in self.calls if warmup]

    def dies(self, *, arm, at):
        """The arm's process dies at its ``at``-th burst that counts, of all launches (from 1)."""
        seen = itertools.count(1)
        self._when(arm, seen, at, lambda _: (_ for _ in ()).throw(WorkerDied("signal SIGKILL", where=arm)))

    def gives(self, values, *, arm, at, clock="wall_ns"):
        """The arm's clock gives ``values`` at its ``at``-th burst that counts."""
        self._when(arm, itertools.count(1), at, lambda clocks: {**clocks, clock: values})

    def _when(self, arm, seen, at, what):
        def trouble(label, _, warmup, clocks):
            return what(clocks) if warmup and label == arm and next(seen) == at else clocks

        self.trouble = trouble


@pytest.fixture
def lab():
    return Lab()
