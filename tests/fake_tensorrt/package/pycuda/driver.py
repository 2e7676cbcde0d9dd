"""``pycuda.driver``: device, primary context, streams, events, memory. All work is done when a call returns."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

import fake_cuda


class Error(Exception):
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class RuntimeError(Error):
    pass


class MemoryError(Error):
    pass


_ready = False
_current = threading.local()


def _stack() -> list[Any]:
    if not hasattr(_current, "stack"):
        _current.stack = []
    return _current.stack


def _wants_context(call: str) -> None:
    if not _stack():
        raise LogicError(f"{call} failed: invalid device context - no currently active context?")
    if fake_cuda.poison:
        raise LogicError(f"{call} failed: {fake_cuda.poison}")


def init(flags: int = 0) -> None:
    global _ready
    _ready = True


def _wants_init(call: str) -> None:
    if not _ready:
        raise LogicError(f"{call} failed: initialization error")


def get_version() -> tuple[int, int, int]:
    return (12, 8, 0)


def get_driver_version() -> int:
    return int(fake_cuda.SETTINGS["driver"])


class Device:
    def __init__(self, number: int) -> None:
        _wants_init("cuDeviceGet")
        if number != 0 or not fake_cuda.SETTINGS["gpu"]:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    @staticmethod
    def count() -> int:
        _wants_init("cuDeviceGetCount")
        return 1 if fake_cuda.SETTINGS["gpu"] else 0

    def name(self) -> str:
        return str(fake_cuda.SETTINGS["gpu"])

    def compute_capability(self) -> tuple[int, int]:
        major, minor = fake_cuda.SETTINGS["compute_capability"]
        return (major, minor)

    def total_memory(self) -> int:
        return fake_cuda.total_bytes()

    def pci_bus_id(self) -> str:
        return "0000:00:00.0"

    def retain_primary_context(self) -> Context:
        fake_cuda.context_made = True
        return _primary

    def make_context(self, flags: int = 0) -> Context:
        fake_cuda.context_made = True
        context = Context()
        context.push()
        return context


class Context:
    def push(self) -> None:
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        if not _stack():
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        _stack().pop()

    @staticmethod
    def synchronize() -> None:
        _wants_context("cuCtxSynchronize")

    @staticmethod
    def get_current() -> Context | None:
        return _stack()[-1] if _stack() else None

    @staticmethod
    def get_device() -> Device:
        _wants_context("cuCtxGetDevice")
        return Device(0)

    def detach(self) -> None:
        if self in _stack():
            _stack().remove(self)


_primary = Context()


class Stream:
    def __init__(self, flags: int = 0) -> None:
        _wants_context("cuStreamCreate")
        self.handle = id(self)

    def synchronize(self) -> None:
        _wants_context("cuStreamSynchronize")

    def is_done(self) -> bool:
        return True

    def wait_for_event(self, event: Event) -> None:
        pass


class Event:
    def __init__(self, flags: int = 0) -> None:
        _wants_context("cuEventCreate")
        self._at: int | None = None

    def record(self, stream: Stream | None = None) -> Event:
        self._at = time.perf_counter_ns()
        return self

    def synchronize(self) -> Event:
        return self

    def query(self) -> bool:
        return True

    def time_since(self, event: Event) -> float:
        """Milliseconds."""
        if self._at is None or event._at is None:
            raise LogicError("cuEventElapsedTime failed: invalid resource handle")
        return (self._at - event._at) / 1e6

    def time_till(self, event: Event) -> float:
        return event.time_since(self)


class DeviceAllocation:
    def __init__(self, address: int) -> None:
        self._address: int | None = address

    def __int__(self) -> int:
        if self._address is None:
            raise LogicError("device_allocation has been freed")
        return self._address

    __index__ = __int__

    def free(self) -> None:
        if self._address is None:
            raise LogicError("device_allocation::free failed: invalid argument")
        fake_cuda.free(self._address)
        self._address = None

    def __del__(self) -> None:
        if self._address is not None:
            self.free()


def mem_alloc(size: int) -> DeviceAllocation:
    _wants_context("cuMemAlloc")
    if size < 1:
        raise LogicError("cuMemAlloc failed: invalid argument")
    try:
        return DeviceAllocation(fake_cuda.allocate(int(size)))
    except fake_cuda.OutOfMemory as error:
        raise MemoryError(str(error)) from None


def mem_get_info() -> tuple[int, int]:
    _wants_context("cuMemGetInfo")
    total = fake_cuda.total_bytes()
    return total - fake_cuda.used_bytes(), total


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
    _wants_context("cuMemHostAlloc")
    return np.empty(shape, dtype, order)


def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
    _wants_context("cuMemHostAlloc")
    return np.zeros(shape, dtype, order)


def _device(address: Any, size: int, call: str) -> Any:
    _wants_context(call)
    try:
        return fake_cuda.view(int(address), size, call)
    except fake_cuda.IllegalAddress:
        raise LogicError(f"{call} failed: invalid argument") from None


def _host(array: Any, writable: bool) -> Any:
    memory = memoryview(array)
    if not memory.c_contiguous:
        raise ValueError("ndarray is not contiguous")
    if writable and memory.readonly:
        raise BufferError("Object is not writable.")
    return np.frombuffer(memory, np.uint8) if memory.nbytes else np.empty(0, np.uint8)


def memcpy_htod(dest: Any, src: Any) -> None:
    source = _host(src, writable=False)
    _device(dest, source.nbytes, "cuMemcpyHtoD")[:] = source


def memcpy_htod_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    memcpy_htod(dest, src)


def memcpy_dtoh(dest: Any, src: Any) -> None:
    target = _host(dest, writable=True)
    target[:] = _device(src, target.nbytes, "cuMemcpyDtoH")


def memcpy_dtoh_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    memcpy_dtoh(dest, src)


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    _device(dest, size, "cuMemcpyDtoD")[:] = _device(src, size, "cuMemcpyDtoD")


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Stream | None = None) -> None:
    memcpy_dtod(dest, src, size)


def memset_d8(dest: Any, data: int, count: int) -> None:
    _device(dest, count, "cuMemsetD8")[:] = data


def memset_d8_async(dest: Any, data: int, count: int, stream: Stream | None = None) -> None:
    memset_d8(dest, data, count)


def to_device(array: Any) -> DeviceAllocation:
    memory = mem_alloc(array.nbytes)
    memcpy_htod(memory, array)
    return memory
