"""The host that this process runs on, as it is now: for records of what was measured here, wherever that is.

Nothing is required: what cannot be read is None. NVML is asked through ``pynvml`` where that is installed, else by
``nvml.py``.
"""

# ruff: noqa: ANN401 - a native library has no types

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from .nvml import Nvml

__all__ = ["THROTTLES", "container_limits", "governors", "gpus", "machine"]

_CGROUP = Path("/sys/fs/cgroup")

THROTTLES = {  # nvml.h, nvmlClocksEventReason*
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "hardware power brake",
    0x100: "display clocks",
}


def machine() -> dict[str, Any]:
    """What a record's environment says of the host.

    ``platform``, ``architecture`` (``x86_64``), ``host``, ``cpu`` (model), ``cores``, ``cores_usable``,
    ``memory_bytes``, ``governor``, ``governors`` of all cores, ``load`` (1, 5 and 15 minutes), ``container`` (see
    :func:`container_limits`), ``gpus`` (see :func:`gpus`).
    """
    found = governors()
    return {
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "host": platform.node(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "governors": found,
        "load": list(os.getloadavg()),
        "container": container_limits(),
        "gpus": gpus(),
    }


def governors() -> list[str]:
    """The different frequency governors of all cores; empty where they cannot be read."""
    paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return sorted({text for path in paths if (text := _text(path))})


def container_limits(folder: Path = _CGROUP) -> dict[str, float | int | None]:
    """Limits of this process's cgroup (v2): ``cores`` (quota / period) and ``memory_bytes``; None is unlimited.

    :param folder: where ``cpu.max`` and ``memory.max`` are. A container sees its own group there.
    """
    quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
    memory = _text(folder / "memory.max") or "max"
    return {
        "cores": int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None,
        "memory_bytes": int(memory) if memory.isdigit() else None,
    }


def gpus() -> list[dict[str, Any]]:
    """Every GPU that NVML names: clocks and what holds them down; empty without a driver."""
    nvml = _nvml()
    if nvml is None:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _nvml() -> Any:
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        try:
            return Nvml()
        except OSError:
            return None
    return pynvml


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: object) -> Any:
        try:
            return getattr(nvml, name)(handle, *arguments)
        except (nvml.NVMLError, AttributeError):  # this GPU does not tell, or this pynvml does not know the call
            return None

    name, memory, power = (
        ask("nvmlDeviceGetName"),
        ask("nvmlDeviceGetMemoryInfo"),
        ask("nvmlDeviceGetPowerManagementLimit"),
    )
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    try:
        driver = _decoded(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError:
        driver = None
    return {
        "name": _decoded(name),
        "driver": driver,
        "memory_bytes": None if memory is None else memory.total,
        "power_limit_w": None if power is None else power / 1000,
        "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        "application_clock_mhz": ask("nvmlDeviceGetApplicationsClock", nvml.NVML_CLOCK_SM),
        "temperature_c": ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        "throttled_by": None if reasons is None else [text for bit, text in THROTTLES.items() if reasons & bit],
    }


def _cpu() -> str | None:
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware")))
    return next(names, platform.processor() or None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value  # older pynvml answers in bytes
