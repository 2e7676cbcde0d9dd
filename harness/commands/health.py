"""What ``harness doctor`` finds: runtimes in interpreters, GPUs, and what is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.workers.absent import Absent

__all__ = ["Finding", "Health"]


@dataclass(frozen=True)
class Finding:
    """One runtime in one interpreter, or an interpreter without any.

    :param source: how it was found: ``this interpreter``, ``.tox/trt85``, ``--python``, ``[environments] NAME``.
    :param host: as the configuration has it; empty is this machine.
    :param python: the interpreter's path. :param python_version: ``3.10.13``; empty where it does not answer.
    :param runtime: the family, ``tensorrt``; empty where there is none.
    :param routes: ways that ranges can take into it; :param precisions: ``fp32``, ``fp16``, ``int8``, those with
        conditions have them in brackets. Both are what the version has, whether or not it can be used here.
    :param can_build: engines can be built here; :param can_run: they run here.
    :param why: what is in the way; empty if nothing. :param todo: what to do about it.
    """

    source: str
    python: str
    python_version: str = ""
    runtime: str = ""
    version: str = ""
    routes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    can_build: bool = False
    can_run: bool = False
    why: str = ""
    todo: str = ""
    host: str = ""

    @property
    def at(self) -> str:
        """``@gpu1``; empty for this machine."""
        from harness.spec.hosts import read_host

        return f"@{read_host(self.host).name}" if self.host else ""

    @property
    def name(self) -> str:
        """As ``--runtime`` and a gate name it; of an interpreter without one, that."""
        where = "-cpu" if self.runtime == "onnxruntime" and self.version != "broken" else ""
        return f"{self.runtime}-{self.version}{where}{self.at}" if self.runtime else f"no runtime{self.at}"

    @property
    def can(self) -> str:
        """``build and run``, ``only build``, ``only run`` or ``nothing``."""
        if self.can_build and self.can_run:
            return "build and run"
        return "only build" if self.can_build else "only run" if self.can_run else "nothing"


@dataclass(frozen=True)
class Health:
    """What :func:`examine` found.

    :param gpus: ``name``, ``compute_capability``, ``driver`` and, where NVML tells, clocks in MHz and ``throttled_by``;
        of another host also ``host``, its label.
    :param trtexec: the program's path; empty where it is not on PATH.
    :param absent: what tox would install and is not there in any interpreter.
    """

    findings: tuple[Finding, ...]
    gpus: tuple[Mapping[str, Any], ...]
    trtexec: str
    absent: tuple[Absent, ...] = ()

    @property
    def anything_runs(self) -> bool:
        return any(finding.can_run for finding in self.findings)
