from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import ResultsError, UsageError
from harness.results.record import SCHEMA
from harness.results.store import Store, is_written, new_run_id, read_run


def one(**values):
    return {"schema": SCHEMA, "values": values}


def test_records_come_back_in_order(tmp_path):
    run = Store(tmp_path / "new" / "results").open_run()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run.id)
    assert run.path.name == f"{run.id}.jsonl"
    for index in range(5):
        run.append(one(index=index))
    reading = read_run(run.path)
    assert [record["values"]["index"] for record in reading] == list(range(5))
    assert len(list(reading)) == 5  # can be read again
    assert reading.bad == []


def test_runs_sort_by_time_and_can_be_taken_up(tmp_path):
    store = Store(tmp_path)
    store.open_run("20250101T000000Z-aaaaaa").append(one(a=1))
    new = store.open_run(new_run_id())
    assert store.runs()[-1] == new.path
    store.open_run("20250101T000000Z-aaaaaa").append(one(a=2))
    assert len(list(read_run(store.runs()[0]))) == 2
    for bad in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(UsageError, match="no run id"):
            store.open_run(bad)


def test_a_run_without_records_leaves_no_file(tmp_path):
    run = Store(tmp_path).open_run()
    run.close()
    run.close()
    assert list(tmp_path.iterdir()) == []
    run = Store(tmp_path).open_run("one")
    run.append({"schema": SCHEMA})
    run.close()
    Store(tmp_path).open_run("one").close()
    assert (tmp_path / "one.jsonl").stat().st_size


def test_records_and_the_name_of_a_new_run_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    run = Store(tmp_path).open_run("a")
    assert synced == [tmp_path]
    for _ in range(3):
        run.append(one())
    assert synced == [tmp_path, *[run.path] * 3]


def test_an_unfinished_line_is_ended_and_reported(tmp_path):
    run = Store(tmp_path).open_run()
    run.append(one(a=1))
    with run.path.open("ab") as file:
        file.write(b'{"schema": 1, "val')
    reading = read_run(run.path)
    assert len(list(reading)) == 1
    assert [(bad.number, bad.reason) for bad in reading.bad] == [(2, "unfinished")]
    run.append(one(a=2))
    assert [record["values"]["a"] for record in reading] == [1, 2]
    assert [bad.number for bad in reading.bad] == [2]
    assert "line 2" in str(reading.bad[0])


def test_bad_lines_do_not_hide_good_ones(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(
        b'\n{"schema": 1}\nnonsense\n\x00\x01\xff\n[]\n' + b"[" * 100_000 + b'\n{"schema": 99}\n{"schema": 1}'
    )
    reading = read_run(path)
    assert len(list(reading)) == 2
    assert [bad.number for bad in reading.bad] == [3, 4, 5, 6, 7]
    assert "newer" in reading.bad[-1].reason


def test_a_full_disk(tmp_path):
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    run = Store(tmp_path).open_run("full")
    with pytest.raises(ResultsError, match="the disk is full; the records so far are intact") as error:
        run.append(one(a=1))
    assert error.value.where == str(run.path)
    assert error.value.exit_code != 0


LIMITED = """
import resource, signal, sys
from pathlib import Path
from harness.results.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
run = Store(Path(sys.argv[1])).open_run("limited")
from harness.errors import HarnessError
try:
    for index in range(1000):
        run.append({"schema": 1, "values": {"text": "x" * 321, "index": index}})
except HarnessError as error:
    print(index, error)
    sys.exit(error.exit_code)
"""


def test_space_that_ends_in_the_middle_of_a_record(tmp_path):
    """A real limit on the file's size: the write that reaches it is cut short, and is taken back."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    written = int(done.stdout.split()[0])
    assert written > 5
    assert "disk is full" in done.stdout
    content = (tmp_path / "limited.jsonl").read_bytes()
    assert content.endswith(b"\n")
    reading = read_run(tmp_path / "limited.jsonl")
    assert [record["values"]["index"] for record in reading] == list(range(written))
    assert reading.bad == []


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match="cannot be written"):
        Store(tmp_path / "file").open_run()
    locked = Path("/sys/kernel") / "results"  # read-only for root as well
    with pytest.raises(ResultsError, match="cannot be written") as error:
        Store(locked).open_run()
    assert "elsewhere" in error.value.todo
    with pytest.raises(ResultsError, match="cannot be read"):
        list(read_run(tmp_path / "none.jsonl"))


WRITER = """
import sys
from pathlib import Path
from harness.results.store import Store
run = Store(Path(sys.argv[1])).open_run(sys.argv[3])
for index in range(40):
    run.append({"schema": 1, "values": {"who": sys.argv[2], "index": index, "text": "x" * 9000}})
"""


def test_writers_share_a_folder_and_threads_a_run(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number), f"run{number}"])
        for number in range(2)
    ]
    run = Store(tmp_path).open_run("shared")
    threads = [
        threading.Thread(target=lambda n=n: [run.append(one(who=f"t{n}", index=i)) for i in range(40)])
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait() for writer in writers] == [0, 0]
    readings = [read_run(path) for path in Store(tmp_path).runs()]
    seen = [[(record["values"]["who"], record["values"]["index"]) for record in reading] for reading in readings]
    assert [len(records) for records in seen] == [40, 40, 80]
    assert [reading.bad for reading in readings] == [[], [], []]
    for who in ("t0", "t1"):
        assert [index for name, index in seen[2] if name == who] == list(range(40))


def test_a_run_has_one_writer(tmp_path):
    run = Store(tmp_path).open_run("mine")
    run.append(one(a=1))
    with pytest.raises(ResultsError, match="being written by somebody else") as error:
        Store(tmp_path).open_run("mine")
    assert error.value.where == str(run.path)
    other = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), "0", "mine"], capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert "being written by somebody else" in other.stderr
    assert is_written(run.path)
    assert len(list(read_run(run.path))) == 1  # readers need no lock
    run.close()
    assert not is_written(run.path)
    with pytest.raises(ResultsError, match="closed"):
        run.append(one(a=2))
    Store(tmp_path).open_run("mine").append(one(a=3))
    assert [record["values"]["a"] for record in read_run(run.path)] == [1, 3]


def test_a_writer_that_is_killed_leaves_no_lock(tmp_path):
    program = WRITER.replace("range(40)", "range(10**9)")
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), "0", "killed"])
    path = tmp_path / "killed.jsonl"
    while not path.exists() or path.stat().st_size < 10_000:
        assert writer.poll() is None
    assert is_written(path)
    writer.kill()
    writer.wait()
    Store(tmp_path).open_run("killed").append(one(index="after"))


def test_a_run_that_was_removed_is_not_written_into_nothing(tmp_path):
    run = Store(tmp_path).open_run()
    run.append(one(a=1))
    run.path.unlink()
    with pytest.raises(ResultsError, match="removed while it was written"):
        run.append(one(a=2))


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_whole_records(tmp_path, seed):
    program = WRITER.replace("range(40)", "range(10**9)").replace("9000", "200_000")
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), "0", "shared"])
    path = tmp_path / "shared.jsonl"
    while not path.exists() or path.stat().st_size < 50_000:
        assert writer.poll() is None
    time.sleep(random.Random(seed).uniform(0, 0.05))
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    reading = read_run(path)
    indices = [record["values"]["index"] for record in reading]
    assert indices == list(range(len(indices)))
    assert len(reading.bad) <= 1
    Store(tmp_path).open_run("shared").append(one(index="after"))
    assert [record["values"]["index"] for record in reading] == [*indices, "after"]
