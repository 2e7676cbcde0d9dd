"""The pytest plugin: options, parametrization over the matrix, the workbench fixture, the tables at the end."""

from __future__ import annotations

import errno
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, ResultsError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness.plan import Plan
    from harness.spec.case import Case
    from harness.workbench import Workbench
    from harness.workers.absent import Absent

_PLAN: pytest.StashKey[Plan] = pytest.StashKey()
_BENCH: pytest.StashKey[Workbench] = pytest.StashKey()
_REFUSED: pytest.StashKey[HarnessError] = pytest.StashKey()
_CASES: pytest.StashKey[set[Case]] = pytest.StashKey()
_COMPARED: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
_JUDGED = {"failed", "below bounds", "not proved"}
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
    group.addoption("--routes", help="cache, qdq, calibrator, qdq_strong: how ranges reach TensorRT", **many)
    group.addoption("--precision", help="fp32, fp16, int8", **many)
    group.addoption("--matrix", default="", metavar="quick|full|FILE", help="which cells to run (default: quick)")
    group.addoption("--seed", type=int, default=0, help="draws corpora, orders and examples (default: 0)")
    group.addoption(
        "--samples", default="", metavar="N|all",
        help="calibration samples a model, picked over all there are (default: the matrix's)",
    )  # fmt: skip
    group.addoption("--results", default="", metavar="DIR", help="where records go (default: results/)")
    group.addoption("--python", dest="pythons", action="append", default=[], help="an interpreter with a runtime")
    group.addoption(
        "--require", help="environments that must be found; without them the run fails instead of skipping", **many
    )
    group.addoption(
        "--spread", action="store_true",
        help="share the cases of a runtime out over the hosts that have it, instead of running all of them on each; "
        "with -n N (pytest-xdist) in N processes side by side, times in turns",
    )  # fmt: skip
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
    own.addoption(
        "--bound", action="append", default=[], metavar="[BUCKET:]NAME=NUMBER",
        help="fail beyond it: sqnr_db=15, short:score=0.9, cosine, worst; drawn:cosine=0.4 for drawn examples; "
        "speedup=1.3, long:speedup=1.5, traffic:speedup=1.4: how many times faster INT8 has to be",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "cases(precisions, default_calibration, one_layout, builds_only): which cells of the matrix a test takes",
    )
    config.addinivalue_line(
        "markers", "latency: measures time; refused with reruns, and under pytest-xdist without --spread"
    )
    if _leads(config):
        from harness.spread import Spread

        config.pluginmanager.register(Spread(_plan(config)), "harness-spread")


def _leads(config: pytest.Config) -> bool:
    """Whether this is the process of pytest-xdist that runs no test itself, and the run is ours to spread."""
    return bool(config.getoption("--spread")) and config.getoption("dist", "no") != "no"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None or "case" not in metafunc.fixturenames:  # others may call an argument "case" too
        return
    config = metafunc.config
    cases: list[Case] = []
    absent: list[Absent] = []
    if _REFUSED not in config.stash:
        try:
            cases = _plan(config).cases(**marker.kwargs)
            absent = _plan(config).absent(builds_only=marker.kwargs.get("builds_only", False))
        except HarnessError as error:  # raised here it would be a collection error of one file, with our frames
            config.stash[_REFUSED] = error
    config.stash.setdefault(_CASES, set()).update(cases)
    # session scope: pytest keeps all tests of one case together, and engines stay loaded
    metafunc.parametrize("case", [*cases, *absent], ids=str, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """What was asked for cannot be done: say it once, before anything runs."""
    refused = config.stash.get(_REFUSED, None)
    if refused is not None:
        raise pytest.UsageError(str(refused))
    table = getattr(config, "_benchmarksession", None)  # pytest-benchmark's, which has read its options by now
    if table is not None and config.stash.get(_CASES, None) and not config.getoption("benchmark_columns"):
        table.columns = ["min", "median", "iqr", "rounds"]  # what 100 characters hold; --benchmark-columns for more


def _is_latency(item: pytest.Item) -> bool:
    return item.get_closest_marker("latency") is not None and item.get_closest_marker("cases") is not None


def _reruns(config: pytest.Config) -> bool:
    """Whether pytest-rerunfailures would run a failed test again."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return False
    asked = config.getoption("reruns", None)
    return bool(asked if asked is not None else int(config.getini("reruns") or 0))


def _plan(config: pytest.Config) -> Plan:
    """Made when it is first asked for: other projects, which load this plugin too, never ask."""
    if _PLAN not in config.stash:
        from harness.plan import Plan

        config.stash[_PLAN] = Plan(config)
    return config.stash[_PLAN]


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    """What was asked for on the command line."""
    return _plan(pytestconfig)


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
    if _is_latency(item) and hasattr(item.config, "workerinput") and _plan(item.config).handed is None:
        raise pytest.fail.Exception(
            "latency suites are refused under pytest-xdist (-n): other tests would run in the seconds that are timed "
            "-> give --spread, too, which lets them take turns, or run them without -n, or leave them out: "
            "-m 'not latency'",
            pytrace=False,
        )
    if item.get_closest_marker("cases"):
        _skip_absent(item)
    with _plainly(item) if item.get_closest_marker("cases") else nullcontext():
        yield
        if item.get_closest_marker("cases") and _BENCH in item.config.stash:
            bench = item.config.stash[_BENCH]
            with bench.turns.working(""):
                _make_ready(item, bench)


def _skip_absent(item: pytest.Item) -> None:
    """One reason in one place for all tests of a runtime: pytest shows them in one line."""
    from harness.workers.absent import Absent

    case = item.callspec.params.get("case")  # type: ignore[attr-defined] # there are no cases without it
    if isinstance(case, Absent):
        raise pytest.skip.Exception(case.reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    if not item.get_closest_marker("cases"):
        return (yield)
    bench = item.config.stash.get(_BENCH, None)
    with _plainly(item):
        if bench is None:
            return (yield)
        from harness.attempts import Attempts

        attempts = Attempts(bench, _case(item), timed=_is_latency(item))
        try:
            with attempts.turn():
                return (yield)
        except HarnessError as error:
            return attempts.again(item.runtest, error)


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined] # there are no cases without it
    return case


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
        except (Exception, pytest.fail.Exception) as error:
            _record_failure(item, before, str(error) or type(error).__name__)
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
    case = _case(item)
    if not workbench or case.model in workbench.refused or kind not in KINDS:
        return
    arm, workbench.arm = workbench.arm, None
    if not any(one["verdict"] in _JUDGED for one in workbench.records[before:]):  # the test itself has said it
        workbench.record(kind, arm or case, "failed", test=item.name, error=error)


def _make_ready(item: pytest.Item, workbench: Workbench) -> None:
    """A model whose file or data are refused fails once; its other tests are skipped, the other models run.

    Skipped, too, is a case that nobody asked for by name and that this model's data cannot calibrate, and one whose
    host went away if nothing takes over.
    """
    case = _case(item)
    key = case.model
    if key in workbench.refused:
        raise pytest.skip.Exception(f"{key} was refused, see its first test", _use_item_location=True)
    try:
        workbench.make_ready(key)
    except HarnessError:
        if len(workbench.refused) == len(workbench.entries):
            item.session.shouldfail = "no model is left to run"
        raise
    if why := workbench.standins.why_not(case.runtime, timed=_is_latency(item)):
        raise pytest.skip.Exception(why, _use_item_location=True)
    missing = workbench.profiles_without_samples(case)
    if missing and not _plan(item.config).chose_calibration:
        raise pytest.skip.Exception(f"no calibration sample in {', '.join(missing)}", _use_item_location=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is left after -k and -m: is it latency, and would it be measured, and compared, in vain?"""
    config = session.config
    if not any(_is_latency(item) for item in session.items):
        return
    if _reruns(config):
        raise pytest.UsageError(
            "latency suites are refused with reruns: a slow result that is measured until it is fast proves nothing -> "
            "leave --reruns out, or the latency tests: -m 'not latency'"
        )
    if config.getoption("benchmark_compare_fail", None):
        raise pytest.UsageError(
            "--benchmark-compare-fail is refused on latency suites: it compares runs that were not interleaved, and "
            "calls equal code slower in every third of them on a shared machine -> leave it out; what --bound "
            "speedup=1.3 asks is judged by sessions"
        )
    for theirs in config.stash.get(_COMPARED, []):
        from harness.measure.host import comparable, host

        if not theirs:
            raise pytest.UsageError(
                "--benchmark-compare: the file does not say where it was measured -> save it again with this version"
            )
        try:
            comparable(theirs, host(), "--benchmark-compare")
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Beside what pytest-benchmark says of the machine, what we do: limits, GPUs, load."""
    if config.stash.get(_CASES, None):
        from harness.measure.host import host

        output_json["harness"] = host()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_compare_machine_info(config: pytest.Config, compared_benchmark: dict[str, Any]) -> None:
    """Keep where a file of ``--benchmark-compare`` was measured; what runs here is known when all is collected."""
    config.stash.setdefault(_COMPARED, []).append(compared_benchmark.get("harness") or {})


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    cases = config.stash.get(_CASES, set())
    if not cases or config.get_verbosity() < 0:
        return []
    plan = _plan(config)
    names = ", ".join(dict.fromkeys(case.runtime for case in sorted(cases, key=str)))
    return [f"harness: {len(cases)} cases of matrix {plan.matrix.name} on {names}, seed {plan.seed}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    workbench = config.stash.get(_BENCH, None)
    if workbench is not None:
        from harness.report.run import write_tables

        write_tables(terminalreporter, workbench.records, workbench.entries, workbench.seed, [workbench.run.path])
