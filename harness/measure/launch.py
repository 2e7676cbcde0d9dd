"""One launch: fresh worker processes for all arms, warm-up, then blocks in random order. Raw samples come back."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError, WorkerError
from harness.measure.clock import checked_burst, judging_clock
from harness.measure.host import throttled
from harness.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.corpus.samples import Feeds
    from harness.measure.arms import Arm, Clock, Design, Input
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
    :param profile_switch_ns: the same where the engine changed its optimization profile, too; those are not among the
        changes of shape.
    """

    load_s: float
    first_run_ns: int
    shape_change_ns: dict[str, int]
    profile_switch_ns: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Launch:
    """Raw samples of one launch.

    :param samples: arm -> input -> bursts in block order; a burst is clock -> durations in ns.
    :param cold: arm -> cold start.
    :param seconds: ``starting``, ``warming``, ``measuring``.
    :param core: the core, of the workers' host, that all of them were pinned to; None where they were not.
    :param seed: what the order of inputs and arms was drawn from.
    :param load: the workers' host's load over 1, 5 and 15 minutes when it ended.
    :param build: which build of the engines was measured.
    :param clock: the clock that judges. Only its values were checked; the others are recorded as they came.
    :param unsettled: arms and inputs whose windows did not agree when the time to warm up was over.
    :param throttled: why GPUs ran slower than they could, as seen between blocks.
    """

    samples: dict[str, dict[str, list[Burst]]]
    cold: dict[str, Cold]
    seconds: dict[str, float]
    core: int | None
    seed: int
    load: tuple[float, ...] = field(default_factory=tuple)
    build: int = 0
    clock: Clock = "wall_ns"
    unsettled: tuple[str, ...] = ()
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Warm:
    """What warming up found.

    :param typical_ns: arm -> input -> duration by the wall clock.
    :param clocks: those that every arm offers with durations above 0.
    """

    typical_ns: dict[str, dict[str, float]]
    clocks: list[str]
    unsettled: tuple[str, ...]


@dataclass(frozen=True)
class _Ready:
    """An arm's engines in its worker: input label -> the one that serves it.

    :param batch: see :class:`harness.measure.arms.Arm`.
    """

    engines: dict[str, RemoteEngine]
    batch: int = 1

    def timed(self, one: Input, warmup: int, runs: int) -> Burst:
        return self.engines[one.label].timed(one.label, warmup, runs)

    def switches(self, before: Input, after: Input) -> bool:
        """Whether one engine serves both, by different profiles."""
        engine = self.engines[after.label]
        if engine is not self.engines[before.label]:
            return False
        profiles = engine.profiles()
        first, second = (_admitting(profiles, _stacked(one.feeds, self.batch)) for one in (before, after))
        return first != second


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
    :param start: makes a worker; for tests, and for other deadlines.
    :raises LaunchLost: a worker died or hung, or a clock misbehaved; nothing of this launch can be used.
    :raises UsageError: the design asks for a clock that is not there.
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
            warm = _warmed(ready, inputs, design)
            repeats = {
                one.label: _repeats([warm.typical_ns[arm][one.label] for arm in ready], design) for one in inputs
            }
            clock = judging_clock(design.clock, warm.clocks, one_thread=all(arm.on_one_thread for arm in arms))
            seconds["warming"] = time.monotonic() - began

            began = time.monotonic()
            slowed = partial(_throttled, workers[arms[0].label])
            samples, slow = _blocks(ready, inputs, repeats, design.blocks, clock, random, slowed)
            seconds["measuring"] = time.monotonic() - began
            load = _load(workers[arms[0].label])
        except (WorkerError, DataError) as error:
            raise LaunchLost(str(error)) from error
    return Launch(samples, cold, seconds, core, seed, load, build, clock, warm.unsettled, slow)


def _started(arms: Sequence[Arm], start: Callable[[Arm], Worker], stack: ExitStack) -> dict[str, Worker]:
    first = {_process(arm): arm for arm in reversed(arms)}  # of those that share a process
    with ThreadPoolExecutor(max_workers=len(first)) as pool:
        pending = {process: pool.submit(start, arm) for process, arm in first.items()}
    workers: dict[tuple[str, str], Worker] = {}
    for process, future in pending.items():
        if future.exception() is None:  # the others are closed also when one did not start
            workers[process] = stack.enter_context(future.result())
    return {arm.label: pending[_process(arm)].result() for arm in arms}


def _process(arm: Arm) -> tuple[str, str]:
    return ("shared", arm.process) if arm.process else ("own", arm.label)


def _pinned(workers: Mapping[str, Worker], random: np.random.Generator) -> int:
    common = set.intersection(*(set(worker.cores()) for worker in workers.values()))
    core = int(random.choice(sorted(common)))
    for worker in workers.values():
        worker.pin(core)
    return core


def _throttled(worker: Worker) -> list[str]:
    """Why the GPUs of the workers' host are slow. Asked on this machine without a worker, which is then left alone."""
    return throttled(worker.machine()["gpus"]) if worker.environment.host else throttled()


def _load(worker: Worker) -> tuple[float, ...]:
    return tuple(worker.machine()["load"]) if worker.environment.host else os.getloadavg()


def _loaded(worker: Worker, arm: Arm, inputs: Sequence[Input], build: int) -> tuple[_Ready, float]:
    files = {one.label: arm.file(build, one.label) for one in inputs}
    for path in dict.fromkeys(files.values()):
        worker.put(path)  # sending the file is not loading it
    began = time.monotonic()
    engines = {path: worker.load(path, arm.options) for path in dict.fromkeys(files.values())}
    took = time.monotonic() - began
    for one in inputs:
        engines[files[one.label]].keep(one.label, _stacked(one.feeds, arm.batch), arm.contexts)
    return _Ready({label: engines[path] for label, path in files.items()}, arm.batch), took


def _stacked(feeds: Feeds, batch: int) -> Feeds:
    return feeds if batch == 1 else {k: np.concatenate([v] * batch) if v.ndim else v for k, v in feeds.items()}


def _first_runs(label: str, engine: _Ready, inputs: Sequence[Input]) -> tuple[int, dict[str, int], dict[str, int]]:
    first = _timed(label, engine, inputs[0], 1)["wall_ns"][0]
    changes: dict[str, int] = {}
    switches: dict[str, int] = {}
    for before, one in zip(inputs, (*inputs[1:], inputs[0]), strict=True):
        took = _timed(label, engine, one, 1)["wall_ns"][0]
        if one is not before:
            (switches if engine.switches(before, one) else changes)[one.label] = took
    return first, changes, switches


def _admitting(profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]], feeds: Feeds) -> int | None:
    """The first profile that admits the feeds, which is the one that is chosen; None without profiles."""
    for number, profile in enumerate(profiles):
        axes = [zip(feeds[name].shape, low, high, strict=True) for name, (low, _, high) in profile.items()]
        if all(least <= size <= most for of_input in axes for size, least, most in of_input):
            return number
    return None


def _warmed(engines: Mapping[str, _Ready], inputs: Sequence[Input], design: Design) -> _Warm:
    """Run every arm on every input until two windows in a row agree, or for two seconds an arm."""
    typical: dict[str, dict[str, float]] = {}
    unsettled, clocks = [], set[str]()
    for label, engine in engines.items():
        typical[label] = {}
        for one in inputs:
            deadline = time.monotonic() + max(_WARM_AT_MOST_S, 4 * design.warm_ms / 1000) / len(inputs)
            least = time.monotonic() + design.warm_ms / 1000 / len(inputs)
            before = math.inf
            while True:
                burst = _timed(label, engine, one, design.warm_runs)
                window = float(np.median(burst["wall_ns"]))
                agree = abs(window / before - 1) <= _WINDOWS_AGREE
                before = window
                if (agree and time.monotonic() >= least) or time.monotonic() >= deadline:
                    break
            if not agree:
                unsettled.append(f"{label}, {one.label}")
            typical[label][one.label] = before
            offered = {clock for clock, values in burst.items() if values and min(values) > 0}
            clocks = clocks & offered if clocks else offered
    return _Warm(typical, sorted(clocks), tuple(unsettled))


def _timed(label: str, engine: _Ready, one: Input, runs: int) -> Burst:
    """A burst without a discarded run. A wall clock that is broken is found here, before it is divided by."""
    burst = engine.timed(one, 0, runs)
    checked_burst(burst["wall_ns"], f"arm {label!r}, input {one.label!r}, warming up")
    return burst


def _repeats(typical_ns: Sequence[float], design: Design) -> int:
    wanted = math.ceil(design.burst_ms * 1e6 / max(min(typical_ns), 1.0))
    return min(max(wanted, design.burst_least), design.burst_most)


def _blocks(
    engines: Mapping[str, _Ready],
    inputs: Sequence[Input],
    repeats: Mapping[str, int],
    blocks: int,
    clock: Clock,
    random: np.random.Generator,
    slowed: Callable[[], list[str]],
) -> tuple[dict[str, dict[str, list[Burst]]], tuple[str, ...]]:
    """Samples, and why GPUs were slow: asked between blocks, while they are still busy or just were."""
    labels = list(engines)
    samples: dict[str, dict[str, list[Burst]]] = {label: {one.label: [] for one in inputs} for label in labels}
    slow: dict[str, None] = {}
    for block in range(blocks):
        for place in random.permutation(len(inputs)):
            one = inputs[int(place)]
            for position in random.permutation(len(labels)):
                label = labels[int(position)]
                burst = engines[label].timed(one, 1, repeats[one.label])
                checked_burst(burst.get(clock, ()), f"arm {label!r}, input {one.label!r}, block {block}, {clock}")
                samples[label][one.label].append(burst)
        if clock == "device_ns":
            slow |= dict.fromkeys(slowed())
    return samples, tuple(slow)
