from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from harness.errors import ResultsError
from harness.results import pieces
from harness.results.compact import compact
from harness.results.index import write_index
from harness.results.query import Results, Where, open_case, open_list, open_run, open_verdicts, trouble
from harness.results.record import MIGRATIONS, SCHEMA, decode
from tests.run_records import latency, made, session, text, written


def index_all(folder):
    """As if every run had been closed."""
    for path in folder.glob("*.jsonl"):
        write_index(path)


@pytest.fixture(params=[str, index_all, compact], ids=["raw", "indexed", "compacted"])
def ready(request):
    """Prepares a folder: questions have the same answers from runs' own files, from their indexes and compacted."""
    return request.param


def at(minute):
    """As queries have it: UTC, without a zone."""
    return datetime(2026, 11, 20, 0, minute, tzinfo=UTC).replace(tzinfo=None)


def test_runs_in_a_list(tmp_path, ready):
    written(tmp_path, "b", made("b", 5), made("b", 9, verdict="fail", host="gpu2"), latency(run="b", minute=7))
    written(tmp_path, "a", made("a", 1, runtime="onnxruntime-1.32.0-cpu", model_name="vad"))
    written(tmp_path, "z")
    ready(tmp_path)
    with open_list(tmp_path) as found:
        runs = found.runs()
        assert [one.run for one in runs] == ["z", "a", "b"]
        one = runs[-1]
        assert (one.begun, one.ended) == (at(5), at(9))
        assert (one.records, one.bad, one.hosts, one.models) == (3, 0, ("gpu1", "gpu2"), ("wave",))
        assert one.kinds == {"build": 2, "latency": 1}
        assert one.verdicts == {"fail": 1, "faster": 1, "pass": 1}
        assert [one.run for one in found.runs(Where(model="vad"))] == ["a"]
        assert [(one.run, one.records) for one in found.runs(Where(kind="build", since=at(6)))] == [("b", 1)]
        for runtime, there in (("tensorrt-8.5", 1), ("tensorrt", 1), ("tensorrt-8.5.3.1", 1), ("tensorrt-8", 1)):
            assert len(found.runs(Where(runtime=runtime))) == there
        assert found.runs(Where(runtime="tensorrt-8.5.3.10")) == found.runs(Where(runtime="tensor")) == []


def test_the_newest_record_of_a_case_on_a_host(tmp_path, ready):
    case = made()["case"]
    written(tmp_path, "new", made("new", 30), made("new", 31, host="other"), made("new", 32, case=case + "-more"))
    written(tmp_path, "old", made("old", 1, values={"worst": math.nan}), made("old", 2, kind="accuracy"))
    ready(tmp_path)
    with open_case(tmp_path, case) as found:
        newest = found.newest(Where(case=case, kind="build", host="gpu1"))
        assert newest.id == "new:1"
        assert newest.record() == decode(text(made("new", 30)))
        assert found.newest(Where(case=case, kind="build")).host == "other"
        assert found.newest(Where(case=case, kind="build", runtime="tensorrt-9")) is None
        history = found.history(Where(case=case, kind="build"))
        assert [one.id for one in history] == ["old:1", "new:1", "new:2"]
        assert math.isnan(history[0].values()["worst"])
        assert [one.id for one in found.history(Where(case=case), last=2)] == ["new:1", "new:2"]


def test_the_newest_verdicts_by_model_and_runtime(tmp_path, ready):
    written(tmp_path, "a", made("a", 1), latency(run="a", minute=1), latency("long", run="a", minute=2))
    written(
        tmp_path, "b", made("b", 3, verdict="fail"), session(run="b", minute=4), made("b", 5, case=None, kind="run")
    )
    ready(tmp_path)
    with open_verdicts(tmp_path) as found:
        newest = found.newest_verdicts()
        assert [(one.kind, one.bucket, one.id, one.verdict) for one in newest] == [
            ("build", None, "b:1", "fail"),
            ("latency", "long", "a:3", "faster"),
            ("latency", "short", "a:2", "faster"),
            ("latency", "traffic", "b:2", "faster"),
        ]
        assert "samples_ns" not in newest[1].values()
        assert newest[1].values()["buckets"]["long"]["ratio"] == 2
        assert [one.id for one in found.of_run("a")] == ["a:1", "a:2", "a:3"]


@pytest.mark.parametrize(("schema", "kind"), [(1, "accuracy"), (SCHEMA, "drawn")], ids=["old", "now"])
def test_drawn_examples_that_pass_do_not_hide_a_corpus_that_does_not(tmp_path, ready, schema, kind):
    corpus = {"schema": schema, "kind": "accuracy", "verdict": "below bounds"}
    written(
        tmp_path, "a",
        made("a", 1, **corpus, values={"buckets": {"short": {"sqnr_db": 3.0}}}),
        made("a", 2, schema=schema, kind=kind, values={"examples": 20, "worst": {"sqnr_db": 9.0}}),
    )  # fmt: skip
    ready(tmp_path)
    with open_verdicts(tmp_path) as found:
        newest = found.newest_verdicts()
        assert [(one.kind, one.verdict) for one in newest] == [("accuracy", "below bounds"), ("drawn", "pass")]
        assert newest[0].values()["buckets"]["short"]["sqnr_db"] == 3
        assert newest[1].record()["kind"] == "drawn"
        assert [one.id for one in found.newest_verdicts(Where(kind="drawn"))] == ["a:2"]


def test_one_run_of_several(tmp_path, ready):
    written(tmp_path, "a", made("a", 1), b"bad\n", made("a", 2))
    written(tmp_path, "a'b", made("a'b", 3))
    written(tmp_path, "c", made("c", 4))
    ready(tmp_path)
    for run, ids, bad in (("a", ["a:1", "a:3"], 1), ("a'b", ["a'b:1"], 0), ("c", ["c:1"], 0)):
        with open_run(tmp_path, run) as found:
            assert [one.id for one in found.of_run(run)] == ids
            assert [(one.run, one.records, one.bad) for one in found.runs()] == [(run, len(ids), bad)]
    with open_run(tmp_path, "none") as found:
        assert list(found.of_run("none")) == found.runs() == []


BAD = [
    (b'{"schema":1,"kind":"bui', "unfinished"),
    (b"garbage\n", "Expecting value"),
    (b"\x00\xff\xfe\n", ""),
    (b"[" * 100_000 + b"\n", "recursion"),
    (b"[]\n", "not a record"),
    (b'{"schema":1}\n', "missing required field"),
    (text(made(verdict=5)), "`$.verdict`"),
    (text(made(time="yesterday")), "`$.time`"),
    (text(made(time=5)), "`$.time`"),
    (text(made(values=[])), "`$.values`"),
    (text(made(environment={"host": 5})), "`$.environment.host`"),
    (text(made(schema="1")), "not a record"),
    (text(made(schema=True)), "not a record"),
    (text(made(case={"a": 1})), "`$.case`"),
    (text(made(schema=SCHEMA + 1)), "is newer than this harness reads"),
    (b'{"schema":1,"kind":NaN}\n', "NaN is no JSON"),
]


@pytest.mark.parametrize(("line", "why"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_line_that_is_no_record_is_counted_and_the_others_are_read(tmp_path, ready, line, why):
    written(tmp_path, "bad", made("bad", 1), made("bad", 2), line)
    written(tmp_path, "good", made("good", 1))
    ready(tmp_path)
    with open_list(tmp_path) as found:
        assert {one.run: (one.records, one.bad) for one in found.runs()} == {"bad": (2, 1), "good": (1, 0)}
        (said,) = trouble(found.states.values())
        assert said.startswith("bad.jsonl: 1 line(s) are no records and left out; line 3: ")
        assert why in said
        # Nothing came back as a row of NULLs or as NULL.
        nothing = "SELECT count(*) FROM records WHERE kind IS NULL OR verdict IS NULL OR time IS NULL OR file IS NULL"
        assert found.select(nothing) == [(0,)]


def test_a_file_of_a_newer_schema_is_refused_and_the_others_are_read(tmp_path, ready):
    written(tmp_path, "newer", *[made("newer", n, schema=SCHEMA + 1) for n in range(3)])
    written(tmp_path, "good", made("good"))
    ready(tmp_path)
    with open_list(tmp_path) as found:
        assert {one.run: (one.records, one.bad) for one in found.runs()} == {"newer": (0, 3), "good": (1, 0)}
        (said,) = trouble(found.states.values())
    assert "newer.jsonl: 3 line(s)" in said
    assert f"schema {SCHEMA + 1} is newer than this harness reads ({SCHEMA}): read it with a newer harness" in said


def test_older_records_are_read_by_migration(tmp_path, monkeypatch, ready):
    def renamed(one):
        one["verdict"] = one.pop("judged")
        return one

    path = written(tmp_path, "r", made("r", 1, judged="fail"), made("r", 2, schema=SCHEMA + 1))
    before = path.read_bytes()
    monkeypatch.setattr("harness.results.record.SCHEMA", SCHEMA + 1)
    monkeypatch.setitem(MIGRATIONS, SCHEMA, renamed)
    ready(tmp_path)
    with open_verdicts(tmp_path) as found:
        one = next(found.of_run("r"))
        assert (one.verdict, one.record()["schema"], one.record()["verdict"]) == ("fail", SCHEMA + 1, "fail")
        assert found.states["r.jsonl"].bad == 0
    assert path.read_bytes() == before


def test_odd_texts_and_huge_values(tmp_path, ready):
    odd = "wäve-\ud800-💥-\u2028-'quoted\"-\\-\n"
    huge = made("r", 1, case=odd, model_name="m'", values={"big": 2**80, "text": "x" * 20_000_000, "none": "NaN"})
    written(tmp_path, "r", huge, text(made("r", 2, case="spaced")), b"\n", b"  \n", made("r", 3, verdict="NaN"))
    ready(tmp_path)
    with open_verdicts(tmp_path) as found:
        ones = list(found.of_run("r"))
        assert [one.line for one in ones] == [1, 2, 5]
        assert ones[0].case == odd.replace("\ud800", "?")
        assert ones[0].record()["case"] == odd
        assert ones[0].values()["big"] == 2**80
        assert math.isnan(ones[0].values()["none"])
        assert ones[2].verdict == "NaN"
        assert found.states["r.jsonl"].bad == 0
    with open_case(tmp_path, odd) as found:
        assert found.newest(Where(case=odd.replace("\ud800", "?"))).line == 1
    with open_case(tmp_path, "spaced") as found:
        assert found.newest(Where(case="spaced")).line == 2


def test_folders_merge_by_copying(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    written(one, "a", made("a", 1))
    written(other, "b", made("b", 2))
    compact(one)
    compact(other)
    for path in other.rglob("*"):
        if path.is_file():
            target = one / path.relative_to(other)
            target.write_bytes(path.read_bytes())  # manifest.json, too: it is the other folder's now
    with open_list(one) as found:
        assert [(run.run, run.records) for run in found.runs()] == [("a", 1), ("b", 1)]
    assert compact(one).read == 1
    with open_list(one) as found:
        assert [(run.run, run.records) for run in found.runs()] == [("a", 1), ("b", 1)]


def test_a_run_that_changed_after_the_question(tmp_path):
    path = written(tmp_path, "r", made("r"))
    with open_verdicts(tmp_path) as found:
        (one,) = found.newest_verdicts()
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ResultsError, match="no longer what it was"):
        one.record()
    with pytest.raises(ResultsError, match="no longer what it was"):
        one.values()
    path.unlink()
    with pytest.raises(ResultsError, match="no longer what it was"):
        one.values()


def test_an_empty_folder_and_one_that_cannot_be_read(tmp_path):
    with open_list(tmp_path) as found:
        assert found.runs() == []
    with open_verdicts(tmp_path) as found:
        assert found.newest_verdicts() == []
        assert found.newest(Where(case="x")) is None
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ResultsError, match="cannot be read"), open_list(tmp_path):
        pass


def test_several_processes_read_large_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_ALONE_BYTES", 0)
    monkeypatch.setattr(pieces, "_TASK_BYTES", 5_000)
    monkeypatch.setattr(pieces, "_PIECE_ROWS", 7)
    for number in range(12):
        written(tmp_path, f"r{number:02}", *[made(f"r{number:02}", minute) for minute in range(20)], b"bad\n")
    with Results(tmp_path) as found:
        assert {(one.records, one.bad) for one in found.runs()} == {(20, 1)}
        assert found.select("SELECT count(DISTINCT (file, line)) FROM records") == [(240,)]
    assert not list(tmp_path.glob("compacted"))


APPENDS = """
import json, sys
from pathlib import Path
from harness.results.store import Store
run = Store(Path(sys.argv[1])).open_run(sys.argv[2])
one = json.loads(sys.argv[3])
for index in range(10**9):
    one["values"]["index"] = index
    run.append(one)
"""


def test_readers_and_compact_never_fail_while_runs_are_written_and_killed(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDS, str(tmp_path), f"run{number}", json.dumps(latency(minute=number))]
        )
        for number in range(2)
    ]
    failures = []

    def keep(asking):
        try:
            for _ in range(8):
                asking(tmp_path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    def ask(folder):
        with open_list(folder) as found:
            counts.append(sum(one.records for one in found.runs()))

    counts = []
    while not all((tmp_path / f"run{number}.jsonl").exists() for number in range(2)):
        assert all(writer.poll() is None for writer in writers)
    threads = [threading.Thread(target=keep, args=(asking,)) for asking in (ask, compact)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert failures == []
    assert counts == sorted(counts)
    compact(tmp_path)
    with Results(tmp_path) as found:
        for number in range(2):
            indices = [one.values().get("index") for one in found.of_run(f"run{number}")]
            assert indices == list(range(len(indices)))
            assert found.states[f"run{number}.jsonl"].bad <= 1
