"""The line about a long run: on a terminal in Python (pyte), and as text."""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from harness.report.live import Plain, sentence, takes_bottom
from harness.report.pace import Pace

ROOT = Path(__file__).parents[2]
PRINTS = """
import sys
from harness.report.live import Bottom
from harness.report.pace import Pace
pace = Pace(["a", "b"])
print("first", end="")
sys.stdout.flush()
bottom = Bottom(sys.stderr)
for unit in "ab":
    pace.begin(unit)
    bottom.show(pace, "x" * 200 if unit == "b" else "the first one")
    pace.end(unit)
    for number in range(20):
        print(".", end="")
        sys.stdout.flush()
    print(f"{unit} is done")
    for number in range(15):
        print(f"line {number}")
    print("end of", unit, end="")
    sys.stdout.flush()
bottom.close()
print(" and of all")
"""


class Terminal:
    """What is seen on a terminal while a program runs in it."""

    rows, columns = 12, 80

    def __init__(self, argv, **environ):
        pyte = pytest.importorskip("pyte", reason="tox run -e tests installs it")
        self.screen = pyte.HistoryScreen(self.columns, self.rows, history=1000)
        stream = pyte.ByteStream(self.screen)
        self.bottoms, self.raw = [], b""
        pid, controller = pty.fork()
        if pid == 0:
            ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
            for name in ("COLUMNS", "LINES", "CI", "NO_COLOR", "FORCE_COLOR"):
                os.environ.pop(name, None)
            os.environ.update({"TERM": "xterm", "PYTHONPATH": str(ROOT), **environ})
            os.execv(argv[0], argv)
        while chunk := self._read(controller):
            # One control sequence at a time, so that no state between two is missed.
            self.raw += chunk
            for part in re.split(rb"(?<=\x1b8)", chunk):
                stream.feed(part)
                if (bottom := self.screen.display[-1].rstrip()) not in self.bottoms:
                    self.bottoms.append(bottom)
        self.code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(controller)

    def _read(self, controller):
        try:
            return os.read(controller, 65_536)
        except OSError:  # how Linux says that the other end is closed
            return b""

    @property
    def text(self):
        """All that was printed, without the bottom row's line."""
        above = ["".join(line[column].data for column in range(self.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in (*above, *self.screen.display)).rstrip("\n")


def test_at_the_bottom_and_everything_else_as_it_was():
    seen = Terminal([sys.executable, "-c", PRINTS])
    lines = [f"line {number}" for number in range(15)]
    assert seen.code == 0
    assert seen.text.splitlines() == [
        "first" + 20 * "." + "a is done", *lines, "end of a" + 20 * "." + "b is done", *lines, "end of b and of all"
    ]  # fmt: skip
    assert any("0 of 2 the first one" in bottom for bottom in seen.bottoms)
    long = next(bottom for bottom in seen.bottoms if "1 of 2" in bottom)
    assert long.endswith("x…")
    assert len(long) < Terminal.columns
    assert seen.screen.margins is None


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour(environ, coloured):
    raw = Terminal([sys.executable, "-c", PRINTS], **environ).raw
    assert (b"\x1b[38" in raw or b"\x1b[9" in raw or b"\x1b[3" in raw) == coloured


def test_a_pipe_and_a_dumb_terminal_have_no_bottom(monkeypatch, tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert not takes_bottom(file)
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as stream:
        for name, there in (("xterm", True), ("dumb", False), ("", False)):
            monkeypatch.setenv("TERM", name)
            assert takes_bottom(stream) == there
        monkeypatch.setenv("TERM", "xterm")
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 3, 80, 0, 0))
        assert not takes_bottom(stream)
    os.close(controller)


def test_plain_lines_come_seldom():
    now, said = [0.0], []
    pace = Pace(["a", "b"], clock=lambda: now[0])
    plain = Plain(said.append, every_s=60, clock=lambda: now[0])
    for second in (1, 59, 61, 100, 122):
        now[0] = second
        plain.show(pace, "a")
    assert said == ["0 of 2: a", "0 of 2: a"]


def test_the_end_is_foretold():
    now = [0.0]
    pace = Pace("abcdefgh", clock=lambda: now[0])
    for unit in "abc":
        pace.begin(unit)
        now[0] += 60
        pace.end(unit)
    assert sentence(pace, "d").startswith("3 of 8, about 5 min left (")
    for unit in "defgh":
        pace.begin(unit)
        pace.end(unit)
    assert sentence(pace, "").startswith("8 of 8, less than a minute left (")
