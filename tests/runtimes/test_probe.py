"""The probe runs as a program in other interpreters; here it meets libraries that misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from harness.runtimes import probe


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
