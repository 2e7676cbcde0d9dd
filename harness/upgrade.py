"""A gate through pytest: what the options ask for, one pair at a time, and the report at the end."""

from __future__ import annotations

import datetime as dt
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, ResultsError, UsageError
from harness.gate import report
from harness.gate.asked import Asked, allowances, matrix_of, seconds
from harness.gate.conclusion import Conclusion
from harness.gate.findings import Finding, overall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.gate.allowed import Allowance
    from harness.gate.gate import Settings
    from harness.gate.pairs import Pair, Pairs
    from harness.plan import Plan
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench

__all__ = ["Upgrade", "check_options"]

_WHERE = "--baseline, --candidate"
_BUDGET = "20m"
_FAILING = {"regression", "invalid"}


class Upgrade:
    """Judges pairs in any order; nothing is probed before it is asked for, and no run is begun before :meth:`open`.

    Pairs that are chosen and never judged are ``invalid`` in the report: a gate that was cut short has not passed.

    ``chosen`` holds the names of the pairs that this run is to judge, ``told`` the report when it is over.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.chosen: list[str] = []
        self.told: dict[str, Any] | None = None
        self._kept: Conclusion | None = None
        self._benches: list[Workbench] = []
        self._began = 0.0

    @property
    def written(self) -> list[str]:
        """What was written where."""
        return self._kept.written if self._kept else []

    @cached_property
    def asked(self) -> Asked:
        """Both sides.

        :raises HarnessError: see :meth:`harness.gate.asked.Asked.read`.
        """
        baseline, candidate = (self._plan.option(name) for name in ("--baseline", "--candidate"))
        return Asked.read(self._plan.config, self._plan.results, baseline, candidate, _WHERE)

    @cached_property
    def matrix(self) -> Matrix:
        """The run's matrix, with a gate's builds."""
        return matrix_of(self._plan.matrix, thorough=self._plan.option("--thorough"))

    @cached_property
    def pairs(self) -> Pairs:
        """All that both sides take.

        :raises HarnessError: anything that was asked for and cannot be: found here, before a test runs.
        """
        _ = self._settings, self._allowances, self._files, self._plan.seed
        return self.asked.pairs(self.matrix, self._plan.entries)

    @cached_property
    def _settings(self) -> Settings:
        budget_s = seconds(self._plan.option("--budget") or _BUDGET)
        return self.asked.settings(self.matrix, self._plan.entries, self._plan.config.latency, budget_s)

    @cached_property
    def _today(self) -> dt.date:
        return dt.datetime.now(tz=dt.UTC).date()

    @cached_property
    def _allowances(self) -> list[Allowance]:
        return allowances(self._plan.option("--allow"), self._plan.option("--allow-file"), self._today)

    @cached_property
    def _files(self) -> dict[str, Path]:
        given = {name: self._plan.option(f"--gate-{name}") for name in ("report", "summary")}
        return {name: report.target(Path(file), f"--gate-{name}") for name, file in given.items() if file}

    # -- one pair -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin: workers and the run's file.

        :raises HarnessError: the results cannot be written.
        """
        self._began = time.monotonic()
        first = self._bench(0)
        self._benches.append(first)
        gate = self.asked.gate(first, self._bench, self._settings)
        self._kept = Conclusion(self.asked, gate, first, self._settings, self._allowances, self._today, self._files)

    def _bench(self, offset: int) -> Workbench:
        """With workers of its own: the second stage ends those that it used."""
        from harness.workbench import Workbench
        from harness.workers import Workers

        plan, workers = self._plan, Workers(deadline_s=self._plan.config.deadline_s)
        seed, environments = plan.seed + offset, self.asked.environments
        return Workbench(
            plan.entries, environments, workers, plan.run, self.matrix, seed, plan.config.latency, command=plan.command
        )

    def judge(self, pair: Pair) -> list[Finding]:
        """Final findings of one pair, with what is allowed marked; they are recorded.

        :raises ResultsError: they cannot be written.
        """
        assert self._kept is not None
        try:
            found = self._kept.gate.judge(pair, len(self.chosen))
        except ResultsError:
            raise
        except HarnessError as error:
            why = f"cannot be judged: {type(error).__name__}: {error}"
            found = [Finding(pair.name, "builds", "invalid", why)]
        return self._kept.keep(pair, found)

    @property
    def failing(self) -> int:
        """How many pairs were judged a regression or invalid: their tests fail."""
        return sum(overall(found) in _FAILING for found in self._kept.found.values()) if self._kept else 0

    # -- the whole ----------------------------------------------------------------------------------------------

    def finish(self) -> dict[str, Any] | None:
        """The report, written and recorded once; None where no gate was begun.

        :raises HarnessError: it cannot be written.
        """
        if self._kept is None or self.told is not None:
            return self.told
        for bench in self._benches:
            bench.close()
        self.told = self._kept.finish(self.chosen, time.monotonic() - self._began)
        return self.told


def check_options(given: dict[str, Any], dist: str = "no") -> None:
    """Options of a gate mean something together.

    :param given: by name, as given; what was not is empty.
    :param dist: how pytest-xdist shares tests out over processes; ``no`` where it does not.
    :raises UsageError: one side is missing, or both are and something else is said, or several processes would judge:
        they would time side by side, and each would report the others' pairs as not judged.
    """
    sides: Sequence[str] = ("--baseline", "--candidate")
    missing = [name for name in sides if not given[name]]
    if len(missing) == 1:
        (there,) = set(sides) - set(missing)
        raise UsageError(f"{there} without {missing[0]}", todo=f"a gate has two sides: {missing[0]} ENV")
    useless = [name for name, value in given.items() if value and name not in sides]
    if missing and useless:
        raise UsageError(f"{useless[0]} is for a gate", todo="give --baseline ENV and --candidate ENV, too")
    if not missing and dist != "no":
        what = "a gate is refused under pytest-xdist (-n), with --spread, too: one process judges all of its pairs"
        raise UsageError(what, where=_WHERE, todo="leave out -n")
