"""An engine in a worker, with the same methods as one here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.errors import HostLost, RunFailed, WorkerDied
from harness.runtimes.wire import pack_all, unpack_all

if TYPE_CHECKING:
    from types import TracebackType

    from harness.workers.worker import Worker

__all__ = ["Feed", "RemoteEngine"]

Feed = Mapping[str, np.ndarray[Any, Any]]


class RemoteEngine:
    """An engine in a worker. Arrays go in and come out; the engine is gone with the process that loaded it.

    :param source: the file it was loaded from, for messages.
    """

    def __init__(
        self, worker: Worker, handle: int, source: str, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]
    ) -> None:
        self._worker, self._handle, self._source = worker, handle, source
        self._inputs, self._outputs = inputs, outputs
        self._generation = worker.generation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inputs(self) -> list[dict[str, Any]]:
        """``{name, dtype, shape}`` of every input; None for an axis that varies."""
        return [dict(i) for i in self._inputs]

    def outputs(self) -> list[dict[str, Any]]:
        """``{name, dtype, shape}`` of every output; None for an axis that varies."""
        return [dict(o) for o in self._outputs]

    def run(self, feeds: Feed, deadline_s: float | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """One inference.

        :raises RunFailed: the feed does not fit, or the runtime failed.
        """
        return unpack_all(self._call("run", self._pack(feeds), deadline_s=deadline_s))

    def burst(self, feeds: Feed, warmup: int, repeats: int, deadline_s: float | None = None) -> list[int]:
        """Duration of each of ``repeats`` calls in ns, after ``warmup`` untimed ones; one message to the worker.

        :raises RunFailed: as :meth:`run`.
        """
        return list(self._call("burst", self._pack(feeds), warmup, repeats, deadline_s=deadline_s))

    def keep(self, label: str, feeds: Feed, contexts: int = 1, deadline_s: float | None = None) -> None:
        """Send a feed once, for any number of :meth:`timed` calls, which run it in ``contexts`` contexts at once.

        :raises RunFailed: it does not fit.
        """
        self._call("keep", label, self._pack(feeds), contexts, deadline_s=deadline_s)

    def timed(self, label: str, warmup: int, repeats: int, deadline_s: float | None = None) -> dict[str, list[int]]:
        """Durations of ``repeats`` calls on a kept feed, by clock (``wall_ns``, ``cpu_ns``, ``device_ns``), in ns.

        :raises RunFailed: the runtime failed. :raises WorkerDied, WorkerHung: the process did.
        """
        timed: dict[str, list[int]] = self._call("timed", label, warmup, repeats, deadline_s=deadline_s)
        return timed

    def result(self, label: str) -> dict[str, np.ndarray[Any, Any]]:
        """Outputs of a kept feed's last timed run; for runtimes whose outputs stay on a device."""
        return unpack_all(self._call("result", label))

    def coverage(self) -> dict[str, Any] | None:
        """``{int8, float, operators}``: weighted operators by what they really compute in; None when unknown."""
        counted: dict[str, Any] | None = self._call("coverage")
        return counted

    def layers(self, label: str = "") -> list[dict[str, Any]]:
        """What the runtime tells of every layer, at the shapes of a kept feed if one is named; empty when nothing."""
        return list(self._call("layers", label))

    def layer_times(self, label: str, repeats: int) -> dict[str, list[float]]:
        """Layer -> ms of each of ``repeats`` runs on a kept feed, by the runtime's profiler; empty without one."""
        return dict(self._call("layer_times", label, repeats))

    def memory(self) -> dict[str, int]:
        """Bytes on the device: ``context_bytes`` as stated; off its free memory ``engine_bytes`` and, for the context,
        ``taken_bytes``. Empty without one.
        """
        return dict(self._call("memory"))

    def profiles(self) -> list[dict[str, list[list[int]]]]:
        """Profile by profile, input -> its smallest, opt and largest shape; empty for a runtime without profiles."""
        return list(self._call("profiles"))

    def close(self) -> None:
        """Free the engine, if its process still lives."""
        if self._worker.alive and self._worker.generation == self._generation:
            self._call("close")

    def _pack(self, feeds: Feed) -> dict[str, Any]:
        try:
            return pack_all(feeds)
        except TypeError as error:
            raise RunFailed(str(error), where=f"{self._worker.environment.name}, {self._source}") from None

    def _call(self, method: str, *arguments: object, deadline_s: float | None = None) -> Any:  # noqa: ANN401
        if self._worker.generation != self._generation:
            # On another host it is the connection, as far as anybody has noticed: a crash would have ended a call.
            kind = HostLost if self._worker.environment.host else WorkerDied
            raise kind("the engine's worker process has ended", where=self._source, todo="load the engine again")
        return self._worker.call(method, self._handle, *arguments, deadline_s=deadline_s, on=self._source)
