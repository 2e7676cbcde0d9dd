"""What is known about the host, for every record; and which differences forbid comparing two records.

Times of two hosts, or of one host under two settings, differ for reasons that are not the engine's. Nothing here is
required: what cannot be read is None, and NVML is asked only where ``pynvml`` is installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.results.record import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["comparable", "container_limits", "differences", "gpus", "host", "throttled"]

_CGROUP = Path("/sys/fs/cgroup")

# name shown -> path in a record's environment. Load and clocks of the moment are recorded, and differ all the time.
_COMPARED = {
    "host": ("host",),
    "cpu": ("cpu",),
    "usable cores": ("cores_usable",),
    "governor": ("governor",),
    "memory": ("memory_bytes",),
    "container's cores": ("container", "cores"),
    "container's memory": ("container", "memory_bytes"),
    "runtime": ("worker", "library"),
    "runtime version": ("worker", "version"),
    "device": ("worker", "device"),
    "threads": ("settings", "threads"),
    "spinning": ("settings", "spinning"),
    "provider": ("settings", "provider"),
    "clock": ("settings", "clock"),
    "pinned": ("settings", "pinned"),
}
_COMPARED_GPU = ("name", "driver", "memory_bytes", "power_limit_w", "application_clock_mhz")

_THROTTLES = {  # nvml.h, nvmlClocksEventReason*
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
_SLOWS = {"software power cap", "hardware slowdown", "software thermal", "hardware thermal", "hardware power brake"}


def host(cgroup: Path = _CGROUP) -> dict[str, Any]:
    """The host as it is now: what :func:`harness.results.record.fingerprint` says, and beside it

    ``load`` (1, 5 and 15 minutes), ``governors`` of all cores, ``container`` (see :func:`container_limits`) and
    ``gpus`` (see :func:`gpus`).
    """
    return {
        **fingerprint(),
        "load": list(os.getloadavg()),
        "governors": sorted({text for path in _governors() if (text := _text(path))}),
        "container": container_limits(cgroup),
        "gpus": gpus(),
    }


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
    """Every GPU that NVML names: clocks and what holds them down; empty without ``pynvml`` or a driver."""
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def throttled(found: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """Why the GPUs run slower than they could, each a clause; empty where nothing is known or nothing is wrong.

    Being idle and clocks that somebody locked are no reasons.

    :param found: what :func:`gpus` says; asked now where None.
    """
    return [
        f"GPU {index} is throttled: {', '.join(reasons)}"
        for index, one in enumerate(gpus() if found is None else found)
        if (reasons := [text for text in one.get("throttled_by") or () if text in _SLOWS])
    ]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Settings that forbid comparing times, each as ``name: one against other``; empty where there are none.

    A value that either side does not know forbids nothing.

    :param a: the ``environment`` of a record: :func:`host`, and where known ``worker`` (what the runtime's process
        says of itself) and ``settings`` (options of the engine, clock, pinning).
    """
    found = []
    for name, path in _COMPARED.items():
        one, other = _at(a, path), _at(b, path)
        if one is not None and other is not None and one != other:
            found.append(f"{name}: {one} against {other}")
    ours, theirs = a.get("gpus"), b.get("gpus")
    if ours is not None and theirs is not None:
        if len(ours) != len(theirs):
            found.append(f"GPUs: {len(ours)} against {len(theirs)}")
        for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            known = [key for key in _COMPARED_GPU if one.get(key) is not None and other.get(key) is not None]
            found += [f"GPU {index} {key}: {one[key]} against {other[key]}" for key in known if one[key] != other[key]]
    return found


def comparable(a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> None:
    """Refuse a comparison across hosts or settings.

    :raises UsageError: naming every difference.
    """
    found = differences(a, b)
    if found:
        raise UsageError(
            f"measured under different conditions: {'; '.join(found)}",
            where=where,
            todo="measure both sides in one session on one host; times of two hosts say nothing about an engine",
        )


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 - a value of JSON
    found: Any = values
    for key in path:
        found = found.get(key) if hasattr(found, "get") else None
    return found


def _governors() -> list[Path]:
    return sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _gpu(nvml: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - a module without types
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: object) -> Any:  # noqa: ANN401
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
        "throttled_by": None if reasons is None else [text for bit, text in _THROTTLES.items() if reasons & bit],
    }


def _decoded(value: Any) -> Any:  # noqa: ANN401 - older pynvml answers in bytes
    return value.decode() if isinstance(value, bytes) else value
