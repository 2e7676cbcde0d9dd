"""Runtimes that are asked for and are not there: which are known, and the command that installs each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.spec.patterns import fits
from harness.workers.environments import TOX, select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.workers.environments import Environment

__all__ = ["Absent", "asked_for", "not_installed"]


@dataclass(frozen=True)
class Absent:
    """A runtime that was asked for and cannot be used here.

    :param name: as its environment has it, or would have it.
    :param reason: what is in the way and what to do: for one that is not installed, the command that installs it.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return self.name


def asked_for(
    environments: Sequence[Environment],
    patterns: Iterable[str],
    aliases: Mapping[str, Callable[[], list[Environment]]] | None = None,
    unreached: Callable[[str], list[Absent]] = lambda _: [],
) -> tuple[list[Environment], list[Absent]]:
    """What ``--runtime`` asks for: environments to run, and runtimes that a run without them has to say so.

    A shell pattern (``tensorrt-*``) asks for all that it matches: what tox knows and is not there is absent, and so is
    what is there and can do nothing. Any other word asks for what there is of it; where there is nothing, what tox
    knows by that word is absent.

    :param aliases: see :func:`harness.workers.environments.select`.
    :param unreached: what a pattern that is no alias asks for on hosts that cannot be used
        (:func:`harness.workers.places.missed`).
    :raises EnvironmentMissing: a word is neither there nor known to tox, or what it names can do nothing here.
    """
    chosen: dict[str, Environment] = {}
    absent: dict[str, Absent] = {}
    for pattern in patterns:
        there = [] if pattern in (aliases or {}) else [e for e in environments if fits(e.name, pattern)]
        known = [] if pattern in (aliases or {}) else [*not_installed(environments, pattern), *unreached(pattern)]
        if there and re.search(r"[*?\[]", pattern):
            able = [e for e in there if e.can_run or e.can_build]
            unable = [Absent(e.name, f"{e.name} ({e.python}) can do nothing here: {e.why}") for e in there]
            absent |= {one.name: one for one in [*unable, *known] if one.name not in {e.name for e in able}}
        elif known and not there:
            able = []
            absent |= {one.name: one for one in known}
        else:
            able = select(environments, [pattern], aliases=aliases)
        chosen |= {e.name: e for e in able}
    return list(chosen.values()), [one for one in absent.values() if one.name not in chosen]


def not_installed(environments: Iterable[Environment], pattern: str = "*") -> list[Absent]:
    """The runtimes that tox knows by a pattern, without those that are there in any release of the same version."""
    there = {_version(environment.name) for environment in environments}
    return [
        Absent(name, f"{name} is not installed: {_command(name, tox)}")
        for name, tox in TOX.items()
        if fits(name, pattern) and _version(name) not in there
    ]


def _command(name: str, tox: str) -> str:
    """From 10.0 on TensorRT's libraries lie on an index that this repository does not name."""
    wants = ["HARNESS_TRT_INDEX to name the index"] if re.match(r"tensorrt-\d{2}", name) else []
    wants += ["CPython 3.10"] if re.match(r"tensorrt-8", name) else []
    wants += ["CUDA's headers for pycuda"] if re.match(r"tensorrt-\d", name) else []
    command = f"python -m tox run -e {tox} --notest"
    return f"{command} (wants {', '.join(wants)})" if wants else command


def _version(name: str) -> str:
    """Family, major and minor: ``tensorrt-8.5`` of ``tensorrt-8.5.3.1``."""
    found = re.match(r".+?-\d+\.\d+", name)
    return found[0] if found else name
