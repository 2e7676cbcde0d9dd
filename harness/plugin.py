"""The pytest plugin: options, parametrization over the matrix, the workbench fixture, the tables at the end."""

from __future__ import annotations

import errno
import itertools
import os
import shlex
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, ResultsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from harness.corpus.catalogue import Entry
    from harness.corpus.content import Draw
    from harness.spec.case import Case
    from harness.spec.config import Config
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers.environments import Environment

__all__ = ["Plan"]

_PLAN: pytest.StashKey[Plan] = pytest.StashKey()
_BENCH: pytest.StashKey[Workbench] = pytest.StashKey()
_REFUSED: pytest.StashKey[HarnessError] = pytest.StashKey()
_CASES: pytest.StashKey[set[Case]] = pytest.StashKey()
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "INT8 models with variable-length inputs")
    many: dict[str, Any] = {"action": "append", "default": [], "metavar": "WORD[,WORD]"}
    group.addoption("--runtime", help="environments: a family, a name's start, or a pattern", **many)
    group.addoption("--models", help="catalogue keys (default: all)", **many)
    group.addoption("--methods", help="auto, minmax, percentile[99.9], entropy, mse", **many)
    group.addoption("--policies", help="ragged, pad, truncate, window, per_profile, reinterpret", **many)
    group.addoption(
        "--layouts", action="append", default=[], metavar="LAYOUT",
        help="single, buckets3, geometricN, or MIN-OPT-MAX,MIN-OPT-MAX; give the option once a layout",
    )  # fmt: skip
    group.addoption("--precision", help="fp32, fp16, int8", **many)
    group.addoption("--matrix", default="", metavar="quick|full|FILE", help="which cells to run (default: quick)")
    group.addoption("--seed", type=int, default=0, help="draws corpora, orders and examples (default: 0)")
    group.addoption("--results", default="", metavar="DIR", help="where records go (default: results/)")
    group.addoption("--python", dest="pythons", action="append", default=[], help="an interpreter with a runtime")
    group.addoption(
        "--require", help="environments that must be found; without them the run fails instead of skipping", **many
    )
    group.addoption(
        "--draw", default="", metavar="LENGTH,INDEX,OFFSET,GAIN",
        help="run test_accuracy on this one example, as a failure prints it",
    )  # fmt: skip
    own = parser.getgroup("harness: a model of your own")
    own.addoption("--model", default="", metavar="FILE.onnx", help="an FP32 ONNX file")
    own.addoption("--axis", action="append", default=[], metavar="INPUT:DIM=NAME", help="what varies")
    own.addoption("--range", dest="length_range", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="its lengths")
    own.addoption("--data", default="", metavar="DIR|LOADER.py", help=".npz files, or a Polygraphy data loader")
    own.addoption("--length-input", action="append", default=[], metavar="INPUT=NAME", help="holds the valid length")
    own.addoption("--pad", action="append", default=[], metavar="INPUT=VALUE", help="value beyond the end")
    own.addoption("--constant", action="append", default=[], metavar="INPUT=VALUE|FILE.npy", help="never varies")
    own.addoption("--score", default="", metavar="MODULE:FUNCTION", help="task score of one sample")
    own.addoption("--output", default="", metavar="NAME", help="the output that is compared")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cases(precisions, default_calibration, one_layout, builds_only): which cells of the matrix a test takes",
    )
    config.stash[_PLAN] = Plan(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None or "case" not in metafunc.fixturenames:  # others may call an argument "case" too
        return
    config, cases = metafunc.config, []
    if _REFUSED not in config.stash:
        try:
            cases = config.stash[_PLAN].cases(**marker.kwargs)
        except HarnessError as error:  # raised here it would be a collection error of one file, with our frames
            config.stash[_REFUSED] = error
    config.stash.setdefault(_CASES, set()).update(cases)
    # session scope: pytest keeps all tests of one case together, and engines stay loaded
    metafunc.parametrize("case", cases, ids=str, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """What was asked for cannot be done: say it once, before anything runs."""
    refused = config.stash.get(_REFUSED, None)
    if refused is not None:
        raise pytest.UsageError(str(refused))


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

        matrix = read_matrix(self.option("--matrix") or self.config.matrix).with_options(
            precisions=_split(self.option("--precision")),
            methods=_split(self.option("--methods")),
            policies=_split(self.option("--policies")),
            layouts=self.option("--layouts"),
        )
        matrix.comparisons()  # raises UsageError
        return matrix

    @property
    def chose_calibration(self) -> bool:
        """Whether methods or policies were asked for by name: their bounds then gate."""
        return bool(self.option("--methods") or self.option("--policies"))

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        from harness.corpus.own import own_entry
        from harness.corpus.registry import load_catalogue, pick

        if not self.option("--model"):
            chosen = pick(load_catalogue(self.config), _split(self.option("--models")))
            return {entry.model.key: entry for entry in chosen}
        entry = own_entry(
            self.option("--model"),
            axes=self.option("--axis"),
            range_=self.option("length_range"),
            data=self.option("--data") or None,
            length_inputs=self.option("--length-input"),
            pads=self.option("--pad"),
            constants=self.option("--constant"),
            score=self.option("--score"),
            output=self.option("--output"),
        )
        return {entry.model.key: entry}

    @cached_property
    def environments(self) -> Mapping[str, Environment]:
        """Chosen environments by name; without ``--runtime``: this interpreter's, and any TensorRT-RTX there is.

        :raises EnvironmentMissing: an interpreter, or a runtime that was asked for or required, is not there.
        """
        import sys

        from harness.workers.environments import find_environments, select

        extra = [*self.option("pythons"), *(e.python for e in self.config.environments if not e.host)]
        found = find_environments(self.pytest_config.rootpath, extra)
        select(found, _split(self.option("--require")), where="--require")
        select(found, self.config.require, where=f"require in {self.config.file}")
        patterns = _split(self.option("--runtime"))
        if patterns:
            chosen = select(found, patterns)
        else:
            chosen = [e for e in found if e.python in {sys.executable, *extra} or e.runtime == "tensorrt-rtx"]
        return {environment.name: environment for environment in chosen}

    def cases(
        self,
        precisions: tuple[str, ...] = (),
        *,
        default_calibration: bool = False,
        one_layout: bool = False,
        builds_only: bool = False,
    ) -> list[Case]:
        """The matrix's cases that a test takes.

        :param precisions: only these.
        :param default_calibration: of INT8 only the first method and policy of the matrix.
        :param one_layout: only the first layout of the matrix.
        :param builds_only: also environments that build engines which cannot run here.
        :raises HarnessError: anything that was asked for and cannot be: found here, before a test runs.
        """
        from dataclasses import replace

        from harness.runtimes.probe import gpu_count
        from harness.spec.matrix import expand
        from harness.spec.shapes import layout_from_text

        matrix = self.matrix
        for entry, layout in itertools.product(self.entries.values(), matrix.layouts):
            layout_from_text(layout, entry.model)
        _ = self.draw
        if precisions:
            matrix = replace(matrix, precisions=tuple(p for p in matrix.precisions if p in precisions))
        if default_calibration:
            matrix = replace(matrix, methods=matrix.methods[:1], policies=matrix.policies[:1])
        if one_layout:
            matrix = replace(matrix, layouts=matrix.layouts[:1])
        runtimes = [
            name
            for name, environment in self.environments.items()
            if builds_only or environment.runtime == "onnxruntime" or gpu_count()
        ]
        return expand(matrix, self.entries, runtimes)

    @property
    def draw(self) -> Draw | None:
        """The one example that ``--draw`` names."""
        from harness.corpus.content import Draw

        text = self.option("--draw")
        if not text:
            return None
        try:
            length, index, offset, gain = text.split(",")
            return Draw(int(length), int(index), int(offset), float(gain))
        except ValueError:
            raise UsageError(f"--draw {text!r} is not LENGTH,INDEX,OFFSET,GAIN", todo="paste it as printed") from None

    def again(self, test: Path, name: str, case: Case, draw: Draw) -> str:
        """The command that runs one drawn example of a case again, from the same folder."""
        own = {"--model": "model", "--range": "length_range", "--data": "data", "--axis": "axis", "--pad": "pad"}
        own |= {"--length-input": "length_input", "--constant": "constant", "--score": "score", "--output": "output"}
        words = ["pytest", os.path.relpath(test, self.pytest_config.invocation_params.dir), "-k", name]
        if self.option("model"):
            for option, stored in own.items():
                given = self.option(stored)
                for value in given if isinstance(given, list) else [given] * bool(given):
                    words += [option, value]
        else:
            words += ["--models", case.model]
        for option in ("matrix", "results"):
            words += [f"--{option}", self.option(option)] * bool(self.option(option))
        for python in self.option("pythons"):
            words += ["--python", python]
        words += ["--runtime", case.runtime, "--precision", case.precision.value, "--layouts", case.layout]
        if case.calibration is not None:
            words += ["--methods", str(case.calibration.method), "--policies", case.calibration.policy.value]
        words += ["--seed", str(self.option("seed"))]
        return shlex.join([*words, "--draw", f"{draw.length},{draw.index},{draw.offset},{draw.gain}"])

    def workbench(self) -> Workbench:
        """A new workbench; made once a session by the fixture."""
        from harness.results.store import Store
        from harness.workbench import Workbench
        from harness.workers import Workers

        folder = Path(self.option("--results") or self.config.results)
        run = Store(folder).open_run()
        workers = Workers(deadline_s=self.config.deadline_s)
        return Workbench(self.entries, self.environments, workers, run, self.matrix, self.option("--seed"))


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    """What was asked for on the command line."""
    return pytestconfig.stash[_PLAN]


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config, plan: Plan) -> Iterator[Workbench]:
    """Models, data, engines and records of this run."""
    try:
        workbench = plan.workbench()
    except HarnessError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    pytestconfig.stash[_BENCH] = workbench
    yield workbench
    workbench.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _plainly(item) if item.get_closest_marker("cases") else nullcontext():
        yield
        if item.get_closest_marker("cases") and _BENCH in item.config.stash:
            _make_ready(item, item.config.stash[_BENCH])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _plainly(item) if item.get_closest_marker("cases") else nullcontext():
        return (yield)


@contextmanager
def _plainly(item: pytest.Item) -> Iterator[None]:
    """Our errors end one of our cases by their message: what, where, what to do. Our frames help nobody.

    A case that failed before it could say how it went has a record too, as a crash is a result.
    """
    bench = item.config.stash.get(_BENCH, None)
    before = len(bench.records) if bench else 0
    try:
        try:
            yield
        except HarnessError as error:
            if not isinstance(error, ResultsError):
                _record_failure(item, before, f"{type(error).__name__}: {error}")
                raise pytest.fail.Exception(f"{type(error).__name__}: {error}", pytrace=False) from None
            raise
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            raise pytest.fail.Exception(f"the disk is full: {error.filename or error}", pytrace=False) from None
        except (AssertionError, pytest.fail.Exception) as error:
            _record_failure(item, before, str(error))
            raise
    except ResultsError as error:  # nothing measured from now on could be kept
        raise pytest.exit.Exception(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        if _BENCH not in item.config.stash:
            raise
        bench = item.config.stash[_BENCH]
        kept = f"{len(bench.records)} records are kept in {bench.run.path}"
        raise pytest.exit.Exception(f"interrupted; {kept}", returncode=2) from None  # fixtures end the workers


def _record_failure(item: pytest.Item, before: int, error: str) -> None:
    from harness.results.record import KINDS

    kind, workbench = item.path.stem.removeprefix("test_"), item.config.stash.get(_BENCH, None)
    case = item.callspec.params["case"]  # type: ignore[attr-defined] # there are no cases without it
    if workbench and case.model not in workbench.refused and len(workbench.records) == before and kind in KINDS:
        workbench.record(kind, case, "failed", test=item.name, error=error)


def _make_ready(item: pytest.Item, workbench: Workbench) -> None:
    """A model whose file or data are refused fails once; its other tests are skipped, the other models run."""
    key = item.callspec.params["case"].model  # type: ignore[attr-defined] # there are no cases without it
    if key in workbench.refused:
        raise pytest.skip.Exception(f"{key} was refused, see its first test", _use_item_location=True)
    try:
        workbench.make_ready(key)
    except HarnessError:
        if len(workbench.refused) == len(workbench.entries):
            item.session.shouldfail = "no model is left to run"
        raise


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    cases = config.stash.get(_CASES, set())
    if not cases or config.get_verbosity() < 0:
        return []
    plan = config.stash[_PLAN]
    names = ", ".join(dict.fromkeys(case.runtime for case in sorted(cases, key=str)))
    return [f"harness: {len(cases)} cases of matrix {plan.matrix.name} on {names}, seed {plan.option('--seed')}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    workbench = config.stash.get(_BENCH, None)
    if workbench is None or not workbench.records:
        return
    from harness.report.table import render

    width = terminalreporter._tw.fullwidth  # noqa: SLF001 - pytest offers no other way to the width it prints in
    terminalreporter.write_line("")
    for line in render(workbench.records, workbench.entries, width=max(100, width), seed=workbench.seed):
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"records: {workbench.run.path}")
