"""Device memory, streams and events of one GPU by pycuda, in the primary context.

pycuda is imported here and nowhere else, and late: with its context made before ``tensorrt`` is imported, the Builder
of TensorRT 8.5 ends in a segmentation fault.
"""

# ruff: noqa: ANN401 - pycuda ships no types

from __future__ import annotations

import contextlib
import sys
from typing import Any, Iterator

import numpy as np

from .base import RuntimeFailure

__all__ = ["Buffer", "Cuda"]


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
                "run", f"{size} bytes wanted, {free} of {total} are free on the GPU", "GPU memory", str(error)
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
