"""What a gate is asked, in the words of a command line: the same for ``harness gate`` and for pytest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.corpus.catalogue import ready_keys
from harness.errors import UsageError
from harness.gate import allowed, recorded
from harness.spec.patterns import fits
from harness.workers.environments import configured, find_environments, of_interpreter, select
from harness.workers.places import check_one_place, elsewhere

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.corpus.catalogue import Entry
    from harness.gate.allowed import Allowance
    from harness.gate.findings import Finding
    from harness.gate.gate import Gate, Settings
    from harness.gate.pairs import Pair, Pairs
    from harness.gate.recorded import Recorded
    from harness.spec.config import Config
    from harness.spec.latency import LatencyConfig
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["Asked", "allowances", "environment", "matrix_of", "seconds", "sides"]

_UNITS = {"s": 1, "m": 60, "h": 3600}
_BUILDS, _THOROUGH_BUILDS = 3, 8


@dataclass(frozen=True)
class Asked:
    """Two sides; of the baseline a record may stand for the environment.

    :param recorded: the baseline's record; None where it is run.
    """

    baseline: Environment
    candidate: Environment
    recorded: Recorded | None = None

    @classmethod
    def read(cls, config: Config, results: Path, baseline: str, candidate: str, where: str) -> Asked:
        """What two words name: environments (:func:`sides`), or ``record:RUN`` for the baseline.

        :param results: the folder of runs.
        :raises EnvironmentMissing, UsageError, ResultsError: see :func:`sides`, :func:`harness.gate.recorded.read`.
        """
        if candidate.startswith(recorded.PREFIX):
            raise UsageError(
                f"{candidate} would be run against {baseline}: a record stands for a candidate only beside another one",
                where=where,
                todo=f"name two records ({recorded.PREFIX}OLD {recorded.PREFIX}NEW), which runs nothing; or put the "
                "record first and an environment behind it",
            )
        if not baseline.startswith(recorded.PREFIX):
            return cls(*sides(config, baseline, candidate, where))
        found = recorded.read(results, baseline)
        new = environment(config, candidate, where)
        _one_family(found.environment, new, where)
        return cls(found.environment, new, found)

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Those that are run, by name: what a workbench needs."""
        there = (self.candidate,) if self.recorded else (self.baseline, self.candidate)
        return {one.name: one for one in there}

    def settings(self, matrix: Matrix, models: Iterable[str], latency: LatencyConfig, budget_s: float) -> Settings:
        """What the gate may cost and how sure it has to be, as it is then asked."""
        from harness.gate.gate import Settings
        from harness.latency import margins_of

        asked = {key: latency.settings(key, self.candidate.name) for key in models}
        return Settings(
            budget_s=budget_s,
            builds=matrix.builds if self.candidate.tells_builds_apart else 1,
            launches=max((one.launches or matrix.launches for one in asked.values()), default=matrix.launches),
            latency={key: margins_of(one) for key, one in asked.items()},
        )

    def pairs(self, matrix: Matrix, entries: Mapping[str, Entry]) -> Pairs:
        """What is compared, and what is left over on each side.

        :raises UsageError: they share no case, which would pass.
        """
        from harness.gate.pairs import pair_up

        found = pair_up(matrix, entries, self.baseline, self.candidate, ready_keys(entries))
        if self.recorded is not None:
            found = self.recorded.restricted(found)
        if found.both:
            return found
        if self.recorded is None:
            todo = "choose precisions and routes that both take (--matrix)"
            raise UsageError(f"{self.baseline.name} and {self.candidate.name} share no case", todo=todo)
        raise UsageError(
            f"the record has none of the {len(found.only_candidate)} case(s) of {self.candidate.name}",
            where=f"run {self.recorded.run}, {self.baseline.name}",
            todo=f"it has {', '.join([*self.recorded.builds][:4])}, ...: choose models, matrix or run by that",
        )

    def gate(
        self,
        bench: Workbench,
        again: Callable[[int], Workbench],
        settings: Settings,
        told: Callable[[str, str], None] = lambda *_: None,
        heard: Callable[[Pair, list[Finding]], object] = lambda *_: None,
    ) -> Gate:
        """The gate between them.

        :param again: makes the workbench of the second stage, by what is added to the seed.
        :param told, heard: see :class:`harness.gate.gate.Gate`.
        """
        from harness.gate.gate import Gate
        from harness.gate.historical import Historical

        if self.recorded is not None:
            return Historical(bench, lambda: again(0), self.recorded, self.candidate, settings, told, heard)
        return Gate(bench, lambda: again(1), self.baseline, self.candidate, settings, told, heard)


def sides(config: Config, baseline: str, candidate: str, where: str) -> tuple[Environment, Environment]:
    """Both environments, under two names: see :func:`environment`.

    :param where: what they were given to, for messages.
    :raises EnvironmentMissing: one is not there.
    :raises UsageError: they are one, of two families, or on two hosts, where times and kernels differ for reasons of
        their own.
    """
    old, new = (environment(config, text, where) for text in (baseline, candidate))
    _one_family(old, new, where)
    check_one_place(old, new, f"{where}: {old.name} against {new.name}")
    if old.name != new.name:
        return old, new
    if old.python == new.python:
        raise UsageError(
            f"{baseline} and {candidate} are one environment: {old.name}",
            where=where,
            todo="name two; a version against itself needs a second interpreter that has it, by its path: "
            f"{baseline} old/bin/python",
        )
    # One version in two interpreters. Behind the @ stands where an environment is.
    place = Path(new.python).absolute().parents[1].name or "candidate"
    return old, replace(new, name=f"{new.name}{'+' if '@' in new.name else '@'}{place}")


def _one_family(old: Environment, new: Environment, where: str) -> None:
    """Other libraries take other models, build otherwise and count otherwise: no question of an upgrade."""
    if old.runtime != new.runtime:
        todo = "name two versions of one runtime"
        raise UsageError(f"{old.name} and {new.name} are different runtimes", where=where, todo=todo)


def environment(config: Config, text: str, where: str) -> Environment:
    """One environment by its name, the start of it, a version, a name of the configuration, or an interpreter's path.

    Behind a colon may stand which of an interpreter's runtimes is meant: ``mine:tensorrt``. The environment has the
    options that the configuration gives it.

    :raises EnvironmentMissing: there is none. :raises UsageError: there are several.
    """
    name, _, runtime = text.partition(":")
    there = _named(config, name, where)
    able = [one for one in there if one.can_run or one.can_build]
    if not able:
        why = "; ".join(one.why for one in there if one.why)
        raise UsageError(
            f"{text!r} can neither run nor build engines here: {why}", where=where, todo="see harness doctor"
        )
    chosen = [one for one in able if not runtime or fits(one.name, runtime)]
    if len(chosen) != 1:
        names = ", ".join(one.name for one in chosen or able)
        todo = f"say which: {name}:{chosen[0].name}" if len({one.python for one in chosen}) == 1 else "name one of them"
        raise UsageError(f"{text!r} names {len(chosen)} environments of {names}", where=where, todo=todo)
    return replace(chosen[0], options={**chosen[0].options, **config.options.of(chosen[0].name)})


def _named(config: Config, name: str, where: str) -> list[Environment]:
    aliases = {one.name: partial(configured, one, config.file) for one in config.environments}
    if name in aliases:  # looked for there alone
        return aliases[name]()
    if "/" in name:
        return of_interpreter(name)
    local = [one.python for one in config.environments if not one.host]
    far = elsewhere(config.environments, config.file)[0] if "@" in name else []
    if re.fullmatch(r"\d+(\.\d+)*", name):  # a version alone, of whichever runtime has it
        here = find_environments(config.root, optional=local)
        if of_version := [one for one in here if f"{one.version}.".startswith(f"{name}.")]:
            return of_version
    here = find_environments(config.root, optional=local)
    return select([*here, *far], [name], where=where, aliases=aliases, by_path="its path in place of the name")


def matrix_of(matrix: Matrix, *, thorough: bool) -> Matrix:
    """The matrix with a gate's builds of each engine, each of them timed, and without comparisons of methods."""
    builds = _THOROUGH_BUILDS if thorough else max(_BUILDS, matrix.builds)
    return replace(matrix, builds=builds, launches=max(matrix.launches, builds), compared=())


def seconds(text: str) -> float:
    """``90s``, ``20m``, ``1h``, or a number of seconds.

    :raises UsageError: it is none of these, or nothing.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--budget {text!r} is no time", todo="write 90s, 20m or 1h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def allowances(words: Sequence[str], file: str, today: dt.date) -> list[Allowance]:
    """What ``--allow`` and ``--allow-file`` say.

    :param file: its path; empty for none.
    :raises UsageError: a word without a reason. :raises ConfigError: a file that cannot be read strictly.
    """
    return [*(allowed.parse(text, today) for text in words), *(allowed.read(Path(file)) if file else ())]
