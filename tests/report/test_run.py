from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.catalogue import ENTRIES
from harness.report.run import write_tables
from harness.results.record import record
from tests.report.test_table import case_of, scored

FILE = Path("r1.jsonl")
SHOWN = [f"records: {FILE}", "next: harness results --results . show r1"]
WHOLE = record("gate", "r1", {"cases": []}, verdict="invalid")


class Terminal:
    """What pytest's reporter is asked for."""

    def __init__(self):
        self.lines = []
        self.write_line, self._tw = self.lines.append, SimpleNamespace(fullwidth=100)


@pytest.fixture
def shown():
    def shown(*records, paths=(FILE,)):
        terminal = Terminal()
        write_tables(terminal, records, ENTRIES, 0, paths)
        return terminal.lines

    return shown


def test_what_is_of_no_case_is_in_no_table(shown):
    case = scored(case_of("vad"), short=1.0)
    assert shown(WHOLE, case) == shown(case)
    assert shown(case)[-2:] == SHOWN


def test_without_a_case_there_is_no_table(shown):
    assert shown() == []
    assert [line for line in shown(WHOLE) if line] == SHOWN


def test_the_command_that_is_next_can_be_pasted(shown):
    assert shown(WHOLE, paths=[Path("my runs/r1.jsonl")])[-1] == "next: harness results --results 'my runs' show r1"


def test_files_below_the_working_directory_are_named_from_there(shown, tmp_path, monkeypatch):
    run = tmp_path / "results" / "r1.jsonl"
    assert shown(WHOLE, paths=[run])[-2] == f"records: {run}"
    monkeypatch.chdir(tmp_path)
    assert shown(WHOLE, paths=[run])[-2:] == [
        "records: results/r1.jsonl",
        "next: harness results --results results show r1",
    ]


def test_of_several_files_none_is_next(shown):
    """Those of a run's processes: each is listed, and none of them is the whole."""
    both = [Path("runs/r1-gw0.jsonl"), Path("runs/r1-gw1.jsonl")]
    assert [line for line in shown(WHOLE, paths=both) if line] == [f"records: {path}" for path in both]
