"""The device of the stand-ins for TensorRT and pycuda: host memory whose bounds are known.

An address is good only inside an allocation; anything else is what an illegal memory access is on a GPU. It raises
``IllegalAddress`` and stays in ``violations``.
"""

from __future__ import annotations

import bisect
import ctypes
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(__file__).parent
SETTINGS: dict[str, Any] = json.loads((_FOLDER / "fake_tensorrt.json").read_text("utf-8"))
"""What ``fake_tensorrt.install`` was told: gpu, compute_capability, memory_bytes, build_seconds, crash, ..."""


class IllegalAddress(Exception):
    """CUDA error 700 of a real device."""


class OutOfMemory(Exception):
    """CUDA error 2."""


_lock = threading.RLock()  # a collection within may free an allocation
_starts: list[int] = []
_blocks: dict[int, Any] = {}
_reserved = 0
poison = ""
"""The error of a context that is lost: every call gives it from then on, until the process ends."""

violations: list[str] = []
context_made = False
"""Whether a CUDA context was made by pycuda in this process."""
tensorrt_came_late = False
"""Whether it was made before tensorrt was imported."""


def note(text: str) -> None:
    """Keep a violation, in this process and in a file beside the packages, where the test finds it."""
    violations.append(text)
    with (_FOLDER / "violations.txt").open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def total_bytes() -> int:
    return int(SETTINGS["memory_bytes"])


def used_bytes() -> int:
    return _reserved + sum(ctypes.sizeof(block) for block in _blocks.values())


def allocate(size: int) -> int:
    """The address of ``size`` fresh bytes, filled with 0xCD: memory of a device is not zero."""
    with _lock:
        if used_bytes() + size > total_bytes():
            raise OutOfMemory("cuMemAlloc failed: out of memory")
        block = (ctypes.c_ubyte * size)()
        ctypes.memset(block, 0xCD, size)
        address = ctypes.addressof(block)
        bisect.insort(_starts, address)
        _blocks[address] = block
    return address


def free(address: int) -> None:
    with _lock:
        if address not in _blocks:
            note(f"free of {address:#x}, which is no allocation")
            raise IllegalAddress("cuMemFree failed: invalid argument")
        _starts.remove(address)
        del _blocks[address]


def reserve(size: int) -> None:
    """Memory that an engine or a context takes; nothing lies behind it."""
    global _reserved
    with _lock:
        if used_bytes() + size > total_bytes():
            raise OutOfMemory("out of memory")
        _reserved += size


def release(size: int) -> None:
    global _reserved
    with _lock:
        _reserved -= size


def room_at(address: int) -> int:
    """Bytes from ``address`` to the end of the allocation that holds it, 0 when none does."""
    index = bisect.bisect_right(_starts, address) - 1
    if index < 0:
        return 0
    start = _starts[index]
    return max(0, start + ctypes.sizeof(_blocks[start]) - address)


def view(address: int, size: int, who: str) -> Any:
    """``size`` bytes of the device from ``address`` on, as a writable uint8 array.

    :raises IllegalAddress: part of it lies outside every allocation.
    """
    room = room_at(address)
    if room < size:
        note(f"{who}: {size} bytes at {address:#x}, {room} are allocated there")
        raise IllegalAddress("an illegal memory access was encountered")
    if size == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), np.uint8)
