"""What is known about the host, for every record; and which differences forbid comparing two records.

Times of two hosts, or of one host under two settings, differ for reasons that are not the engine's. Nothing here is
required: what cannot be read is None.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.results.record import fingerprint
from harness.runtimes.machine import container_limits, governors, gpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["comparable", "container_limits", "differences", "gpus", "host", "throttled"]

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

_SLOWS = {"software power cap", "hardware slowdown", "software thermal", "hardware thermal", "hardware power brake"}


def host() -> dict[str, Any]:
    """The host as it is now: what :func:`harness.results.record.fingerprint` says, and beside it

    ``load`` (1, 5 and 15 minutes), ``governors`` of all cores, ``container`` (see :func:`container_limits`) and
    ``gpus`` (see :func:`gpus`).
    """
    return {
        **fingerprint(),
        "load": list(os.getloadavg()),
        "governors": governors(),
        "container": container_limits(),
        "gpus": gpus(),
    }


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
