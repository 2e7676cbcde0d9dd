"""The stand-in answers as genuine bindings do: those of TensorRT-RTX 1.7, whose builder and parser need no GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from onnx import helper

from tests.fake_tensorrt import answers, models


@pytest.fixture
def rtx(pytestconfig):
    named = os.environ.get("HARNESS_TEST_RTX_PYTHON")
    python = Path(named) if named else pytestconfig.rootpath / ".tox" / "rtx17" / "bin" / "python"
    if not python.exists():
        missing = "no TensorRT-RTX environment; install it with: python -m tox run -e rtx17 --notest"
        if os.environ.get("HARNESS_REQUIRE_RTX") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return python


@pytest.fixture
def folder(tmp_path):
    """One model for each rule of the parser.

    None with NonZero: RTX 1.7 refuses it for want of a plug-in, of which nothing is known for TensorRT.
    """
    into = tmp_path / "models"
    into.mkdir()
    reshape = models.model(
        [helper.make_node("Reshape", ["x", "n"], ["y"])],
        {"x": (models.FLOAT, ["T"]), "n": (models.INT64, [2])},
        {"y": (models.FLOAT, ["A", "B"])},
        {},
    )
    dynamic = models.model(
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "y", "z"])],
        {"x": (models.FLOAT, ["T"])},
        {"y": (models.FLOAT, [])},
        {},
    )
    for name, content in {
        "conv": models.conv(),
        "matmul": models.matmul(),
        "quantized": models.quantized(),
        "zero_point": models.quantized(zero=3),
        "uint8_zero_point": models.quantized(zero=128, dtype="uint8"),
        "uint8": models.quantized(dtype="uint8", weight_rank=2),
        "scale": models.quantized(scale=-0.1),
        "reshape": reshape,
        "dynamic": dynamic,
        "empty": b"",
        "garbage": b"\xff\xff no model",
    }.items():
        (into / f"{name}.onnx").write_bytes(content)
    return into


@pytest.mark.parametrize("version", ["11.4", "rtx-1.7"])
def test_as_genuine(bench, rtx, folder, version):
    command = [rtx, "-I", answers.__file__, "tensorrt_rtx", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    genuine = json.loads(done.stdout.splitlines()[-1])
    ours = answers.ask(bench(version).trt, folder)
    assert len(ours) > 60
    assert {q: a for q, a in ours.items() if a != genuine[q]} == {q: genuine[q] for q in ours if ours[q] != genuine[q]}
