"""Real processes, in a cache of each test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.paths import cache_dir
from harness.workers import Environment, Worker

PYTHON310_PACKAGES = ["numpy==2.2.6", "onnxruntime==1.23.2"]  # the newest that have wheels for CPython 3.10


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def here():
    version = onnxruntime.__version__
    return Environment(f"onnxruntime-{version}-cpu", sys.executable, "onnxruntime", version)


@pytest.fixture
def worker(here):
    with Worker(here, deadline_s=30) as running:
        yield running


@pytest.fixture
def conv(tmp_path):
    """x float32 [1, 4, L] -> y float32 [1, 8, L]."""
    weights = np.random.default_rng(0).normal(size=(8, 4, 3)).astype(np.float32)
    return save_model(
        tmp_path / "conv.onnx",
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1])],
        {"x": (np.float32, (1, 4, "L"))},
        {"y": (np.float32, (1, 8, "L"))},
        {"w": weights},
    )


@pytest.fixture
def save():
    return save_model


def save_model(path, nodes, inputs, outputs, constants=()):
    def infos(values):
        return [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
            for name, (dtype, shape) in values.items()
        ]

    weights = [numpy_helper.from_array(array, name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def bad_library(tmp_path):
    """An environment whose onnxruntime does what a test says when it is asked for its device."""
    home = tmp_path / "bad"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    (packages / "numpy.pth").write_text(sysconfig.get_path("purelib"))

    def make(misdeed: str) -> Environment:
        (packages / "onnxruntime.py").write_text(
            f"import ctypes, os, time\n__version__ = '0.0'\ndef get_available_providers(): return []\n"
            f"def get_device():\n    {misdeed}\n"
        )
        return Environment("onnxruntime-0.0-cpu", str(home / "bin" / "python"), "onnxruntime", "0.0")

    return make


@pytest.fixture(scope="session")
def python310(tmp_path_factory):
    """A CPython 3.10 with numpy and onnxruntime and nothing else, made once and kept in the user's cache."""
    home = cache_dir("test-environments") / ("py310-" + "-".join(PYTHON310_PACKAGES).replace("==", "-"))
    if not home.exists():
        base = next(filter(_is_310, _candidates()), None)
        if base is None:
            _lacking(
                "no CPython 3.10 here; name one by HARNESS_TEST_PYTHON310=/path/to/python3.10", "HARNESS_REQUIRE_310"
            )
        scratch = tmp_path_factory.mktemp("py310") / "venv"
        made = subprocess.run(
            f"{base} -m venv {scratch} && {scratch}/bin/python -m pip install -q {' '.join(PYTHON310_PACKAGES)}",
            shell=True,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            _lacking(f"the 3.10 environment could not be installed: {made.stderr[-300:]}", "HARNESS_REQUIRE_310")
        try:
            shutil.move(scratch, home)
        except OSError:  # another run was faster
            assert home.exists()
    python = str(home / "bin" / "python")
    version = PYTHON310_PACKAGES[1].partition("==")[2]
    return Environment(f"onnxruntime-{version}-cpu", python, "onnxruntime", version)


@pytest.fixture(scope="session")
def rtx_python(pytestconfig):
    python = os.environ.get("HARNESS_TEST_RTX_PYTHON") or str(pytestconfig.rootpath / ".tox/rtx17/bin/python")
    if not Path(python).exists():
        what = "no TensorRT-RTX environment; install it with: python -m tox run -e rtx17 --notest"
        _lacking(what, "HARNESS_REQUIRE_RTX")
    return python


def _lacking(what: str, switch: str) -> NoReturn:
    """Skip; fail where the switch says that it has to be there."""
    if os.environ.get(switch) == "1":
        pytest.fail(what)
    pytest.skip(what)


def _candidates() -> list[str]:
    named = os.environ.get("HARNESS_TEST_PYTHON310")
    if named:
        return [named]
    managed = sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python"))
    return [*filter(None, [shutil.which("python3.10")]), *map(str, managed)]


def _is_310(python: str) -> bool:
    done = subprocess.run(
        [python, "-c", "import sys, venv; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "(3, 10)"
