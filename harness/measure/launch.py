"""One launch: fresh worker processes for all arms, warm-up, then blocks in random order. Raw samples come back."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError, WorkerError
from harness.measure.clock import checked_burst
from harness.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.corpus.samples import Feeds
    from harness.measure.arms import Arm, Design, Input
    from harness.workers import RemoteEngine

__all__ = ["Cold", "Launch", "LaunchLost", "run_launch"]

Burst = dict[str, list[int]]

_WINDOWS_AGREE = 0.05
_WARM_AT_MOST_S = 2.0


class LaunchLost(Exception):
    """A launch that cannot be used: a worker died, or a clock gave what cannot be a duration."""


@dataclass(frozen=True)
class Cold:
    """What starting costs, apart from steady state.

    :param load_s: loading the artefact into the fresh process, host clock.
    :param first_run_ns: the very first run.
    :param shape_change_ns: input label -> first run after the shape changed to that input's.
    """

    load_s: float
    first_run_ns: int
    shape_change_ns: dict[str, int]


@dataclass(frozen=True)
class Launch:
    """Raw samples of one launch.

    :param samples: arm -> input -> bursts in block order; a burst is clock -> durations in ns.
    :param cold: arm -> cold start.
    :param seconds: ``starting``, ``warming``, ``measuring``.
    :param core: the core that all workers were pinned to; None where they were not.
    :param seed: what the order of inputs and arms was drawn from.
    :param load: the host's load over 1, 5 and 15 minutes when it ended.
    :param build: which build of the engines was measured.
    """

    samples: dict[str, dict[str, list[Burst]]]
    cold: dict[str, Cold]
    seconds: dict[str, float]
    core: int | None
    seed: int
    load: tuple[float, ...] = field(default_factory=tuple)
    build: int = 0


@dataclass(frozen=True)
class _Ready:
    """An arm's engines in its worker: input label -> the one that serves it."""

    engines: dict[str, RemoteEngine]

    def timed(self, one: Input, warmup: int, runs: int) -> Burst:
        return self.engines[one.label].timed(one.label, warmup, runs)


def run_launch(
    arms: Sequence[Arm],
    inputs: Sequence[Input],
    design: Design,
    seed: int,
    *,
    build: int = 0,
    start: Callable[[Arm], Worker] | None = None,
) -> Launch:
    """Start the arms' workers, warm up, run ``design.blocks`` blocks. Workers are gone when it returns.

    In a block inputs come in random order, and for each input the arms in random order: a discarded run, then a burst.

    :param build: which build of each arm's engines to load.
    :param start: makes a worker; for tests, and for workers on other hosts.
    :raises LaunchLost: a worker died or hung, or a clock misbehaved; nothing of this launch can be used.
    """
    random = np.random.default_rng(seed)
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        try:
            began = time.monotonic()
            workers = _started(arms, start or (lambda arm: Worker(arm.environment)), stack)
            pinned = all(arm.on_one_thread for arm in arms) if design.pinned is None else design.pinned
            core = _pinned(workers, random) if pinned else None
            engines = {arm.label: _loaded(workers[arm.label], arm, inputs, build) for arm in arms}
            seconds["starting"] = time.monotonic() - began

            began = time.monotonic()
            cold = {label: Cold(load, *_first_runs(label, engine, inputs)) for label, (engine, load) in engines.items()}
            ready = {label: engine for label, (engine, _) in engines.items()}
            typical = {label: _warm(label, engine, inputs, design) for label, engine in ready.items()}
            repeats = {one.label: _repeats([typical[arm][one.label] for arm in ready], design) for one in inputs}
            seconds["warming"] = time.monotonic() - began

            began = time.monotonic()
            samples = _blocks(ready, inputs, repeats, design.blocks, random)
            seconds["measuring"] = time.monotonic() - began
        except (WorkerError, DataError) as error:
            raise LaunchLost(str(error)) from error
    return Launch(samples, cold, seconds, core, seed, os.getloadavg(), build)


def _started(arms: Sequence[Arm], start: Callable[[Arm], Worker], stack: ExitStack) -> dict[str, Worker]:
    first = {arm.process or arm.label: arm for arm in reversed(arms)}  # of those that share a process
    with ThreadPoolExecutor(max_workers=len(first)) as pool:
        pending = {process: pool.submit(start, arm) for process, arm in first.items()}
    workers: dict[str, Worker] = {}
    for process, future in pending.items():
        if future.exception() is None:  # the others are closed also when one did not start
            workers[process] = stack.enter_context(future.result())
    return {arm.label: pending[arm.process or arm.label].result() for arm in arms}


def _pinned(workers: Mapping[str, Worker], random: np.random.Generator) -> int:
    core = int(random.choice(sorted(os.sched_getaffinity(0))))
    for worker in workers.values():
        worker.pin(core)
    return core


def _loaded(worker: Worker, arm: Arm, inputs: Sequence[Input], build: int) -> tuple[_Ready, float]:
    files = {one.label: arm.file(build, one.label) for one in inputs}
    for path in dict.fromkeys(files.values()):
        worker.put(path)  # sending the file is not loading it
    began = time.monotonic()
    engines = {path: worker.load(path, arm.options) for path in dict.fromkeys(files.values())}
    took = time.monotonic() - began
    for one in inputs:
        engines[files[one.label]].keep(one.label, _stacked(one.feeds, arm.batch), arm.contexts)
    return _Ready({label: engines[path] for label, path in files.items()}), took


def _stacked(feeds: Feeds, batch: int) -> Feeds:
    return feeds if batch == 1 else {k: np.concatenate([v] * batch) if v.ndim else v for k, v in feeds.items()}


def _first_runs(label: str, engine: _Ready, inputs: Sequence[Input]) -> tuple[int, dict[str, int]]:
    first = _timed(label, engine, inputs[0], 1)[0]
    changes = {one.label: _timed(label, engine, one, 1)[0] for one in (*inputs[1:], inputs[0])}
    return first, changes if len(inputs) > 1 else {}


def _warm(label: str, engine: _Ready, inputs: Sequence[Input], design: Design) -> dict[str, float]:
    """Run until two windows in a row agree; input label -> typical duration in ns."""
    found: dict[str, float] = {}
    for one in inputs:
        deadline = time.monotonic() + max(_WARM_AT_MOST_S, 4 * design.warm_ms / 1000) / len(inputs)
        least = time.monotonic() + design.warm_ms / 1000 / len(inputs)
        before = math.inf
        while True:
            window = float(np.median(_timed(label, engine, one, design.warm_runs)))
            agree = abs(window / before - 1) <= _WINDOWS_AGREE
            before = window
            if (agree and time.monotonic() >= least) or time.monotonic() >= deadline:
                break
        found[one.label] = before
    return found


def _timed(label: str, engine: _Ready, one: Input, runs: int) -> list[int]:
    """Wall durations without a discarded run. A clock that is broken is found here, before it is divided by."""
    return checked_burst(engine.timed(one, 0, runs)["wall_ns"], f"arm {label!r}, input {one.label!r}, warming up")


def _repeats(typical_ns: Sequence[float], design: Design) -> int:
    wanted = math.ceil(design.burst_ms * 1e6 / max(min(typical_ns), 1.0))
    return min(max(wanted, design.burst_least), design.burst_most)


def _blocks(
    engines: Mapping[str, _Ready],
    inputs: Sequence[Input],
    repeats: Mapping[str, int],
    blocks: int,
    random: np.random.Generator,
) -> dict[str, dict[str, list[Burst]]]:
    labels = list(engines)
    samples: dict[str, dict[str, list[Burst]]] = {label: {one.label: [] for one in inputs} for label in labels}
    for block in range(blocks):
        for place in random.permutation(len(inputs)):
            one = inputs[int(place)]
            for position in random.permutation(len(labels)):
                label = labels[int(position)]
                burst = engines[label].timed(one, 1, repeats[one.label])
                where = f"arm {label!r}, input {one.label!r}, block {block}"
                samples[label][one.label].append(
                    {clock: checked_burst(values, f"{where}, {clock}") for clock, values in burst.items()}
                )
    return samples
