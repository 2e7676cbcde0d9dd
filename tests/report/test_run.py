from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.catalogue import ENTRIES
from harness.report.run import write_tables
from harness.results.record import record
from tests.report.test_table import case_of, scored

FILE = Path("r1.jsonl")
WHOLE = record("gate", "r1", {"cases": []}, verdict="invalid")


class Terminal:
    """What pytest's reporter is asked for."""

    def __init__(self):
        self.lines = []
        self.write_line, self._tw = self.lines.append, SimpleNamespace(fullwidth=100)


@pytest.fixture
def shown():
    def shown(*records):
        terminal = Terminal()
        write_tables(terminal, records, ENTRIES, 0, [FILE])
        return terminal.lines

    return shown


def test_what_is_of_no_case_is_in_no_table(shown):
    case = scored(case_of("vad"), short=1.0)
    assert shown(WHOLE, case) == shown(case)
    assert shown(case)[-1] == f"records: {FILE}"


def test_without_a_case_there_is_no_table(shown):
    assert shown() == []
    assert [line for line in shown(WHOLE) if line] == [f"records: {FILE}"]
