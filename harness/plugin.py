"""The pytest plugin: options, parametrization over the matrix, the workbench fixture, the tables at the end."""

from __future__ import annotations

import errno
import inspect
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, ResultsError
from harness.plugin_options import GATE, add_options

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
_HIDDEN: pytest.StashKey[bool] = pytest.StashKey()
_JUDGED = {"failed", "below bounds", "not proved"}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    _ask_for_gate(config)
    config.addinivalue_line(
        "markers",
        "cases(precisions, default_calibration, one_layout, builds_only, calibrated): which cells a test takes",
    )
    config.addinivalue_line("markers", "upgrade_pairs: takes every pair of --baseline and --candidate")
    config.addinivalue_line(
        "markers", "latency: measures time; refused with reruns, and under pytest-xdist without --spread"
    )
    if _leads(config):
        from harness.spread import Spread

        config.pluginmanager.register(Spread(plan_of(config)), "harness-spread")


def _leads(config: pytest.Config) -> bool:
    """Whether this is the process of pytest-xdist that runs no test itself, and the run is ours to spread."""
    return bool(config.getoption("--spread")) and config.getoption("dist", "no") != "no"


def _ask_for_gate(config: pytest.Config) -> None:
    """What a gate needs is loaded where one is asked for; half of a gate ends the run."""
    given = {name: config.getoption(name) for name in GATE}
    if not any(given.values()):
        return
    from harness import plugin_upgrade
    from harness.upgrade import check_options

    try:
        check_options(given, config.getoption("dist", "no"))
    except HarnessError as error:
        pytest.exit(str(error), returncode=error.exit_code)  # pytest's own code for usage is 4, which is "invalid"
    config.pluginmanager.register(plugin_upgrade, "harness.plugin_upgrade")


def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """A gate is there where one is asked for; other suites then are where ``--runtime`` asks for them."""
    if not inspect.isfunction(obj):
        return None
    marks, config = {mark.name for mark in getattr(obj, "pytestmark", [])}, collector.config
    if "upgrade_pairs" in marks and not config.getoption("--baseline"):
        config.stash[_HIDDEN] = True
        return []
    ours = "cases" in marks and "case" in inspect.signature(obj).parameters
    return [] if ours and config.getoption("--baseline") and not config.getoption("--runtime") else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None or "case" not in metafunc.fixturenames:  # others may call an argument "case" too
        return
    config = metafunc.config
    cases: list[Case] = []
    absent: list[Absent] = []
    if _REFUSED not in config.stash:
        try:
            cases = plan_of(config).cases(**marker.kwargs)
            absent = plan_of(config).absent(builds_only=marker.kwargs.get("builds_only", False))
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
    ours = item.get_closest_marker("cases") or item.get_closest_marker("upgrade_pairs")
    return item.get_closest_marker("latency") is not None and ours is not None


def _reruns(config: pytest.Config) -> bool:
    """Whether pytest-rerunfailures would run a failed test again."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return False
    asked = config.getoption("reruns", None)
    return bool(asked if asked is not None else int(config.getini("reruns") or 0))


def plan_of(config: pytest.Config) -> Plan:
    """Made when it is first asked for: other projects, which load this plugin too, never ask."""
    if _PLAN not in config.stash:
        from harness.plan import Plan

        config.stash[_PLAN] = Plan(config)
    return config.stash[_PLAN]


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    """What was asked for on the command line."""
    return plan_of(pytestconfig)


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


@pytest.hookimpl(trylast=True)  # a gate writes what it came to when the session ends
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that ends gets its index."""
    if plan := session.config.stash.get(_PLAN, None):
        plan.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    if _is_latency(item) and hasattr(item.config, "workerinput") and plan_of(item.config).handed is None:
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
    case, own = _case(item), item.name.partition("[")[0].removeprefix("test_")
    if not workbench or case.model in workbench.refused or kind not in KINDS:
        return
    kind = own if own in KINDS else kind  # test_accuracy has two: drawn examples are no answer about the corpus
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
    if missing and not plan_of(item.config).chose_calibration:
        raise pytest.skip.Exception(f"no calibration sample in {', '.join(missing)}", _use_item_location=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is left after -k and -m: is it latency, and would it be measured, and compared, in vain?"""
    config = session.config
    if any(item.get_closest_marker("cases") or item.get_closest_marker("upgrade_pairs") for item in session.items):
        _follow(config, [item.nodeid for item in session.items])
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
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:  # noqa: ANN401 - xdist's
    """The process that leads collects nothing itself, and knows our tests by their place alone."""
    if any("suites/test_" in one for one in ids):
        _follow(node.config, ids)


def _follow(config: pytest.Config, ids: list[str]) -> None:
    """Show how far the run is; what does that is loaded where tests of ours are run."""
    from harness.plugin_live import Live, wanted

    if not wanted(config):
        return
    live = config.pluginmanager.get_plugin("harness-live")
    if live is None:
        live = Live(config)
        config.pluginmanager.register(live, "harness-live")
    live.add(ids)


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


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    if not items and config.stash.get(_HIDDEN, False):
        return ["harness: no gate is asked for: --baseline ENV --candidate ENV"]
    cases = config.stash.get(_CASES, set())
    if not cases or config.get_verbosity() < 0:
        return []
    plan = plan_of(config)
    names = ", ".join(dict.fromkeys(case.runtime for case in sorted(cases, key=str)))
    return [f"harness: {len(cases)} cases of matrix {plan.matrix.name} on {names}, seed {plan.seed}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    workbench = config.stash.get(_BENCH, None)
    if workbench is not None:
        from harness.report.run import write_tables

        write_tables(terminalreporter, workbench.records, workbench.entries, workbench.seed, [workbench.run.path])
