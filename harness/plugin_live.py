"""The part of the pytest plugin that says how far a run of the suites is, beside what pytest prints itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.report.live import Bottom, Plain, takes_bottom
from harness.report.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.report.live import View

__all__ = ["Live", "wanted"]

_SUITE = re.compile(r"(?:^|.*/)suites/test_(?P<suite>\w+)\.py::(?P<test>\w+)(?:\[(?P<case>.*)\])?")


def wanted(config: pytest.Config) -> bool:
    """Not where another process shows it, nothing runs, less was asked for, or a debugger needs the terminal."""
    option = config.getoption
    return not (
        hasattr(config, "workerinput")
        or option("collectonly")
        or config.get_verbosity() < 0
        or option("usepdb", default=False)
        or option("trace", default=False)
    )


def _kinds(nodeid: str) -> Sequence[str]:
    """A test of one model and precision lasts about as long as itself with another calibration, and so on."""
    match = _SUITE.fullmatch(nodeid)
    if match is None:
        return ()
    test, words = f"{match['suite']}::{match['test']}", (match["case"] or "").split("-")
    return [f"{test}[{'-'.join(words[:count])}" for count in (3, 1)] + [test, match["suite"]]


def _named(nodeid: str) -> str:
    """``latency wave-int8-...``: the file says what is done, the case of what."""
    match = _SUITE.fullmatch(nodeid)
    return f"{match['suite']} {match['case'] or match['test']}" if match else nodeid


class Live:
    """Follows tests from the outside, those of other processes of pytest-xdist, too."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._pace = Pace((), _kinds)
        self._view: View | None = None
        self._skipped: set[str] = set()

    def add(self, ids: Iterable[str]) -> None:
        """Tests that will run; several processes of pytest-xdist name the same ones."""
        self._pace.add(ids)
        self._view = self._view or self._opened()

    def _opened(self) -> View | None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return None
        stream = reporter._tw._file  # noqa: SLF001 - pytest offers no other way to it
        if takes_bottom(stream):
            return Bottom(stream)

        def line(text: str) -> None:
            reporter.ensure_newline()  # dots may stand there
            reporter.write_line(f"harness: {text}")

        return Plain(line)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._pace.begin(nodeid)
        self._show()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skipped.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._pace.end(nodeid, counts=nodeid not in self._skipped)
        self._show()

    def _show(self) -> None:
        if self._view is not None:
            self._view.show(self._pace, ", ".join(map(_named, self._pace.running)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._close()

    def pytest_unconfigure(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._view is not None:
            self._view.close()
