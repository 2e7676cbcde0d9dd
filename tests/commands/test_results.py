from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.cli import main
from harness.results.record import SCHEMA
from tests.run_records import latency, made, session, written


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three runs in the folder that the configuration names."""
    (tmp_path / "harness.toml").write_text('results = "kept"\n')
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "kept"
    written(
        there, "20261120T000000Z-aaaaaa", made("20261120T000000Z-aaaaaa", 1), made("a", 2, verdict="fail"), b"bad\n"
    )
    written(there, "20261121T000000Z-bbbbbb", latency(run="b", minute=1500), session(run="b", minute=1501))
    written(there, "20261122T000000Z-cccccc", made("c", 3000, model_name="vad", runtime="onnxruntime-1.32.0-cpu"))
    return there


def said(capsys, *words):
    code = main(["results", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_list(folder, capsys):
    code, out, err = said(capsys, "list")
    assert code == 0
    for text in ("20261120T000000Z-aaaaaa", "2026-11-20 00:01", "gpu1", "2 (+1 bad)", "1 fail", "1 pass", "vad"):
        assert text in out
    assert "20261120T000000Z-aaaaaa.jsonl: 1 line(s) are no records and left out; line 3" in err
    code, out, _ = said(capsys, "list", "--json", "--kind", "latency")
    (one,) = json.loads(out)
    assert (one["run"], one["kinds"], one["hosts"]) == ("20261121T000000Z-bbbbbb", {"latency": 2}, ["gpu1"])
    for words, runs in (
        (["--model", "vad"], 1),
        (["--runtime", "tensorrt-8.5"], 2),
        (["--since", "2026-11-21"], 2),
        (["--since", "2026-11-20T02:01+02:00"], 3),
        (["--since", "2026-11-20T02:03+02:00"], 2),
        (["--since", "10000d"], 3),
    ):
        assert len(json.loads(said(capsys, "list", "--json", *words)[1])) == runs, words
    code, out, err = said(capsys, "list", "--last", "1")
    assert "20261122T000000Z-cccccc" in out
    assert "20261121T000000Z-bbbbbb" not in out
    assert "2 older run(s) are not shown: --last 3" in err
    assert said(capsys, "list", "--model", "none")[1:] == ("", said(capsys, "list", "--model", "none")[2])
    assert "no such runs" in said(capsys, "list", "--model", "none")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--since", "yesterday"], "'yesterday' is no time"),
        (["list", "--since", "9" * 30 + "d"], "is too long an age"),
        (["list", "--kind", "speed"], "unknown kind of record 'speed'"),
        (["show", "nothing"], "no run 'nothing'"),
        (["show", "20261120:x"], "'x' is no line number"),
        (["show", "20261120:3"], "no record in line 3"),
        (["show", "2026"], "3 runs begin with '2026'"),
        (["export", "--format", "pytest-benchmark"], "which run?"),
        (["export", "20261120", "--format", "pytest-benchmark"], "no latency record with samples"),
        (["export", "20261120", "--format", "openmetrics"], "openmetrics takes the newest of all runs"),
        (["import", "none"], "no such folder or file"),
        (["import", "kept"], "this is the folder itself"),
        (["prune"], "by age or by count?"),
        (["prune", "--older-than", "90"], "'90' is no age"),
        (["--results", "none", "list"], "no such folder"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant(folder, capsys, words, message):
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_show(folder, capsys):
    code, out, err = said(capsys, "show", "20261120")
    assert code == 0
    assert "int8 [4], engine_bytes" in " ".join(out.split())
    assert "line 3" in err
    code, out, _ = said(capsys, "show", "20261121", "--json")
    assert [(one["line"], "samples_ns" in one["values"]) for one in json.loads(out)] == [(1, False), (2, False)]
    code, out, _ = said(capsys, "show", "20261121:1")
    assert json.loads(out) == latency(run="b", minute=1500)
    assert out.count("\n") < 60  # lists of numbers stand in one line
    assert json.loads(said(capsys, "show", "20261121:1", "--json")[1]) == json.loads(out)


def test_tables_tell_cases_and_verdicts_apart_in_100_columns(folder, capsys):
    """Ids of cases begin alike; a verdict that is broken in two is no word."""
    names = [f"wave_len-tensorrt-10.13.0.35-int8-{method}-per_profile-cache-buckets3" for method in ("mse", "minmax")]
    cases = [made("d", 5000 + n, case=name, verdict="inconclusive", kind="accuracy") for n, name in enumerate(names)]
    written(folder, "20261125T054421Z-17f1c7", *cases)
    out = said(capsys, "show", "20261125T054421Z")[1]
    assert {len(line) for line in out.splitlines()} == {len(out.splitlines()[0])}  # nothing is cut off
    assert len(out.splitlines()[0]) <= 100
    cells = ["".join(line.split("│")[4].strip() for line in out.splitlines() if "│" in line)]
    assert all(name in "".join(cells) for name in names)
    out, err = said(capsys, "list")[1:]
    assert {len(line) for line in out.splitlines()} == {len(out.splitlines()[0])}
    assert len(out.splitlines()[0]) <= 100
    assert "2 inconclusive" in out
    assert "next: harness results show 20261125T054421Z-17f1c7" in err


def test_names_from_files_do_not_steer_the_terminal(folder, capsys, monkeypatch):
    title = "\x1b]0;owned\x07"
    hostile = made("d", 5000, case=f"{title}-int8", model_name=title, runtime=title, host=title, verdict=title)
    written(folder, "20261125T054421Z-17f1c7", hostile)
    monkeypatch.setenv("FORCE_COLOR", "1")  # with rich's own sequences around them
    for words in (["list"], ["show", "20261125"], ["show", "20261125:1"], ["show", title]):
        out = "".join(said(capsys, *words)[1:])
        assert "\x1b]0" not in out
        assert "\x07" not in out
    assert "␛]0;" in said(capsys, "show", "20261125")[1]
    code, out, _ = said(capsys, "show", "20261125:1", "--json")
    assert code == 0
    assert json.loads(out) == hostile


def test_show_of_drawn_examples(folder, capsys):
    worst = {"length": 5, "sqnr_db": 9.0}
    both = [made("d", 1, kind="drawn", values={"examples": n, "worst": worst if n else None}) for n in (20, 0)]
    written(folder, "d", *both)
    out = " ".join(said(capsys, "show", "d")[1].split())
    assert "20 example(s), worst 9 dB" in out
    assert "0 example(s)" in out


def test_compact(folder, capsys):
    code, out, err = said(capsys, "compact")
    assert (code, out.split(":")[0]) == (0, "3 run(s) read, 0 were compacted before")
    assert "5 records" in out
    assert "left out" in err
    assert "0 run(s) read, 3 were" in said(capsys, "compact")[1]
    (folder / "20261122T000000Z-cccccc.jsonl").unlink()
    assert "0 run(s) read, 2 were compacted before, 1 gone" in said(capsys, "compact")[1]


def test_export(folder, capsys, tmp_path):
    assert said(capsys, "export", "20261121", "--format", "pytest-benchmark", "-o", "out.json")[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "out.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    code, out, _ = said(capsys, "export", "--format", "openmetrics")
    assert code == 0
    assert out.endswith("# EOF\n")
    assert "harness_latency_ratio{" in out
    code, _, err = said(capsys, "export", "--format", "openmetrics", "-o", "/sys/kernel/x.prom")
    assert code == 1
    assert "cannot be written" in err
    assert said(capsys, "import", "out.json")[1].startswith("historical run: 20261121T")
    assert "imported before" in said(capsys, "import", "out.json")[1]
    assert "historical" not in said(capsys, "export", "--format", "openmetrics")[1]


def test_import(folder, capsys, tmp_path):
    other = tmp_path / "other"
    written(other, "20261123T000000Z-dddddd", made("d"))
    assert said(capsys, "import", other)[:2] == (0, "1 run(s) copied, 0 were here\n")
    assert said(capsys, "import", other)[:2] == (0, "0 run(s) copied, 1 were here\n")
    written(other, "20261123T000000Z-dddddd", made("d", verdict="fail"))
    code, _, err = said(capsys, "import", other)
    assert code == 1
    assert "1 run(s) differ from those of the same name here and were left out: 20261123T000000Z-dddddd" in err
    assert said(capsys, "--results", tmp_path / "new", "import", other)[:2] == (0, "1 run(s) copied, 0 were here\n")


def test_prune_is_a_dry_run_until_told(folder, capsys):
    (folder / "baselines.txt").write_text("20261120T000000Z-aaaaaa\n")
    code, out, err = said(capsys, "prune", "--keep-last", "1")
    assert (code, out) == (0, "20261121T000000Z-bbbbbb\n")
    assert "20261120T000000Z-aaaaaa stays: a baseline" in err
    assert "would remove: 1 run(s)" in err
    assert len(list(folder.glob("*.jsonl"))) == 3
    assert "removed: 1 run(s)" in said(capsys, "prune", "--keep-last", "1", "--yes")[2]
    assert sorted(path.name[:8] for path in folder.glob("*.jsonl")) == ["20261120", "20261122"]


def test_a_newer_schema_is_said_and_the_rest_shown(folder, capsys):
    written(folder, "newer", made("newer", schema=SCHEMA + 1))
    code, out, err = said(capsys, "list")
    assert code == 0
    assert "20261122T000000Z-cccccc" in out
    assert f"newer.jsonl: 1 line(s) are no records and left out; line 1: schema {SCHEMA + 1} is newer" in err
