from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EnvironmentMissing
from harness.workers import Environment, environments, find_environments, select

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("tensorrt-99", "tox has tensorrt 8.4.1.5 (trt84), 8.5.3.1 (trt85)"),
        ("tensorrt-rtx-9", "tox has tensorrt-rtx 1.4.0.76 (rtx14)"),
        ("onnxruntime-9.9", "tox has onnxruntime 1.22.1 (ort122), 1.32.0 (ort132): python -m tox run -e ONE --notest"),
        ("openvino", "known are onnxruntime, tensorrt"),
        ("77.1", "known are onnxruntime, tensorrt"),
        ("", "known are onnxruntime, tensorrt"),
    ],
)
def test_a_pattern_that_names_none_says_what_there_is_and_how_to_get_more(pattern, says):
    """Of its own family, and not of every other one."""
    with pytest.raises(EnvironmentMissing) as caught:
        select(FOUND, ["onnxruntime", pattern])
    assert repr(pattern) in caught.value.what
    there, _, more = caught.value.todo.partition("; ")
    assert "tensorrt-8.5.3.1" in there
    assert more.startswith(says)
    assert "[environments]" in more
    assert len(more) < 400


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("tensorrt-8.4", "tensorrt-8.4.1.5 comes with: python -m tox run -e trt84 --notest"),
        ("tensorrt-8.6*", "tensorrt-8.6.0 comes with: python -m tox run -e trt86 --notest"),
        ("tensorrt-8.5.1.7", "tensorrt-8.5.3.1 comes with: python -m tox run -e trt85 --notest"),
        ("tensorrt-10.16.1.11", "python -m tox run -e trt1016 --notest"),
        ("tensorrt-11.4*", "python -m tox run -e trt114 --notest"),
        ("tensorrt-rtx-1.5", "python -m tox run -e rtx15 --notest"),
        ("onnxruntime-1.22*", "python -m tox run -e ort122 --notest"),
        ("1.22.1", "onnxruntime-1.22.1-cpu comes with: python -m tox run -e ort122 --notest"),
        ("10.3", "tensorrt-10.3.0 comes with: python -m tox run -e trt103 --notest"),
        ("1.7.1", "tensorrt-rtx-1.7.1.116 comes with: python -m tox run -e rtx17 --notest"),
        ("tensorrt-1[01].*", "ONE of trt100 (tensorrt-10.0.1), trt103"),
    ],
)
def test_the_command_that_installs_what_is_missing(pattern, command):
    with pytest.raises(EnvironmentMissing) as caught:
        select([], [pattern])
    assert command in caught.value.todo
    assert "rtx" not in caught.value.todo or "rtx" in command


def test_an_interpreter_that_lies_elsewhere_can_be_named():
    """What tox has installed in another folder is not found from here, and need not be installed again."""
    with pytest.raises(EnvironmentMissing) as caught:
        select(FOUND, ["onnxruntime-1.22.1"])
    assert caught.value.todo.endswith("an interpreter somewhere else that has it is named by --python PATH")


def test_tox_has_what_is_promised():
    """Names in the table are those that the environment has once it is installed."""
    ini = configparser.ConfigParser()
    ini.read(ROOT / "tox.ini")
    pinned = {}
    for section in ini.sections():
        found = re.search(r"(tensorrt-rtx|tensorrt|onnxruntime)(?:-cu\d+)?==([\d.]+)", ini[section].get("deps", ""))
        if found and section.startswith("testenv:") and "env_dir" not in ini[section]:
            ending = "-cpu" if found[1] == "onnxruntime" else ""
            pinned[f"{found[1]}-{found[2]}{ending}"] = section.removeprefix("testenv:")
            assert ini[section]["skip_install"] == "true"
    assert pinned == environments.TOX


def test_no_package_index_is_written_down():
    assert "://" not in (ROOT / "tox.ini").read_text("utf-8")


ABLE = Environment("tensorrt-10.3.0", "/a/python", "tensorrt", "10.3.0")
UNABLE = Environment(
    "tensorrt-8.5.3.1", "/b/python", "tensorrt", "8.5.3.1", can_run=False, can_build=False, why="no GPU: none here"
)


def test_an_environment_that_can_do_nothing_is_chosen_beside_others_only():
    assert select([ABLE, UNABLE], ["tensorrt"]) == [ABLE, UNABLE]
    with pytest.raises(EnvironmentMissing, match="can neither run nor build") as caught:
        select([ABLE, UNABLE], ["tensorrt-8.5"])
    assert "no GPU: none here" in caught.value.what
    assert "/b/python" in caught.value.where


@pytest.fixture
def tensorrt(tmp_path):
    """An interpreter whose tensorrt says that it is some version; no GPU is behind it."""
    home = tmp_path / ".tox" / "trt"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (packages,) = home.glob("lib/python3*/site-packages")
    (packages / "tensorrt.py").write_text("__version__ = '8.5.3.1'")
    return home / "bin" / "python"


def test_tensorrt_is_found_and_says_what_is_in_its_way(tmp_path, tensorrt):
    (found,) = (one for one in find_environments(tmp_path) if one.python == str(tensorrt))
    assert (found.name, found.runtime, found.version) == ("tensorrt-8.5.3.1", "tensorrt", "8.5.3.1")
    assert not found.can_run
    assert "pycuda is not installed" in found.why


def test_a_gpu_that_comes_or_goes_is_noticed(tmp_path, tensorrt, monkeypatch):
    environments.probe([str(tensorrt)])  # writes __pycache__ beside the module, which is a change, too
    probed = []
    popen = subprocess.Popen
    monkeypatch.setattr(environments.subprocess, "Popen", lambda *a, **k: probed.append(a) or popen(*a, **k))
    environments.probe([str(tensorrt)])
    environments.probe([str(tensorrt)])
    assert len(probed) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    environments.probe([str(tensorrt)])
    assert len(probed) == 2


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


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("tensorrt", ["tensorrt-8.6.0", "tensorrt-8.6.0@gpu1", "tensorrt-10.3.0@gpu2"]),
        ("tensorrt-8", ["tensorrt-8.6.0", "tensorrt-8.6.0@gpu1"]),
        ("tensorrt-8.6.0", ["tensorrt-8.6.0", "tensorrt-8.6.0@gpu1"]),
        ("tensorrt-8.6.0@gpu1", ["tensorrt-8.6.0@gpu1"]),
        ("tensorrt-8@gpu*", ["tensorrt-8.6.0@gpu1"]),
        ("tensorrt@gpu2", ["tensorrt-10.3.0@gpu2"]),
        ("*@gpu1", ["tensorrt-8.6.0@gpu1", "onnxruntime-1.32.0-cpu@gpu1"]),
        ("*@*", ["tensorrt-8.6.0@gpu1", "tensorrt-10.3.0@gpu2", "onnxruntime-1.32.0-cpu@gpu1"]),
        ("*-cpu", ["onnxruntime-1.32.0-cpu", "onnxruntime-1.32.0-cpu@gpu1"]),
    ],
)
def test_hosts_are_selected_behind_an_at(pattern, names):
    hosts = {"gpu1": "ssh=me@gpu1", "gpu2": "ssh=me@gpu2", "": ""}
    every = [
        Environment(name, "python", name.partition("-")[0], "1", host=hosts[name.partition("@")[2]])
        for name in (
            "tensorrt-8.6.0", "tensorrt-8.6.0@gpu1", "tensorrt-10.3.0@gpu2",
            "onnxruntime-1.32.0-cpu", "onnxruntime-1.32.0-cpu@gpu1",
        )
    ]  # fmt: skip
    assert [e.name for e in select(every, [pattern])] == names
