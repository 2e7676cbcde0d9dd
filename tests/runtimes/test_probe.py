"""The probe runs as a program in other interpreters; here it meets libraries that misbehave."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from harness.runtimes import probe
from tests.fake_tensorrt import facts


def _lines(*before: str) -> list[dict]:
    """What it prints, in this interpreter, after some statements of the test's."""
    program = "\n".join([*before, Path(probe.__file__).read_text("utf-8")])
    done = subprocess.run(
        [sys.executable, "-I", "-c", program.replace("from __future__ import annotations", "")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_finds_onnxruntime_although_a_module_of_that_name_lies_beside_it():
    done = subprocess.run(
        [sys.executable, "-I", probe.__file__], capture_output=True, text=True, timeout=60, check=True
    )
    found = {line["runtime"]: line for line in map(json.loads, done.stdout.splitlines()[1:])}
    assert found["onnxruntime"]["version"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in found["onnxruntime"]["providers"]


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_a_library_that_cannot_be_imported_is_reported_and_the_next_one_asked(tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise OSError('libnvinfer.so.8: cannot open shared object file')")
    lines = _lines("import sys", f"sys.path.insert(0, {str(tmp_path)!r})")
    found = {line["runtime"]: line for line in lines[1:]}
    assert "libnvinfer.so.8" in found[module.replace("_", "-")]["error"]
    assert "version" in found["onnxruntime"]


def test_a_library_that_kills_the_interpreter_loses_only_what_comes_after(tmp_path):
    (tmp_path / "tensorrt.py").write_text("__version__ = '8.5.3.1'")
    (tmp_path / "tensorrt_rtx.py").write_text("import ctypes; ctypes.string_at(0)")
    lines = _lines("import sys", f"sys.path.insert(0, {str(tmp_path)!r})")
    assert [line.get("runtime") for line in lines] == [None, "tensorrt"]
    assert lines[1]["version"] == "8.5.3.1"


DRIVER = """
import ctypes
class Driver:
    gpus = [(b"NVIDIA H200", 9, 0)]
    def cuInit(self, flags): return 0
    def cuDeviceGetCount(self, count): count._obj.value = len(self.gpus); return 0
    def cuDeviceGet(self, device, index): device._obj.value = index; return 0
    def cuDeviceGetName(self, name, size, device): name.value = self.gpus[device.value][0]; return 0
    def cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = self.gpus[device.value][{75: 1, 76: 2}[which]]
        return 0
def CDLL(name, *rest, theirs=ctypes.CDLL, **options):
    return Driver() if name == "libcuda.so.1" else theirs(name, *rest, **options)
ctypes.CDLL = CDLL
"""
"""A CUDA driver with one H200, in front of the program."""


@pytest.fixture
def packages(tmp_path):
    """Makes modules in a folder; what the program says of a runtime with them, on a machine with or without a GPU."""

    def say(runtime, driver=DRIVER, **modules):
        for name, text in modules.items():
            file = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        found = {
            line.get("runtime"): line for line in _lines(driver, f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
        }
        return found[runtime]

    return say


PYCUDA = {"pycuda____init__": "", "pycuda__driver": "import sys; assert 'tensorrt' in sys.modules"}
TENSORRT = "import sys; assert 'pycuda' not in sys.modules\n__version__ = '8.5.3.1'"


def test_tensorrt_with_a_gpu_and_pycuda_runs_and_was_imported_first(packages):
    said = packages("tensorrt", tensorrt=TENSORRT, **PYCUDA)
    assert (said["can_run"], said["build"], said["why"]) == (True, True, "")
    assert said["gpus"] == [{"name": "NVIDIA H200", "compute_capability": "9.0"}]
    assert said["version"] == "8.5.3.1"
    assert said["pycuda"] == "unknown"  # a package without metadata


def test_tensorrt_without_pycuda_can_do_nothing(packages):
    said = packages("tensorrt", tensorrt=TENSORRT)
    assert (said["can_run"], said["build"]) == (False, False)
    assert "pycuda is not installed" in said["why"]
    assert "C++ compiler" in said["pycuda"]


def test_pycuda_that_cannot_be_imported_says_so(packages):
    broken = {**PYCUDA, "pycuda__driver": "raise ImportError('libcurand.so.10: cannot open shared object file')"}
    said = packages("tensorrt", tensorrt=TENSORRT, **broken)
    assert not said["can_run"]
    assert "libcurand.so.10" in said["pycuda"]


def test_tensorrt_without_a_gpu_can_do_nothing(packages):
    none = "import ctypes\ndef CDLL(name, *rest, **options): raise OSError(name)\nctypes.CDLL = CDLL"
    said = packages("tensorrt", none, tensorrt=TENSORRT, **PYCUDA)
    assert (said["can_run"], said["build"], said["gpus"]) == (False, False, [])
    assert "no GPU" in said["why"]


def test_a_driver_that_does_not_start_shows_no_gpu(packages):
    said = packages("tensorrt", DRIVER.replace("flags): return 0", "flags): return 100"), tensorrt=TENSORRT, **PYCUDA)
    assert (said["can_run"], said["gpus"]) == (False, [])


def test_a_gpu_that_is_newer_than_the_library(packages):
    said = packages("tensorrt", tensorrt="__version__ = '8.4.1.5'", **PYCUDA)
    assert (said["can_run"], said["build"]) == (False, False)
    assert said["why"] == "compute capability 9.0 needs TensorRT 8.5 or newer; this is 8.4.1.5"


@pytest.mark.parametrize(
    ("runtime", "version", "capability", "reason"),
    [
        ("tensorrt", "8.5.3.1", "9.0", ""),
        ("tensorrt", "8.4.1.5", "9.0", "needs TensorRT 8.5"),
        ("tensorrt", "8.4.1.5", "8.6", ""),
        ("tensorrt", "10.7.0", "12.0", "needs TensorRT 10.8"),
        ("tensorrt", "10.13.0.35", "12.0", ""),
        ("tensorrt", "8.6.0", "10.0", "needs TensorRT 10.8"),
        ("tensorrt", "10.4.0", "7.0", ""),
        ("tensorrt", "10.5.0", "7.0", "dropped by TensorRT 10.5"),
        ("tensorrt", "10.0.1", "6.1", "dropped by TensorRT 10.0"),
        ("tensorrt", "11.4.0.106", "7.5", ""),
        ("tensorrt-rtx", "1.7.1.116", "9.0", "does not run on compute capability 9.0"),
        ("tensorrt-rtx", "1.7.1.116", "8.9", ""),
        ("onnxruntime", "1.32.0", "3.5", ""),
    ],
)
def test_which_gpu_which_version(runtime, version, capability, reason):
    said = probe.unsupported(runtime, version, capability)
    assert reason in said
    assert bool(reason) == bool(said)


@pytest.mark.parametrize("version", facts.rtx_versions())
def test_tensorrt_rtx_runs_on_what_its_bindings_have_a_name_for(version):
    members = facts.facts(f"rtx-{version}")["classes"]["ComputeCapability"]["enum_members"]
    for major, minor in itertools.product(range(6, 14), range(10)):
        named = f"SM{major}{minor}" in members
        assert named == (probe.unsupported("tensorrt-rtx", version, f"{major}.{minor}") == ""), (major, minor)


def test_tensorrt_rtx_builds_without_a_gpu(packages):
    none = "import ctypes\ndef CDLL(name, *rest, **options): raise OSError(name)\nctypes.CDLL = CDLL"
    said = packages("tensorrt-rtx", none, tensorrt_rtx="__version__ = '1.7.1.116'")
    assert (said["can_run"], said["build"]) == (False, True)
    assert said["why"]


def test_this_machine_without_a_driver_has_no_gpus(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(probe.ctypes, "CDLL", missing)
    assert (probe.gpu_count(), probe.gpus()) == (0, [])


@pytest.mark.parametrize(
    ("capability", "pycuda", "runs", "reason"),
    [
        ("8.9", ("2026.1", ""), True, ""),
        ("9.0", ("2026.1", ""), False, "does not run on compute capability 9.0"),
        ("8.9", ("", "pycuda is not installed"), False, "pycuda is not installed"),
    ],
)
def test_tensorrt_rtx_runs_by_its_gpu_and_pycuda_and_builds_anyway(
    tmp_path, monkeypatch, capability, pycuda, runs, reason
):
    (tmp_path / "tensorrt_rtx.py").write_text("__version__ = '1.7.1.116'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    monkeypatch.setattr(probe, "gpus", lambda: [{"name": "GPU", "compute_capability": capability}])
    monkeypatch.setattr(probe, "pycuda", lambda: pycuda)
    try:
        said = probe.probe("tensorrt-rtx")
    finally:
        sys.modules.pop("tensorrt_rtx", None)
    assert (said["can_run"], said["build"]) == (runs, True)
    assert reason in said["why"]
