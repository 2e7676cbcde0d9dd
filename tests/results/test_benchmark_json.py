from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from harness.errors import ResultsError, UsageError
from harness.results.benchmark_json import export_run, import_benchmarks, stats
from harness.results.query import Results
from harness.results.store import read_run
from tests.run_records import latency, made, session, written

REFERENCE = Path(__file__).parents[2] / "results/reference/h200-2026-11-23/first-latency-8.5.3.1.jsonl"


def compare(*arguments, cwd):
    """The tool itself."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tool_compares_two_exported_runs(tmp_path):
    for name, minute in (("a", 1), ("b", 2)):
        one = latency(run=name, minute=minute)
        path = written(tmp_path, name, made(name), one, session(run=name))
        (tmp_path / f"{name}.json").write_text(json.dumps(export_run(path)))
    done = compare("a.json", "b.json", "--csv=out.csv", "--columns=min,median,rounds", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    assert rows[0].startswith("name,")
    (int8,) = [row for row in rows if "-int8]" in row and "a.json" in row] or [rows[1]]
    assert "2e-06" in int8.lower() or "2.0" in int8


def test_what_is_in_an_export(tmp_path):
    path = written(tmp_path, "a", latency(run="a"))
    found = export_run(path)
    by_arm = {one["params"]["arm"]: one for one in found["benchmarks"]}
    # The clock that judged, over launches and bursts.
    assert by_arm["fp16"]["stats"]["rounds"] == 4
    assert (by_arm["fp16"]["stats"]["min"], by_arm["fp16"]["stats"]["max"]) == (4e-6, 4.3e-6)
    assert by_arm["int8"]["stats"]["median"] == pytest.approx(2.05e-6)
    assert by_arm["int8"]["group"] == by_arm["fp16"]["group"]
    assert by_arm["int8"]["extra_info"]["runtime"] == "tensorrt-8.5.3.1"
    assert found["commit_info"] | {"id": "abc", "dirty": True} == found["commit_info"]
    assert found["machine_info"]["node"] == "gpu1"


def test_recorded_runs_are_exported(tmp_path):
    found = export_run(REFERENCE)
    assert len(found["benchmarks"]) > 30
    (tmp_path / "h200.json").write_text(json.dumps(found))
    done = compare("h200.json", "--group-by=group", "--columns=median", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "conv1d-tensorrt-8.5.3.1-int8-mse-ragged-cache-single short" in done.stdout


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 30, 101])
def test_statistics_are_those_of_the_tool(count):
    draw = random.Random(count)
    data = [draw.lognormvariate(-9, 0.5) for _ in range(count)]
    theirs = Stats()
    for value in data:
        theirs.update(value)
    ours = stats(data)
    exact = ("min", "max", "rounds", "median", "stddev_outliers")
    assert {name: ours[name] for name in exact} == {name: getattr(theirs, name) for name in exact}
    for name in ("mean", "stddev", "total", "ops"):
        assert ours[name] == pytest.approx(getattr(theirs, name))
    if count % 2 == 0:  # for odd counts it weights two neighbours by the remainder of four
        assert (ours["q1"], ours["q3"], ours["outliers"]) == (theirs.q1, theirs.q3, theirs.outliers)
        assert (ours["ld15iqr"], ours["hd15iqr"]) == (theirs.ld15iqr, theirs.hd15iqr)


def test_a_run_without_samples(tmp_path):
    with pytest.raises(UsageError, match="no latency record with samples"):
        export_run(written(tmp_path, "a", made("a"), session(run="a")))


SUITE = """
import pytest
@pytest.mark.parametrize("n", [1, 2])
def test_sum(benchmark, n):
    benchmark.pedantic(sum, args=([n],), rounds=3)
"""


@pytest.fixture
def benchmarked(tmp_path):
    """A file that pytest-benchmark wrote."""
    (tmp_path / "test_it.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=b.json", "test_it.py"],
        cwd=tmp_path,
        # By xdist's variables pytest-benchmark would switch itself off.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return tmp_path / "b.json"


def test_the_tools_files_become_historical_records(benchmarked, tmp_path):
    folder = tmp_path / "results"
    run = import_benchmarks(benchmarked, folder)
    assert import_benchmarks(benchmarked, folder) is None
    assert import_benchmarks(benchmarked, tmp_path / "other") == run  # so that folders merge
    content = json.loads(benchmarked.read_text())
    reading = read_run(folder / f"{run}.jsonl")
    for one, theirs in zip(reading, content["benchmarks"], strict=True):
        assert (one["kind"], one["historical"], one["case"]) == ("benchmark", True, theirs["fullname"])
        assert one["values"]["stats_s"]["median"] == theirs["stats"]["median"]
        assert one["environment"]["host"] == content["machine_info"]["node"]
        assert one["harness"] is None
    assert reading.bad == []
    with Results(folder) as found:
        assert [(one.kind, one.historical) for one in found.newest_verdicts()] == [("benchmark", True)] * 2
        assert found.states[f"{run}.jsonl"].bad == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"datetime": "x", "benchmarks": []}', "nonsense", "[" * 100_000])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="no JSON of pytest-benchmark"):
        import_benchmarks(path, tmp_path / "results")
    assert not list(tmp_path.glob("results/*"))


def test_files_that_cannot_be_read_or_written(benchmarked, tmp_path):
    with pytest.raises(ResultsError, match="cannot be read"):
        import_benchmarks(tmp_path / "none.json", tmp_path)
    with pytest.raises(ResultsError, match="cannot be written"):
        import_benchmarks(benchmarked, Path("/sys/kernel/results"))
    empty = json.loads(benchmarked.read_text()) | {"benchmarks": []}
    benchmarked.write_text(json.dumps(empty))
    with pytest.raises(UsageError, match="no benchmarks"):
        import_benchmarks(benchmarked, tmp_path / "results")
