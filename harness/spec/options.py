"""Options of builds and loads that the configuration gives, by runtime."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from harness.spec.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DECIDED", "FAMILIES", "RuntimeOptions", "families_of"]

DECIDED = {
    "algorithm": "the matrix decides it: --methods, with --routes calibrator",
    "build": "the matrix decides it: builds",
    "calibration_profile": "the layout decides it",
    "files": "the route decides it",
    "flags": "the precision decides them",
    "profiles": "the layout decides them: --layouts",
    "strong": "the route decides it: --routes qdq_strong",
    "tf32": "the precision decides it: FP32 is without",
}
"""Options that follow from a case, and what to turn instead."""

_Positive = Annotated[int, msgspec.Meta(gt=0)]
_Number = Annotated[int, msgspec.Meta(ge=0)]
_Level = Annotated[int, msgspec.Meta(ge=0, le=5)]


class _TensorRt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    workspace_bytes: _Positive | UnsetType = UNSET
    tactic_sources: list[str] | UnsetType = UNSET
    optimization_level: _Level | UnsetType = UNSET
    timing_cache: bool | UnsetType = UNSET
    device: _Number | UnsetType = UNSET
    cuda_graph: bool | UnsetType = UNSET


class _TensorRtRtx(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    workspace_bytes: _Positive | UnsetType = UNSET
    compute_capabilities: list[str] | UnsetType = UNSET
    device: _Number | UnsetType = UNSET
    cuda_graph: bool | UnsetType = UNSET
    specialization: str | UnsetType = UNSET


class _OnnxRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    provider: str | UnsetType = UNSET
    provider_options: dict[str, Any] | UnsetType = UNSET
    threads: _Positive | UnsetType = UNSET
    spinning: bool | UnsetType = UNSET


FAMILIES: dict[str, type[msgspec.Struct]] = {
    "tensorrt-rtx": _TensorRtRtx,
    "tensorrt": _TensorRt,
    "onnxruntime": _OnnxRuntime,
}
"""Family -> what can be said of it; what each option does stands in ``docs/guide/environments.md``."""


@dataclass(frozen=True)
class RuntimeOptions:
    """(pattern of runtime names, options) pairs, in the order of the file."""

    tables: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def of(self, runtime: str) -> dict[str, Any]:
        """What holds for an environment; of several tables that match, a later one wins, key by key.

        :param runtime: the environment's name. Patterns match as in :func:`harness.spec.patterns.matches`.
        """
        found: dict[str, Any] = {}
        for pattern, options in self.tables:
            if matches(runtime, [pattern]):
                found.update(options)
        return found


def families_of(pattern: str) -> list[str]:
    """The families whose runtimes a pattern can match, on any host; empty for one that matches none."""
    pattern = pattern.partition("@")[0]
    named = [family for family in FAMILIES if pattern == family or pattern.startswith(f"{family}-")]
    if named:
        return named[:1]  # tensorrt-rtx is no tensorrt
    return [family for family in FAMILIES if fnmatchcase(f"{family}-1.2.3-cpu", pattern) or "*" in pattern]
