"""What would settle a gate that proved nothing: which limit ended its sessions, and the limits that would do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.stats.verdict import next_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.gate.findings import Finding
    from harness.measure.session import Outcome
    from harness.stats.estimate import Estimate
    from harness.stats.verdict import Margins

__all__ = ["SHARES", "ended", "left_open", "settling"]

SHARES = {1: 0.7, 2: 0.3}
"""Of a gate's budget, by stage: the second part is kept for what has to be confirmed."""
_ENDED = "ended"
_QUIETER = "a quieter machine, or wider margins"
_LATER = 5
"""Launches from which on a session first looks after four of them (:func:`harness.latency.design_of`)."""
_MARGIN, _LEAST_LAUNCHES = 2, 12
"""Launches that are advised, as a multiple of the estimate and at the least: an estimate is of the launches that there
were, and those of a retry differ by other noise. What is clear sooner ends sooner, so that more cost nothing then."""
_FAR = 24
"""Launches beyond which one finding does not decide for the others: such an estimate comes of two or three launches,
or of a ratio that lies close to a margin."""
_NEW_DRAW = "a retry is a new draw of the machine's noise: an estimate is no promise"


def ended(outcome: Outcome) -> str:
    """Which limit ended a session, in words: ``its 3 s of the budget, after 2 of 4 launches``."""
    done, most = len(outcome.launches), outcome.design.looks[-1]
    if outcome.stopped_by in {"look", "proposal"}:
        return f"a clear answer for the traffic, after {done} of {most} launches"
    if done >= most:
        return f"its {most} launches"
    return f"its {outcome.design.budget_s:.0f} s of the budget, after {done} of {most} launches"


def left_open(outcome: Outcome, estimate: Estimate, margins: Margins) -> tuple[str, dict[str, Any]]:
    """A clause about an inconclusive estimate of a session, and the same in numbers for :func:`settling`.

    :returns: values ``ended`` (``launches``, ``budget`` or ``traffic``), ``launches`` and ``seconds`` of the whole
        session as it was, and ``launches_needed`` and ``seconds_needed`` as they would do at the least: None where
        more launches do not help, and where the session would end before them again, because its traffic is clear.
    """
    spent_s = sum(value for name, value in outcome.seconds.items() if name != "lost")
    step = next_step(estimate, margins, spent_s / max(1, len(outcome.launches)))
    which = "traffic" if outcome.stopped_by in {"look", "proposal"} else "budget"
    if len(outcome.launches) >= outcome.design.looks[-1]:
        which = "launches"
    helps = math.isfinite(step.seconds) and which != "traffic"
    values = {
        _ENDED: which,
        "launches": len(outcome.launches),
        "seconds": round(spent_s, 1),
        "launches_needed": step.launches_needed if helps else None,
        "seconds_needed": round(spent_s + step.seconds, 1) if helps else None,
    }
    least = "at least " if helps and estimate.degrees else ""
    more = "" if which == "traffic" else f"; to settle it: {least}{step.advice}"
    return f"ended by {ended(outcome)}{more}", values


def settling(findings: Sequence[Finding], budget_s: float, launches: int, pairs: int) -> list[str]:
    """What the open findings of a gate's latency come to, a sentence each; empty where none is open.

    :param budget_s: of the gate's sessions. :param launches: of a session at most, as the matrix has it.
    :param pairs: that were compared: the budget is shared evenly among them.
    """
    unclear = [one for one in findings if one.word == "inconclusive" and one.aspect == "latency"]
    if not unclear:
        return []
    said = []
    sessions = {(one.case, one.stage): one.values[_ENDED] for one in unclear if _ENDED in one.values}
    counts = {which: [*sessions.values()].count(which) for which in ("budget", "launches", "traffic")}
    words = {
        "budget": f"the budget ({budget_s:.0f} s for all)",
        "launches": "their number of launches",
        "traffic": "a clear answer for the traffic, before single lengths were clear",
    }
    if sessions:
        ends = ", ".join(f"{count} by {words[which]}" for which, count in counts.items() if count)
        said.append(f"of {len(sessions)} session(s) that left something open, {ends}")
    settled = [one for one in unclear if one.values.get("seconds_needed") is not None]
    lengths = [one for one in unclear if one.values.get(_ENDED) == "traffic"]
    later = lengths if launches < _LATER else []
    near = [one for one in settled if _MARGIN * one.values["launches_needed"] <= max(_FAR, launches)] or settled
    limits = _limits([*near, *later], budget_s, launches, pairs) if near or later else ""
    if near:
        said.append(f"if the ratios stay as they are, {limits} would settle {len(near)} of {len(unclear)}")
    if far := len(settled) - len(near):
        said.append(f"{far} would need more than {max(_FAR, launches) // _MARGIN} launches by the estimate: {_QUIETER}")
    if lengths:
        way = _QUIETER if not later else "the same lets it look later" if settled else f"{limits} lets it look later"
        said.append(f"{len(lengths)} are single lengths of sessions that ended because the traffic was clear: {way}")
    kinds = [(one.values.get(_ENDED), one.values.get("seconds_needed")) for one in unclear]
    hopeless = sum(seconds is None and which in {"budget", "launches"} for which, seconds in kinds)
    if hopeless:
        said.append(f"{hopeless} would not settle in reasonable time: {_QUIETER}")
    unproved = sum(one.stage == 2 and _ENDED not in one.values for one in unclear)
    if unproved:
        said.append(f"{unproved} looked worse and could not be confirmed: --thorough, or a larger --budget")
    if limits:
        said.append(_NEW_DRAW)
    return said


def _limits(open_: Sequence[Finding], budget_s: float, launches: int, pairs: int) -> str:
    """The launches that are advised and the budget that lets a session have them, which is nothing without the other.

    :param open_: what would be settled, or looked at later; at least one.
    :param budget_s, launches, pairs: as :func:`settling` has them.
    """
    needed = max(one.values.get("launches_needed") or 0 for one in open_)
    advised = max(_LEAST_LAUNCHES, _MARGIN * needed)
    budget = f"--budget {math.ceil(max(_budget_s(open_, advised, pairs), budget_s) / 60)}m"
    return f"{budget} with launches = {advised} in a matrix file (--matrix)" if advised > launches else budget


def _budget_s(open_: Sequence[Finding], launches: int, pairs: int) -> float:
    """Every session of a stage is given the same share: the longest one decides."""
    asked = {1: pairs, 2: len({one.case for one in open_ if one.stage == 2})}
    longest = {
        stage: max((_each_s(one) * launches for one in open_ if one.stage == stage), default=0.0) for stage in asked
    }
    return max(longest[stage] * asked[stage] / SHARES[stage] for stage in asked)


def _each_s(finding: Finding) -> float:
    """Seconds that a launch of its session took."""
    seconds: float = finding.values["seconds"]
    launches: int = finding.values["launches"]
    return seconds / max(1, launches)
