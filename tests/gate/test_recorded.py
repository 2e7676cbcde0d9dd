"""Records of real runs on a GPU, and others, as a gate's baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.gate.builds import compare_builds
from harness.gate.pairs import pair_up
from harness.gate.recorded import WARNINGS_KEPT, built_of, gather, read
from harness.spec.matrix import Matrix
from harness.workers import Environment
from tests.run_records import latency, made, written

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference" / "h200-2026-11-23"
CASE = "wave-tensorrt-8.5.3.1-int8-auto-ragged-cache-single"


def test_a_run_on_a_gpu_is_read():
    found = read(Path("nowhere"), f"record:{REFERENCE / 'first-build-8.5.3.1.jsonl'}")
    assert (found.environment.runtime, found.environment.version) == ("tensorrt", "8.5.3.1")
    assert not found.environment.can_run
    assert not found.environment.can_build
    built = built_of(found.builds["conv1d-tensorrt-8.5.3.1-int8-mse-ragged-cache-single"])
    assert (built.error, list(built.int8), list(built.floats)) == ("", [4], [0])
    assert list(built.bytes) == [919263]
    assert built.seconds[0] == pytest.approx(3.93, abs=0.01)
    other = built_of(found.builds["conv1d-tensorrt-8.5.3.1-fp32-single"])
    grown = {one.aspect: one for one in compare_builds("case", built, other)}
    assert (grown["coverage"].word, grown["size"].word) == ("regression", "minor")


def test_pairs_are_those_that_the_record_has():
    found = read(Path("nowhere"), f"record:{REFERENCE / 'text-8.5.3.1.jsonl'}")
    new = Environment("tensorrt-8.6.0", "python", "tensorrt", "8.6.0")
    pairs = found.restricted(pair_up(Matrix(), ["text"], found.environment, new))
    assert {pair.name for pair in pairs.both} == {"text-fp32-single", "text-fp16-single"}
    assert "text-tensorrt-8.6.0-fp32-buckets3" in {case.id for case in pairs.only_candidate}
    assert not pairs.only_baseline


def build(**values):
    whole = {
        "int8": [4], "float": [0], "engine_bytes": [100], "build_seconds": [2.0], "cached": [False], "rebuilt": [],
        "warnings": [], **values,
    }  # fmt: skip
    return made(values=whole)


def test_all_builds_count_and_times_of_those_that_were_made():
    engine = {"int8": 3, "float": 1, "bytes": 90, "seconds": 4.0, "cached": False}
    built = built_of(build(rebuilt=[[engine], [{**engine, "int8": "unknown", "cached": True}]], cached=[False]))
    assert (built.int8, built.floats, built.bytes) == ([4, 3, None], [0, 1, 1], [100, 90, 90])
    assert built.seconds == [2.0, 4.0]
    memory = [{"context_bytes": 7, "engine_bytes": 5, "taken_bytes": 9}]
    assert built_of(build(device_memory=memory, warnings=["w"])).device_bytes == [12]
    assert built_of(build(device_memory=[{"context_bytes": 7}])).device_bytes == [], (
        "of the engine nothing was measured"
    )
    several = {
        "int8": [1, 2],
        "float": [0, 1],
        "engine_bytes": [10, 20],
        "build_seconds": [1, 2],
        "cached": [False] * 2,
    }
    assert built_of(build(**several)).bytes == [30], "the engines of one build, one a profile"
    assert WARNINGS_KEPT == 20


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("BuildFailed: tensorrt, x.onnx: the builder refuses this model\n  | Myelin", "tensorrt, x.onnx: the builder"),
        ("WorkerDied: SIGSEGV", "SIGSEGV"),
        ("HostLost: gone", None),
        ("DataError: NaN in 3.npz", None),
        ("assert 3 == 4", None),
    ],
)
def test_a_record_of_a_failure_says_whether_it_built(error, says):
    built = built_of(made(verdict="failed", values={"test": "test_build", "error": error}))
    assert (built is None) is (says is None)
    assert built is None or built.error.startswith(says)


def test_the_last_record_of_a_case_counts_and_drawn_examples_do_not():
    buckets = {"short": {"sqnr_db": 20.0}}
    records = [
        build(), build(int8=[2]),
        made(kind="accuracy", values={"buckets": buckets}), made(kind="drawn", values={"examples": 10}),
        latency("short"), latency("long"),
        made(runtime="tensorrt-8.6.0", case="other"),
    ]  # fmt: skip
    found = gather("r", "tensorrt-8.5.3.1", records)
    assert set(found.builds) == {CASE}
    assert found.builds[CASE]["values"]["int8"] == [2]
    assert found.accuracy[CASE]["values"]["buckets"] == buckets
    assert set(found.latency[CASE]) == {"short", "long"}
    assert CASE in found
    assert "other" not in found


def test_newest_is_the_newest_run_that_has_builds_of_it(tmp_path):
    new, old = "onnxruntime-1.32.0-cpu", "onnxruntime-1.22.1-cpu"
    written(tmp_path, "a", made("a", 0, runtime=old, case="x"))
    written(tmp_path, "b", made("b", 1, runtime=new, case="y"))
    written(tmp_path, "c", made("c", 2, runtime=old, case="x", kind="gate"))
    written(tmp_path, "d", made("d", 3, runtime=new, case="y"), made("d", 4, runtime=old, case="x"))
    (tmp_path / "d.jsonl").rename(tmp_path / "0d.jsonl")
    assert read(tmp_path, "record:newest:onnxruntime-1.22").run == "0d"
    (tmp_path / "0d.jsonl").unlink()
    assert read(tmp_path, "record:newest").run == "b"
    assert read(tmp_path, "record:newest:onnxruntime-1.22").run == "a"
    assert read(tmp_path, "record:a").environment.version == "1.22.1"


def test_a_whole_name_is_not_the_beginning_of_another_hosts(tmp_path):
    here, there = "onnxruntime-1.32.0-cpu", "onnxruntime-1.32.0-cpu@gpu1"
    written(tmp_path, "a", made("a", 0, runtime=here, case="x"), made("a", 1, runtime=there, case="y"))
    assert [set(read(tmp_path, f"record:a:{name}").builds) for name in (here, there)] == [{"x"}, {"y"}]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("record:", "which run?"),
        ("record:c", "no run 'c'"),
        ("record:both", "2 runtimes are meant; it has"),
        ("record:both:tensorrt", "0 runtimes are meant"),
        ("record:newest:tensorrt", "no run has builds of tensorrt"),
        ("record:none", "it has no builds and no accuracy"),
    ],
)
def test_a_name_of_none_or_several(tmp_path, name, says):
    runtimes = [f"onnxruntime-{version}-cpu" for version in ("1.22.1", "1.32.0")]
    written(tmp_path, "both", *(made("both", runtime=one, case=one) for one in runtimes))
    written(tmp_path, "none", made("none", kind="gate"))
    with pytest.raises(UsageError) as raised:
        read(tmp_path, name)
    assert says in str(raised.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such folder of results"):
        read(tmp_path / "nothing", "record:newest")
