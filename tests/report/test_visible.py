from __future__ import annotations

import pytest

from harness.report.plain import new_table, plain_lines
from harness.report.visible import visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b]0;owned\x07", "␛]0;owned␇"),
        ("\r\x08\x7f\x00", "␍␈␡␀"),
        ("\x9b2J\ud800", "\ufffd2J\ufffd"),  # the one-character CSI, and half a pair that cannot be written at all
        ("tab\tand\nline, ümlaut, 日本, ␛", "tab\tand\nline, ümlaut, 日本, ␛"),
    ],
)
def test_visible(text, seen):
    assert visible(text) == seen


def test_tables_of_the_suites():
    table = new_table("\x1b[2J")
    table.add_column("\x1b[1mcase")
    table.add_row("\x1b[31mred")
    lines = plain_lines(table, width=40)
    assert not any("\x1b" in line for line in lines)
    assert any("␛[31mred" in line for line in lines)
