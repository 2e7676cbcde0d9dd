"""Options of builds and loads that the configuration gives, by runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.spec.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DECIDED", "RuntimeOptions"]

DECIDED = {
    "algorithm": "the matrix decides it: --methods, with --routes calibrator",
    "build": "the matrix decides it: builds",
    "calibration_profile": "the layout decides it",
    "files": "the route decides it",
    "flags": "the precision decides them",
    "profiles": "the layout decides them: --layouts",
    "strong": "the route decides it: --routes qdq_strong",
}
"""Options that follow from a case, and what to turn instead."""


@dataclass(frozen=True)
class RuntimeOptions:
    """(pattern of runtime names, options) pairs, in the order of the file.

    What can be said is what the runtime's adapter takes: ``harness/runtimes/tensorrt.py`` and the like.
    """

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
