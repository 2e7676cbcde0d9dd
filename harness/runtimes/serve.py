"""The loop inside a worker: (call id, method, arguments) in, (call id, answer or error) out."""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
import traceback
from typing import Any, Dict, List, Tuple

from .base import Engine, Runtime, RuntimeFailure
from .wire import pack_all, unpack_all

__all__ = ["Blobs", "Service", "make_runtime", "serve"]

_RUNTIMES = {
    "onnxruntime": ("onnxruntime", "OnnxRuntime"),
    "tensorrt-rtx": ("tensorrt_rtx", "TensorRtRtx"),
}


def make_runtime(name: str) -> Runtime:
    """The runtime of that family; its library is imported when it is first used.

    :raises RuntimeFailure: ``usage``, for a name that no module here implements.
    """
    if name not in _RUNTIMES:
        raise RuntimeFailure(
            "usage", f"no runtime is called {name!r}", todo=f"runtimes are {', '.join(_RUNTIMES)}"
        )
    module, cls = _RUNTIMES[name]
    runtime = getattr(importlib.import_module("." + module, __package__), cls)()
    assert isinstance(runtime, Runtime)
    return runtime


class Blobs:
    """Files by their SHA-256 in ``<cache>/blobs``: whole and right, or not there."""

    def __init__(self, cache: str) -> None:
        self.folder = os.path.join(cache, "blobs")
        os.makedirs(self.folder, exist_ok=True)
        self._incoming: Dict[str, Tuple[Any, Any]] = {}

    def path(self, digest: str) -> str:
        return os.path.join(self.folder, digest)

    def receive(self, digest: str, chunk: bytes, last: bool) -> None:
        """The next chunk of a file; the last one checks the whole.

        :raises RuntimeFailure: ``environment``, when what arrived is not what was announced.
        """
        if digest not in self._incoming:
            self._incoming[digest] = (tempfile.NamedTemporaryFile(dir=self.folder, delete=False), hashlib.sha256())
        file, seen = self._incoming[digest]
        file.write(chunk)
        seen.update(chunk)
        if last:
            del self._incoming[digest]
            file.close()
            if seen.hexdigest() != digest:
                os.unlink(file.name)
                raise RuntimeFailure("environment", "a file was damaged on its way to the worker", digest[:12])
            os.replace(file.name, self.path(digest))

    def adopt(self, path: str) -> str:
        """Move a file that was made here into the store.

        :returns: its digest.
        """
        seen = hashlib.sha256()
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                seen.update(chunk)
        os.replace(path, self.path(seen.hexdigest()))
        return seen.hexdigest()


class Service:
    """What the coordinator can call: every public method, by its name. Engines are held by number."""

    def __init__(self, runtime: Runtime, cache: str) -> None:
        self._runtime, self._blobs = runtime, Blobs(cache)
        self._engines: Dict[int, Engine] = {}
        self._next = 1

    def describe(self) -> Dict[str, Any]:
        return self._runtime.describe()

    def has(self, digest: str) -> bool:
        return os.path.isfile(self._blobs.path(digest))

    def receive(self, digest: str, chunk: bytes, last: bool) -> None:
        self._blobs.receive(digest, chunk, last)

    def fetch(self, digest: str, offset: int, size: int) -> bytes:
        with open(self._blobs.path(digest), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def build(self, digest: str, options: Dict[str, Any]) -> Dict[str, Any]:
        """Facts of the build, with ``artefact``: the digest of what :meth:`load` takes."""
        with tempfile.TemporaryDirectory(dir=self._blobs.folder) as folder:
            target = os.path.join(folder, "engine")
            facts = self._runtime.build(self._blobs.path(digest), target, options)
            facts["artefact"] = self._blobs.adopt(target) if os.path.exists(target) else digest
        return facts

    def load(self, digest: str, options: Dict[str, Any]) -> Tuple[int, List[Any], List[Any]]:
        engine = self._runtime.load(self._blobs.path(digest), options)
        handle, self._next = self._next, self._next + 1
        self._engines[handle] = engine
        return handle, engine.inputs(), engine.outputs()

    def run(self, handle: int, feeds: Dict[str, Any]) -> Dict[str, Any]:
        return pack_all(self._engine(handle).run(unpack_all(feeds)))

    def burst(self, handle: int, feeds: Dict[str, Any], warmup: int, repeats: int) -> List[int]:
        return self._engine(handle).burst(unpack_all(feeds), warmup, repeats)

    def coverage(self, handle: int) -> Any:
        return self._engine(handle).coverage()

    def close(self, handle: int) -> None:
        engine = self._engines.pop(handle, None)
        if engine is not None:
            engine.close()

    def _engine(self, handle: int) -> Engine:
        if handle not in self._engines:
            raise RuntimeFailure("usage", "the engine is closed", todo="load it again")
        return self._engines[handle]


def serve(channel: Any, runtime: str, cache: str) -> None:
    """Answer calls until the coordinator hangs up.

    :param channel: ``receive()`` and ``send()`` of plain data; an EOFError from it ends the loop.
    """
    service = Service(make_runtime(runtime), cache)
    while True:
        try:
            call, method, arguments = channel.receive()
        except EOFError:
            return
        try:
            answer = (call, True, getattr(service, method)(*arguments))
        except RuntimeFailure as failure:
            answer = (call, False, failure.as_data())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the coordinator's to report
            what = f"{type(error).__name__}: {error}"
            data = {"kind": "internal", "what": what, "where": method, "detail": traceback.format_exc()}
            answer = (call, False, data)
        channel.send(answer)
