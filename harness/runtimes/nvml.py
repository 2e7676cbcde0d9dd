"""The few calls of pynvml that the harness makes, by the driver's own library: no environment has to install pynvml.

Names are pynvml's, and so are what they take and give; signatures are those of nvml.h.
"""

# ruff: noqa: ANN401, N802 - a native library has no types, and the names are NVIDIA's

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["Nvml"]


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Nvml:
    """Stands where the module ``pynvml`` does.

    :raises OSError: there is no driver.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """A call that did not return NVML_SUCCESS, or that this driver does not have."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1")

    def nvmlInit(self) -> None:
        self._call("nvmlInit_v2")

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")

    def nvmlDeviceGetCount(self) -> int:
        return self._number("nvmlDeviceGetCount_v2", ctypes.c_uint())

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return handle

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return self._words("nvmlDeviceGetName", handle)

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._words("nvmlSystemGetDriverVersion")

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> _Memory:
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return memory

    def nvmlDeviceGetPowerManagementLimit(self, handle: Any) -> int:
        return self._number("nvmlDeviceGetPowerManagementLimit", ctypes.c_uint(), handle)

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int:
        return self._number("nvmlDeviceGetClockInfo", ctypes.c_uint(), handle, ctypes.c_int(kind))

    def nvmlDeviceGetApplicationsClock(self, handle: Any, kind: int) -> int:
        return self._number("nvmlDeviceGetApplicationsClock", ctypes.c_uint(), handle, ctypes.c_int(kind))

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return self._number("nvmlDeviceGetTemperature", ctypes.c_uint(), handle, ctypes.c_int(sensor))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self._number("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong(), handle)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name, None)
        code = None if function is None else function(*arguments)
        if code != 0:
            raise self.NVMLError(f"{name}: {code}")

    def _number(self, name: str, answer: Any, *arguments: Any) -> int:
        self._call(name, *arguments, ctypes.byref(answer))
        return int(answer.value)

    def _words(self, name: str, *arguments: Any) -> str:
        text = ctypes.create_string_buffer(96)
        self._call(name, *arguments, text, ctypes.c_uint(len(text)))
        return text.value.decode(errors="replace")
