"""`harness trtexec`: a case's command line, and what a program of that name measures beside a record."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import onnx
import pytest

from harness.cli import main
from harness.results.record import encode
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case, read_case

CASE = "small-tensorrt-8.5.3.1-int8-mse-ragged-cache-single"


@pytest.fixture
def project(cache, model, data, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{model.name}"\naxes = ["x:1=frames"]\nrange = "4:10:20"\ndata = "{data.name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def words(project, capsys):
    """The printed command as a shell reads it; stderr."""

    def run(*arguments):
        code = main(["trtexec", *arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return shlex.split(said.out.replace("\\\n", " ")), said.err

    return run


@pytest.fixture
def refused(project, capsys):
    def run(*arguments, code=2):
        assert main(["trtexec", *arguments]) == code
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return run


@pytest.fixture
def program(project, monkeypatch):
    """A trtexec on PATH that exports two inferences of 2 and 4 ms; the words it was called with."""

    def make(banner="[TensorRT v8503]", code=0, times=(2.0, 4.0)):
        rows = [{"computeMs": ms, "h2dMs": 0.5, "d2hMs": 0.25, "latencyMs": ms + 0.75} for ms in times]
        folder = project / "bin"
        folder.mkdir()
        file = folder / "trtexec"
        file.write_text(
            f"#!/bin/sh\necho '&&&& RUNNING TensorRT.trtexec {banner}'\nprintf '%s\\n' \"$@\" > called\n"
            f'for word in "$@"; do case $word in --exportTimes=*)\n'
            f"  echo '{json.dumps(rows)}' > ${{word#*=}};; esac; done\necho 'last words' >&2\nexit {code}\n"
        )
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return project / "called"

    return make


@pytest.mark.parametrize(
    "case",
    [
        Case("wave", "tensorrt-8.5.3.1", Precision.FP32, None, "single"),
        Case("my_model2", "tensorrt-rtx-1.7.1.116", Precision.FP16, None, "buckets3"),
        *(
            Case("small", runtime, Precision.INT8, Calibration(Method.parse(method), policy), layout, route)
            for runtime in ("tensorrt-10.16.1.11", "onnxruntime-1.32.0-cpu")
            for method in ("minmax", "percentile99.9", "auto")
            for policy in Policy
            for route in Route
            for layout in ("geometric5", "4-10-12,13-15-20")
        ),
        Case("small", "onnxruntime-1.32.0-cpu", Precision.INT8, None, "single"),
        Case("small", "tensorrt-10.3.0", Precision.INT8, None, "buckets3", Route.QDQ_STRONG),
    ],
    ids=lambda case: case.id,
)
def test_a_case_is_read_from_its_id(case):
    assert read_case(case.id) == case


@pytest.mark.parametrize(
    "text", ["wave", "wave.onnx", "wave-tensorrt-8.5.3.1", "wave-tensorrt-8.5.3.1-int8-single", "a b"]
)
def test_what_is_no_id(text):
    assert read_case(text) is None


def test_fp32_of_a_model(words):
    said, notes = words("small", "--trt-version", "8.5.3")
    assert said[0] == "trtexec"
    assert {"--minShapes=x:1x4x4", "--optShapes=x:1x10x4", "--maxShapes=x:1x20x4", "--shapes=x:1x10x4"} <= set(said)
    assert "--noTF32" in said
    assert Path(said[1].removeprefix("--onnx=")).is_file()
    assert notes == ""


def test_a_case_with_a_cache_that_is_there(words, project):
    (project / "small.cache").write_text("TRT-8503-MinMaxCalibration\n")
    said, notes = words(CASE, "--length", "20")
    assert {"--int8", "--fp16", "--calib=small.cache", "--shapes=x:1x20x4", "--streams=1"} <= set(said)
    assert notes == ""


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ((CASE,), "small.cache"),
        (("small-tensorrt-10.16.1.11-int8-minmax-pad-buckets3",), "small.int8.onnx"),
        (("small", "--trt-version", "11.4", "--precision", "int8"), "small.int8.onnx"),
        (("small-tensorrt-8.5.3.1-int8-entropy-pad-calibrator-single",), "small.cache"),
    ],
)
def test_the_command_that_makes_a_missing_file_makes_it(words, project, capsys, arguments, target):
    said, notes = words(*arguments)
    assert any(word.endswith(f"={target}") for word in said)
    prefix = f"make {target} first: harness "
    assert notes.startswith(prefix)
    assert main(shlex.split(notes.removeprefix(prefix))) == 0
    assert (project / target).is_file()
    capsys.readouterr()
    assert words(*arguments) == (said, "")


def test_fp16_is_in_the_model_where_types_decide(words):
    flagged, _ = words("small", "--trt-version", "10.16", "--precision", "fp16")
    typed, _ = words("small", "--trt-version", "11.0", "--precision", "fp16")
    assert "--fp16" in flagged
    assert "--fp16" not in typed
    first = onnx.load(typed[1].removeprefix("--onnx="))
    assert {one.data_type for one in first.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_the_profile_that_serves_the_length(words):
    said, _ = words("small", "--trt-version", "10.3", "--layout", "4-6-9,10-15-20", "--length", "16")
    assert {"--profile=0", "--profile=1", "--useProfile=1", "--shapes=x:1x16x4"} <= set(said)


def test_a_file_of_ones_own(words, model):
    said, notes = words(
        str(model), "--axis", "x:1=frames", "--range", "4:10:20", "--trt-version", "9.3", "--precision", "int8",
        "--route", "qdq_strong",
    )  # fmt: skip
    assert "--stronglyTyped" in said
    assert f"harness calibrate {model} --axis x:1=frames --range 4:10:20 --data SAMPLES" in notes


def test_options_say_otherwise_than_the_defaults(words):
    said, _ = words(
        "small", "--trt-version", "8.6.1", "--workspace", "512", "--tactic-sources", "JIT_CONVOLUTIONS",
        "--optimization-level", "2", "--timing-cache", "t", "--save-engine", "m.plan", "--cuda-graph",
        "--blocking-wait", "--data-transfers", "--load-input", "x=x.bin", "--onnx", "mine.onnx",
    )  # fmt: skip
    expected = {"--memPoolSize=workspace:512", "--builderOptimizationLevel=2", "--timingCacheFile=t", "--useCudaGraph"}
    assert expected | {"--saveEngine=m.plan", "--loadInputs=x:x.bin", "--onnx=mine.onnx"} <= set(said)
    assert not {"--useSpinWait", "--noDataTransfers"} & set(said)


def test_options_of_the_configuration_hold_unless_the_command_line_says_otherwise(words, project):
    """As the suites build it: a runtime's options go by its name."""
    file = project / "harness.toml"
    plain, _ = words("small-tensorrt-8.6.1-fp32-single")
    assert "--memPoolSize=workspace:4096" in plain
    assert not any(word.startswith(("--tacticSources", "--device", "--builderOpt", "--useCudaGraph")) for word in plain)
    file.write_text(
        file.read_text()
        + '[options."tensorrt-8"]\nworkspace_bytes = 1073741824\ntactic_sources = ["JIT_CONVOLUTIONS"]\n'
        "optimization_level = 2\ncuda_graph = true\ndevice = 1\n"
    )
    chosen = "--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN,-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS"
    configured = {
        "--memPoolSize=workspace:1024",
        chosen,
        "--builderOptimizationLevel=2",
        "--useCudaGraph",
        "--device=1",
    }
    for arguments in (("small-tensorrt-8.6.1-fp32-single",), ("small", "--trt-version", "8.6.1")):
        said, _ = words(*arguments)
        assert configured <= set(said)
    assert words("small-tensorrt-10.3.0-fp32-single")[0][2:] == plain[2:]
    said, _ = words("small", "--trt-version", "8.6.1", "--workspace", "64", "--tactic-sources", "CUDNN")
    assert {"--memPoolSize=workspace:64", "--device=1"} <= set(said)
    assert chosen.replace("-CUDNN", "+CUDNN").replace("+JIT", "-JIT") in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("small",), "whose trtexec?"),
        (("small-onnxruntime-1.32.0-cpu-fp32-single",), "onnxruntime-1.32.0-cpu has none"),
        (("small-tensorrt-rtx-1.7.1.116-fp32-single",), "TensorRT-RTX's own program is not covered"),
        (("small", "--trt-version", "RTX"), "TensorRT-RTX's own program is not covered"),
        (("smal", "--trt-version", "8.5"), "did you mean 'small'?"),
        (("small", "--trt-version", "8.5", "--layout", "4-6-9,10-15-20"), "no --profile: it came with 9.0"),
        ((CASE, "--trt-version", "11.0"), "it ended with 11.0"),
        (("small", "--trt-version", "8.5", "--load-input", "y=y.bin"), "no input is called 'y'"),
        (("small", "--trt-version", "8.5", "--record", "x"), "add --run"),
        (("small", "--trt-version", "8.5", "--run", "--build-only"), "leave one of them out"),
        (("small-tensorrt-10.3.0-int8-mse-per_profile-buckets3",), "an engine a profile"),
        ((CASE, "--run"), "make it: harness calibrate small"),
    ],
)
def test_what_cannot_be(refused, arguments, expected):
    assert expected in refused(*arguments)


def test_a_length_that_no_profile_serves(refused):
    assert "21" in refused("small", "--trt-version", "8.5", "--length", "21", code=1)


def test_no_program(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "trtexec is not on PATH" in refused("small", "--trt-version", "8.5", "--run", code=5)


def test_run(program, project, capsys):
    called = program()
    assert main(["trtexec", "small", "--trt-version", "8.5.3", "--run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "GPU compute (2 inferences)" in said
    assert "3.0000" in said  # the median of 2 and 4
    assert "3.7500" in said
    assert "--useSpinWait" in called.read_text().splitlines()


def test_for_a_program(program, run_file, capsys):
    program()
    command = ["trtexec", CASE, "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["command"][0], told["make_first"]) == ("trtexec", None)
    assert main([*command, "--run", "--record", str(run_file)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["length"], told["trtexec"]["compute_ms"]) == (10, 3.0)
    assert [*told["ours_ms"].values()] == [1.5]


def test_the_program_of_another_version(program, refused):
    program("[TensorRT v100300]")
    assert "trtexec of TensorRT 10.3.0, not of 8.5.3" in refused("small", "--trt-version", "8.5.3", "--run")


def test_a_program_that_fails(program, refused):
    program(code=3)
    said = refused("small", "--trt-version", "8.5", "--run", code=1)
    assert "exit code 3" in said
    assert "last words" in said


@pytest.fixture
def run_file(project):
    """A run's file with the latency of one case: INT8 1.5 ms, its FP16 baseline 2 ms, at length 10."""
    one = {
        "schema": 1, "kind": "latency", "run": "r", "case": CASE,
        "fields": {"model": "small", "runtime": "tensorrt-8.5.3.1"},
        "environment": {"settings": {"clock": "device_ns"}},
        "values": {"baseline": "fp16", "buckets": {
            "middle": {"length": 10, "int8": {"median_ms": 1.5}, "baseline": {"median_ms": 2.0}}}},
    }  # fmt: skip
    path = project / "run.jsonl"
    path.write_bytes(encode(one) + encode({**one, "kind": "accuracy"}))
    (project / "small.cache").write_text("TRT-8503-MinMaxCalibration\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "ours", "ratio"),
    [
        ((CASE,), "1.5000", "2.000"),
        (("small", "--trt-version", "8.5.3", "--precision", "fp16"), "2.0000", "1.500"),
        (("small-tensorrt-8.5.3.1-fp16-single",), "2.0000", "1.500"),
        (("small", "--trt-version", "8.5.3", "--precision", "int8"), "1.5000", "2.000"),
    ],
)
def test_numbers_of_a_record_stand_beside(program, run_file, capsys, arguments, ours, ratio):
    program()
    assert main(["trtexec", *arguments, "--run", "--record", str(run_file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ours in said
    assert ratio in said
    assert "device_ns" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((CASE, "--length", "20"), "it has lengths 10"),
        (("small", "--trt-version", "8.5.3"), "it has no latency of it"),
        (("small", "--trt-version", "8.6", "--precision", "fp16"), "it has no latency of it"),
    ],
)
def test_a_record_without_it(program, run_file, refused, arguments, expected):
    program("")
    assert expected in refused(*arguments, "--run", "--record", str(run_file), code=1)
