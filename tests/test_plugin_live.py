"""How far `pytest suites/` is: on a terminal, and that pytest's own output stays what it was."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from harness.plugin_live import Live
from tests.report.test_live import ROOT, Terminal

_TINY = 'precisions = ["fp32", "int8"]\ncompared = []\nsamples = 4\ntests = 1\ndraws = 2\nblocks = 2\n'


@pytest.fixture
def seen(suites, own, tmp_path):
    """What a terminal shows of a run of two suites."""
    (tmp_path / "tiny.toml").write_text(_TINY)

    def run(*more):
        words = [
            sys.executable,
            "-m",
            "pytest",
            ROOT / "suites" / "test_build.py",
            ROOT / "suites" / "test_accuracy.py",
        ]
        words += ["-p", "no:cacheprovider", "-p", "no:rerunfailures", "--runtime", "onnxruntime", *own(), *more]
        words += ["--matrix", tmp_path / "tiny.toml", "--results", tmp_path / "results"]
        return Terminal([str(word) for word in words], TRT_INT8_HARNESS_CACHE=suites.environ["TRT_INT8_HARNESS_CACHE"])

    return run


def printed(text):
    """The lines with dots or words of progress."""
    return re.findall(r"^suites/test_\w+\.py.*$", text, re.MULTILINE)


def test_the_bottom_row(seen):
    shown = seen()
    assert shown.code == 0, shown.text
    assert any(re.search(r"\b0 of \d+ accuracy small-|\b0 of \d+ build small-", one) for one in shown.bottoms)
    assert all(re.fullmatch(r"suites/test_\w+\.py [.s]+ +\[ *\d+%\]", line) for line in printed(shown.text))
    passed = int(re.search(r"(\d+) passed", shown.text)[1])
    assert sum(line.count(".") - 1 for line in printed(shown.text)) == passed  # one is the file's
    assert " of " not in shown.screen.display[-1]
    assert shown.screen.margins is None


def test_verbose(seen):
    shown = seen("-v", "-k", "build")
    assert any("build small-" in one for one in shown.bottoms)
    assert "PASSED" in shown.text


@pytest.mark.parametrize("more", [["-q"], ["--collect-only"]], ids=" ".join)
def test_no_row_where_less_is_asked_for(more, seen):
    shown = seen(*more, "-k", "build")
    assert shown.code == 0, shown.text
    assert b"\x1b7" not in shown.raw


def test_side_by_side(seen):
    shown = seen("-n", "2", "--spread", "-k", "build")
    assert shown.code == 0, shown.text
    passed = int(re.search(r"(\d+) passed", shown.text)[1])  # more where a second ONNX Runtime is installed
    assert passed >= 4
    assert any(re.search(rf"\d of {passed}\b.* build small-", one) for one in shown.bottoms), shown.bottoms


def test_where_there_is_no_terminal_nothing_is_added(suites, own, tmp_path):
    (tmp_path / "tiny.toml").write_text(_TINY)
    done = suites.quickly(*own(), "--matrix", tmp_path / "tiny.toml", "--runtime", "onnxruntime", under="test_build.py")
    assert done.code == 0, done.text
    assert "\x1b7" not in done.out
    assert not re.search(r"^harness: \d+ of", done.out, re.MULTILINE)


def test_a_minute_without_a_terminal(pytester_like):
    """Plain lines, on a line of their own."""
    reporter, live, clock = pytester_like
    live.pytest_runtest_logstart("suites/test_build.py::test_build[m-r-int8]")
    assert reporter.lines == []
    clock.now += 61
    live.pytest_runtest_logfinish("suites/test_build.py::test_build[m-r-int8]")
    assert reporter.lines == ["", "harness: 1 of 2"]


@pytest.fixture
def pytester_like():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    class Reporter:
        _tw = SimpleNamespace(_file=None)

        def __init__(self):
            self.lines = []

        def ensure_newline(self):
            self.lines.append("")

        def write_line(self, text):
            self.lines.append(text)

    reporter, clock = Reporter(), Clock()
    plugins = SimpleNamespace(get_plugin=lambda _: reporter)
    live = Live(SimpleNamespace(pluginmanager=plugins))
    live._pace._clock = clock
    live.add([f"suites/test_build.py::test_build[m-r-{p}]" for p in ("int8", "fp32")])
    live._view._clock, live._view._last = clock, 0.0
    return reporter, live, clock
