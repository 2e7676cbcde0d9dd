"""What `harness doctor` says of interpreters as they are found, in tox's folder and in a configuration."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from harness.cli import main
from harness.commands.doctor import Finding, Health
from harness.commands.paste import block, scrubbed
from harness.measure import host
from harness.workers import environments

H200 = {"name": "NVIDIA H200", "compute_capability": "9.0"}


@pytest.fixture
def there(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def venv(there):
    """An interpreter as tox makes it, with modules of the test's own."""

    def make(name, **modules):
        home = there / ".tox" / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        (packages,) = home.glob("lib/python3*/site-packages")
        for module, text in modules.items():
            (packages / f"{module}.py").write_text(text)
        return home / "bin" / "python"

    return make


@pytest.fixture
def answering(there):
    """A program in tox's folder that answers like an interpreter of another machine, one with a GPU."""

    def make(name, *lines):
        python = there / ".tox" / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        said = "\n".join(json.dumps(line) for line in ({"python": "3.10.13", "prefix": "/"}, *lines))
        python.write_text(f"#!/bin/sh\ncat <<'EOF'\n{said}\nEOF\n")
        python.chmod(0o755)
        return python

    return make


def tensorrt(**more):
    able = {"can_run": True, "build": True, "why": "", "providers": [], "gpus": [H200], "pycuda": "2026.1"}
    return {"runtime": "tensorrt", "version": "8.5.3.1", **able, **more}


@pytest.fixture
def said(capsys):
    """The findings by where they were found, and the exit code."""

    def run(*arguments):
        code = main(["doctor", "--json", *arguments])
        health = json.loads(capsys.readouterr().out)
        return code, health, {one["source"]: one for one in health["findings"]}

    return run


def test_this_interpreter_runs_and_that_is_enough(there, said):
    code, _, found = said()
    assert code == 0
    here = found["this interpreter"]
    assert (here["runtime"], here["version"]) == ("onnxruntime", onnxruntime.__version__)
    assert (here["can_build"], here["can_run"], here["why"]) == (True, True, "")
    assert here["python"] == sys.executable
    assert here["routes"] == ["qdq"]


def test_a_runtime_has_the_name_that_a_gate_takes(there, capsys):
    assert main(["doctor"]) == 0
    (chosen,) = environments.select(
        environments.find_environments(there), [f"onnxruntime-{onnxruntime.__version__}-cpu"]
    )
    assert f"│ {chosen.name} " in capsys.readouterr().out


def test_tensorrt_without_gpu_and_pycuda_says_both_and_what_to_do(there, venv, said):
    venv("trt85", tensorrt="__version__ = '8.5.3.1'")
    _, _, found = said()
    one = found[".tox/trt85"]
    assert (one["can_build"], one["can_run"]) == (False, False)
    assert one["routes"] == ["cache", "qdq", "calibrator"]
    assert "pycuda is not installed" in one["why"]
    assert "-m pip install pycuda" in one["todo"]
    assert "C++ compiler" in one["todo"]
    if not Path("/dev/nvidiactl").exists():
        assert "no GPU" in one["why"]
        assert "nvidia-smi" in one["todo"]


@pytest.mark.parametrize(
    ("version", "routes"),
    [
        ("10.16.1.11", {"cache", "qdq", "calibrator", "qdq_strong"}),
        ("11.4.0.106", {"qdq_strong"}),
        ("8.4.1.5", {"cache", "qdq", "calibrator"}),
    ],
)
def test_routes_go_by_the_version(there, answering, said, version, routes):
    answering("trt", tensorrt(version=version, can_run=False, build=False, why="no GPU"))
    assert set(said()[2][".tox/trt"]["routes"]) == routes


@pytest.mark.parametrize(
    ("version", "int8"),
    [("1.4.0.76", []), ("1.5.0.114", ["int8 (matrix products)"]), ("1.7.1.116", ["int8"])],
)
def test_int8_of_tensorrt_rtx_goes_by_the_version(there, answering, said, version, int8):
    line = tensorrt(runtime="tensorrt-rtx", version=version, can_run=False, build=False, why="only built")
    answering("rtx", line)
    one = said()[2][".tox/rtx"]
    assert one["precisions"][2:] == int8
    assert one["routes"] == ["qdq_strong"]


def test_tensorrt_rtx_without_a_gpu_builds_and_with_one_wants_pycuda(there, answering, said):
    able = {"runtime": "tensorrt-rtx", "version": "1.7.1.116", "can_run": False, "build": False}
    answering("rtx", tensorrt(**able, gpus=[], why="no GPU; pycuda is not installed"))
    assert said()[2][".tox/rtx"]["todo"].startswith("nothing for builds, which need no GPU")
    answering("rtx17", tensorrt(**able, gpus=[{**H200, "compute_capability": "8.9"}], why="pycuda is not installed"))
    assert "-m pip install pycuda" in said()[2][".tox/rtx17"]["todo"]


def test_a_gpu_that_the_version_does_not_support(there, answering, said):
    why = "compute capability 9.0 needs TensorRT 8.5 or newer; this is 8.4.1.5"
    answering("trt84", tensorrt(version="8.4.1.5", can_run=False, build=False, why=why))
    _, health, found = said()
    assert found[".tox/trt84"]["why"] == why
    assert "take a version that supports this GPU" in found[".tox/trt84"]["todo"]
    (gpu,) = health["gpus"]
    assert (gpu["name"], gpu["compute_capability"]) == ("NVIDIA H200", "9.0")


def test_clocks_where_nvml_tells_them(there, answering, monkeypatch, said, capsys):
    clocks = {"name": "NVIDIA H200", "driver": "580.65.06", "sm_clock_mhz": 1980, "throttled_by": ["hardware thermal"]}
    monkeypatch.setattr(host, "gpus", lambda: [{"name": "NVIDIA T4", "driver": "580.65.06", "sm_clock_mhz": 5}, clocks])
    answering("trt", tensorrt(can_run=False, build=False, why="busy"))
    (gpu,) = said()[1]["gpus"]
    assert {**gpu, **H200, **clocks} == gpu
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "1980 MHz" in out
    assert "hardware thermal" in out


def test_what_claims_to_run_and_does_not_start(there, answering, said):
    answering("trt85", tensorrt())
    one = said()[2][".tox/trt85"]
    assert (one["can_build"], one["can_run"]) == (False, False)
    assert one["why"].startswith("does not start: ")
    assert "something else than Python" in one["why"]


def test_a_library_that_cannot_be_imported(there, venv, said):
    venv("trt86", tensorrt="raise ImportError('libcudnn.so.8: cannot open shared object file')")
    one = said()[2][".tox/trt86"]
    assert "libcudnn.so.8" in one["why"]
    assert "tox run -e" in one["todo"]
    assert not one["can_build"]


def test_an_interpreter_that_does_not_answer(there, said):
    python = there / ".tox" / "trt103" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert "does not start, or does not answer" in said()[2][".tox/trt103"]["why"]


def test_tox_environments_for_other_purposes_are_left_out(there, venv, said):
    venv("lint")
    venv("trt100")
    found = said()[2]
    assert ".tox/lint" not in found
    assert found[".tox/trt100"]["why"] == "no runtime is installed there"


def test_what_the_configuration_names(there, said):
    (there / "harness.toml").write_text(
        '[environments]\ngone = "/no/such/python"\ngpu = {python = "python3", host = "ssh=-F none -p 1 me@127.0.0.1"}\n'
    )
    code, _, found = said()
    assert code == 0
    assert found["[environments] gone"]["why"] == "no such interpreter"
    away = found["[environments] gpu"]
    assert re.match("cannot be reached|there is no ssh", away["why"])
    assert away["todo"]
    assert away["host"] == "ssh=-F none -p 1 me@127.0.0.1"


def test_nothing_can_run(there, monkeypatch, said):
    monkeypatch.setattr(environments, "probe", lambda pythons: [[] for _ in pythons])
    assert said()[0] == 5


def test_an_interpreter_by_option_must_be_there(there, capsys):
    assert main(["doctor", "--python", "/no/such/python"]) == 5
    assert "no such interpreter" in capsys.readouterr().err


def test_tables_name_everything(there, answering, monkeypatch, capsys):
    programs = there / "programs"
    programs.mkdir()
    (programs / "trtexec").write_text("#!/bin/sh\n")
    (programs / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    answering("trt84", tensorrt(version="8.4.1.5", can_run=False, build=False, why="too old for it"))
    assert main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for text in ("NVIDIA H200", "9.0", "tensorrt-8.4.1.5", "nothing", "build and run", "too old for it"):
        assert text in out
    assert f"trtexec: {programs}/trtexec" in out


def test_what_could_be_installed(there, answering, venv, said, capsys):
    """Also the one of the same version is there, and one that cannot be imported is a finding."""
    answering("trt85", tensorrt(version="8.5.1.7", can_run=False, build=False, why="busy"))
    venv("trt86", tensorrt="raise ImportError('no libnvinfer.so.8')")
    absent = {one["name"]: one["reason"] for one in said()[1]["absent"]}
    assert "is not installed: python -m tox run -e trt84 --notest (wants CPython 3.10" in absent["tensorrt-8.4.1.5"]
    assert "tox run -e trt1016 --notest (wants HARNESS_TRT_INDEX" in absent["tensorrt-10.16.1.11"]
    assert not {"tensorrt-8.5.3.1", "tensorrt-8.6.0"} & set(absent)
    assert main(["doctor"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert absent["tensorrt-8.4.1.5"] in out
    assert "trtexec: not on PATH; it comes with TensorRT's tar" in out


def test_report(there, answering, cache, capsys):
    answering("trt84", tensorrt(version="8.4.1.5", can_run=False, build=False, why="too old for it"))
    (cache / "logs").mkdir(parents=True)
    (cache / "logs" / "a.log").write_text("".join(f"line {number}\n" for number in range(50)))
    (cache / "logs" / "empty.log").write_text("")
    assert main(["doctor", "--report"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("```text\n")
    assert out.endswith("\n```\n")
    for text in ("harness: ", "python: ", "GPU: name NVIDIA H200", "too old for it", "log a.log:", "line 49"):
        assert text in out
    assert "line 29" not in out  # of a log, only the end
    assert "empty.log" not in out


def test_report_hides_what_is_private(there, cache, monkeypatch):
    monkeypatch.setenv("HOME", str(there / "home" / "jo"))
    monkeypatch.setenv("MY_VARIABLE", "value-of-a-variable")
    (cache / "logs").mkdir(parents=True)
    (cache / "logs" / "a.log").write_text(
        f"{there}/home/jo/models/x.onnx\nHF_TOKEN=abc123\nhttps://jo:pass@example.org/x\nAuthorization: Bearer def456\n"
    )
    finding = Finding("this interpreter", f"{there}/home/jo/venv/bin/python", why="```")
    text = block(Health((finding,), (), ""))
    assert "~/models/x.onnx" in text
    assert "~/venv/bin/python" in text
    for private in ("home/jo", "abc123", "jo:pass", "def456", "value-of-a-variable"):
        assert private not in text
    assert text.count("```") == 2


def test_a_home_folder_is_no_prefix_of_others():
    assert scrubbed("/home/jo/x /home/jon/y /home/jo", Path("/home/jo")) == "~/x /home/jon/y ~"
    assert scrubbed("/usr/bin/python", Path("/")) == "/usr/bin/python"
