"""A finding: what is wrong or costs time, the evidence, and the change to try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["wrong", "slow", "note"]
"""Outputs or the build suffer; time is lost; worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    :param kind: the rule's name, ``float-fallback``: the same for every finding of a rule, for scripts and baselines.
    :param severity: see :data:`Severity`.
    :param what: one sentence, with the numbers.
    :param where: nodes or tensors of the model, the first ones that matter.
    :param todo: the change to try, with the option or call that makes it.
    :param evidence: the numbers of the sentence, by name.
    :param cost_us: time that the change could save at the length that was measured; None where nothing was timed.
    :param cost_db: SQNR that the change could win; None where nothing was measured.
    """

    kind: str
    severity: Severity
    what: str
    where: tuple[str, ...]
    todo: str
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    cost_us: float | None = None
    cost_db: float | None = None
