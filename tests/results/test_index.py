from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness.errors import ResultsError
from harness.results import pieces, record
from harness.results.compact import compact
from harness.results.index import indexed, write_index
from harness.results.query import Results, open_verdicts
from harness.results.store import Store, read_run
from tests.run_records import made, written


def indexes(folder):
    return sorted((folder / "compacted").glob("index-*/*"))


def counted(folder):
    with Results(folder) as found:
        return {one.run: (one.records, one.bad) for one in found.runs()}


def spoiled(path):
    """Other content of the same size and time: whoever still answers rightly did not read it."""
    about = path.stat()
    path.write_bytes(b"x" * about.st_size)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_closed_run_is_asked_without_being_read(tmp_path):
    run = Store(tmp_path).open_run("a")
    run.append(made("a", 1))
    run.append(made("a", 2, verdict="fail"))
    assert indexes(tmp_path) == []
    run.close()
    run.close()
    assert len(indexes(tmp_path)) == 1
    with pytest.raises(ResultsError, match="closed"):
        run.append(made("a", 3))
    spoiled(run.path)
    assert counted(tmp_path) == {"a": (2, 0)}
    with open_verdicts(tmp_path) as found:
        assert [(one.id, one.verdict) for one in found.newest_verdicts()] == [("a:2", "fail")]


def test_a_run_that_goes_on_is_read_itself_until_it_is_closed_again(tmp_path):
    store = Store(tmp_path)
    with_index = store.open_run("a")
    with_index.append(made("a", 1))
    with_index.close()
    (old,) = indexes(tmp_path)
    run = store.open_run("a")
    run.append(made("a", 2))
    assert counted(tmp_path) == {"a": (2, 0)}
    run.close()
    assert len(indexes(tmp_path)) == 2
    spoiled(run.path)
    assert counted(tmp_path) == {"a": (2, 0)}
    compact(tmp_path)
    assert old in indexes(tmp_path)  # somebody may be reading it
    long_ago = time.time() - 7200
    for path in indexes(tmp_path):
        os.utime(path, (long_ago, long_ago))
    compact(tmp_path)
    assert len(indexes(tmp_path)) == 1
    assert old not in indexes(tmp_path)


def test_whole_records_come_from_the_run_after_compacting(tmp_path):
    path = written(tmp_path, "a", made("a"))
    write_index(path)
    assert compact(tmp_path).read == 1
    with Results(tmp_path) as found:
        assert found.select("SELECT count(*) FROM records") == [(1,)]


def test_a_run_with_a_bad_line_has_no_index(tmp_path):
    path = written(tmp_path, "a", made("a", 1), b'{"schema":1,"kind":"bui')
    run = Store(tmp_path).open_run("a")
    run.append(made("a", 2))
    run.close()
    assert indexes(tmp_path) == []
    assert counted(tmp_path) == {"a": (2, 1)}
    assert path == run.path


def test_a_killed_run_has_no_index_and_is_read(tmp_path):
    program = (
        "import json, sys, time\nfrom pathlib import Path\nfrom harness.results.store import Store\n"
        "run = Store(Path(sys.argv[1])).open_run('a')\nrun.append(json.loads(sys.argv[2]))\n"
        "print('there', flush=True)\ntime.sleep(60)\n"
    )
    text = record.encode(made("a")).decode()
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path), text], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"there\n"
        writer.send_signal(signal.SIGKILL)
    assert indexes(tmp_path) == []
    assert counted(tmp_path) == {"a": (1, 0)}


@pytest.mark.parametrize(("keeps_time", "taken"), [(True, 1), (False, 0)])
def test_copies_with_their_time_keep_their_index(tmp_path, keeps_time, taken):
    source, target = tmp_path / "source", tmp_path / "target"
    for name in "ab":
        write_index(written(source, name, made(name)))
    shutil.copytree(source, target, copy_function=shutil.copy2 if keeps_time else shutil.copyfile)
    os.utime(target / "a.jsonl", ns=(1, 1))
    found, rest = indexed(target, Store(target).runs())
    assert ([state.name for state in found.values()], len(rest)) == (["b.jsonl"] * taken, 2 - taken)
    assert counted(target) == {"a": (1, 0), "b": (1, 0)}


def test_an_index_of_another_run_schema_or_name_is_not_taken(tmp_path, monkeypatch):
    path = written(tmp_path, "a", made("a"))
    index = write_index(path)
    for name in ("a.parquet", "a.jsonl.parquet", "a.jsonl.x.y.parquet", f"b.{index.name}", "garbage"):
        (index.parent / name).write_bytes(b"garbage")
    assert [state.name for state in indexed(tmp_path, [path])[0].values()] == ["a.jsonl"]
    assert counted(tmp_path) == {"a": (1, 0)}
    monkeypatch.setattr("harness.results.record.SCHEMA", record.SCHEMA + 1)
    monkeypatch.setitem(record.MIGRATIONS, record.SCHEMA - 1, lambda one: {**one, "verdict": "migrated"})
    assert indexed(tmp_path, [path]) == ({}, (path,))
    with open_verdicts(tmp_path) as found:
        assert [one.verdict for one in found.newest_verdicts()] == ["migrated"]


def test_an_index_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "compacted").write_text("in the way")
    run = Store(tmp_path).open_run("a")
    run.append(made("a"))
    run.close()
    assert len(list(read_run(run.path))) == 1
    assert Store(tmp_path).open_run("a").id == "a"  # the lock was given up


def test_runs_that_are_not_indexed(tmp_path, monkeypatch):
    (tmp_path / "device.jsonl").symlink_to("/dev/full")
    assert write_index(tmp_path / "device.jsonl") is None
    assert write_index(tmp_path / "gone.jsonl") is None
    assert write_index(written(tmp_path, "empty")) is None
    monkeypatch.setattr(pieces, "_PIECE_ROWS", 70)
    long = written(tmp_path, "long", *[made("long", minute) for minute in range(200)])
    assert write_index(long) is None
    assert indexes(tmp_path) == []


def test_a_damaged_index_is_an_error_that_says_what_to_do(tmp_path):
    index = write_index(written(tmp_path, "a", made("a")))
    index.write_bytes(b"x" * 1000)
    with pytest.raises(ResultsError, match="compacted results cannot be read") as error, Results(tmp_path) as found:
        found.runs()
    assert "remove its folder compacted/" in error.value.todo
    shutil.rmtree(tmp_path / "compacted")
    assert counted(tmp_path) == {"a": (1, 0)}
