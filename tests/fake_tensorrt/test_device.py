"""The stand-in for pycuda, and the packages in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fake_tensorrt import install, interpreter, models, resettle, violations


def test_memory_has_bounds(bench):
    made = bench()
    driver = made.driver
    memory, array = driver.mem_alloc(16), np.arange(4, dtype=np.float32)
    driver.memcpy_htod(memory, array)
    driver.memcpy_htod(int(memory) + 8, array[:2])
    back = np.empty(4, np.float32)
    driver.memcpy_dtoh(back, memory)
    assert back.tolist() == [0, 1, 0, 1]
    for wrong in (
        lambda: driver.memcpy_htod(int(memory) + 4, array),
        lambda: driver.memcpy_dtoh(np.empty(5, np.float32), memory),
        lambda: driver.memset_d8(memory, 0, 17),
        lambda: driver.memcpy_htod(0, array),
    ):
        with pytest.raises(driver.LogicError):
            wrong()
    assert len(made.device.violations) == 4
    memory.free()
    with pytest.raises(driver.LogicError):
        memory.free()
    with pytest.raises(driver.LogicError):
        int(memory)


def test_fresh_memory_is_not_zero(bench):
    driver = bench().driver
    back = np.zeros(4, np.uint8)
    driver.memcpy_dtoh(back, driver.mem_alloc(4))
    assert back.all()


def test_nothing_goes_without_a_context(bench):
    made = bench()
    made.driver.Context.pop()
    with pytest.raises(made.driver.LogicError, match="no currently active context"):
        made.driver.mem_alloc(1)
    with pytest.raises(made.driver.LogicError, match="cannot pop"):
        made.driver.Context.pop()
    made.driver.Device(0).retain_primary_context().push()
    assert made.driver.mem_get_info() == (8 << 30, 8 << 30)


def test_events(bench):
    driver = bench().driver
    stream, start, end = driver.Stream(), driver.Event(), driver.Event()
    with pytest.raises(driver.LogicError):
        start.time_till(end)
    start.record(stream)
    end.record(stream)
    end.synchronize()
    assert start.time_till(end) >= 0
    assert end.time_since(start) == start.time_till(end)


def python(folder, code, version="8.5", **settings):
    install(version, folder, **settings)
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


CUDA = "import pycuda.driver as cuda; cuda.init(); cuda.Device(0).retain_primary_context().push()\n"
BUILDER = "import tensorrt as trt; trt.Builder(trt.Logger()); print('made')\n"


@pytest.mark.parametrize(
    ("version", "code", "crashes"),
    [("8.5", CUDA + BUILDER, True), ("8.5", BUILDER + CUDA, False), ("8.6", CUDA + BUILDER, False)],
)
def test_pycuda_before_tensorrt_kills_the_builder_of_8_5(tmp_path, version, code, crashes):
    done = python(tmp_path, code, version)
    assert done.returncode == (-signal.SIGSEGV if crashes else 0), done.stderr
    assert ("made" in done.stdout) is not crashes


def test_a_build_that_crashes(tmp_path):
    (tmp_path / "model.onnx").write_bytes(models.conv())
    code = f"""
import tensorrt as trt
log = trt.Logger()
builder = trt.Builder(log)
network = builder.create_network(1)
assert trt.OnnxParser(network, log).parse_from_file({str(tmp_path / "model.onnx")!r})
config = builder.create_builder_config()
profile = builder.create_optimization_profile()
profile.set_shape("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
config.add_optimization_profile(profile)
builder.build_serialized_network(network, config)
"""
    assert python(tmp_path / "fine", code).returncode == 0
    assert python(tmp_path / "broken", code, crash="build").returncode == -signal.SIGSEGV


def test_an_interpreter_for_workers(tmp_path):
    made = interpreter("10.13", tmp_path / "venv")
    code = "import tensorrt, pycuda.driver, numpy, onnxruntime; print(tensorrt.__version__, tensorrt.__file__)"
    done = subprocess.run([made, "-I", "-c", code], capture_output=True, text=True, check=True)
    version, file = done.stdout.split()
    assert version == "10.13.0.35"
    assert Path(file).is_relative_to(tmp_path)
    assert violations(tmp_path / "venv") == []
    resettle(tmp_path / "venv", memory_bytes=64)
    code = CUDA + "memory = cuda.mem_alloc(4); print(*cuda.mem_get_info())\ncuda.memset_d8(memory, 0, 5)"
    done = subprocess.run([made, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["60", "64"]
    assert "LogicError" in done.stderr
    (violation,) = violations(tmp_path / "venv")
    assert violation.startswith("cuMemsetD8: 5 bytes at ")
    assert violation.endswith(" 4 are allocated there")


def test_a_version_that_there_is_not(tmp_path):
    for version in ("7.2", "10", "10.1.1"):
        with pytest.raises(KeyError):
            install(version, tmp_path)
