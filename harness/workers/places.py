"""Which hosts there are, what is on them, and which environments share one: for whoever spreads cases over them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.errors import EnvironmentMissing, UsageError
from harness.spec.hosts import read_host
from harness.workers.absent import Absent
from harness.workers.environments import configured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.spec.config import EnvironmentConfig
    from harness.workers.environments import Environment

__all__ = ["Place", "by_host", "by_place", "check_one_place", "elsewhere", "missed", "place_of"]


@dataclass(frozen=True, order=True)
class Place:
    """What times taken at once would disturb each other on. Cases that only build or check may share one.

    :param host: a host's label; empty is this machine.
    :param device: ``GPU 0``, by the number that the host has it by; ``CPU`` for what uses none.
    """

    host: str
    device: str


def place_of(environment: Environment) -> Place:
    """Where an environment's engines run."""
    host = read_host(environment.host) if environment.host else None
    label = host.label if host else ""
    if not environment.runtime.startswith("tensorrt") and "provider" not in environment.options:
        return Place(label, "CPU")
    if "CPU" in str(environment.options.get("provider", "")):
        return Place(label, "CPU")
    visible = [one.strip() for one in host.gpus.split(",")] if host and host.gpus else []
    device = int(environment.options.get("device", 0))
    return Place(label, f"GPU {visible[device] if device < len(visible) else device}")


def by_place(environments: Iterable[Environment]) -> dict[Place, list[Environment]]:
    """The environments of each place: of these, one timed case at a time."""
    found: dict[Place, list[Environment]] = {}
    for environment in environments:
        found.setdefault(place_of(environment), []).append(environment)
    return found


def by_host(environments: Iterable[Environment]) -> dict[str, list[Environment]]:
    """The environments of each host, by its label; empty is this machine. A session takes arms of one host alone."""
    found: dict[str, list[Environment]] = {}
    for environment in environments:
        found.setdefault(place_of(environment).host, []).append(environment)
    return found


def check_one_place(baseline: Environment, candidate: Environment, where: str) -> None:
    """Refuse to compare what runs in two places: the one rule for sessions, gates and whoever else compares.

    A CPU and a GPU of one host may be compared.

    :param where: what compares them, for the message.
    :raises UsageError: they are on different hosts, or on different GPUs of one.
    """
    one, other = place_of(baseline), place_of(candidate)
    ours, theirs = (place.host or "this machine" for place in (one, other))
    if one.host != other.host:
        raise UsageError(
            f"the two sides run on different hosts: {ours} against {theirs}",
            where=where,
            todo=f"take both environments on one host: install what {theirs} has on {ours}, too, or the other way "
            "round, and give it an entry in [environments]; times of two hosts say nothing about an engine",
        )
    if one.device != other.device and "CPU" not in {one.device, other.device}:
        raise UsageError(
            f"the two sides run on different devices of {ours}: {one.device} against {other.device}",
            where=where,
            todo="take both on one: env:CUDA_VISIBLE_DEVICES of the host, or the option device",
        )


def elsewhere(
    entries: Sequence[EnvironmentConfig], file: Path | None = None
) -> tuple[list[Environment], dict[str, EnvironmentMissing]]:
    """What is on the other hosts of the configuration, all asked at once.

    :param file: the configuration, for messages.
    :returns: environments, the first of two with one name; and by an entry's name, why nothing of it can be used.
    """
    far = [one for one in entries if one.host]
    if not far:
        return [], {}
    with ThreadPoolExecutor(max_workers=min(16, len(far))) as pool:
        pending = [pool.submit(configured, one, file) for one in far]
    found: dict[str, Environment] = {}
    missing: dict[str, EnvironmentMissing] = {}
    for entry, answer in zip(far, pending, strict=True):
        error = answer.exception()
        if isinstance(error, EnvironmentMissing):
            missing[entry.name] = error
            continue
        for environment in answer.result():
            found.setdefault(environment.name, environment)
    return list(found.values()), missing


def missed(
    entries: Sequence[EnvironmentConfig], missing: Mapping[str, EnvironmentMissing], pattern: str
) -> list[Absent]:
    """What a pattern asks for, or may ask for, on hosts that cannot be used.

    A shell pattern asks for what is anywhere, or on the hosts behind its ``@``; another word for what there is.

    :param missing: as :func:`elsewhere` has it.
    :raises EnvironmentMissing: the pattern names such a host behind its ``@``, without wildcards.
    """
    _, at, place = pattern.partition("@")
    absent = []
    for entry in entries:
        if entry.name not in missing:
            continue
        name, error = read_host(entry.host).name, missing[entry.name]
        if place == name:
            raise error
        if fnmatchcase(name, place) if at else re.search(r"[*?\[]", pattern):
            absent.append(Absent(f"{entry.name}@{name}", str(error)))
    return absent
