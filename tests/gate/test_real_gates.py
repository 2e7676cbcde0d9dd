"""`harness gate` between real runtimes: ONNX Runtime runs both sides, TensorRT-RTX builds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtimes.rtx_probes import VERSIONS, environment

ROOT = Path(__file__).parents[2]
CONFIG = """
[[models]]
path = "net.onnx"
axes = ["x:2=length"]
range = "16:64:256"
data = "data"
"""
MATRIX = 'precisions = ["fp32", "int8"]\nmethods = ["minmax"]\nlayouts = ["single"]\nlaunches = 3\nblocks = 4\n'
INT8 = "net-int8-minmax-ragged-single"


def net(path: Path) -> None:
    """x [1, 64, T] -> Conv, ReLU, Transpose, MatMul -> y [1, T, 32]."""
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(64, 64, 3)) / 14, "m": random.normal(size=(64, 32)) / 8}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Transpose", ["r"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "m"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "T", 32])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """Run a gate over one small model; exit code, what was printed, and the report."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "data").mkdir()
    net(folder / "net.onnx")
    random = np.random.default_rng(1)
    for number, length in enumerate(np.geomspace(16, 256, 60).astype(int)):
        np.savez(folder / "data" / f"{number}.npz", x=random.normal(size=(1, 64, length)).astype(np.float32))
    (folder / "harness.toml").write_text(CONFIG)
    (folder / "matrix.toml").write_text(MATRIX)

    def run(old, new):
        command = ["-m", "harness", "gate", old, new, "--matrix", "matrix.toml", "--budget", "60s"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TRT_INT8_HARNESS_CACHE": str(folder / "cache")}
        environ.pop("GITHUB_STEP_SUMMARY", None)
        done = subprocess.run(
            [sys.executable, *map(str, command), "--report", "report.json"],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done, json.loads((folder / "report.json").read_text())

    return run


@pytest.fixture(scope="module")
def rtx(pytestconfig, tmp_path_factory):
    """Interpreters of TensorRT-RTX, by its first two numbers."""

    def python(wanted):
        (exact,) = (one for one in VERSIONS if one.startswith(wanted))
        return environment(exact, pytestconfig.rootpath, tmp_path_factory.mktemp("nowhere")).python

    return python


def of(report, case, aspect):
    return [one for one in report["findings"] if (one["case"], one["aspect"]) == (case, aspect)]


def test_rtx_1_7_to_1_4_blocks_and_names_what_no_longer_builds(gate, rtx):
    done, report = gate(rtx("1.7"), rtx("1.4"))
    assert (done.returncode, report["verdict"]) == (1, "regression")
    (blocked,) = of(report, INT8, "builds")
    assert (blocked["word"], blocked["stage"]) == ("regression", 2)
    assert blocked["values"]["operators"] == {"Conv 1-D": ["conv"], "MatMul": ["product"]}
    assert "so did stage 1" in blocked["why"]
    assert "no longer builds: Conv 1-D in INT8 (conv), MatMul in INT8 (product)" in done.stdout
    assert [one["word"] for one in of(report, "net-fp32-single", "builds")] == ["pass"]


def test_rtx_1_6_to_1_7_may_be_done_and_says_what_builds_now(gate, rtx):
    done, report = gate(rtx("1.6"), rtx("1.7"))
    assert (done.returncode, report["verdict"]) == (0, "pass"), done.stdout
    (gained,) = of(report, INT8, "builds")
    assert gained["word"] == "improved"
    assert gained["why"].startswith("builds now")


def test_onnx_runtime_1_22_to_this_one_is_run_and_timed(gate):
    python = ROOT / ".tox" / "ort122" / "bin" / "python"
    if not python.exists():
        if os.environ.get("HARNESS_REQUIRE_ORT122") == "1":
            pytest.fail("no ONNX Runtime 1.22.1")
        pytest.skip("no ONNX Runtime 1.22.1; install it with: python -m tox run -e ort122 --notest")
    done, report = gate(python, f"onnxruntime-{version('onnxruntime')}-cpu")
    assert report["baseline"]["version"] == "1.22.1"
    assert report["candidate"]["version"] == version("onnxruntime")
    assert done.returncode == report["exit_code"]
    assert report["cases"] == ["net-fp32-single", INT8]
    for case in report["cases"]:
        assert {one["where"] for one in of(report, case, "accuracy")} == {"short", "middle", "long"}
        assert {one["word"] for one in of(report, case, "accuracy")} <= {"pass", "improved"}
        (traffic,) = (one for one in of(report, case, "latency") if one["where"] == "traffic")
        assert "launches" in traffic["why"], "how fast it is here, this test does not ask"
    assert [one["values"] for one in of(report, INT8, "coverage")] == [{"baseline": [2], "candidate": [2]}]
