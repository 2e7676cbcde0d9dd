"""Ways of running that would spoil what the latency suites measure, and comparisons that mean nothing."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

FEW = ["--runtime", f"onnxruntime-{version('onnxruntime')}-cpu", "--layouts", "single", "--methods", "minmax"]


@pytest.fixture
def few(tmp_path):
    path = tmp_path / "few.toml"
    path.write_text("compared = []\ntests = 1\ndraws = 1\nlaunches = 2\nblocks = 2\n")
    return [*FEW, "--matrix", path]


def test_xdist_fails_latency_and_nothing_else(suites, own, few):
    done = suites.quickly(*own(), *few, "-n", "1", "-k", "test_latency or test_build")
    assert done.code == 1, done.text
    assert "3 passed, 4 errors" in done.out  # three precisions are built; three lengths, and the traffic
    assert "latency suites are refused under pytest-xdist (-n)" in done.out
    assert "-m 'not latency'" in done.out
    without = suites.quickly(*own(), *few, "-n", "1", "-k", "test_latency or test_build", "-m", "not latency")
    assert without.code == 0, without.text


@pytest.mark.parametrize("how", ["option", "configuration"])
def test_reruns_are_refused_before_anything_runs(suites, own, few, how):
    given = ["--reruns", "2"] if how == "option" else ["-o", "reruns=2"]
    done = suites.quickly(*own(), *few, *given)
    assert done.code == 4
    assert "ERROR: latency suites are refused with reruns" in done.text
    assert "passed" not in done.out
    assert not suites.results.exists() or not suites.new_runs()


def test_reruns_without_latency_are_not_our_business(suites, own, few):
    done = suites.quickly(*own(), *few, "--reruns", "1", "-m", "not latency", "-k", "test_build")
    assert done.code == 0, done.text
    assert "3 passed" in done.out


def test_the_null_number_of_reruns_is_none(suites, own, few):
    assert suites.quickly(*own(), *few, "--reruns", "0", "--collect-only", "-q").code == 0


def test_a_benchmark_file_of_another_host_is_refused_with_the_difference(suites, own, few):
    options = [*own(), *few, "--benchmark-storage=file://./stored"]
    first = suites.quickly(*options, "--benchmark-save", "mine", under="test_latency.py")
    assert first.code == 0, first.text
    (saved,) = suites.folder.rglob("*_mine.json")
    content = json.loads(saved.read_text())
    harness = content["harness"]
    assert {"host", "cpu", "load", "container", "gpus", "governors"} <= set(harness)
    same = suites.quickly(*options, "--benchmark-compare", under="test_latency.py")
    assert same.code == 0, same.text
    content.pop("harness")
    saved.write_text(json.dumps(content))
    nowhere = suites.quickly(*options, "--benchmark-compare", under="test_latency.py")
    assert nowhere.code == 4, nowhere.text
    assert "does not say where it was measured" in nowhere.text
    content["harness"] = harness
    harness |= {"cpu": "Another CPU", "host": "elsewhere"}
    saved.write_text(json.dumps(content))
    other = suites.quickly(*options, "--benchmark-compare", under="test_latency.py")
    assert other.code == 4, other.text
    assert "measured under different conditions: host: elsewhere against " in other.text
    assert "cpu: Another CPU against " in other.text
    assert "Traceback" not in other.text
    assert "INTERNALERROR" not in other.text


def test_compare_fail_is_refused(suites, own, few):
    done = suites.quickly(*own(), *few, "--benchmark-compare-fail=median:5%", under="test_latency.py")
    assert done.code == 4, done.text
    assert "--benchmark-compare-fail is refused on latency suites" in done.text
    assert "speedup=1.3" in done.text
