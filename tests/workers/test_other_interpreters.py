"""Our wheel in one interpreter, drives a runtime in another that has never heard of us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from harness.errors import BuildFailed, EnvironmentMissing, UsageError
from harness.workers import Worker, find_environments

DRIVE = """
import json, sys
import numpy as np
import harness
from harness.workers import Environment, Worker
python, model = sys.argv[1:]
with Worker(Environment("onnxruntime-old-cpu", python, "onnxruntime", "old"), deadline_s=60) as worker:
    said = worker.describe()
    engine = worker.load(model)
    y = engine.run({"x": np.ones((1, 4, 9), np.float32)})["y"]
    print(json.dumps({"harness": harness.__file__, "python": said["python"], "version": said["version"],
                      "shape": y.shape, "sum": float(y.sum()), "coverage": engine.coverage(),
                      "burst": len(engine.burst({"x": np.ones((1, 4, 9), np.float32)}, 1, 3))}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory, pytestconfig):
    """Our wheel, built from a copy of the tree, in a fresh virtual environment.

    Its dependencies are this interpreter's, behind it on the path.
    """
    work, root = tmp_path_factory.mktemp("wheel"), pytestconfig.rootpath
    shutil.copytree(root / "harness", work / "source" / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", work / "source")
    for text in ("README.md", "LICENSE"):  # the build wants them; their words do not matter here
        (work / "source" / text).touch()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", work, work / "source"], capture_output=True, text=True, check=False
    )
    if built.returncode and "setuptools" in built.stderr and "No matching distribution" in built.stderr:
        pytest.skip("the wheel's build needs setuptools from the package index, which cannot be reached")
    assert built.returncode == 0, built.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", work / "venv"], check=True)
    (packages,) = (work / "venv").glob("lib/python3*/site-packages")
    (wheel,) = work.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, wheel], check=True)
    # A path in a .pth file goes to the end of the path, and .pth files in there (an editable install) stay unread.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return work / "venv"


@pytest.mark.network
def test_the_wheel_drives_cpython_3_10(installed, python310, conv, here, tmp_path):
    environment = {**os.environ, "TRT_INT8_HARNESS_CACHE": str(tmp_path / "fresh cache")}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [installed / "bin" / "python", "-I", "-c", DRIVE, python310.python, conv],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["harness"].startswith(str(installed))
    assert said["python"].startswith("3.10.")
    assert said["version"] == python310.version
    assert (said["shape"], said["burst"], said["coverage"]["float"]) == ([1, 8, 9], 3, 1)
    with Worker(here) as worker:
        ours = worker.load(conv).run({"x": np.ones((1, 4, 9), np.float32)})["y"]
    assert said["sum"] == pytest.approx(float(ours.sum()), rel=1e-4)


@pytest.mark.network
def test_an_error_of_another_version_travels_too(python310, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf at all")
    with Worker(python310) as worker:
        assert worker.describe()["version"] == python310.version
        with pytest.raises(BuildFailed, match="INVALID_PROTOBUF"):
            worker.load(broken)


@pytest.fixture
def rtx(rtx_python, tmp_path):
    environments = find_environments(tmp_path, [rtx_python])
    (environment,) = [e for e in environments if e.runtime == "tensorrt-rtx"]
    with Worker(environment, deadline_s=120) as worker:
        yield worker


PROFILE = {"x": [[1, 4, 4], [1, 4, 64], [1, 4, 512]]}


def test_tensorrt_rtx_builds_on_a_cpu_and_remembers_it(rtx, conv):
    options = {"profiles": [PROFILE]}
    facts, engine = rtx.build(conv, options)
    assert engine.stat().st_size == facts["bytes"] > 0
    assert (facts["cached"], facts["coverage"]) == (False, None)  # 4 channels: no kernel of the convolution's own
    again, same = rtx.build(conv, options)
    assert (again["cached"], same) == (True, engine)
    assert again["seconds"] == facts["seconds"]
    three = [{"x": [[1, 4, low], [1, 4, high], [1, 4, high]]} for low, high in ((4, 64), (65, 128), (129, 512))]
    larger, other = rtx.build(conv, {"profiles": three})
    assert larger["cached"] is False
    assert other != engine


def test_tensorrt_rtx_says_that_it_does_not_run_here(rtx, conv):
    _, engine = rtx.build(conv, {"profiles": [PROFILE]})
    assert rtx.describe()["can_run"] is False
    with pytest.raises(EnvironmentMissing, match="GPU"):
        rtx.load(engine)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profiles": [{"z": PROFILE["x"]}]}, "no input is called 'z'"),
        ({"profiles": [{}]}, "no shapes for input 'x'"),
        ({"profiles": [{"x": [[1, 4, 9], [1, 4, 4], [1, 4, 20]]}]}, "min, opt and max"),
        ({"profiles": [{"x": [[1, 4, -1], [1, 4, 4], [1, 4, 20]]}]}, "inconsistent"),
        ({"profiles": [PROFILE], "compute_capabilities": ["SM90"]}, "one of .*SM89"),
        ({"profile": [PROFILE]}, "unknown option 'profile'"),
    ],
)
def test_tensorrt_rtx_options_are_checked_by_name(rtx, conv, options, said):
    with pytest.raises(UsageError) as caught:
        rtx.build(conv, options)
    assert caught.match(said)


def test_tensorrt_rtx_tells_why_it_refuses_a_model(rtx, conv, tmp_path, save):
    from onnx import helper

    with pytest.raises(BuildFailed, match="no optimization profile has been defined"):
        rtx.build(conv)
    signature = {"x": (np.float32, (1, 4, "L"))}
    unknown = save(
        tmp_path / "dynamic.onnx",
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])],
        signature,
        {"q": (np.uint8, (1, 4, "L"))},
    )
    with pytest.raises(BuildFailed, match="DynamicQuantizeLinear") as caught:
        rtx.build(unknown, {"profiles": [PROFILE]})
    assert str(unknown) in caught.value.where
    assert rtx.alive
