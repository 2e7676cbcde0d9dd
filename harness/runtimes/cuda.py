"""Device memory, streams and events of one GPU by pycuda, in the primary context.

pycuda is imported here and nowhere else, and late: with its context made before ``tensorrt`` is imported, the Builder
of TensorRT 8.5 ends in a segmentation fault.
"""

# ruff: noqa: ANN401 - pycuda ships no types

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any, Callable, Iterator

import numpy as np

from .base import RuntimeFailure

__all__ = ["Buffer", "Cuda", "Graph", "lost"]

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on calling CUDA


class Buffer:
    """Bytes on the device.

    :param address: of the first one.
    """

    def __init__(self, memory: Any, size_bytes: int) -> None:
        self._memory, self.size_bytes = memory, size_bytes
        self.address = int(memory)

    def free(self) -> None:
        """Give it back. A second call does nothing."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None


class Graph:
    """Work that was captured off a stream, ready to be launched as one.

    pycuda has no stream capture (2026.1), so libcuda is asked itself: ``cuStreamBeginCapture_v2``,
    ``cuStreamEndCapture``, ``cuGraphInstantiateWithFlags``, ``cuGraphLaunch`` (CUDA driver API, "Graph Management").

    :param enqueue: puts the work on the stream; what it returns tells whether it could.
    :raises RuntimeFailure: ``run``: the work cannot be captured (it waits, or it allocates).
    """

    def __init__(self, stream: Any, enqueue: Callable[[], bool]) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._executable: ctypes.c_void_p | None = ctypes.c_void_p()
        handle, graph = ctypes.c_void_p(stream.handle), ctypes.c_void_p()
        self._checked("cuStreamBeginCapture_v2", handle, _THREAD_LOCAL)
        fine = False
        try:
            fine = enqueue()
        finally:  # the stream must not go on capturing
            code = self._driver.cuStreamEndCapture(handle, ctypes.byref(graph))
        try:
            if not fine or code or not graph:
                what = f"the engine cannot be captured in a CUDA graph (CUDA error {code})"
                raise RuntimeFailure("run", what, todo="leave cuda_graph out")
            self._checked("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            if graph:
                self._driver.cuGraphDestroy(graph)

    def launch(self, stream: Any) -> None:
        """Run it on a stream."""
        self._checked("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def free(self) -> None:
        """Give it back. A second call does nothing."""
        if self._executable:
            self._driver.cuGraphExecDestroy(self._executable)
            self._executable = None

    def _checked(self, function: str, *arguments: Any) -> None:
        code = getattr(self._driver, function)(*arguments)
        if code:
            raise RuntimeFailure("run", f"{function} ended with CUDA error {code}", todo="leave cuda_graph out")


class Cuda:
    """One GPU. Every method but :meth:`current` has to be called within ``with cuda.current():``.

    :param device: its number among those that this process sees.
    :raises RuntimeFailure: ``environment``: no pycuda, no driver, no such GPU.
    """

    def __init__(self, device: int = 0) -> None:
        assert any(name in sys.modules for name in ("tensorrt", "tensorrt_rtx")), "import tensorrt before pycuda"
        try:
            from pycuda import driver  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RuntimeFailure(
                "environment",
                f"pycuda is not installed: {error}",
                sys.executable,
                "pip install pycuda; it is a source package and wants a C++ compiler and CUDA's headers",
            ) from error
        self.driver: Any = driver
        try:
            driver.init()
            self._device = driver.Device(device)
            self._context = self._device.retain_primary_context()
            _in_use[device] = self
        except driver.Error as error:
            raise RuntimeFailure(
                "environment", f"no GPU to use: {error}", f"device {device}", "see nvidia-smi"
            ) from error

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's primary context this thread's."""
        self._context.push()
        try:
            yield
        finally:
            self.driver.Context.pop()

    def describe(self) -> dict[str, Any]:
        """``name``, ``compute_capability`` (``9.0``), ``memory_bytes``."""
        major, minor = self._device.compute_capability()
        return {
            "name": self._device.name(),
            "compute_capability": f"{major}.{minor}",
            "memory_bytes": int(self._device.total_memory()),
        }

    def driver_version(self) -> int:
        """The newest CUDA that the driver knows: 13000 is 13.0."""
        return int(self.driver.get_driver_version())

    def allocate(self, size_bytes: int) -> Buffer:
        """At least one byte, set to 0.

        :raises RuntimeFailure: ``run``, when the GPU has not so much left.
        """
        size = max(1, size_bytes)
        try:
            memory = self.driver.mem_alloc(size)
            self.driver.memset_d8(memory, 0, size)
        except self.driver.MemoryError as error:
            free, total = self.driver.mem_get_info()
            raise RuntimeFailure(
                "run",
                f"{size} bytes wanted, {free} of {total} are free on the GPU",
                "GPU memory",
                "see nvidia-smi for who else is there; shorter inputs, or fewer engines at once, want less",
                str(error),
            ) from error
        return Buffer(memory, size)

    def stream(self) -> Any:
        """A new stream; ``stream.handle`` is what TensorRT takes."""
        return self.driver.Stream()

    def event(self) -> Any:
        """A new event with a time."""
        return self.driver.Event()

    def to_device(self, buffer: Buffer, array: Any) -> None:
        """Copy an array to a buffer that holds it, and wait."""
        assert array.nbytes <= buffer.size_bytes
        if array.nbytes:
            self.driver.memcpy_htod(buffer.address, np.ascontiguousarray(array))

    def to_host(self, array: Any, buffer: Buffer) -> None:
        """Fill an array from a buffer, and wait."""
        if array.nbytes:
            self.driver.memcpy_dtoh(array, buffer.address)

    def free_bytes(self) -> int:
        """Memory that is left on the GPU, over all processes."""
        return int(self.driver.mem_get_info()[0])


_in_use: dict[int, Cuda] = {}


def lost() -> str:
    """The error of a context that this process used and that is lost until it ends; empty while all are sound.

    "An illegal memory access was encountered", say: the context "is in an inconsistent state and any further CUDA work
    will return the same error" (CUDA driver API, CUDA_ERROR_ILLEGAL_ADDRESS).
    """
    for cuda in _in_use.values():
        try:
            with cuda.current():
                cuda.driver.Context.synchronize()
        except cuda.driver.Error as error:
            return str(error)
    return ""
