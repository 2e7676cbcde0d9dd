"""The version axis turns for real: one matrix over two ONNX Runtimes; the older one runs what the newer one wrote."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.paths import cache_dir
from harness.results.store import read_run
from harness.workers import Environment, Worker

ROOT = Path(__file__).parents[1]
OLD, NEW = "onnxruntime-1.22.1-cpu", f"onnxruntime-{version('onnxruntime')}-cpu"
VAD = ["--models", "vad", "--layouts", "single", "--precision", "fp32,int8", "--methods", "mse", "--policies", "ragged"]


@pytest.fixture(scope="module")
def python():
    """The interpreter that has 1.22.1."""
    found = ROOT / ".tox" / "ort122" / "bin" / "python"
    if not found.exists():
        missing = "no ONNX Runtime 1.22.1; install it with: python -m tox run -e ort122 --notest"
        if os.environ.get("HARNESS_REQUIRE_ORT122") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def run(suites):
    """Builds and accuracy of the smallest fixture model, with the models of the user's cache; output and records."""
    environ = {"TRT_INT8_HARNESS_CACHE": str(cache_dir())}

    def chosen(*patterns, test="test_build or test_corpus"):
        words = [word for pattern in patterns for word in ("--runtime", pattern)]
        done = suites(*VAD, *words, "-k", test, "-rs", cwd=ROOT, environ=environ)
        paths = suites.new_runs()
        return done, list(read_run(paths[0])) if paths else []

    return chosen


def test_both_versions_run_the_same_matrix(python, run):
    done, records = run("onnxruntime-1.22*", NEW)
    assert done.code == 0, done.text
    rows = {
        name: [
            (one["kind"], one["fields"]["precision"], one["verdict"], one["values"].get("int8"))
            for one in records
            if one["fields"]["runtime"] == name
        ]
        for name in (OLD, NEW)
    }
    assert {kind for kind, *_ in rows[OLD]} == {"build", "accuracy"}
    assert {precision for _, precision, *_ in rows[OLD]} == {"fp32", "int8"}
    assert ("build", "int8", "pass", [6]) in rows[OLD]
    assert sorted(map(str, rows[OLD])) == sorted(map(str, rows[NEW]))
    workers = {one["fields"]["runtime"]: one["environment"]["worker"]["version"] for one in records}
    assert workers == {OLD: "1.22.1", NEW: version("onnxruntime")}


def test_a_family_by_pattern_takes_all_versions_that_are_there(python, run):
    done, records = run("onnxruntime-*", test="test_build")
    assert done.code == 0, done.text
    assert {OLD, NEW} <= {one["fields"]["runtime"] for one in records}


def test_what_is_timed_is_the_kept_feed(python, tmp_path):
    """1.22.1 does not hold a bound input: its memory went to whoever came next, and that was timed."""
    signature = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, "L"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", signature[:1], signature[1:])
    model = tmp_path / "neg.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    random = np.random.default_rng(0)
    feeds = {f"{number}": {"x": random.standard_normal((1, 4, 64)).astype(np.float32)} for number in range(4)}
    with Worker(Environment(OLD, str(python), "onnxruntime", "1.22.1")) as worker:
        engine = worker.load(model)
        for label, feed in feeds.items():
            engine.keep(label, feed)
        for label, feed in feeds.items():
            engine.timed(label, 0, 1)
            np.testing.assert_array_equal(engine.result(label)["y"], -feed["x"])
