"""A CUDA driver with one GPU, for what asks libcuda itself: ``ctypes.CDLL("libcuda.so.1")`` gives this instead."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

_MAJOR, _MINOR = 75, 76


class Driver:
    """Functions of libcuda that are asked, over the GPU of ``fake_tensorrt.json``."""

    def __init__(self) -> None:
        self._gpu = json.loads(Path(__file__).with_name("fake_tensorrt.json").read_text("utf-8"))

    def cuInit(self, flags: int) -> int:
        return 0 if self._gpu["gpu"] else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self._gpu["gpu"].encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self._gpu["compute_capability"][{_MAJOR: 0, _MINOR: 1}[attribute]]
        return 0


_genuine = ctypes.CDLL


def _library(name: Any, *arguments: Any, **options: Any) -> Any:
    return Driver() if name == "libcuda.so.1" else _genuine(name, *arguments, **options)


ctypes.CDLL = _library  # type: ignore[assignment, misc]
