from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time

import duckdb
import pytest

from harness.errors import ResultsError
from harness.results import compact as module
from harness.results.compact import compact, held
from harness.results.query import Results, open_verdicts
from harness.results.record import SCHEMA
from tests.run_records import BEGIN, latency, made, written


def parquet(folder):
    return sorted((folder / "compacted").glob("*.parquet"))


def counted(folder):
    with Results(folder) as found:
        return {one.run: (one.records, one.bad) for one in found.runs()}


def test_only_what_is_new_or_has_grown_is_read(tmp_path):
    written(tmp_path, "a", made("a", 1), made("a", 2))
    path = written(tmp_path, "b", made("b", 1), b"bad\n")
    first = compact(tmp_path)
    assert (first.read, first.kept, first.records) == (2, 0, 3)
    assert held(tmp_path).rest == ()
    again = compact(tmp_path)
    assert (again.read, again.kept, again.records) == (0, 2, 3)
    with path.open("ab") as file:
        file.write(written(tmp_path / "more", "c", made("b", 3)).read_bytes())
    assert held(tmp_path).rest == (path,)
    assert counted(tmp_path) == {"a": (2, 0), "b": (2, 1)}  # the old row is not counted beside the new ones
    grown = compact(tmp_path)
    assert (grown.read, grown.kept, grown.records) == (1, 1, 4)
    assert counted(tmp_path) == {"a": (2, 0), "b": (2, 1)}
    assert held(tmp_path).rest == ()
    assert path.read_bytes().count(b"\n") == 3  # runs' own files are not touched


def test_answers_come_from_parquet_and_not_from_the_runs(tmp_path):
    path = written(tmp_path, "a", made("a"))
    compact(tmp_path)
    about = path.stat()
    path.write_bytes(b"x" * about.st_size)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert counted(tmp_path) == {"a": (1, 0)}


def test_a_copied_file_is_known_by_its_digest_and_another_one_is_not(tmp_path):
    path = written(tmp_path, "a", made("a"))
    compact(tmp_path)
    os.utime(path, ns=(1, 1))
    assert held(tmp_path).rest == ()
    assert (compact(tmp_path).read, held(tmp_path).states["a.jsonl"].mtime_ns) == (0, 1)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"pass"', b'"fail"'))  # of the same size
    assert held(tmp_path).rest == (path,)
    with open_verdicts(tmp_path) as found:
        assert [one.verdict for one in found.newest_verdicts()] == ["fail"]


def test_a_run_that_is_gone_is_gone_from_answers(tmp_path):
    written(tmp_path, "a", made("a")).unlink()
    written(tmp_path, "b", made("b"))
    path = written(tmp_path, "c", made("c"))
    compact(tmp_path)
    path.unlink()
    assert counted(tmp_path) == {"b": (1, 0)}
    assert compact(tmp_path).forgotten == 1
    assert duckdb.sql(f"SELECT DISTINCT file FROM '{held(tmp_path).pieces[0]}'").fetchall() == [("b.jsonl",)]


def test_compacted_files_hold_whole_records(tmp_path):
    one = latency(run="a")
    written(tmp_path, "a", one)
    compact(tmp_path)
    (row,) = duckdb.sql(
        "SELECT run, time, case_id, model, runtime, bucket, gpu, driver, library_version, commit_id, seed, values_json,"
        f" samples_ns_json, environment_json, samples_json FROM '{parquet(tmp_path)[0]}'"
    ).fetchall()
    assert row[:2] == ("a", BEGIN.replace(tzinfo=None))
    assert row[2:11] == (
        one["case"], "wave", "tensorrt-8.5.3.1", "short", "NVIDIA H200", "580.1", "8.5.3.1", "abc+", 0,
    )  # fmt: skip
    values = {**json.loads(row[11]), "samples_ns": json.loads(row[12])}
    assert values == one["values"]
    assert json.loads(row[13]) == one["environment"]
    assert json.loads(row[14]) == one["samples"]


def test_many_small_pieces_become_few(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_PIECES", 3)
    for number in range(6):
        written(tmp_path, f"r{number}", made(f"r{number}"), made(f"r{number}", 1, verdict="fail"))
        compact(tmp_path)
        assert len(held(tmp_path).pieces) <= 3
        assert counted(tmp_path) == {f"r{n}": (2, 0) for n in range(number + 1)}
    with open_verdicts(tmp_path) as found:
        assert next(found.of_run("r0")).record()["run"] == "r0"


def test_pieces_of_one_large_run(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.results.pieces._PIECE_BYTES", 5_000)
    written(tmp_path, "a", *[made("a", minute) for minute in range(300)])
    compact(tmp_path)
    assert len(parquet(tmp_path)) > 3
    assert counted(tmp_path) == {"a": (300, 0)}
    with Results(tmp_path) as found:
        assert [one.line for one in found.of_run("a")] == list(range(1, 301))


@pytest.mark.parametrize("harm", ["cut", "gone", "manifest", "foreign manifest"])
def test_what_is_damaged_is_read_from_the_runs(tmp_path, harm):
    written(tmp_path, "a", made("a"))
    compact(tmp_path)
    (piece,) = parquet(tmp_path)
    manifest = tmp_path / "compacted" / "manifest.json"
    if harm == "cut":
        piece.write_bytes(piece.read_bytes()[:100])
    elif harm == "gone":
        piece.unlink()
    elif harm == "manifest":
        manifest.write_bytes(b'{"format": 1, "fi')
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), "schema": SCHEMA + 1}))
    assert counted(tmp_path) == {"a": (1, 0)}
    assert compact(tmp_path).read == 1
    assert counted(tmp_path) == {"a": (1, 0)}


def test_a_piece_of_the_right_size_that_is_garbage_is_an_error_that_says_what_to_do(tmp_path):
    written(tmp_path, "a", made("a"))
    compact(tmp_path)
    (piece,) = parquet(tmp_path)
    piece.write_bytes(b"x" * piece.stat().st_size)
    with pytest.raises(ResultsError, match="compacted results cannot be read") as error, Results(tmp_path) as found:
        found.runs()
    assert "remove its folder compacted/" in error.value.todo


def test_pieces_that_nobody_names_stay_for_a_while(tmp_path):
    path = written(tmp_path, "a", made("a"))
    compact(tmp_path)
    (old,) = parquet(tmp_path)
    with Results(tmp_path) as found:
        path.write_bytes(path.read_bytes() * 2)
        compact(tmp_path)
        assert [one.records for one in found.runs()] == [1]  # of a reader that began before
    assert len(parquet(tmp_path)) == 2
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    compact(tmp_path)
    assert old not in parquet(tmp_path)
    assert counted(tmp_path) == {"a": (2, 0)}


def test_old_pieces_that_are_replaced_stay_for_who_reads_them(tmp_path):
    path = written(tmp_path, "a", made("a"))
    compact(tmp_path)
    (old,) = parquet(tmp_path)
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    with Results(tmp_path) as found:
        path.write_bytes(path.read_bytes() * 2)
        compact(tmp_path)
        assert [one.records for one in found.runs()] == [1]
    assert counted(tmp_path) == {"a": (2, 0)}


def test_two_do_not_compact_at_once(tmp_path):
    written(tmp_path, "a", made("a"))
    compact(tmp_path)
    with (tmp_path / "compacted" / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="somebody else is compacting here"):
            compact(tmp_path)
        assert counted(tmp_path) == {"a": (1, 0)}
    compact(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    written(tmp_path, "a", made("a"))
    (tmp_path / "compacted").symlink_to("/sys/kernel")  # read-only for root as well
    with pytest.raises(ResultsError, match="cannot be written"):
        compact(tmp_path)
    assert counted(tmp_path) == {"a": (1, 0)}


LIMITED = """
import resource, signal, sys
from pathlib import Path
from harness.results.compact import compact
from harness.errors import HarnessError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    compact(Path(sys.argv[1]))
except HarnessError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_leaves_what_was_compacted(tmp_path):
    """A real limit on the size of files: Parquet cannot be written whole."""
    written(tmp_path, "a", made("a"))
    compact(tmp_path)
    before = parquet(tmp_path), (tmp_path / "compacted" / "manifest.json").read_bytes()
    random = [os.urandom(3000).hex() for _ in range(5)]
    written(tmp_path, "b", *[made("b", minute, values={"text": text}) for minute, text in enumerate(random)])
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stdout
    assert before == (parquet(tmp_path), (tmp_path / "compacted" / "manifest.json").read_bytes())
    assert counted(tmp_path) == {"a": (1, 0), "b": (5, 0)}


def test_compacting_that_was_killed_can_be_taken_up(tmp_path):
    for number in range(40):
        written(tmp_path, f"r{number:02}", *[latency(run=f"r{number:02}", minute=minute) for minute in range(50)])
    program = (
        "import sys; from pathlib import Path; from harness.results.compact import compact; compact(Path(sys.argv[1]))"
    )
    for seconds in (0.5, 0.8):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
        time.sleep(seconds)
        process.kill()
        process.wait()
        assert set(counted(tmp_path).values()) == {(50, 0)}
    compact(tmp_path)
    assert held(tmp_path).rest == ()
    assert set(counted(tmp_path).values()) == {(50, 0)}


def test_samples_are_not_read_by_questions_that_need_none(tmp_path):
    """With the samples' bytes in the file made garbage, the list still comes; the samples do not."""
    noise = {"int8": [[{"device_ns": [int.from_bytes(os.urandom(7)) for _ in range(20_000)]}]]}
    written(tmp_path, "a", latency(run="a", values={"buckets": {"short": {"ratio": 2.0}}, "samples_ns": noise}))
    compact(tmp_path)
    (piece,) = parquet(tmp_path)
    ((offset, size),) = duckdb.sql(
        "SELECT coalesce(dictionary_page_offset, data_page_offset), total_compressed_size"
        f" FROM parquet_metadata('{piece}') WHERE path_in_schema = 'samples_ns_json'"
    ).fetchall()
    assert size > 100_000
    content = bytearray(piece.read_bytes())
    content[offset : offset + size] = b"\xff" * size
    piece.write_bytes(content)
    with Results(tmp_path) as found:
        assert [one.records for one in found.runs()] == [1]
        assert found.newest_verdicts()[0].values()["buckets"]["short"]["ratio"] == 2
    with pytest.raises(duckdb.Error):
        duckdb.sql(f"SELECT samples_ns_json FROM '{piece}'").fetchall()
