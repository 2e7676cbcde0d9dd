"""Runtime and Engine: public methods check state and arguments, a subclass fills in the ``*_impl``."""

# ruff: noqa: ANN401 - what a runtime keeps of a feed is its own

from __future__ import annotations

import abc
import contextlib
import gc
import os
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeVar

import numpy as np

__all__ = ["BatchPlayback", "Engine", "Runtime", "RuntimeFailure", "machine_facts", "read_options"]

Batch = Mapping[str, np.ndarray[Any, Any]]
T = TypeVar("T")


class RuntimeFailure(Exception):
    """What went wrong inside a worker, as plain strings: nothing else survives the way out of it.

    :param kind: ``build``, ``run``, ``calibration``, ``usage``, ``environment``, ``length`` or ``write``; the
        coordinator picks its exception class by it.
    :param what: what was wrong, with the value.
    :param where: file, tensor or library.
    :param todo: what the reader can do about it.
    :param detail: longer evidence: a parser's messages, a log, a traceback.
    """

    def __init__(self, kind: str, what: str, where: str = "", todo: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.kind, self.what, self.where, self.todo, self.detail = kind, what, where, todo, detail

    def as_data(self) -> dict[str, str]:
        """All five fields, ready to travel."""
        return {
            "kind": self.kind,
            "what": self.what,
            "where": self.where,
            "todo": self.todo,
            "detail": self.detail,
        }


class Engine(abc.ABC):
    """One loaded network.

    ``inputs()`` and ``outputs()`` give ``{name, dtype, shape}``: dtype by its numpy name, None for a varying axis.
    """

    def __init__(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        self._inputs, self._outputs = [dict(i) for i in inputs], [dict(o) for o in outputs]
        self._kept: dict[str, Any] = {}
        self._closed = False

    def inputs(self) -> list[dict[str, Any]]:
        """``{name, dtype, shape}`` of every input."""
        return [dict(i) for i in self._inputs]

    def outputs(self) -> list[dict[str, Any]]:
        """``{name, dtype, shape}`` of every output."""
        return [dict(o) for o in self._outputs]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """One inference: ``{input: array}`` in, ``{output: array}`` out.

        :raises RuntimeFailure: ``usage`` when closed; ``run`` when the feed does not fit or the runtime fails.
        """
        return self.run_impl(self._checked(feeds))

    def burst(self, feeds: Mapping[str, Any], warmup: int, repeats: int) -> list[int]:
        """Duration of each of ``repeats`` calls in ns, after ``warmup`` calls that are not kept.

        The same prepared inputs every time; the clock stands directly around the native call.

        :raises RuntimeFailure: as :meth:`run`; ``usage`` for a negative count.
        """
        feeds = self._checked(feeds)
        if warmup < 0 or repeats < 1:
            raise RuntimeFailure(
                "usage", f"a burst of {warmup} warm-up and {repeats} timed calls", todo="0 or more, 1 or more"
            )
        collecting = gc.isenabled()
        gc.disable()  # a collection in the middle of a call would be measured as the model's
        try:
            return self.burst_impl(feeds, warmup, repeats)
        finally:
            if collecting:
                gc.enable()

    def keep(self, label: str, feeds: Mapping[str, Any], contexts: int = 1) -> None:
        """Hold a prepared feed under a name, so that :meth:`timed` calls need not send it again and again.

        :param contexts: prepare it so many times; :meth:`timed` then runs all of them at once.
        :raises RuntimeFailure: as :meth:`run`; ``usage`` for fewer than one context.
        """
        feeds = self._checked(feeds)
        if contexts < 1:
            raise RuntimeFailure("usage", f"{contexts} contexts", todo="1 or more")
        self._let_go(label)
        kept = self._kept[label] = [self.keep_impl(feeds)]
        kept.extend(self.keep_more_impl(feeds) for _ in range(contexts - 1))  # one by one: all that were made are held

    def result(self, label: str) -> dict[str, Any]:
        """What the last run of a kept feed by :meth:`timed` gave, in its first context.

        :raises RuntimeFailure: ``usage`` when closed, for a label that was never kept, or where a runtime keeps none.
        """
        return self.result_impl(self._kept_as(label))

    def _let_go(self, label: str) -> None:
        for kept in self._kept.pop(label, ()):
            self.let_go_impl(kept)

    def timed(self, label: str, warmup: int, repeats: int) -> dict[str, list[int]]:
        """Durations of ``repeats`` calls on a kept feed after ``warmup`` that are not kept, by each clock, in ns.

        ``wall_ns``: ``perf_counter_ns`` around the call. ``cpu_ns``: processor time of this process over the call, all
        threads together; what it waited while other processes ran is not in it. A GPU runtime adds ``device_ns``.
        With several contexts a duration is that of a round, in which each of them runs once, by ``wall_ns`` alone.

        :raises RuntimeFailure: ``usage`` when closed, for a label that was never kept, or for a negative count.
        """
        self._check_open()
        if label not in self._kept:
            raise RuntimeFailure("usage", f"no feed is kept as {label!r}", todo="keep it first")
        if warmup < 0 or repeats < 1:
            raise RuntimeFailure(
                "usage", f"a burst of {warmup} warm-up and {repeats} timed calls", todo="0 or more, 1 or more"
            )
        collecting = gc.isenabled()
        gc.disable()
        try:
            kept = self._kept[label]
            if len(kept) == 1:
                return self.timed_impl(kept[0], warmup, repeats)
            return {"wall_ns": self._rounds(kept, warmup, repeats)}
        finally:
            if collecting:
                gc.enable()

    def _rounds(self, kept: Sequence[Any], warmup: int, repeats: int) -> list[int]:
        """For each timed round: ns from the moment when all contexts may start until the last one has run.

        One thread a context, which stands ready. What letting them go costs is in the durations: about 20 us.
        """
        rounds, ends = warmup + repeats, [0] * len(kept)
        go, done = threading.Barrier(len(kept) + 1), threading.Barrier(len(kept) + 1)

        def stand(index: int) -> None:
            try:
                for _ in range(rounds):
                    go.wait()
                    self.timed_impl(kept[index], 0, 1)
                    ends[index] = time.perf_counter_ns()
                    done.wait()
            except BaseException:  # whatever it is, the others must not wait for this one; it is raised below
                go.abort()
                done.abort()
                raise

        durations = []
        with ThreadPoolExecutor(max_workers=len(kept)) as pool:
            standing = [pool.submit(stand, index) for index in range(len(kept))]
            with contextlib.suppress(threading.BrokenBarrierError):
                for _ in range(rounds):
                    start = time.perf_counter_ns()
                    go.wait()
                    done.wait()
                    durations.append(max(ends) - start)
        failed = [error for one in standing if (error := one.exception()) is not None]
        for error in failed:
            if not isinstance(error, threading.BrokenBarrierError):  # those only say that another one failed
                raise error
        return durations[warmup:]

    def coverage(self) -> dict[str, Any] | None:
        """``{int8, float, operators}``, or None when the runtime does not tell.

        How many operators with weights compute in INT8, how many in float, and ``{operator type: count}``.
        """
        self._check_open()
        return self.coverage_impl()

    def close(self) -> None:
        """Free the engine. A second call does nothing."""
        if not self._closed:
            self._closed = True
            for label in list(self._kept):
                self._let_go(label)
            self.close_impl()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeFailure("usage", "the engine is closed", todo="load it again")

    def _checked(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        self._check_open()
        feeds = self.adapt_impl(feeds)
        known = {i["name"]: i for i in self._inputs}
        for name in feeds:
            if name not in known:
                raise RuntimeFailure("run", f"no input is called {name!r}", todo=f"inputs are {', '.join(known)}")
        for name, spec in known.items():
            if name not in feeds:
                raise RuntimeFailure("run", f"input {name!r} is missing", todo=f"feed all of {', '.join(known)}")
            array = feeds[name]
            if not isinstance(array, np.ndarray):
                raise RuntimeFailure("run", f"input {name!r} is a {type(array).__name__}, not an array")
            if str(array.dtype) != spec["dtype"]:
                raise RuntimeFailure("run", f"input {name!r} is {array.dtype}, the engine takes {spec['dtype']}")
            shape = spec["shape"]
            if len(array.shape) != len(shape) or any(
                want is not None and want != have for want, have in zip(shape, array.shape, strict=True)
            ):
                wanted = ", ".join("?" if n is None else str(n) for n in shape)
                raise RuntimeFailure(
                    "run", f"input {name!r} has shape {list(array.shape)}, the engine takes [{wanted}]"
                )
        return feeds

    def adapt_impl(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        """The feed as this engine takes it, before it is checked."""
        return feeds

    @abc.abstractmethod
    def run_impl(self, feeds: Mapping[str, Any]) -> dict[str, Any]: ...

    @abc.abstractmethod
    def burst_impl(self, feeds: Mapping[str, Any], warmup: int, repeats: int) -> list[int]: ...

    def keep_impl(self, feeds: Mapping[str, Any]) -> Any:
        """What :meth:`timed_impl` wants of a feed; a runtime may bind it to its device here."""
        return dict(feeds)

    def keep_more_impl(self, feeds: Mapping[str, Any]) -> Any:
        """The same for a further context."""
        return self.keep_impl(feeds)

    def timed_impl(self, kept: Any, warmup: int, repeats: int) -> dict[str, list[int]]:
        return {"wall_ns": self.burst_impl(kept, warmup, repeats)}

    def layers(self, label: str = "") -> list[dict[str, Any]]:
        """What the runtime tells of every layer, as it tells it; at the shapes of a kept feed where one is named.

        :raises RuntimeFailure: ``usage`` when closed, or for a label that was never kept.
        """
        self._check_open()
        return self.layers_impl(self._kept_as(label) if label else None)

    def layer_times(self, label: str, repeats: int) -> dict[str, list[float]]:
        """Layer -> ms of each of ``repeats`` runs on a kept feed; empty where the runtime does not tell.

        :raises RuntimeFailure: ``usage`` when closed, or for a label that was never kept.
        """
        return self.layer_times_impl(self._kept_as(label), repeats)

    def memory(self) -> dict[str, int]:
        """Bytes on the device: ``context_bytes`` as stated; off its free memory ``engine_bytes`` and, for the context,
        ``taken_bytes``. Empty for a runtime without one.
        """
        self._check_open()
        return self.memory_impl()

    def profiles(self) -> list[dict[str, list[list[int]]]]:
        """Profile by profile, input -> its smallest, opt and largest shape, as the engine has them; empty without."""
        self._check_open()
        return self.profiles_impl()

    def _kept_as(self, label: str) -> Any:
        self._check_open()
        if label not in self._kept:
            raise RuntimeFailure("usage", f"no feed is kept as {label!r}", todo="keep it first")
        return self._kept[label][0]

    def let_go_impl(self, kept: Any) -> None:  # noqa: B027 - nothing to free is the common case
        """Free what :meth:`keep_impl` holds."""

    def result_impl(self, kept: Any) -> dict[str, Any]:  # noqa: ARG002
        raise RuntimeFailure("usage", "this runtime keeps no outputs of timed runs", todo="run the feed")

    def layers_impl(self, kept: Any) -> list[dict[str, Any]]:  # noqa: ARG002
        return []

    def layer_times_impl(self, kept: Any, repeats: int) -> dict[str, list[float]]:  # noqa: ARG002
        return {}

    def memory_impl(self) -> dict[str, int]:
        return {}

    def profiles_impl(self) -> list[dict[str, list[list[int]]]]:
        return []

    def coverage_impl(self) -> dict[str, Any] | None:
        return None

    def close_impl(self) -> None:  # noqa: B027 - nothing to free is the common case
        pass


class Runtime(abc.ABC):
    """One engine family in this interpreter. Options are a plain dict; an unknown one is refused by name."""

    name = ""
    cache: str | None = None
    """Folder for what outlives a process; set by the service."""

    def describe(self, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What is here, and what it can do.

        :param options: of builds and loads; with ``device``, it is that one which is described.

        ``library, version, device, providers, precisions, routes, can_run, can_build`` and :func:`machine_facts`.
        """
        return {**machine_facts(), **self.describe_impl(options or {})}

    def tied_to(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What an engine built here belongs to, beside its source and these options: it is kept by that, and found.

        Two hosts may share a cache, and a host may get another GPU, or other libraries below the runtime.

        :raises RuntimeFailure: ``environment``, when the library cannot be used here.
        """
        return self.tied_to_impl(options)

    def lost(self) -> str:
        """Why nothing can work in this process any more, whatever is called next; empty while something can.

        An illegal memory access on a GPU is such a reason: every later call of CUDA fails by it.
        """
        return self.lost_impl()

    def build(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Make the engine file ``target`` of the ONNX file ``source``.

        A runtime that executes ONNX itself writes no file: its build is one load, so that a broken artefact is
        found here and not in the first measurement.

        :returns: facts: ``seconds``, ``bytes``, ``log`` and ``warnings`` (lists of lines), ``coverage``.
        :raises RuntimeFailure: ``build``, with everything that the parser and the builder said; ``environment``
            or ``usage`` when the options cannot be met.
        """
        _check_file(source)
        return self.build_impl(source, target, options)

    def load(self, path: str, options: Mapping[str, Any]) -> Engine:
        """An engine of an ONNX file or of what :meth:`build` wrote.

        :raises RuntimeFailure: ``build`` for a file that is broken, ``environment`` when it cannot run here.
        """
        _check_file(path)
        return self.load_impl(path, options)

    @abc.abstractmethod
    def describe_impl(self, options: Mapping[str, Any]) -> dict[str, Any]: ...

    def tied_to_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"device": self.describe_impl(options)["device"]}

    def lost_impl(self) -> str:
        return ""

    @abc.abstractmethod
    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]: ...

    @abc.abstractmethod
    def load_impl(self, path: str, options: Mapping[str, Any]) -> Engine: ...


class BatchPlayback:
    """Plays prepared calibration batches back, in order, to a library that pulls them by a callback.

    TensorRT swallows what a callback raises and goes on with the batches it has. So the first exception is kept
    here, and :meth:`check` raises it, or says that batches were left over, when the build has returned.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches: Iterator[Batch] = iter(batches)
        self.supplied = len(batches)
        self.consumed = 0
        self.error: BaseException | None = None

    def next(self, use: Callable[[Batch], T]) -> T | None:
        """``use(batch)`` of the next batch, None when there is none left or an earlier one failed."""
        if self.error is not None:
            return None
        try:
            batch = next(self._batches, None)
            if batch is None:
                return None
            result = use(batch)
        except BaseException as error:  # noqa: BLE001 - whatever it is, check() raises it
            self.error = error
            return None
        self.consumed += 1
        return result

    def check(self) -> None:
        """:raises RuntimeFailure: ``calibration`` when a batch failed, or when not every batch was consumed."""
        if self.error is not None:
            raise RuntimeFailure(
                "calibration",
                f"calibration batch {self.consumed} of {self.supplied} failed: {self.error!r}",
            ) from self.error
        if self.consumed != self.supplied:
            raise RuntimeFailure("calibration", f"{self.consumed} of {self.supplied} calibration batches were consumed")


def read_options(options: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``defaults`` with ``options`` laid over them.

    :raises RuntimeFailure: ``usage``, for an option that is not among the defaults.
    """
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise RuntimeFailure("usage", f"unknown option {unknown[0]!r}", where, f"options are {', '.join(defaults)}")
    return {**defaults, **options}


def machine_facts() -> dict[str, Any]:
    """``python``, ``numpy``, ``cpu`` (model name), ``cpus`` (that this process may use)."""
    cpu = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def _check_file(path: str) -> None:
    if not Path(path).is_file():
        raise RuntimeFailure("build", "no such file", path)
