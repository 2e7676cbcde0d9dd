"""The loop inside a worker: (call id, method, arguments) in, (call id, answer or error) out."""

# ruff: noqa: ANN401 - what comes from a native library or over the channel has no types
# ruff: noqa: FBT001 - calls arrive with positional arguments

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import tempfile
import traceback
from pathlib import Path
from typing import Any

from .base import Engine, Runtime, RuntimeFailure
from .machine import machine
from .scratch import Scratch
from .wire import pack_all, unpack_all

__all__ = ["RUNTIMES", "Blobs", "Service", "make_runtime", "serve"]

RUNTIMES = {
    "onnxruntime": ("onnxruntime", "OnnxRuntime"),
    "tensorrt": ("tensorrt", "TensorRt"),
    "tensorrt-rtx": ("tensorrt_rtx", "TensorRtRtx"),
}

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOST = "the engine read outside its memory, or the GPU failed (dmesg: Xid); a new worker goes on without it"
_MAKE_ROOM = "make room, or set TRT_INT8_HARNESS_CACHE to a folder that has some"


def make_runtime(name: str) -> Runtime:
    """The runtime of that family; its library is imported when it is first used.

    :raises RuntimeFailure: ``usage``, for a name that no module here implements.
    """
    if name not in RUNTIMES:
        raise RuntimeFailure("usage", f"no runtime is called {name!r}", todo=f"runtimes are {', '.join(RUNTIMES)}")
    module, cls = RUNTIMES[name]
    runtime = getattr(importlib.import_module("." + module, __package__), cls)()
    assert isinstance(runtime, Runtime)
    return runtime


class Blobs:
    """Files by their SHA-256 in ``<cache>/blobs``: whole and right, or not there."""

    def __init__(self, cache: str) -> None:
        self.folder = Path(cache, "blobs")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scratch = Scratch(cache)
        self._incoming: dict[str, tuple[Any, Any]] = {}
        self._right: set[tuple[str, int, int]] = set()

    def path(self, digest: str) -> Path:
        """Where the file of that SHA-256 (64 hex digits) lies or would lie."""
        return self.folder / digest

    def has(self, digest: str) -> bool:
        """Whether it lies there, and is what its name says: a disk that was full, or failed, may have cut it short."""
        path = self.path(digest)
        try:
            stamp = _stamp(path, digest)
            if stamp not in self._right and _sha256(path) == digest:
                self._right.add(stamp)
        except OSError:
            return False
        return stamp in self._right

    def receive(self, digest: str, chunk: bytes, last: bool) -> None:
        """The next chunk of a file; the last one checks the whole.

        :raises RuntimeFailure: ``environment``, when what arrived is not what was announced.
        :raises OSError: it cannot be written; what came so far is forgotten.
        """
        if digest not in self._incoming:
            self._incoming[digest] = ((self.scratch.folder() / digest).open("wb"), hashlib.sha256())
        file, seen = self._incoming[digest]
        try:
            file.write(chunk)
            seen.update(chunk)
            if not last:
                return
            file.close()
            if seen.hexdigest() == digest:
                Path(file.name).replace(self.path(digest))
        except OSError:
            del self._incoming[digest]  # the next try begins anew
            raise
        del self._incoming[digest]
        if seen.hexdigest() != digest:
            raise RuntimeFailure("environment", "a file was damaged on its way to the worker", digest[:12])

    def adopt(self, path: Path) -> str:
        """Move a file that was made here into the store.

        :returns: its digest.
        """
        digest = _sha256(path)
        path.replace(self.path(digest))
        self._right.add(_stamp(self.path(digest), digest))
        return digest


def _stamp(path: Path, digest: str) -> tuple[str, int, int]:
    status = path.stat()
    return digest, status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    seen = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            seen.update(chunk)
    return seen.hexdigest()


class Service:
    """What the coordinator can call: every public method, by its name. Engines are held by number.

    Arguments and answers are plain data. Files go by their SHA-256, 64 hex digits; arrays as :data:`wire.Packed`.
    """

    def __init__(self, runtime: Runtime, cache: str) -> None:
        self._runtime, self._blobs = runtime, Blobs(cache)
        runtime.cache = cache
        self._engines: dict[int, Engine] = {}
        self._next = 1

    def describe(self, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Library, version, device and machine; see ``Runtime.describe``.

        :raises RuntimeFailure: ``environment``, when the library cannot be used here.
        """
        return self._runtime.describe(options)

    def machine(self) -> dict[str, Any]:
        """The host of this process as it is now; see ``machine.machine``."""
        return machine()

    def cores(self) -> list[int]:
        """The cores that the calling thread may run on."""
        return sorted(os.sched_getaffinity(0))

    def pin(self, core: int) -> None:
        """Keep the thread that calls and computes, and any that it starts from now on, on one core.

        :raises OSError: the core is not there, or not this process's to use.
        """
        os.sched_setaffinity(0, {core})

    def has(self, digest: str) -> bool:
        """Whether the file is in the store, whole, so that it need not be sent."""
        return self._blobs.has(digest)

    def tied_to(self, options: dict[str, Any]) -> dict[str, Any]:
        """As ``Runtime.tied_to``.

        :raises RuntimeFailure: ``environment``, when the library cannot be used here.
        """
        return self._runtime.tied_to(options)

    def receive(self, digest: str, chunk: bytes, last: bool) -> None:
        """The next chunk of a file, in order; see :meth:`Blobs.receive`.

        :raises RuntimeFailure: ``environment``, when the whole does not have that digest.
        """
        self._blobs.receive(digest, chunk, last)

    def fetch(self, digest: str, offset: int, size: int) -> bytes:
        """At most ``size`` bytes of a stored file from byte ``offset``; none at its end.

        :raises FileNotFoundError: the store has no such file.
        """
        with self._blobs.path(digest).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def build(self, digest: str, options: dict[str, Any]) -> dict[str, Any]:
        """Build a stored ONNX file.

        :param options: those of the runtime; in ``files``, role -> digest of a stored file.
        :returns: the facts of ``Runtime.build``, with ``artefact``: the digest of what :meth:`load` takes.
        :raises RuntimeFailure: as ``Runtime.build``.
        """
        if options.get("files"):
            files = {role: str(self._blobs.path(one)) for role, one in options["files"].items()}
            options = {**options, "files": files}
        with tempfile.TemporaryDirectory(dir=self._blobs.scratch.folder()) as folder:
            target = Path(folder, "engine")
            facts = self._runtime.build(str(self._blobs.path(digest)), str(target), options)
            facts["artefact"] = self._blobs.adopt(target) if target.exists() else digest
        return facts

    def load(self, digest: str, options: dict[str, Any]) -> tuple[int, list[Any], list[Any]]:
        """Load a stored file, and hold the engine until :meth:`close`.

        :returns: the engine's number; ``{name, dtype, shape}`` of each input; the same of each output.
        :raises RuntimeFailure: as ``Runtime.load``.
        """
        engine = self._runtime.load(str(self._blobs.path(digest)), options)
        handle, self._next = self._next, self._next + 1
        self._engines[handle] = engine
        return handle, engine.inputs(), engine.outputs()

    def run(self, handle: int, feeds: dict[str, Any]) -> dict[str, Any]:
        """One inference: input name -> packed array in, output name -> packed array out.

        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.run``.
        """
        return pack_all(self._engine(handle).run(unpack_all(feeds)))

    def burst(self, handle: int, feeds: dict[str, Any], warmup: int, repeats: int) -> list[int]:
        """Durations of ``repeats`` calls in ns, after ``warmup`` calls that are not kept.

        :param feeds: input name -> packed array.
        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.burst``.
        """
        return self._engine(handle).burst(unpack_all(feeds), warmup, repeats)

    def keep(self, handle: int, label: str, feeds: dict[str, Any], contexts: int = 1) -> None:
        """Hold a feed (input name -> packed array) under ``label``; :meth:`timed` runs it in ``contexts`` at once.

        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.keep``.
        """
        self._engine(handle).keep(label, unpack_all(feeds), contexts)

    def timed(self, handle: int, label: str, warmup: int, repeats: int) -> dict[str, list[int]]:
        """Durations of ``repeats`` calls on a kept feed, by clock, in ns.

        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.timed``.
        """
        return self._engine(handle).timed(label, warmup, repeats)

    def coverage(self, handle: int) -> Any:
        """``{int8, float, operators}`` (counts) of ``Engine.coverage``, or None where the runtime does not tell.

        :raises RuntimeFailure: ``usage`` for an engine that is closed.
        """
        return self._engine(handle).coverage()

    def result(self, handle: int, label: str) -> dict[str, Any]:
        """Packed outputs of a kept feed's last timed run; see ``Engine.result``."""
        return pack_all(self._engine(handle).result(label))

    def layers(self, handle: int, label: str = "") -> list[dict[str, Any]]:
        """As ``Engine.layers``.

        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.layers``.
        """
        return self._engine(handle).layers(label)

    def layer_times(self, handle: int, label: str, repeats: int) -> dict[str, list[float]]:
        """As ``Engine.layer_times``.

        :raises RuntimeFailure: ``usage`` for an engine that is closed; as ``Engine.layer_times``.
        """
        return self._engine(handle).layer_times(label, repeats)

    def memory(self, handle: int) -> dict[str, int]:
        """As ``Engine.memory``.

        :raises RuntimeFailure: ``usage`` for an engine that is closed.
        """
        return self._engine(handle).memory()

    def profiles(self, handle: int) -> list[dict[str, list[list[int]]]]:
        """As ``Engine.profiles``.

        :raises RuntimeFailure: ``usage`` for an engine that is closed.
        """
        return self._engine(handle).profiles()

    def close(self, handle: int) -> None:
        """Free an engine; for a number that is not held, nothing."""
        engine = self._engines.pop(handle, None)
        if engine is not None:
            engine.close()

    def lost(self) -> str:
        """As ``Runtime.lost``; asked after every failure."""
        return self._runtime.lost()

    def end(self) -> None:
        """Remove what was half made. Engines end with the process."""
        self._blobs.scratch.close()

    def _engine(self, handle: int) -> Engine:
        if handle not in self._engines:
            raise RuntimeFailure("usage", "the engine is closed", todo="load it again")
        return self._engines[handle]


def serve(channel: Any, runtime: str, cache: str) -> None:
    """Answer calls until the coordinator hangs up.

    :param channel: ``receive()`` and ``send()`` of plain data; an EOFError from it ends the loop.
    """
    service = Service(make_runtime(runtime), cache)
    try:
        while True:
            try:
                call, method, arguments = channel.receive()
            except EOFError:
                return
            fine, answer = _answer(service, method, arguments)
            channel.send((call, fine, answer if fine else _with_loss(answer, service.lost())))
    finally:
        service.end()


def _with_loss(failure: dict[str, str], lost: str) -> dict[str, str]:
    """A failure, and whether it took the process along; our frames then tell nothing of it."""
    if not lost:
        return {**failure, "lost": ""}
    plain = {"kind": "run", "detail": ""} if failure["kind"] == "internal" else {}
    return {**failure, **plain, "todo": failure.get("todo") or _LOST, "lost": lost}


def _answer(service: Service, method: str, arguments: Any) -> tuple[bool, Any]:
    try:
        return True, getattr(service, method)(*arguments)
    except RuntimeFailure as failure:
        return False, failure.as_data()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the coordinator's to report
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            what, where = f"the disk is full: {error.strerror}", str(error.filename or method)
            return False, RuntimeFailure("write", what, where, _MAKE_ROOM).as_data()
        what = f"{type(error).__name__}: {error}"
        return False, {"kind": "internal", "what": what, "where": method, "detail": traceback.format_exc()}
