"""Small models and samples of one's own, and the command as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path):
    """``y = relu(x @ w) @ v`` over x: float32 [1, T, 4]; large enough that its file is more than 24 kB as INT8."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((4, 128)), "v": random.standard_normal((128, 256))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["s"], name="relu"),
            helper.make_node("MatMul", ["s", "v"], ["y"], name="second"),
        ],
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, "T", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, "T", 256])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def data(tmp_path):
    """Five samples of 5, 9, 7, 12 and 16 frames; the last one holds the largest value, 9."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(1)
    for index, length in enumerate([5, 9, 7, 12, 16]):
        x = random.uniform(-1, 1, (1, length, 4)).astype(np.float32)
        x[0, 0, 0] = 5 + index
        np.savez(folder / f"{index:03}.npz", x=x)
    return folder


def own(*more):
    """Options that fit :func:`model`."""
    return ["--axis", "x:T=frames", "--range", "4:20", *map(str, more)]


class Command:
    """``python -m harness`` in a folder where no configuration holds."""

    def __init__(self, folder):
        self.folder = folder
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.environ.pop("FORCE_COLOR", None)

    def start(self, *arguments, **options):
        # A suite that runs in the background has interrupts switched off, and what it starts has, too.
        before = options.get("before", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,  # noqa: PLW1509 - no threads here
        )

    def __call__(self, *arguments, **options):
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr


@pytest.fixture
def harness(tmp_path, cache):
    folder = tmp_path / "here"
    folder.mkdir()
    return Command(folder)
