"""What a pytest run is to do, read off its options and the configuration."""

from __future__ import annotations

import itertools
import math
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from harness.corpus.catalogue import Entry
    from harness.corpus.content import Draw
    from harness.results.store import Run
    from harness.spec.case import Case
    from harness.spec.config import Config
    from harness.spec.matrix import Matrix
    from harness.spread import Handed
    from harness.workbench import Workbench
    from harness.workers.absent import Absent
    from harness.workers.environments import Environment

__all__ = ["Plan"]

_OWN = {"--axis": "axis", "--range": "length_range", "--data": "data", "--length-input": "length_input"}
_OWN |= {
    "--float": "float_file",
    "--pad": "pad",
    "--constant": "constant",
    "--score": "score",
    "--output": "output",
    "--bound": "bound",
}
"""Options of a model of one's own, and where pytest keeps their values."""


_RTX_CONVOLUTIONS_SINCE = (1, 7)
_LONGEST_COMMAND = 1000


def _split(words: list[str]) -> list[str]:
    return [word.strip() for text in words for word in text.split(",") if word.strip()]


@dataclass(frozen=True)
class Plan:
    """What this pytest run is to do, read off the options; nothing is probed or loaded before it is asked for."""

    pytest_config: pytest.Config

    def option(self, name: str) -> Any:  # noqa: ANN401 - pytest's options are of any type
        return self.pytest_config.getoption(name)

    @cached_property
    def config(self) -> Config:
        from harness.spec.config import find_config

        return find_config(self.pytest_config.invocation_params.dir)

    @cached_property
    def matrix(self) -> Matrix:
        from harness.spec.matrix import read_matrix

        matrix = read_matrix(self.option("--matrix") or self.config.matrix)
        matrix = replace(matrix, samples=self._samples(matrix.samples)).with_options(
            precisions=_split(self.option("--precision")),
            methods=_split(self.option("--methods")),
            policies=_split(self.option("--policies")),
            layouts=self.option("--layouts"),
            routes=_split(self.option("--routes")),
        )
        matrix.comparisons()  # raises UsageError
        return matrix

    def _samples(self, default: int) -> int:
        from harness.corpus.spread import LARGEST

        text = self.option("--samples")
        if not text:
            return default
        if text == "all":
            endless = [key for key, entry in self.entries.items() if entry.every is None]
            if endless:
                todo = "give a number; all is for data of your own"
                raise UsageError(f"--samples all: the samples of {', '.join(endless)} have no end", todo=todo)
            return LARGEST
        if not text.isdecimal() or not 1 <= int(text) <= LARGEST:
            raise UsageError(f"--samples {text!r} is no number of samples", todo=f"give 1 to {LARGEST}, or all")
        return int(text)

    @property
    def seed(self) -> int:
        """:raises UsageError: it is negative."""
        seed: int = self.option("--seed")
        if seed < 0:
            raise UsageError(f"--seed {seed} is negative", todo="give 0 or more")
        return seed

    @property
    def chose_calibration(self) -> bool:
        """Whether methods or policies were asked for by name: their bounds then gate."""
        return bool(self.option("--methods") or self.option("--policies"))

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        from harness.corpus.own import own_entry
        from harness.corpus.registry import load_catalogue, pick
        from harness.spec.bounds import bounded, check_bounds, read_bounds

        if not self.option("--model"):
            useless = [option for option, stored in _OWN.items() if self.option(stored) and option != "--bound"]
            if useless:
                todo = (
                    f"give --model FILE.onnx, too; for a [[models]] of harness.toml, say it there, not by {useless[0]}"
                )
                raise UsageError(f"{useless[0]} is for a model of your own", todo=todo)
            chosen = pick(load_catalogue(self.config), _split(self.option("--models")))
            if asked := read_bounds(self.option("--bound")):
                chosen = [bounded(entry, asked, of=len(chosen)) for entry in chosen]
            for entry in chosen:
                check_bounds(entry.model)
            return {entry.model.key: entry for entry in chosen}
        if self.option("--models"):
            raise UsageError("--model and --models exclude each other", todo="run the suites twice")
        entry = own_entry(
            self.option("--model"),
            axes=self.option("--axis"),
            range_=self.option("length_range"),
            data=self.option("--data") or None,
            float_=self.option("float_file") or None,
            length_inputs=self.option("--length-input"),
            pads=self.option("--pad"),
            constants=self.option("--constant"),
            score=self.option("--score"),
            output=self.option("--output"),
            bounds=read_bounds(self.option("--bound")),
        )
        check_bounds(entry.model)
        return {entry.model.key: entry}

    @cached_property
    def environments(self) -> Mapping[str, Environment]:
        """Chosen environments by name, with the options that the configuration gives them; see :attr:`asked`."""
        options = self.config.options
        return {one.name: replace(one, options={**one.options, **options.of(one.name)}) for one in self.asked[0]}

    @property
    def handed(self) -> Handed | None:
        """What the process that leads this run has decided; None in that process, and in a run of one process."""
        from harness.spread import handed_to

        return handed_to(self.pytest_config)

    def absent(self, *, builds_only: bool = False) -> list[Absent]:
        """What was asked for and is not there, for a test that takes ``builds_only`` or not, as in :meth:`cases`."""
        # On most machines TensorRT-RTX only builds: a version that is not there is missed by the tests of builds.
        return [one for one in self.asked[1] if builds_only or not one.name.startswith("tensorrt-rtx-")]

    @cached_property
    def asked(self) -> tuple[list[Environment], list[Absent]]:
        """Chosen environments, and runtimes that ``--runtime`` asks for and that are not there.

        Without ``--runtime``: this interpreter's, and the newest TensorRT-RTX, if it takes INT8 convolutions (1.7).

        Those that are named, by ``--python`` or in the configuration, are chosen, too, also on other hosts. What the
        configuration names may be missing, unless it is called by its name; a host that cannot be reached is absent.

        :raises EnvironmentMissing: an interpreter, or a runtime that is required, is not there; or nothing is known
            by the name of one that is asked for.
        """
        if self.handed is not None:
            return list(self.handed.environments), list(self.handed.absent)
        from harness.spec.versions import numbers_of
        from harness.workers.absent import asked_for
        from harness.workers.environments import configured, find_environments, interpreter, select
        from harness.workers.places import elsewhere, missed

        config = self.config
        extra = [interpreter(name) for name in self.option("pythons")]
        aliases = {e.name: partial(configured, e, config.file) for e in config.environments}
        local = [path for e in config.environments if not e.host and (path := shutil.which(e.python))]
        optional = [str(Path(path).absolute()) for path in local]
        required, patterns = _split(self.option("--require")), _split(self.option("--runtime"))
        # What is called by its own name is looked for there alone, and by nothing else.
        by_name = patterns and all(word in aliases for word in [*patterns, *required, *config.require])
        far, missing = elsewhere([] if by_name else config.environments, config.file)
        found = [*find_environments(self.pytest_config.rootpath, extra, optional), *far]
        select(found, required, where="--require", aliases=aliases)
        select(found, config.require, where=f"require in {config.file}", aliases=aliases)
        unreached = partial(missed, config.environments, missing)
        if patterns:
            return asked_for(found, patterns, aliases, unreached)
        named = {sys.executable, *extra, *optional}
        able = [e for e in found if e.can_run or e.can_build]  # TensorRT without a GPU can do nothing
        rtx = {numbers_of(e.version): e for e in able if e.runtime == "tensorrt-rtx" and not e.host}
        rtx = {version: e for version, e in rtx.items() if version >= _RTX_CONVOLUTIONS_SINCE}  # most INT8 builds there
        newest = [rtx[max(rtx)]] if rtx else []
        return [e for e in able if e.host or e.python in named or e in newest], unreached("*")

    def cases(
        self,
        precisions: tuple[str, ...] = (),
        *,
        default_calibration: bool = False,
        one_layout: bool = False,
        builds_only: bool = False,
        calibrated: bool = False,
    ) -> list[Case]:
        """The matrix's cases that a test takes.

        :param precisions: only these.
        :param default_calibration: of INT8 only the first method and policy of the matrix that can go by the route.
        :param one_layout: only the first layout of the matrix.
        :param builds_only: also environments that build engines which cannot run here.
        :param calibrated: of INT8 only what is calibrated here: no model that is ready, no mixed precision.
        :raises HarnessError: anything that was asked for and cannot be: found here, before a test runs.
        """
        from harness.spec.matrix import MIXED, first_calibrations
        from harness.spec.shapes import layout_from_text

        matrix = self.matrix
        for entry, layout in itertools.product(self.entries.values(), matrix.layouts):
            layout_from_text(layout, entry.model)
        _ = self.draw, self.seed, self.results
        if precisions:
            kept = tuple(p for p in matrix.precisions if p in precisions or (p == MIXED and "int8" in precisions))
            matrix = replace(matrix, precisions=kept)
        if one_layout:
            matrix = replace(matrix, layouts=matrix.layouts[:1])
        able = self.environments.items()
        runtimes = [name for name, one in able if one.can_run or (builds_only and one.can_build)]
        cases = [case for case in self._expanded(matrix, runtimes) if case not in self._of_others]
        cases = [case for case in cases if not (calibrated and (case.ready or case.mixed))]
        return first_calibrations(cases) if default_calibration else cases

    def _expanded(self, matrix: Matrix, runtimes: list[str]) -> list[Case]:
        from harness.corpus.catalogue import ready_keys
        from harness.spec.matrix import expand

        families = {name: (one.runtime, one.version) for name, one in self.environments.items()}
        return expand(matrix, self.entries, runtimes, families, ready_keys(self.entries))

    @cached_property
    def _of_others(self) -> set[Case]:
        """With ``--spread``: cases that another host runs. Decided over all tests, which take parts of the matrix."""
        from harness.spread import left_out

        if not self.option("--spread"):
            return set()
        able = {name: one for name, one in self.environments.items() if one.can_run or one.can_build}
        return left_out(self._expanded(self.matrix, list(able)), able)

    @property
    def draw(self) -> Draw | None:
        """The one example that ``--draw`` names."""
        from harness.corpus.content import Draw

        text = self.option("--draw")
        if not text:
            return None
        try:
            length, index, offset, gain = text.split(",")
            draw = Draw(int(length), int(index), int(offset), float(gain))
        except ValueError:
            raise UsageError(f"--draw {text!r} is not LENGTH,INDEX,OFFSET,GAIN", todo="paste it as printed") from None
        if draw.length < 1 or draw.index < 0 or draw.offset < 0 or not 0.0 < draw.gain < math.inf:
            todo = "a length and a gain above 0, an index and an offset of 0 or more; paste it as printed"
            raise UsageError(f"--draw {text!r} is no example", todo=todo)
        return draw

    def again(self, test: Path, name: str, case: Case, draw: Draw) -> str:
        """The command that runs one drawn example of a case again, from the same folder."""
        from harness.spec.calibration import Precision

        words = ["pytest", os.path.relpath(test, self.pytest_config.invocation_params.dir), "-k", name]
        if self.option("model"):
            for option, stored in {"--model": "model", **_OWN}.items():
                given = self.option(stored)
                for value in given if isinstance(given, list) else [given] * bool(given):
                    words += [option, value]
        else:
            words += ["--models", case.model]
        for option in ("matrix", "results", "samples"):
            words += [f"--{option}", self.option(option)] * bool(self.option(option))
        for python in self.option("pythons"):
            words += ["--python", python]
        words += ["--runtime", case.runtime, "--precision", case.precision.value, "--layouts", case.layout]
        if case.precision is Precision.INT8:
            words += ["--routes", case.route.value]
        if case.calibration is not None:
            words += ["--methods", str(case.calibration.method), "--policies", case.calibration.policy.value]
        words += ["--seed", str(self.seed)]
        return shlex.join([*words, "--draw", f"{draw.length},{draw.index},{draw.offset},{draw.gain}"])

    @cached_property
    def results(self) -> Path:
        """The folder that records go to.

        :raises UsageError: there is something else by that name.
        """
        folder = Path(self.option("--results") or self.config.results)
        if folder.exists() and not folder.is_dir():
            raise UsageError("not a folder", where=f"results: {folder}", todo="name a folder: --results DIR")
        return folder

    @cached_property
    def run(self) -> Run:
        """The run that this one's records go to, begun when it is first asked for.

        :raises ResultsError: its file cannot be made.
        """
        from harness.results.store import Store

        return Store(self.results).open_run(self.handed.run if self.handed else None)

    def close(self) -> None:
        """End the run, if it was begun."""
        if "run" in self.__dict__:
            self.run.close()

    @property
    def command(self) -> str:
        """The command line as it was given; empty where it is too long for every record to repeat."""
        main = getattr(self.pytest_config, "workerinput", {}).get("mainargv")  # of pytest-xdist's processes
        words = shlex.join(["pytest", *(main[1:] if main else map(str, self.pytest_config.invocation_params.args))])
        return words if len(words) <= _LONGEST_COMMAND else ""

    def workbench(self) -> Workbench:
        """A new workbench; made once a session by the fixture."""
        from harness.workbench import Workbench
        from harness.workers import Workers
        from harness.workers.standins import Standins, pools_of
        from harness.workers.turns import Turns

        handed, environments = self.handed, self.environments
        workers = Workers(deadline_s=self.config.deadline_s)
        standins = Standins(environments, workers, pools_of(environments) if self.option("--spread") else {})
        return Workbench(
            self.entries,
            environments,
            workers,
            self.run,
            self.matrix,
            self.seed,
            self.config.latency,
            standins,
            Turns(handed.turns if handed else None),
            self.command,
        )
