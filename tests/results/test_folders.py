from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from harness.errors import ResultsError, UsageError
from harness.results.compact import compact
from harness.results.folders import BASELINES, import_folder, plan_prune, prune, run_path
from harness.results.query import Results, open_list
from harness.results.store import Store
from tests.run_records import BEGIN, made, written


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Five runs a day apart, the newest of now."""
    monkeypatch.setattr("harness.results.folders.now", lambda: BEGIN + timedelta(days=4, hours=1))
    for day in range(5):
        written(tmp_path, f"r{day}", made(f"r{day}", day * 24 * 60))
    return tmp_path


def planned(folder, keep=(), **asked):
    with open_list(folder) as found:
        plan = plan_prune(folder, found.runs(), keep, **asked)
    return [path.stem for path in plan.removed], {path.stem: why for path, why in plan.stay}


def test_old_runs_go_by_age_or_by_count(runs):
    assert planned(runs, older_than=timedelta(days=2, hours=2)) == (["r0", "r1"], {})
    assert planned(runs, keep_last=4) == (["r0"], {})
    assert planned(runs, keep_last=0)[0] == ["r0", "r1", "r2", "r3", "r4"]
    assert planned(runs, keep_last=9) == ([], {})
    for asked in ({}, {"older_than": timedelta(1), "keep_last": 1}):
        with pytest.raises(UsageError, match="by age or by count"):
            planned(runs, **asked)


def test_baselines_and_runs_that_are_written_stay(runs):
    (runs / BASELINES).write_text("# what 8.6 is compared with\nr0  # signed\n\n")
    writer = Store(runs).open_run("r1")
    assert planned(runs, ["r2"], keep_last=1) == (["r3"], {"r0": "a baseline", "r1": "being written", "r2": "--keep"})
    writer.close()
    with pytest.raises(UsageError, match="no run 'r9'"):
        planned(runs, ["r9"], keep_last=1)
    (runs / BASELINES).write_text("r00\n")
    with pytest.raises(UsageError, match="names runs that are not here: r00"):
        planned(runs, keep_last=1)


def test_pruned_runs_are_gone_from_what_is_compacted(runs):
    compact(runs)
    with open_list(runs) as found:
        plan = plan_prune(runs, found.runs(), (), keep_last=2)
    assert plan.size_bytes == sum(path.stat().st_size for path in plan.removed)
    prune(plan)
    with Results(runs) as found:
        assert [one.run for one in found.runs()] == ["r3", "r4"]
    assert compact(runs).forgotten == 3


def test_a_run_without_records_goes_by_its_files_time(runs):
    path = written(runs, "empty")
    now = time.time()
    os.utime(path, (now, now))
    future = (BEGIN + timedelta(days=4)).timestamp()
    os.utime(path, (future, future))
    assert planned(runs, older_than=timedelta(days=2, hours=2))[0] == ["r0", "r1"]
    old = BEGIN.timestamp()
    os.utime(path, (old, old))
    assert planned(runs, older_than=timedelta(days=2, hours=2))[0] == ["empty", "r0", "r1"]


def test_another_folder_is_copied_once(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    written(there, "a", made("a"))
    written(there, "b", made("b"))
    written(there, "c", made("c"))
    (there / "notes.txt").write_text("not a run")
    written(here, "b", made("b"))
    mine = written(here, "c", made("c", verdict="fail")).read_bytes()
    done = import_folder(there, here)
    assert (done.copied, done.known, done.different) == (("a",), ("b",), ("c",))
    assert (here / "a.jsonl").read_bytes() == (there / "a.jsonl").read_bytes()
    assert (here / "c.jsonl").read_bytes() == mine
    assert sorted(path.name for path in here.iterdir()) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert import_folder(there, here).copied == ()
    with pytest.raises(ResultsError, match="cannot be copied"):
        import_folder(there, Path("/sys/kernel/results"))


def test_a_run_is_found_by_its_beginning(tmp_path):
    for name in ("20261123T01-a", "20261123T02-b", "20261123T02-b2"):
        written(tmp_path, name)
    assert run_path(tmp_path, "20261123T01").stem == "20261123T01-a"
    assert run_path(tmp_path, "20261123T02-b").stem == "20261123T02-b"  # whole, though another begins with it
    with pytest.raises(UsageError, match="3 runs begin with '2026'"):
        run_path(tmp_path, "2026")
    with pytest.raises(UsageError, match="no run '20261123T03-b'") as error:
        run_path(tmp_path, "20261123T03-b")
    assert "did you mean 20261123T02-b" in error.value.todo
