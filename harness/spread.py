"""A run over several hosts: which host runs which case, and the processes of pytest-xdist that run them side by side.

The process that leads finds out what there is, once, and hands it to the others, so that all of them collect the same
tests. A unit of work is all tests of one case: its engines are built and loaded in one process.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.spec.calibration import Precision
from harness.workers.absent import Absent
from harness.workers.environments import Environment
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.plan import Plan
    from harness.spec.case import Case

__all__ = ["Handed", "Spread", "handed_to", "least_busy", "left_out", "unit_of"]

_KEY = "harness"


@dataclass(frozen=True)
class Handed:
    """What the process that leads a run hands to one of the others.

    :param run: id of the run that it writes. :param turns: folder of :class:`harness.workers.turns.Turns`.
    :param environments, absent: as :attr:`harness.plan.Plan.asked`.
    """

    run: str
    turns: Path
    environments: tuple[Environment, ...]
    absent: tuple[Absent, ...]

    def plain(self) -> dict[str, Any]:
        """As execnet can send it."""
        return {**dataclasses.asdict(self), "turns": str(self.turns)}


def handed_to(config: pytest.Config) -> Handed | None:
    """What this process was handed; None if nothing was."""
    plain = getattr(config, "workerinput", {}).get(_KEY)
    if plain is None:
        return None
    environments = tuple(Environment(**one) for one in plain["environments"])
    return Handed(plain["run"], Path(plain["turns"]), environments, tuple(Absent(**one) for one in plain["absent"]))


def left_out(cases: Iterable[Case], environments: Mapping[str, Environment]) -> set[Case]:
    """Cases that are not run where they are listed, so that each runs once over all hosts that have its runtime.

    Hosts take turns, first for the INT8 cases, which are the work, so that those of a small matrix are shared out, too.
    The same hosts and the same matrix give the same shares: times of two runs are times of one host.

    :param environments: name -> environment, for every runtime of the cases. One that only builds leaves a case to one
        that also runs it.
    """
    alike: dict[Case, list[Case]] = {}
    for case in cases:
        alike.setdefault(replace(case, runtime=case.runtime.partition("@")[0]), []).append(case)
    counts: Counter[tuple[str, ...]] = Counter()
    kept: set[Case] = set()
    for group in sorted(alike.values(), key=lambda group: group[0].precision is not Precision.INT8):
        able = [case for case in group if environments[case.runtime].can_run] or group
        hosts = tuple(case.runtime for case in able)
        kept.add(able[counts[hosts] % len(able)])
        counts[hosts] += 1
    return {case for case in itertools.chain.from_iterable(alike.values()) if case not in kept}


def unit_of(nodeid: str, cases: Iterable[str]) -> str:
    """The id of the case that a test is of; for tests of no case the test's own.

    :param cases: ids of cases, longer ones first: one may be the beginning of another.
    """
    name = nodeid.partition("[")[2].removesuffix("]")
    fits = (case for case in cases if name == case or name.startswith(f"{case}-") or name.endswith(f"-{case}"))
    return next(fits, nodeid)


def least_busy(units: Iterable[str], places: Mapping[str, object], others: Sequence[str]) -> str:
    """The first of the units that wait in the place where other processes have the fewest under way.

    :param places: unit -> where it runs; tests of no case have none. :param others: what other processes have.
    """
    busy = Counter(places.get(unit) for unit in others)
    return min(units, key=lambda unit: busy[places.get(unit)])


class Spread:
    """A plugin of the process that leads a run of pytest-xdist: hands out, orders, and shows what all of them found."""

    def __init__(self, plan: Plan) -> None:
        from harness.results.store import new_run_id

        self._plan, self._run = plan, new_run_id()
        self._turns = Path(tempfile.mkdtemp(prefix="harness-turns."))
        self._cases: list[Case] = []

    def pytest_xdist_setupnodes(self) -> None:
        """Whatever cannot be is said here, once, before another process is started."""
        try:
            self._cases = self._plan.cases(builds_only=True)
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from None

    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist's
        environments, absent = self._plan.asked
        run = f"{self._run}-{node.workerinput['workerid']}"
        node.workerinput[_KEY] = Handed(run, self._turns, tuple(environments), tuple(absent)).plain()

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:  # noqa: ANN401 - xdist's
        from xdist.scheduler import LoadScopeScheduling

        environments = self._plan.environments
        places = {case.id: place_of(environments[case.runtime]) for case in self._cases}
        ids = sorted(places, key=len, reverse=True)

        class OneCaseAfterTheOther(LoadScopeScheduling):  # type: ignore[misc]
            """Takes xdist's scheduler for scopes: a scope is a case, and the next one is picked by where it runs."""

            def _split_scope(self, nodeid: str) -> str:
                return unit_of(nodeid, ids)

            def _assign_work_unit(self, node: Any) -> None:  # noqa: ANN401 - xdist's
                others = [
                    unit
                    for other, units in self.assigned_work.items()
                    for unit, tests in units.items()
                    if other is not node and not all(tests.values())
                ]
                self.workqueue.move_to_end(least_busy(self.workqueue, places, others), last=False)
                super()._assign_work_unit(node)

        return OneCaseAfterTheOther(config, log)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        from harness.report.run import write_tables
        from harness.results.store import read_run

        if not self._cases:  # refused, or nothing was collected
            return
        paths = sorted(self._plan.results.glob(f"{self._run}-*.jsonl"))
        records = [one for path in paths for one in read_run(path)]
        write_tables(terminalreporter, records, self._plan.entries, self._plan.seed, paths)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._turns, ignore_errors=True)
