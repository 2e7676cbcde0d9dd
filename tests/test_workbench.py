"""Whole runs of `pytest suites/`: what is recorded and printed, and what becomes of a run that goes wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.results.index import indexed
from harness.results.record import SCHEMA
from harness.results.store import read_run

RUNTIME = f"onnxruntime-{version('onnxruntime')}-cpu"
FEW = """
precisions = ["fp32", "fp16", "int8"]
methods = ["minmax"]
compared = ["percentile-pad"]
layouts = ["single", "buckets3"]
tests = 2
draws = 4
launches = 2
blocks = 3
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A matrix of less than the quick one."""
    path = tmp_path_factory.mktemp("matrix") / "few.toml"
    path.write_text(FEW)
    return ["--matrix", path, "--runtime", RUNTIME]


@pytest.fixture(scope="module")
def run(suites, own, few, tmp_path_factory):
    """The small model with data: output, records, benchmark file."""
    file = tmp_path_factory.mktemp("benchmark") / "latency.json"
    done = suites(*own(), *few, "--seed", "3", "--benchmark-json", file)
    (path,) = suites.new_runs()
    assert len(indexed(suites.results, [path])[0]) == 1
    return done, list(read_run(path)), json.loads(file.read_text())


def table(out):
    """The lines of the tables at the end."""
    return out.partition("small: ")[2].partition("records: ")[0]


def test_a_users_model_passes(run):
    done, _, _ = run
    assert done.code == 0, done.text
    assert " passed" in done.out
    assert "Traceback" not in done.text


def test_every_case_writes_records(run):
    done, records, _ = run
    assert {one["kind"] for one in records} == {"accuracy", "build", "calibration", "drawn", "latency", "profiles"}
    for one in records:
        assert one["schema"] == SCHEMA
        assert one["fields"]["model"] == "small"
        assert one["fields"]["runtime"] == RUNTIME
        assert set(one["corpus"]) == {"calibration", "test"}
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in one["corpus"].values())
        assert one["seed"] == 3
        assert one["synthetic"] is False
        assert one["verdict"]
        assert one["environment"]["libraries"]["onnxruntime"] == version("onnxruntime")
        assert one["environment"]["cores"] == os.cpu_count()
        assert one["samples"] == {"calibration": {"taken": 6, "of": 6}, "test": {"taken": 6, "of": 6}}
        assert one["environment"]["command"].startswith("pytest ")
        worker = one["environment"]["worker"]
        assert (worker["library"], worker["version"], worker["threads"]) == ("onnxruntime", version("onnxruntime"), 1)
        assert {"python", "device", "cpu"} <= set(worker)
        role = one["fields"]["precision"]
        wanted = {role} if (one["fields"]["policy"], role) != ("per_profile", "int8") else {"int8[0]", "int8[1]"}
        assert set(one["model"]) == {"fp32", *wanted} or one["verdict"] == "shown wrong"
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in one["model"].values())
    assert len({one["run"] for one in records}) == 1
    built = {one["case"]: one for one in records if one["kind"] == "build"}
    assert set(built) == {
        f"small-{RUNTIME}-{precision}-{layout}"
        for precision in ("fp32", "fp16", "int8-minmax-ragged")
        for layout in ("single", "buckets3")
    }
    one = built[f"small-{RUNTIME}-int8-minmax-ragged-single"]
    assert one["values"]["weight_bytes"][0] * 4 == one["values"]["fp32_weight_bytes"] == 64 * 65 * 9 * 4
    assert one["values"]["cached"] == [False], "ONNX Runtime builds nothing that is kept"
    assert one["values"]["int8"][0] > 0
    assert one["fields"] == {
        "model": "small", "runtime": RUNTIME, "precision": "int8", "method": "minmax", "policy": "ragged",
        "route": "qdq", "layout": "single",
    }  # fmt: skip
    assert str(records[0]["run"]) in done.out


def test_accuracy_is_recorded_in_every_bucket(run):
    _, records, _ = run
    whole = [one for one in records if one["kind"] == "accuracy" and "buckets" in one["values"]]
    assert len(whole) == 4
    for one in whole:
        assert set(one["values"]["buckets"]) == {"short", "middle", "long"}
        assert all(bucket["sqnr_db"] > 20 for bucket in one["values"]["buckets"].values())


def test_boundaries_are_tried_on_both_sides(run):
    _, records, _ = run
    (one,) = [one for one in records if one["kind"] == "profiles" and one["fields"]["layout"] == "buckets3"]
    assert {16, 40, 41, 102, 103, 256} < set(one["values"]["ran"])
    assert one["values"]["refused"] == [15, 257]


def test_the_table(run):
    done, _, _ = run
    lines = table(done.out)
    assert "real data, seed 3" in lines
    (row,) = [line for line in lines.splitlines() if "minmax-ragged single" in line]
    assert len(re.findall(r"\d+\.\ddB", row)) == 3
    assert row.rstrip().endswith("unbounded"), "nothing was bounded, so nothing could fail"
    assert "--bound" in lines


def test_benchmark_json_holds_the_replayed_samples(run):
    _, records, benchmark = run
    latencies = [one for one in records if one["kind"] == "latency" and "buckets" in one["values"]]
    shown = {one["extra_info"]["length"]: one["stats"]["data"] for one in benchmark["benchmarks"]}
    assert len(latencies) == len(shown) == 3
    for one in latencies:
        ((bucket, cell),) = one["values"]["buckets"].items()
        raw = one["values"]["samples_ns"]
        assert set(raw) == {"fp32", "int8", "null control"}
        assert {len(launch) for launches in raw.values() for launch in launches} == {3}
        samples = np.concatenate([burst["cpu_ns"] for launch in raw["int8"] for burst in launch])
        # the replayed clock runs on, so a difference of two readings carries the rounding of both
        np.testing.assert_allclose(shown[cell["length"]], samples / 1e9, rtol=0, atol=1e-12, err_msg=bucket)
        assert cell["blocks"] == 3 * len(raw["int8"]) == 6
        assert cell["ratio_low"] < cell["ratio"] < cell["ratio_high"]
        assert "n too small for p99" in cell["int8"]["p99"]


def test_the_session_is_recorded_once_with_everything_but_its_samples(run):
    _, records, _ = run
    (one,) = [one for one in records if one["kind"] == "latency" and "session" in one["values"]]
    session = one["values"]["session"]
    assert one["verdict"] == session["word"] in {"faster", "not slower", "slower", "inconclusive", "invalid"}
    assert session["baseline"] == "fp32"
    assert session["weights"] == {"short": 3 / 6, "middle": 1 / 6, "long": 2 / 6}  # lengths of the even samples
    assert session["design"]["looks"] == [2]
    assert session["margins"] == {"tolerated": 0.02, "caught": 0.05}
    assert session["cold"]["int8"]["load_s"] > 0
    assert set(session["seconds"]) == {"starting", "warming", "measuring", "lost"}
    assert all(set(launch) == {"seconds", "core", "seed", "load", "build"} for launch in session["launches"])
    assert one["environment"]["settings"] == {"clock": "cpu_ns", "pinned": True}
    assert set(one["environment"]["container"]) == {"cores", "memory_bytes"}


def test_the_table_of_speed(run):
    done, _, _ = run
    table = done.out.partition("speed: INT8 against FP32")[2]
    (row,) = [line for line in table.splitlines() if line.startswith("small ")]
    assert len(re.findall(r"[\d.]+ms \d+\.\d\dx ±", row)) == 3
    assert re.search(r"±\S+ +(faster|not slower|slower|inconclusive|invalid)$", row)


@pytest.mark.parametrize(
    ("bound", "code", "said"),
    [
        ("traffic:speedup=1000", 1, "traffic: missed: "),
        ("long:speedup=1000", 1, "long: missed: "),
        ("speedup=0.001", 0, ""),
    ],
)
def test_a_speedup_is_asserted(suites, own, few, bound, code, said):
    done = suites.quickly(*own(), *few, "--bound", bound, under="test_latency.py")
    assert done.code == code, done.text
    (path,) = suites.new_runs()
    verdicts = [one["verdict"] for one in read_run(path)]
    if said:
        assert f"{said}" in done.out
        assert "1000x wanted" in done.out
        assert verdicts.count("below bounds") == 1
        assert len(verdicts) == 4, "a failure that was recorded is not recorded twice"
        assert "below bounds" in done.out.partition("speed: ")[2]
    else:
        assert not {"below bounds", "not proved", "failed"} & set(verdicts)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """One convolution, whose INT8 file is larger than the FP32 one, and 40 samples over its range."""
    weights = np.random.default_rng(0).standard_normal((8, 1, 9)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[4, 4])],
        "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, "T"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, "T"])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "tiny.onnx")
    random = np.random.default_rng(1)
    for index, length in enumerate(np.geomspace(16, 256, 40).astype(int)):
        np.savez(folder / f"{index:03}.npz", x=random.standard_normal((1, 1, length)).astype(np.float32))
    return {"model": folder / "tiny.onnx", "data": folder}


def test_more_engines_than_stay_loaded(suites, own, few, tiny):
    """Five engines and their reference: none may be closed while the case runs."""
    done = suites.quickly(
        *own(**tiny), *few, "--policies", "per_profile", "--layouts", "geometric5", "--precision", "int8",
        "--bound", "sqnr_db=10",
    )  # fmt: skip
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    records = list(read_run(path))
    built = next(one for one in records if one["kind"] == "build")
    assert built["verdict"] == "pass", "a small file's INT8 form is larger, its weights are not"
    assert built["values"]["artefact_bytes"][0] > built["values"]["fp32_bytes"]
    assert set(built["model"]) == {"fp32", *(f"int8[{index}]" for index in range(5))}
    whole = [one for one in records if one["kind"] == "accuracy" and "buckets" in one["values"]]
    assert [one["verdict"] for one in whole] == ["pass"]


def test_bounds_given_by_options_gate(suites, own, few, tiny):
    chosen = [*own(**tiny), *few, "--precision", "int8", "--layouts", "single", "--methods", "minmax"]
    done = suites.quickly(*chosen, "--bound", "long:sqnr_db=500", "--bound", "drawn:cosine=2", under="test_accuracy.py")
    assert done.code == 1
    assert "2 failed" in done.out
    assert re.search(r"long: SQNR \S+ dB is below 500", done.out)
    assert "middle: " not in done.out
    (command,) = set(re.findall(r"again: (pytest .*)", done.out))
    assert "--bound long:sqnr_db=500 --bound drawn:cosine=2" in command
    (path,) = suites.new_runs()
    assert [one["verdict"] for one in read_run(path)] == ["below bounds"] * 2


def test_one_example_is_not_held_to_what_a_corpus_reaches(suites, own, few, tiny):
    done = suites.quickly(
        *own(**tiny), *few, "--precision", "int8", "--layouts", "single", "--bound", "sqnr_db=500",
        "-k", "test_drawn", under="test_accuracy.py",
    )  # fmt: skip
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    assert [one["verdict"] for one in read_run(path)] == ["unjudged"]


def test_a_bucket_without_samples_is_unknown(suites, own, few, own_model, tmp_path):
    for index in range(6):
        np.savez(tmp_path / f"{index}.npz", x=np.random.default_rng(index).standard_normal((1, 1, 30)).astype("f4"))
    done = suites.quickly(
        *own(data=tmp_path), *few, "--precision", "int8", "--layouts", "single", "--bound", "sqnr_db=10",
        "-k", "test_corpus", under="test_accuracy.py",
    )  # fmt: skip
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    (one,) = read_run(path)
    assert one["verdict"] == "unknown"
    assert one["values"]["reasons"] == ["no test sample in middle, long"]
    assert "small: unknown: no test sample in middle, long" in done.out


def test_an_arm_that_the_data_cannot_calibrate_is_left_out(suites, own, few, own_data, tmp_path):
    matrix = tmp_path / "arms.toml"
    matrix.write_text(
        FEW.replace('"percentile-pad"', '"minmax-per_profile"').replace('["single", "buckets3"]', '["geometric9"]')
    )
    chosen = [*own(), "--matrix", matrix, "--runtime", RUNTIME, "--precision", "int8", "-k", "compared or corpus"]
    done = suites.quickly(*chosen)
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    (left,) = [one for one in read_run(path) if one["verdict"] == "left out"]
    assert left["fields"]["policy"] == "per_profile"
    assert "minmax-per_profile: no calibration sample in " in left["values"]["reasons"][0]
    matrix.write_text(matrix.read_text() + 'policies = ["per_profile"]\n')
    skipped = suites.quickly(*chosen, "-k", "corpus", "-rs")
    assert skipped.code == 0, skipped.text
    assert "no calibration sample in " in skipped.out
    assert "1 skipped" in skipped.out
    asked = suites.quickly(*chosen, "--policies", "per_profile", "-k", "corpus")
    assert asked.code == 1


BROKEN = """
import numpy as np

def broken(reference, candidate):
    if np.abs(reference["y"] - candidate["y"]).max() > 0:
        broken.calls += 1
        if broken.calls > 6:
            raise RuntimeError("enough")
    return 1.0

broken.calls = 0
"""


def test_drawn_examples_that_fail_are_no_failure_of_the_corpus(suites, own, few, tmp_path):
    (tmp_path / "mine.py").write_text("def never(reference, candidate):\n    raise ValueError\n")
    done = suites.quickly(
        *own(), *few, "--layouts", "single", "--precision", "int8", "--methods", "minmax", "--policies", "ragged",
        "--score", "mine:never", under="test_accuracy.py", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    (path,) = suites.new_runs()
    found = {one["kind"]: one["values"]["test"].partition("[")[0] for one in read_run(path)}
    assert found == {"accuracy": "test_corpus", "drawn": "test_drawn"}


def test_an_arm_that_fails_after_others_were_recorded_has_a_record(suites, own, few, tmp_path):
    (tmp_path / "mine.py").write_text(BROKEN)
    matrix = tmp_path / "arms.toml"
    matrix.write_text(FEW.replace('"percentile-pad"', '"percentile-pad", "mse-window"'))
    done = suites.quickly(
        *own(), "--matrix", matrix, "--runtime", RUNTIME, "--layouts", "single", "--precision", "int8",
        "--score", "mine:broken", "-k", "test_compared", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    (path,) = suites.new_runs()
    records = list(read_run(path))
    assert [(one["verdict"], one["fields"]["method"]) for one in records] == [
        ("compared", "percentile"),
        ("failed", "mse"),
    ]
    assert "enough" in records[-1]["values"]["error"]


def test_samples_are_picked_over_all_of_them(suites, own, few, tiny, tmp_path):
    chosen = [*own(**tiny), *few, "--precision", "fp32", "--layouts", "single"]
    found = {}
    for name, options in {
        "five": ["--samples", "5"], "again": ["--samples", "5"], "other": ["--samples", "5", "--seed", "1"],
        "all": ["--samples", "all"],
    }.items():  # fmt: skip
        done = suites.quickly(*chosen, *options, under="test_build.py")
        assert done.code == 0, done.text
        (path,) = suites.new_runs()
        (found[name],) = read_run(path)
    assert found["five"]["samples"]["calibration"] == {"taken": 5, "of": 20}
    assert found["five"]["samples"]["test"] == {"taken": 6, "of": 20}
    assert found["all"]["samples"]["calibration"] == {"taken": 20, "of": 20}
    digests = {name: one["corpus"]["calibration"] for name, one in found.items()}
    assert digests["five"] == digests["again"]
    assert len(set(digests.values())) == 3


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """Like the small model, with a mask and a length: y = conv(x * mask) where positions are below the length."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((64, 64, 9)).astype(np.float32)
    first = random.standard_normal((64, 1, 9)).astype(np.float32)
    float_, integer = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "mask"], ["seen"]),
            helper.make_node("Conv", ["seen", "v"], ["h"], pads=[4, 4]),
            helper.make_node("Conv", ["h", "w"], ["c"], pads=[4, 4]),
            helper.make_node("Cast", ["xlen"], ["valid"], to=float_),
            helper.make_node("Div", ["c", "valid"], ["y"]),
        ],
        "masked",
        [
            helper.make_tensor_value_info("x", float_, [1, 1, "T"]),
            helper.make_tensor_value_info("mask", float_, [1, 1, "T"]),
            helper.make_tensor_value_info("xlen", integer, [1]),
        ],
        [helper.make_tensor_value_info("y", float_, [1, 64, "T"])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(first, "v")],
    )
    path = tmp_path_factory.mktemp("masked") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


SCORE = """
import numpy as np

def seen(reference, candidate):
    return float(np.abs(reference["y"] - candidate["y"]).mean()) + 1000
"""


def test_without_data_and_with_every_option(suites, own, few, masked, tmp_path):
    (tmp_path / "mine.py").write_text(SCORE)
    done = suites.quickly(
        *own(model=masked, data=None), *few, "--length-input", "xlen=length", "--pad", "mask=0",
        "--score", "mine:seen", "--output", "y", "--layouts", "single", "--policies", "pad", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    records = list(read_run(path))
    assert {one["synthetic"] for one in records} == {True}
    scores = [b["score"] for one in records for b in one["values"].get("buckets", {}).values() if "score" in b]
    assert scores
    assert all(1000 <= score < 1010 for score in scores), "the score's own function was not asked"
    assert "synthetic data, seed 0" in table(done.out)
    assert "score seen" in table(done.out)


@pytest.fixture
def bounded(tmp_path, own_model, own_data):
    """A harness.toml with the small model under bounds; the folder."""

    def write(bounds, data=own_data, model=own_model):
        (tmp_path / "harness.toml").write_text(
            f"[[models]]\nkey = 'small'\npath = '{model}'\naxes = ['x:2=length']\nrange = '16:256'\n"
            f"data = '{data}'\n[models.bounds]\n{bounds}\n"
        )
        return tmp_path

    return write


def test_a_failing_draw_is_the_shortest_and_can_be_run_again(suites, few, bounded):
    folder = bounded("'drawn' = {sqnr_db = 500}")
    done = suites.quickly(*few, "--layouts", "single", "-k", "test_drawn", under="test_accuracy.py", cwd=folder)
    assert done.code == 1
    assert "1 failed" in done.out
    assert "Traceback" not in done.text
    (command,) = set(re.findall(r"again: (pytest .*)", done.out))
    assert re.search(r"--draw 16,0,0,1\.0$", command), "16 is the layout's shortest length"
    (path,) = suites.new_runs()
    (one,) = read_run(path)
    assert one["verdict"] == "below bounds"

    words = shlex.split(command)[1:]
    again = suites.python("-m", "pytest", "-p", "no:cacheprovider", *words, cwd=folder)
    assert again.code == 1, again.text
    assert "1 failed" in again.out
    assert command in again.out
    said = r"small-\S+: .* at length 16 \(short\)"
    assert re.search(said, again.out)[0] == re.search(said, done.out)[0]


def test_the_printed_command_repeats_a_model_given_by_options(suites, own, few, tmp_path):
    """Without a configuration no bound fails, so a score that raises nothing but grows is not enough: ask the plan."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(
        "import pytest\n"
        "from harness.corpus.content import Draw\n"
        "@pytest.mark.cases(precisions=('int8',), default_calibration=True, one_layout=True)\n"
        "def test_probe(case, plan, request):\n"
        "    print('AGAIN', plan.again(request.path, 'test_probe', case, Draw(17, 3, 2, 0.5)))\n"
    )
    options = [*own(), *few, "--constant", "z=[1, 2]", "--pad", "x=0", "--pad", "m=1"]
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "harness.plugin", "-s", probe]
    done = suites.python(*words, *[o for o in options if o not in {"--constant", "z=[1, 2]", "--pad", "x=0", "m=1"}])
    assert done.code == 0, done.text
    again = shlex.split(re.search(r"AGAIN (.*)", done.out)[1])
    repeated = suites.python("-m", *again, "-p", "no:cacheprovider", "-p", "harness.plugin", "-s")
    assert repeated.code == 0, repeated.text
    assert shlex.split(re.search(r"AGAIN (.*)", repeated.out)[1]) == again
    assert again[-2:] == ["--draw", "17,3,2,0.5"]


def test_nan_never_passes(suites, few, bounded, tmp_path):
    """Finite samples whose output is no number: 0/0 wherever x is 0."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((64, 1, 9)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[4, 4]),
            helper.make_node("Sub", ["x", "x"], ["zero"]),
            helper.make_node("Div", ["zero", "zero"], ["nan"]),
            helper.make_node("Add", ["c", "nan"], ["y"]),
        ],
        "nan",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, "T"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64, "T"])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "nan.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    done = suites.quickly(
        *few, "--layouts", "single", "--precision", "int8", under="test_accuracy.py", cwd=bounded("", model=path)
    )
    assert done.code == 1
    assert "Traceback" not in done.text
    assert "passed" not in done.out
    (path,) = suites.new_runs()
    assert {one["verdict"] for one in read_run(path)} <= {"failed", "below bounds"}


def test_comparison_arms_gate_only_when_asked_for(suites, few, bounded, tmp_path):
    folder = bounded("'*' = {sqnr_db = 500}")
    matrix = tmp_path / "two.toml"
    matrix.write_text(FEW.replace('["minmax"]', '["minmax", "mse"]'))
    chosen = [
        "--matrix",
        matrix,
        "--runtime",
        RUNTIME,
        "--precision",
        "int8",
        "--layouts",
        "single",
        "-k",
        "test_corpus",
    ]
    done = suites.quickly(*chosen, under="test_accuracy.py", cwd=folder)
    assert done.code == 1
    assert "1 failed" in done.out
    assert "1 xfailed" in done.out
    assert re.search(r"XFAIL .*-mse-ragged-single\] - a comparison arm, not asked for by name: ", done.out)
    assert re.search(r"FAILED .*-minmax-ragged-single\]", done.out)
    asked = suites.quickly(*chosen, "--methods", "minmax,mse", under="test_accuracy.py", cwd=folder)
    assert "2 failed" in asked.out


def children(pid):
    """Descendants of a process that live."""
    tree = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if fields[0] != "Z":
            tree.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(tree.get(pid, []))
    for child in found:
        found += tree.get(child, [])
    return found


def worker_of(suites, process):
    """The worker's pid, once there is a first record."""
    known = suites._known
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if any(path.stat().st_size for path in set(suites.results.glob("*.jsonl")) - known):
            workers = [
                p for p in children(process.pid) if b"-I" in Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")
            ]
            assert workers, "a record, but no worker"
            return workers[0]
        time.sleep(0.005)
    raise AssertionError(process.communicate())


SLOW = """
import time
import numpy as np

def slow(reference, candidate):
    time.sleep(0.05)
    return 0.0
"""


@pytest.fixture
def slowly(suites, own, few, tmp_path):
    """A run that takes its time in every accuracy case; started."""
    (tmp_path / "slow.py").write_text(SLOW)
    more = ["--layouts", "single", "--layouts", "buckets3", "--layouts", "geometric2", "--score", "slow:slow"]

    def start():
        words = suites.command(*own(), *few, *more, under="test_accuracy.py")
        return suites.start(*words, cwd=tmp_path)

    return start


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_interrupted(suites, slowly):
    process = slowly()
    worker = worker_of(suites, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    in_a_case = re.search(r"interrupted; \d+ records are kept in ", out)
    assert in_a_case or "KeyboardInterrupt" in out  # between two cases pytest itself says so
    assert in_a_case or "records: " in out or not any(path.stat().st_size for path in suites.new_runs())
    assert "INTERNALERROR" not in out + err
    assert "Traceback" not in out + err
    assert not in_a_case or "harness/" not in (out + err).replace(str(suites.results), "")
    assert not Path(f"/proc/{worker}").exists(), "the worker is still there"
    (path,) = suites.new_runs()
    reading = read_run(path)
    assert list(reading)
    assert not reading.bad


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_worker_fails_one_case(suites, slowly):
    for attempt in range(15):
        process = slowly()
        worker = worker_of(suites, process)
        time.sleep(0.1 * (1 + attempt % 5))  # into the case after the first record's
        os.kill(worker, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
        if process.returncode:
            break
        suites.new_runs()  # it was idle between two cases: replaced, and no case lost
    assert process.returncode == 1, out + err
    assert "Traceback" not in out + err
    assert re.search(r"WorkerDied: .*signal SIGKILL", out)
    assert "1 failed" in out, "the next cases have a new worker"
    assert re.search(r"[5-9] passed", out)
    (path,) = suites.new_runs()
    (failed,) = [one for one in read_run(path) if one["verdict"] == "failed"]
    assert failed["values"]["error"].startswith("WorkerDied: ")
    assert "SIGKILL" in failed["values"]["error"]


@pytest.mark.network
def test_wave(suites, few):
    """The catalogue's raw waveform: real speech, real weights, out of the user's cache."""
    cache = os.environ.get("TRT_INT8_HARNESS_CACHE")
    environ = {"TRT_INT8_HARNESS_CACHE": cache or ""}
    root = Path(__file__).parents[1]
    done = suites(
        "--models", "wave", *few, "--precision", "int8", "--methods", "percentile", "--layouts", "buckets3",
        cwd=root, environ=environ, under="test_accuracy.py",
    )  # fmt: skip
    if "FetchFailed" in done.text:
        pytest.skip("the wheels cannot be fetched here")
    assert done.code == 0, done.text
    assert "2 passed" in done.out
    (path,) = suites.new_runs()
    for one in read_run(path):
        assert one["case"] == f"wave-{RUNTIME}-int8-percentile-ragged-buckets3"
        assert one["synthetic"] is False
