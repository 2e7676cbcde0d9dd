"""The part of the pytest plugin that is there when a gate is asked for by ``--baseline`` and ``--candidate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import EnvironmentMissing, HarnessError, ResultsError
from harness.gate import report
from harness.upgrade import Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from harness.gate.pairs import Pair
    from harness.plan import Plan

__all__ = ["MARK"]

MARK = "upgrade_pairs"

_UPGRADE: pytest.StashKey[Upgrade] = pytest.StashKey()
_REFUSED: pytest.StashKey[HarnessError] = pytest.StashKey()
_PROPERTIES: pytest.StashKey[Callable[[str, object], None]] = pytest.StashKey()


def _upgrade(config: pytest.Config) -> Upgrade:
    if _UPGRADE not in config.stash:
        from harness.plugin import plan_of

        config.stash[_UPGRADE] = Upgrade(plan_of(config))
    return config.stash[_UPGRADE]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker(MARK) is None or "pair" not in metafunc.fixturenames:
        return
    pairs: tuple[Pair, ...] = ()
    try:
        pairs = _upgrade(metafunc.config).pairs.both
    except HarnessError as error:  # raised here it would be a collection error of one file, with our frames
        metafunc.config.stash[_REFUSED] = error
    metafunc.parametrize("pair", pairs, ids=str, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config) -> None:
    refused = config.stash.get(_REFUSED, None)
    if refused is not None:
        pytest.exit(str(refused), returncode=_no_answer(refused))


@pytest.hookimpl(tryfirst=True)  # before the terminal says what was collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """What is left after -k and -m is what the gate is about."""
    if _REFUSED in session.config.stash:
        return  # pytest comes here all the same
    items = [item for item in session.items if item.get_closest_marker(MARK)]
    _upgrade(session.config).chosen = [item.callspec.params["pair"].name for item in items]  # type: ignore[attr-defined]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    upgrade = _upgrade(config)
    if config.get_verbosity() < 0 or not upgrade.chosen:
        return []
    asked = upgrade.asked
    baseline = f"{asked.baseline} as recorded in {asked.recorded.run}" if asked.recorded else asked.baseline
    return [f"harness: {len(upgrade.chosen)} pair(s) of a gate, {baseline} -> {asked.candidate}"]


@pytest.fixture(scope="session")
def gate(pytestconfig: pytest.Config, plan: Plan, record_testsuite_property: Callable[[str, object], None]) -> Upgrade:  # noqa: ARG001 - the plan is made first
    """Judges pairs."""
    upgrade = _upgrade(pytestconfig)
    pytestconfig.stash[_PROPERTIES] = record_testsuite_property
    try:
        upgrade.open()
    except HarnessError as error:
        pytest.exit(str(error), returncode=_no_answer(error))
    return upgrade


def _no_answer(error: HarnessError) -> int:
    """As ``harness gate`` ends: 1 is the answer that the candidate is worse, and 4 that a session is invalid."""
    return EnvironmentMissing.exit_code if error.exit_code == 1 else error.exit_code


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    try:
        return (yield)
    except ResultsError as error:  # nothing found from now on could be kept
        if item.get_closest_marker(MARK) is None:
            raise
        raise pytest.exit.Exception(str(error), _no_answer(error)) from None
    except KeyboardInterrupt:
        if item.get_closest_marker(MARK) is None:
            raise
        raise pytest.exit.Exception("interrupted; what was judged is in the report", returncode=2) from None


@pytest.hookimpl(tryfirst=True)  # before the JUnit file is written
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report; where nothing else failed, the exit code is that of ``harness gate``."""
    config = session.config
    upgrade = _upgrade(config)
    try:
        told = upgrade.finish()
    except HarnessError as error:
        upgrade.written.append(str(error))
        session.exitstatus = EnvironmentMissing.exit_code  # no answer
        return
    if told is None:
        return
    said = {name: told[name] for name in ("verdict", "exit_code", "historical", "run", "seed", "seconds")}
    said |= {side: told[side]["name"] for side in ("baseline", "candidate")}
    for name, value in said.items():
        config.stash[_PROPERTIES](name, str(value))
    only_gate = session.testsfailed <= upgrade.failing
    if only_gate and exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        session.exitstatus = told["exit_code"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    upgrade = _upgrade(config)
    lines = report.lines(upgrade.told) if upgrade.told else []
    if lines or upgrade.written:
        terminalreporter.section("gate")
    for line in (*lines, *upgrade.written):
        terminalreporter.write_line(line)
