"""The command line that NVIDIA's program takes, version by version, and the times that it exports."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from harness.errors import ResultsError, UsageError
from harness.spec.calibration import Precision, Route
from harness.trtexec import FLAGS, Invocation, ProfileShapes, command, program_version, read_times

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
VERSIONS = ["8.4.1.5", "8.5.3.1", "8.6.0", "9.3.0", "10.0.1", "10.16.1.11", "11.0.0.114", "11.4.0.106"]


def shapes(length):
    return (("x", (1, 80, length)), ("mask", (1, length)))


def profile(low, opt, high):
    return ProfileShapes(shapes(low), shapes(opt), shapes(high))


ONE = (profile(16, 100, 256),)
TWO = (profile(16, 60, 100), profile(101, 160, 256))


def words(version="10.3.0", **more):
    return command(Invocation(version, "m.onnx", **{"profiles": ONE, "shapes": shapes(120), **more}))


def refused(version, **more):
    with pytest.raises(UsageError) as caught:
        words(version, **more)
    return caught.value


def test_the_whole_of_a_command():
    assert words("8.5.3.1", precision=INT8, route=Route.CACHE, cache="m.cache") == [
        "trtexec",
        "--onnx=m.onnx",
        "--int8",
        "--fp16",
        "--calib=m.cache",
        "--minShapes=x:1x80x16,mask:1x16",
        "--optShapes=x:1x80x100,mask:1x100",
        "--maxShapes=x:1x80x256,mask:1x256",
        "--memPoolSize=workspace:4096",
        "--profilingVerbosity=detailed",
        "--shapes=x:1x80x120,mask:1x120",
        "--useSpinWait",
        "--noDataTransfers",
        "--streams=1",
        "--warmUp=200",
        "--duration=3",
        "--iterations=10",
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("precision", "route"), [(FP32, None), (FP16, None), (INT8, Route.QDQ_STRONG)])
def test_only_flags_that_the_version_has_are_written(version, precision, route):
    release = tuple(map(int, version.split(".")[:2]))
    if route is Route.QDQ_STRONG and release < (9, 0):
        assert "--stronglyTyped: it came with 9.0" in refused(version, precision=precision, route=route).what
        return
    for word in words(version, precision=precision, route=route)[1:]:
        since, until = FLAGS[word.partition("=")[0]]
        assert since <= release
        assert until is None or release < until


@pytest.mark.parametrize(
    ("version", "expected"),
    [("8.6.0", {"--fp16"}), ("10.16.1.11", {"--fp16"}), ("11.0.0.114", set())],
)
def test_fp16_by_a_flag_until_types_in_the_model_decide(version, expected):
    assert {"--fp16", "--stronglyTyped"} & set(words(version, precision=FP16)) == expected


@pytest.mark.parametrize("version", ["8.4.3", "8.6.0", "10.16.1.11", "11.0.0.114", "11.4.0.106"])
def test_fp32_is_not_tf32(version):
    assert "--noTF32" in words(version)


@pytest.mark.parametrize(("version", "expected"), [("9.3.0", True), ("10.16.1.11", True), ("11.0.0.114", False)])
def test_strong_typing_is_asked_for_until_there_is_nothing_else(version, expected):
    said = words(version, precision=INT8, route=Route.QDQ_STRONG)
    assert ("--stronglyTyped" in said) is expected
    assert not {"--int8", "--fp16", "--noTF32"} & set(said)


@pytest.mark.parametrize(
    ("version", "graph", "spin", "transfers", "expected"),
    [
        ("10.16", True, True, False, {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}),
        ("10.16", False, False, True, set()),
        ("11.0", True, True, False, set()),
        ("11.0", False, False, True, {"--noCudaGraph", "--noSpinWait", "--includeDataTransfers"}),
    ],
)
def test_the_defaults_that_flipped_in_11(version, graph, spin, transfers, expected):
    said = words(version, cuda_graph=graph, spin_wait=spin, data_transfers=transfers)
    switches = {"--useCudaGraph", "--noCudaGraph", "--useSpinWait", "--noSpinWait"}
    switches |= {"--noDataTransfers", "--includeDataTransfers"}
    assert set(said) & switches == expected


@pytest.mark.parametrize(
    ("version", "streams", "build_only"),
    [("8.4", "--streams=1", "--buildOnly"), ("8.5.3", "--streams=1", "--buildOnly"),
     ("8.6.0", "--infStreams=1", "--skipInference"), ("11.4", "--infStreams=1", "--skipInference")],
)  # fmt: skip
def test_what_was_renamed(version, streams, build_only):
    assert streams in words(version)
    said = words(version, build_only=True)
    assert said[-1] == build_only
    assert not any(word.startswith(("--shapes", "--warmUp", streams)) for word in said)


def test_several_profiles_are_numbered_from_9_on():
    said = words("9.3", profiles=TWO, profile=1)
    numbered = [pair for pair in pairwise(said) if pair[0].startswith("--profile=")]
    assert numbered == [
        ("--profile=0", "--minShapes=x:1x80x16,mask:1x16"),
        ("--profile=1", "--minShapes=x:1x80x101,mask:1x101"),
    ]
    assert "--useProfile=1" in said
    assert not any(word.startswith(("--profile=", "--useProfile")) for word in words("9.3"))
    error = refused("8.6.0", profiles=TWO)
    assert "8.6 has no --profile: it came with 9.0" in error.what
    assert "--layout MIN-OPT-MAX" in error.todo


@pytest.mark.parametrize(
    ("version", "more", "flag"),
    [
        ("11.0", {"precision": INT8, "route": Route.CACHE, "cache": "c"}, "--int8: it ended with 11.0"),
        ("11.4", {"precision": INT8, "route": Route.CALIBRATOR, "cache": "c"}, "--int8: it ended with 11.0"),
        ("11.0", {"precision": INT8, "route": Route.QDQ}, "--int8: it ended with 11.0"),
        ("8.5.3", {"optimization_level": 3}, "--builderOptimizationLevel: it came with 8.6"),
        ("8.6.0", {"precision": FP32, "route": Route.QDQ_STRONG}, "--stronglyTyped: it came with 9.0"),
    ],
)
def test_what_a_version_lacks_is_named(version, more, flag):
    error = refused(version, **more)
    assert flag in error.what
    assert error.todo


@pytest.mark.parametrize("route", [Route.CACHE, Route.CALIBRATOR])
def test_no_cache_is_refused_because_trtexec_would_invent_ranges(route):
    assert "noise" in refused("8.5.3", precision=INT8, route=route).todo
    assert refused("8.5.3", precision=INT8).what == "INT8 without a route"


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("8.4.1", ("CUDNN",), "-CUBLAS,-CUBLAS_LT,+CUDNN,-EDGE_MASK_CONVOLUTIONS"),
        ("8.5.3", ("JIT_CONVOLUTIONS",), "-CUBLAS,-CUBLAS_LT,-CUDNN,-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS"),
        ("11.0", (), "-EDGE_MASK_CONVOLUTIONS,-JIT_CONVOLUTIONS"),
    ],
)
def test_every_tactic_source_is_switched(version, wanted, expected):
    assert f"--tacticSources={expected}" in words(version, tactic_sources=wanted)


@pytest.mark.parametrize(("version", "source"), [("8.4", "JIT_CONVOLUTIONS"), ("11.0", "CUBLAS"), ("10.3", "cudnn")])
def test_a_tactic_source_that_the_version_lacks(version, source):
    assert repr(source) in refused(version, tactic_sources=(source,)).what


def test_options_of_the_build():
    said = words("8.6", workspace_bytes=1 << 29, optimization_level=0, timing_cache="t.cache", save_engine="m.plan")
    assert {"--memPoolSize=workspace:512", "--builderOptimizationLevel=0"} <= set(said)
    assert {"--timingCacheFile=t.cache", "--saveEngine=m.plan"} <= set(said)
    assert "--memPoolSize=workspace:0.25" in words(workspace_bytes=1 << 18)


def test_inputs_and_times():
    said = words(load_inputs=(("len", "len.bin"), ("a:0", "a.bin")), export_times="t.json")
    assert "--loadInputs=len:len.bin,'a:0':a.bin" in said
    assert said[-1] == "--exportTimes=t.json"


def test_names_with_a_colon_are_quoted():
    one = (("Input:0", (1, 5)),)
    assert "--shapes='Input:0':1x5" in words(shapes=one, profiles=())


def test_a_model_without_profiles():
    assert not any("Shapes" in word for word in words(profiles=(), shapes=()))


@pytest.mark.parametrize(("version", "what"), [("8.2.5", "not covered"), ("ten", "no version"), ("8", "no version")])
def test_versions_that_are_none_of_these(version, what):
    assert what in refused(version).what


def row(start, compute, **more):
    copied = {"h2dMs": 0.25, "d2hMs": 0.5}
    return {
        "startEnqMs": start, "endEnqMs": start + 0.125, "startH2dMs": start, "endH2dMs": start + 0.25,
        "startComputeMs": start + 0.25, "endComputeMs": start + 0.25 + compute, "computeMs": compute,
        **copied, "latencyMs": compute + 0.75, **more,
    }  # fmt: skip


def test_medians_of_exported_times():
    times = read_times(json.dumps([row(0, 1.0), row(10, 9.0), row(20, 2.0)]))
    assert (times.count, times.compute_ms, times.latency_ms) == (3, 2.0, 2.75)
    assert (times.h2d_ms, times.d2h_ms, times.enqueue_ms) == (0.25, 0.5, 0.125)


def test_times_without_transfers():
    times = read_times(json.dumps([{"computeMs": 1.5}]))
    assert (times.compute_ms, times.latency_ms, times.h2d_ms, times.enqueue_ms) == (1.5, None, None, None)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"compute": 1}]', '[{"computeMs": null}]', "[{"])
def test_what_are_no_times(text):
    with pytest.raises(ResultsError):
        read_times(text)


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8503] # trtexec --onnx=m.onnx", "8.5.3"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8401] # x", "8.4.1"),
        ("[TensorRT v100300] # x", "10.3.0"),
        ("[TensorRT v101601]", "10.16.1"),
        ("[TensorRT v110000]", "11.0.0"),
        ("trtexec: not found", ""),
    ],
)
def test_the_version_that_the_program_prints(banner, version):
    assert program_version(banner) == version
