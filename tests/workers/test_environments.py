from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import EnvironmentMissing
from harness.workers import Environment, environments, find_environments, select

NAMES = {
    "onnxruntime-1.32.0-cpu": "onnxruntime",
    "onnxruntime-1.23.2-cpu": "onnxruntime",
    "onnxruntime-1.32.0-cuda": "onnxruntime",
    "tensorrt-8.5.3.1": "tensorrt",
    "tensorrt-rtx-1.7.1.116": "tensorrt-rtx",
}
FOUND = [Environment(name, "python", runtime, name.split("-")[-1]) for name, runtime in NAMES.items()]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ([], list(NAMES)),
        (["onnxruntime"], [name for name in NAMES if name.startswith("onnx")]),
        (["onnxruntime-1.32"], ["onnxruntime-1.32.0-cpu", "onnxruntime-1.32.0-cuda"]),
        (["onnxruntime-1.32.0-cpu"], ["onnxruntime-1.32.0-cpu"]),
        (["*-cpu"], ["onnxruntime-1.32.0-cpu", "onnxruntime-1.23.2-cpu"]),
        (["tensorrt"], ["tensorrt-8.5.3.1"]),
        (["tensorrt-rtx"], ["tensorrt-rtx-1.7.1.116"]),
        (["tensorrt-rtx-1.7", "tensorrt-8", "tensorrt"], ["tensorrt-rtx-1.7.1.116", "tensorrt-8.5.3.1"]),
    ],
)
def test_patterns_choose_by_family_start_or_shell_pattern(patterns, chosen):
    assert [e.name for e in select(FOUND, patterns)] == chosen


@pytest.mark.parametrize("pattern", ["tensorrt-10", "onnxruntime-1.3", "openvino", ""])
def test_a_pattern_that_names_none_says_what_there_is_and_how_to_get_more(pattern):
    with pytest.raises(EnvironmentMissing) as caught:
        select(FOUND, ["onnxruntime", pattern])
    assert repr(pattern) in caught.value.what
    assert "tensorrt-8.5.3.1" in caught.value.todo
    assert "tox run -e rtx17 --notest" in caught.value.todo


def test_finds_this_interpreter_first_and_a_tox_environment_that_adds_a_version(tmp_path, here, bad_library):
    bad = bad_library("pass")
    (tmp_path / ".tox").mkdir()
    (tmp_path / ".tox" / "old").symlink_to(tmp_path / "bad")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".tox" / "bare"], check=True)
    found = find_environments(tmp_path, [sys.executable])
    assert [e.name for e in found] == [here.name, bad.name]
    assert found[0].python == sys.executable
    assert found[1].python == str(tmp_path / ".tox" / "old" / "bin" / "python")


def test_what_was_probed_once_is_remembered(tmp_path, monkeypatch):
    first = find_environments(tmp_path)

    def refuse(*_, **__):
        raise AssertionError("probed again")

    monkeypatch.setattr(environments.subprocess, "Popen", refuse)
    assert find_environments(tmp_path) == first


def test_a_named_interpreter_must_be_there_and_have_a_runtime(tmp_path, bad_library):
    with pytest.raises(EnvironmentMissing, match="no such interpreter"):
        find_environments(tmp_path, [str(tmp_path / "python")])
    python = bad_library("pass").python
    library = next((tmp_path / "bad").glob("lib/python3*/site-packages")) / "onnxruntime.py"
    library.write_text("raise ImportError('libcudnn.so.9: cannot open shared object file')")
    with pytest.raises(EnvironmentMissing, match="no runtime") as caught:
        find_environments(tmp_path, [python])
    assert "libcudnn" in caught.value.detail
    assert caught.value.where == python
