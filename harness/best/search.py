"""The whole search: samples, rungs, answer, what limits it, layouts, record."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import onnx

from harness.best.evidence import RUNGS
from harness.best.found import Found, chosen, missing
from harness.best.halving import Halving, Settings
from harness.best.journal import Budget, Journal, Over
from harness.best.layout_advice import traffic_of
from harness.best.layouts import layouts_for
from harness.best.looking import Looking
from harness.errors import EnvironmentMissing, HarnessError
from harness.explain.explained import explained
from harness.explain.rules import findings
from harness.paths import cache_dir
from harness.spec.calibration import Precision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.best.evidence import Candidate
    from harness.best.goal import Goal
    from harness.best.layout_advice import Traffic
    from harness.explain.finding import Finding
    from harness.spec.model import Model
    from harness.workbench import Workbench

__all__ = ["Asked", "journal_of", "record", "search"]

_ENOUGH_FOR_TABLES_S = 30.0
"""Left of the budget: layer tables, and the machine's roof where it is not known yet."""
_LIMITS = ("wrong", "slow")
_SHOWN = 6


@dataclass(frozen=True)
class Asked:
    """A search.

    :param each: samples of the middle length bucket on the second rung of accuracy; more of the short ones.
    :param traffic: of the layout advice; the calibration corpus's lengths where it is None.
    :param journal: of what was measured; one in the cache for each model where it is None.
    :param now: a clock, in seconds.
    :param switch_us: what a change of profile costs; None where nobody said.
    """

    key: str
    goal: Goal
    budget_s: float = 600.0
    each: int = 8
    traffic: Traffic | None = None
    switch_us: float | None = None
    settings: Settings = field(default_factory=Settings)
    journal: Path | None = None
    now: Callable[[], float] = time.monotonic


def search(bench: Workbench, asked: Asked, told: Callable[[str], None] = lambda _: None) -> Found:
    """Find the case to ship. Of one environment: the bench's only one.

    :raises EnvironmentMissing: the runtime only builds here.
    :raises HarnessError: the model, its data or FP32 itself is refused.
    """
    budget = Budget(asked.budget_s, asked.now)
    (environment,) = bench.environments.values()
    if not environment.can_run:
        raise EnvironmentMissing(
            f"{environment.name} builds here and cannot run: nothing says which case is best",
            todo="run it where there is a GPU, or name another --runtime",
        )
    key, model = asked.key, bench.model(asked.key)
    bench.make_ready(key)
    journal = Journal(asked.journal or journal_of(bench, key))
    traffic = asked.traffic or traffic_of(bench.corpus(key, "calibration").lengths, model)
    with closing(Looking.made(bench, key, asked.each)) as looking:
        rungs = Budget(max(0.0, budget.left), asked.now)  # they share what model and data leave
        halving = Halving(bench, looking, asked.goal, rungs, journal, asked.settings, told)
        measures = halving.measures
        candidates = halving.run(lambda case: layouts_for(measures, case, traffic, asked.switch_us))
        ship, word = chosen(candidates, asked.goal, model)
        if halving.unfinished and (word == "not met" or ship is candidates[0]):
            ship, word = ship if ship is not candidates[0] else None, "open"
        found = Found(asked.goal, candidates, ship, word)
        found.unfinished = halving.unfinished
        found.why = _why(found, model)
        found.layouts = halving.layouts
        found.notes = _notes(halving, looking)
    if word == "not met" and ship is not None and ship.case.precision is not Precision.FP32:
        found.findings = _limits(bench, ship, budget, told)
    elif word == "not met":
        nearest = max((one for one in candidates if one.search), key=_reached_rung, default=None)
        found.findings = _limits(bench, nearest, budget, told) if nearest else []
    found.seconds, found.measured, found.kept = budget.spent, journal.made, journal.found
    record(bench, found)
    return found


def record(bench: Workbench, found: Found) -> None:
    """One record of kind ``best``, of the case to ship (of FP32 where there is none)."""
    case = found.ship.case if found.ship else found.candidates[0].case
    values = {name: value for name, value in found.as_data().items() if name != "word"}
    bench.record("best", case, found.word, **values)


def _why(found: Found, model: Model) -> str:
    ship = found.ship
    if ship is None:
        return "the budget ended before any INT8 case was judged"
    if found.word == "met":
        if ship.case.precision is Precision.FP32:
            return "FP32 is enough, or nothing faster is within the bounds"
        fast = "as fast as asked" if found.goal.asks else "faster than FP32"
        return f"within its bounds on the test corpus, and {fast}"
    return "; ".join(missing(ship, found.goal, model)) or "what was measured does not tell"


def _notes(halving: Halving, looking: Looking) -> list[str]:
    notes = [*halving.notes]
    if looking.seen:
        notes.append("calibration took all samples there are: the search looked at the same ones")
    if not halving.mixed and halving.bench.entries[halving.key].ready is None:
        notes.append(f"no plan of mixed precision is kept: harness mix {halving.key} may find a better case")
    notes += [
        f"{one.case.id} is as near to FP32 as FP16 is: hardly anything of it can run in INT8; harness explain "
        f"{one.case.id} shows its layers"
        for one in halving.candidates
        if halving.as_float(one) and one.case.layout == "single"
    ]
    return notes


def _reached_rung(one: Candidate) -> tuple[int, float]:
    return RUNGS.index(one.rung), one.search.sqnr_db() if one.search else 0.0


def _limits(bench: Workbench, nearest: Candidate, budget: Budget, told: Callable[[str], None]) -> list[Finding]:
    """What the rules say of the nearest case: with layer tables where the budget reaches, else of its file alone."""
    told("findings: what limits it")

    def whole() -> list[Finding]:
        case = nearest.case
        return list(explained(bench, case, replace(case, precision=Precision.FP32, calibration=None)).findings)

    def of_file() -> list[Finding]:
        return findings(onnx.load(bench.artefacts(nearest.case)[0]), model_spec=bench.model(nearest.case.model))

    try:
        found = budget.step("findings", whole if budget.left > _ENOUGH_FOR_TABLES_S else of_file)
    except (Over, HarnessError):
        return []
    return [one for one in found if one.severity in _LIMITS][:_SHOWN]


def journal_of(bench: Workbench, key: str) -> Path:
    prepared = bench.prepared(key)
    return cache_dir("best") / f"{key}-{prepared.stem}.jsonl"
