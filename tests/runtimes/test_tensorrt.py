"""The TensorRT runtime over the stand-in, for versions on both sides of every difference that it asks about."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from harness.runtimes.base import RuntimeFailure
from harness.runtimes.cuda import Cuda
from harness.runtimes.tensorrt import TensorRt
from harness.runtimes.trt_layers import coverage, is_int8
from tests.fake_tensorrt import GPU, loaded, models

BINDINGS, NAMED, TEN, ELEVEN = "8.4", "8.5", "10.13", "11.4"
VERSIONS = [BINDINGS, NAMED, "8.6", "10.0", TEN, "11.0", ELEVEN]
CALIBRATING = [BINDINGS, NAMED, "8.6", "10.0", TEN]
WIDE = [{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 64]]}]
THREE = [{"x": [[1, 4, low], [1, 4, opt], [1, 4, high]]} for low, opt, high in ((2, 4, 8), (9, 16, 32), (33, 48, 64))]


class Lab:
    """One version's runtime, a folder for its files, and what the device has seen."""

    def __init__(self, folder):
        self.folder = folder
        self.runtime = TensorRt()
        self.runtime.cache = str(folder / "cache")

    def source(self, content, name="model.onnx"):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def build(self, content=None, profiles=None, **options):
        path = self.source(content or models.conv())
        target = self.folder / "engine"
        facts = self.runtime.build(path, str(target), {"profiles": WIDE if profiles is None else profiles, **options})
        return facts, str(target)

    def engine(self, content=None, profiles=None, load=None, **options):
        _, path = self.build(content, profiles, **options)
        return self.runtime.load(path, load or {})

    def batches(self, arrays):
        path = self.folder / "batches.npz"
        np.savez(path, **{f"{number}:x": array for number, array in enumerate(arrays)})
        return {"batches": str(path)}

    def cache(self, text):
        path = self.folder / "given.cache"
        path.write_text(text)
        return {"cache": str(path)}


@pytest.fixture
def lab(tmp_path):
    """A function of a version (and the stand-in's settings) to its lab; one at a time."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def make(version, **settings):
            stack.enter_context(loaded(version, tmp_path / f"fake{version}", **settings))
            return Lab(tmp_path)

        yield make


def sample(length, seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((1, 4, length)).astype(np.float32)}


def expected(content, feeds):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_any_length_of_any_profile_gives_what_onnx_runtime_gives(lab, version):
    engine = lab(version).engine(profiles=THREE)
    assert engine.inputs() == [{"name": "x", "dtype": "float32", "shape": [1, 4, None]}]
    assert engine.outputs() == [{"name": "y", "dtype": "float32", "shape": [1, 8, None]}]
    for length in (2, 64, 9, 8, 33, 32, 2):  # profiles are switched to and fro
        feeds = sample(length, length)
        np.testing.assert_allclose(engine.run(feeds)["y"], expected(models.conv(), feeds), rtol=1e-5, atol=1e-5)
    engine.close()


@pytest.mark.parametrize("version", [BINDINGS, NAMED, ELEVEN])
@pytest.mark.parametrize("length", [1, 65])
def test_a_length_that_no_profile_admits_is_refused_with_those_there_are(lab, version, length):
    engine = lab(version).engine(profiles=THREE)
    with pytest.raises(RuntimeFailure) as raised:
        engine.run(sample(length))
    assert raised.value.kind == "length"
    assert f"no optimization profile admits x [1, 4, {length}]" in raised.value.what
    assert "profile 2: x [1, 4, 33] to [1, 4, 64]" in raised.value.todo


@pytest.mark.parametrize("version", [BINDINGS, NAMED, ELEVEN])
def test_kept_feeds_are_timed_by_device_and_wall(lab, version):
    engine = lab(version).engine(profiles=THREE)
    for length in (4, 40):
        engine.keep(str(length), sample(length))
    for length in (4, 40, 4):
        timed = engine.timed(str(length), 1, 3)
        assert set(timed) == {"wall_ns", "device_ns"}
        assert all(len(values) == 3 and min(values) > 0 for values in timed.values())
    assert len(engine.burst(sample(16), 1, 4)) == 4
    np.testing.assert_allclose(engine.run(sample(40))["y"], expected(models.conv(), sample(40)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", [BINDINGS, NAMED, TEN])
def test_the_outputs_of_a_kept_feed_can_be_read(lab, version):
    engine = lab(version).engine(profiles=THREE)
    for length in (4, 40):
        engine.keep(str(length), sample(length))
    for length in (40, 4, 40):
        engine.timed(str(length), 0, 1)
        truth = expected(models.conv(), sample(length))
        np.testing.assert_allclose(engine.result(str(length))["y"], truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("version", [BINDINGS, NAMED, TEN])
def test_a_feed_that_cannot_be_kept_leaves_the_others_as_they_were(lab, version, monkeypatch):
    """Its shape and addresses were set already when its outputs found no memory."""
    engine = lab(version).engine(profiles=[{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 4000]]}])
    import fake_cuda

    allocate = Cuda.allocate

    def short_of_memory(cuda, size_bytes):
        if size_bytes > 30_000:
            raise RuntimeFailure("run", f"{size_bytes} bytes wanted")
        return allocate(cuda, size_bytes)

    monkeypatch.setattr(Cuda, "allocate", short_of_memory)
    engine.keep("small", sample(8))
    engine.timed("small", 0, 1)
    with pytest.raises(RuntimeFailure, match="48000 bytes wanted"):
        engine.keep("large", sample(1500))
    engine.timed("small", 0, 2)
    truth = expected(models.conv(), sample(8))
    np.testing.assert_allclose(engine.result("small")["y"], truth, rtol=1e-5, atol=1e-5)
    assert not fake_cuda.violations
    with pytest.raises(RuntimeFailure, match="no feed is kept as 'large'"):
        engine.timed("large", 0, 1)


def test_what_is_kept_again_or_closed_is_given_back(lab):
    one = lab(TEN)
    cuda = Cuda()

    def free():
        with cuda.current():
            return cuda.free_bytes()

    before = free()
    engine = one.engine(profiles=WIDE)
    engine.keep("a", sample(64))
    held = free()
    for _ in range(3):
        engine.keep("a", sample(64))
        engine.timed("a", 0, 1)
    assert free() == held < before
    engine.close()
    assert free() == before


class Captured:
    """A CUDA graph as TensorRT's is: it runs what the context was set to when it was captured, if that still holds."""

    made: ClassVar[list[Captured]] = []

    def __init__(self, _stream, enqueue):
        self.events, self.enqueue = ["captured"], enqueue
        assert enqueue()
        self.made.append(self)

    def launch(self, _stream):
        assert "freed" not in self.events, "a graph that was freed is launched"
        self.events.append("launched")
        assert self.enqueue()

    def free(self):
        self.events.append("freed")


def test_a_graph_is_captured_anew_after_another_shape_and_freed(lab, monkeypatch):
    engine = lab(TEN).engine(load={"cuda_graph": True})
    Captured.made = []
    monkeypatch.setattr("harness.runtimes.tensorrt_engine.Graph", Captured)
    for length in (8, 24):
        engine.keep(str(length), sample(length))
    for length in (8, 24, 8):
        assert len(engine.timed(str(length), 1, 2)["device_ns"]) == 2
        truth = expected(models.conv(), sample(length))
        np.testing.assert_allclose(engine.result(str(length))["y"], truth, rtol=1e-5, atol=1e-5)
    launches = ["captured", *["launched"] * 3]
    assert [one.events for one in Captured.made] == [[*launches, "freed"], launches, launches]
    engine.run(sample(40))
    assert len(Captured.made) == 3, "what runs once is not captured"
    engine.close()
    assert all(one.events[-1] == "freed" for one in Captured.made)


def test_several_contexts_at_once(lab):
    engine = lab(TEN).engine()
    engine.keep("both", sample(8), contexts=2)
    timed = engine.timed("both", 1, 3)
    assert set(timed) == {"wall_ns"}
    assert len(timed["wall_ns"]) == 3


@pytest.mark.parametrize("version", CALIBRATING)
@pytest.mark.parametrize("algorithm", ["EntropyCalibration2", "MinMaxCalibration"])
def test_calibrators_consume_every_batch(lab, version, algorithm):
    one = lab(version)
    arrays = [sample(8, seed)["x"] for seed in range(3)]
    facts, path = one.build(flags=["INT8"], algorithm=algorithm, files=one.batches(arrays))
    calibration = facts["calibration"]
    assert (calibration["supplied"], calibration["consumed"], calibration["asked"]) == (3, 3, 4)
    assert re.match(rf"TRT-\d+-{algorithm}\n", calibration["written"])
    assert "INT8" in facts["flags"]
    outputs = one.runtime.load(path, {}).run(sample(8))["y"]
    truth = expected(models.conv(), sample(8))
    assert 0 < np.abs(outputs - truth).max() < 0.1 * np.abs(truth).max()


@pytest.mark.parametrize("algorithm", ["EntropyCalibration", "LegacyCalibration"])
def test_the_older_calibrators(lab, algorithm):
    one = lab("8.6")
    facts, _ = one.build(flags=["INT8"], algorithm=algorithm, files=one.batches([sample(8)["x"]]))
    assert facts["calibration"]["written"].startswith(f"TRT-8601-{algorithm}")


@pytest.mark.parametrize("version", [BINDINGS, NAMED, TEN])
def test_the_profile_that_calibrates_is_named_and_nothing_is_read_beyond_a_buffer(lab, version):
    """Batches have opt's length of the second profile; by default TensorRT would calibrate at the first one's."""
    one = lab(version)
    import fake_cuda

    arrays = [sample(16, seed)["x"] for seed in range(2)]
    facts, _ = one.build(
        profiles=THREE, flags=["INT8"], algorithm="MinMaxCalibration", files=one.batches(arrays),
        calibration_profile=THREE[1],
    )  # fmt: skip
    assert scale(facts, "x") == pytest.approx(np.abs(np.stack(arrays)).max() / 127, rel=1e-6)
    assert not fake_cuda.violations


def scale(facts, name):
    import struct

    digits = dict(line.rsplit(": ", 1) for line in facts["calibration"]["written"].splitlines()[1:])[name]
    return struct.unpack("!f", bytes.fromhex(digits))[0]


def test_ragged_arrays_are_read_as_the_pointer_contract_says(lab):
    """Longer than opt: the first opt-volume elements of the flat array. Shorter: what the one before left follows."""
    one = lab(NAMED)
    import fake_cuda

    long = np.ones((1, 4, 32), np.float32)
    long[0, 0, :] = np.linspace(0, 3, 32)  # rows of 32: the first 32 elements, 4 rows of 8 as they are read
    long[0, 1:, :] = 100.0
    facts, _ = one.build(flags=["INT8"], algorithm="MinMaxCalibration", files=one.batches([long]))
    assert scale(facts, "x") == pytest.approx(3 / 127, rel=1e-6)
    short = [np.full((1, 4, 8), 5, np.float32), np.full((1, 4, 2), 0.5, np.float32)]
    facts, _ = one.build(flags=["INT8"], algorithm="MinMaxCalibration", files=one.batches(short[::-1]))
    assert scale(facts, "x") == pytest.approx(5 / 127, rel=1e-6)
    assert not fake_cuda.violations


@pytest.mark.parametrize(("version", "dtype"), [(BINDINGS, np.int32), ("8.6", np.int32), (TEN, np.int64)])
def test_whole_numbers_are_calibrated_on_as_the_network_takes_them(lab, version, dtype):
    """TensorRT 8 makes int32 of an int64 input: of int64 batches it would read every other word, and half of them."""
    one = lab(version)
    ids = np.array([[5] * 4 + [100] * 4], np.int64)
    table = np.arange(200, dtype=np.float32).reshape(200, 1)
    content = models.model(
        [
            helper.make_node("Gather", ["table", "ids"], ["row"], "gather"),
            helper.make_node("MatMul", ["row", "w"], ["y"], "product"),
        ],
        {"ids": (models.INT64, [1, "T"])},
        {"y": (models.FLOAT, [1, "T", 2])},
        {"table": table, "w": np.ones((1, 2), np.float32)},
    )
    path = one.folder / "ids.npz"
    np.savez(path, **{"0:ids": ids})
    facts, _ = one.build(
        content, [{"ids": [[1, 8]] * 3}], flags=["INT8"], algorithm="MinMaxCalibration", files={"batches": str(path)}
    )
    assert scale(facts, "row") == pytest.approx(100 / 127, rel=1e-6)
    assert one.runtime.load(str(one.folder / "engine"), {}).inputs()[0]["dtype"] == np.dtype(dtype).name


def test_an_exception_in_a_batch_is_the_builds_failure(lab):
    one = lab(NAMED)
    path = one.folder / "batches.npz"
    np.savez(path, **{"0:x": sample(8)["x"], "1:other": sample(8)["x"]})
    with pytest.raises(RuntimeFailure) as raised:
        one.build(flags=["INT8"], algorithm="MinMaxCalibration", files={"batches": str(path)})
    assert raised.value.kind == "calibration"
    assert "batch 1 of 2 failed: KeyError('x')" in raised.value.what


CACHE = "TRT-{}-MinMaxCalibration\nx: 3c8ef0f1\nc: 3d8ef0f1\ny: 3d8ef0f1\n"


@pytest.mark.parametrize(("version", "number"), [(BINDINGS, "8401"), (NAMED, "8503"), (TEN, "101300")])
def test_a_cache_is_used_and_no_data_are_asked_for(lab, version, number):
    one = lab(version)
    files = one.cache(CACHE.format(number))
    facts, path = one.build(flags=["INT8"], algorithm="MinMaxCalibration", files=files)
    assert facts["calibration"]["cache_used"] is True
    assert facts["calibration"]["asked"] == 0
    assert one.runtime.load(path, {}).run(sample(8))["y"].shape == (1, 8, 8)


def test_a_cache_of_another_algorithm_is_no_success(lab):
    one = lab(NAMED)
    with pytest.raises(RuntimeFailure) as raised:
        one.build(flags=["INT8"], algorithm="EntropyCalibration2", files=one.cache(CACHE.format("8503")))
    text = str(raised.value.as_data())
    assert "TRT-8503-MinMaxCalibration" in text or "scaling factors" in text


@pytest.mark.parametrize("version", ["11.0", ELEVEN])
def test_from_11_on_there_are_no_calibrators_and_no_precision_flags(lab, version):
    one = lab(version)
    with pytest.raises(RuntimeFailure, match="no calibrator for 'MinMaxCalibration'") as raised:
        one.build(algorithm="MinMaxCalibration", files=one.batches([sample(8)["x"]]))
    assert "qdq_strong" in raised.value.todo
    with pytest.raises(RuntimeFailure, match="no builder flag 'INT8'") as raised:
        one.build(flags=["INT8"])
    assert "qdq_strong" in raised.value.todo
    assert one.runtime.describe()["routes"] == ["qdq_strong"]


@pytest.mark.parametrize(
    ("version", "routes"),
    [(BINDINGS, ["calibrator", "cache", "qdq"]), (TEN, ["calibrator", "cache", "qdq", "qdq_strong"])],
)
def test_what_a_version_says_of_itself(lab, version, routes):
    said = lab(version).runtime.describe()
    assert said["routes"] == routes
    assert (said["library"], said["device"]) == ("tensorrt", GPU)
    assert said["gpu"]["compute_capability"] == "9.0"


@pytest.mark.parametrize("version", [TEN, ELEVEN])
def test_strongly_typed_networks(lab, version):
    engine = lab(version).engine(models.quantized(), strong=True)
    feeds = sample(8)
    np.testing.assert_allclose(engine.run(feeds)["y"], expected(models.quantized(), feeds), rtol=1e-4, atol=1e-4)


def test_strongly_typed_networks_are_refused_before_they_came(lab):
    with pytest.raises(RuntimeFailure, match=r"8\.5\.3\.1 knows no strongly typed networks"):
        lab(NAMED).build(models.quantized(weight_rank=2), profiles=[{"x": [[1, 4], [8, 4], [64, 4]]}], strong=True)


def test_a_refusal_of_the_parser_is_told_in_its_words(lab):
    one = lab(NAMED)
    with pytest.raises(RuntimeFailure) as raised:
        one.build(models.quantized(), flags=["INT8"])
    assert (raised.value.kind, raised.value.what) == ("build", "the parser refuses this model")
    assert "misaligns with the input kernel shape" in raised.value.detail
    with pytest.raises(RuntimeFailure, match="the parser refuses") as raised:
        one.build(models.quantized(zero=3), flags=["INT8"])
    assert "zeroPt must be all zeros" in raised.value.detail


def test_a_failed_build_gives_the_reason_that_only_the_log_has(lab):
    with pytest.raises(RuntimeFailure, match="the builder refuses this model") as raised:
        lab(NAMED).build(workspace_bytes=16)
    assert "workspace" in raised.value.detail


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ([{"y": [[1], [1], [1]]}], "no input is called 'y'"),
        ([{}], "no shapes for input 'x'"),
        ([{"x": [[1, 4, 9], [1, 4, 8], [1, 4, 64]]}], "min, opt and max do not follow one another"),
        ([{"x": [[1, 4, -2], [1, 4, 8], [1, 4, 64]]}], "x: "),
    ],
)
def test_profiles_are_checked_before_tensorrt_sees_them(lab, profiles, said):
    with pytest.raises(RuntimeFailure) as raised:
        lab(NAMED).build(profiles=profiles)
    assert raised.value.kind == "usage"
    assert said in raised.value.what


@pytest.mark.parametrize(("version", "there"), [(NAMED, False), ("8.6", True), (ELEVEN, True)])
def test_optimization_levels_came_with_8_6(lab, version, there):
    one = lab(version)
    if there:
        assert one.build(optimization_level=1)[0]["seconds"] > 0
    else:
        with pytest.raises(RuntimeFailure, match="no optimization levels"):
            one.build(optimization_level=1)


def test_tactic_sources_by_name(lab):
    one = lab(NAMED)
    one.build(tactic_sources=["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"])
    with pytest.raises(RuntimeFailure, match="no tactic source 'CUBLASS'"):
        one.build(tactic_sources=["CUBLASS"])


@pytest.mark.parametrize("version", [BINDINGS, NAMED, ELEVEN])
def test_timings_are_kept_by_version_gpu_and_build(lab, version):
    one = lab(version)
    one.build()
    folder = Path(one.runtime.cache) / "timing"
    (first,) = folder.iterdir()
    assert first.stat().st_size > 0
    one.build()
    assert len(list(folder.iterdir())) == 1
    one.build(build=1)
    assert len(list(folder.iterdir())) == 2
    one.build(timing_cache=False)
    assert len(list(folder.iterdir())) == 2
    first.write_bytes(b"damaged")
    one.build()
    assert first.read_bytes() != b"damaged"


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_an_engine_that_is_damaged_is_told(lab, content):
    one = lab(NAMED)
    _, path = one.build()
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(RuntimeFailure, match="cannot load this engine") as raised:
        one.runtime.load(path, {})
    assert raised.value.kind == "build"
    assert "build it again" in raised.value.todo


def test_an_engine_of_another_version_or_gpu(tmp_path):
    with loaded("8.5", tmp_path / "a"):
        _, path = Lab(tmp_path).build()
    for version, settings in (("8.6", {}), ("8.5", {"gpu": "Fake A100"})):
        with loaded(version, tmp_path / f"b{version}", **settings):
            with pytest.raises(RuntimeFailure, match="cannot load this engine") as raised:
                TensorRt().load(path, {})
            assert raised.value.detail


def test_a_gpu_that_is_too_small_is_told(lab):
    with pytest.raises(RuntimeFailure) as raised:
        lab(TEN, memory_bytes=4096).engine(profiles=[{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 4096]]}]).run(sample(4096))
    assert raised.value.kind in {"run", "build"}
    assert "memory" in str(raised.value.as_data()).lower()


@pytest.mark.parametrize("version", [NAMED, TEN, ELEVEN])
def test_outputs_whose_shape_the_data_decide(lab, version):
    engine = lab(version).engine(models.nonzero())
    for zeros in (0, 5, 20):
        feeds = sample(8)
        feeds["x"].reshape(-1)[:zeros] = 0
        assert engine.run(feeds)["y"].shape == (3, 32 - zeros)


def test_such_outputs_cannot_be_read_before_8_5(lab):
    engine = lab(BINDINGS).engine(models.nonzero())
    with pytest.raises(RuntimeFailure, match="depends on the data"):
        engine.run(sample(8))


def test_layers_times_and_memory(lab):
    engine = lab(NAMED).engine()
    engine.keep("8", sample(8))
    layers = engine.layers("8")
    assert [layer["Name"] for layer in layers] == ["conv", "relu"]
    times = engine.layer_times("8", 3)
    assert {name: len(values) for name, values in times.items()} == {"conv": 3, "relu": 3}
    engine.timed("8", 1, 2)
    assert {name: len(values) for name, values in times.items()} == {"conv": 3, "relu": 3}, "it is still profiled"
    assert set(engine.memory()) == {"context_bytes", "engine_bytes", "taken_bytes"}
    assert engine.coverage() == {
        "int8": 0, "float": 1, "operators": coverage(layers)["operators"], "in_float": ["conv"],
    }  # fmt: skip
    with pytest.raises(RuntimeFailure, match="no feed is kept as 'other'"):
        engine.layers("other")


def test_a_feed_that_does_not_fit_is_refused_before_the_device_sees_it(lab):
    engine = lab(NAMED).engine()
    for feeds, said in (
        ({"x": np.zeros((1, 5, 8), np.float32)}, "has shape [1, 5, 8]"),
        ({"x": np.zeros((1, 4, 8), np.float64)}, "is float64"),
        ({}, "'x' is missing"),
    ):
        with pytest.raises(RuntimeFailure) as raised:
            engine.run(feeds)
        assert said in raised.value.what


def test_nothing_after_close(lab):
    engine = lab(NAMED).engine()
    engine.close()
    engine.close()
    for call in (lambda: engine.run(sample(8)), engine.layers, engine.memory):
        with pytest.raises(RuntimeFailure, match="closed"):
            call()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}, True),
        ({"Inputs": [{"Format/Datatype": "Row major linear FP32"}], "TacticName": "sm80_xmma_fprop"}, False),
        ({"Inputs": [{"Format": "Linear", "Datatype": "INT8"}]}, True),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}], "TacticName": "sm80_i8i8_i8i32"}, True),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]}, None),
        ({"Weights": {"Type": "Int8", "Count": 9}}, True),
        ({"Name": "conv"}, None),
    ],
)
def test_whether_a_layer_computes_in_int8(layer, said):
    assert is_int8(layer) is said


def test_a_layer_list_that_tells_nothing_is_unknown():
    assert coverage([]) is None
    assert coverage([{"Name": "conv1"}, {"Name": "relu"}]) is None
    some = [{"Name": "conv1"}, {"Name": "conv2", "Weights": {"Type": "Float"}}]
    assert coverage(some) is None, "the one that is not told may be INT8"
    assert json.dumps(coverage([{"Name": "conv1", "Weights": {"Type": "Int8"}}])) == json.dumps(
        {"int8": 1, "float": 0, "operators": {"unknown": 1}, "in_float": []}
    )
