"""Builds that fail, engines that do not load, what an engine tells, execution."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from tests.fake_tensorrt import models, versions

X = np.random.default_rng(5).normal(size=(1, 4, 40)).astype(np.float32)


def reference(model, x):
    return onnxruntime.InferenceSession(model).run(None, {"x": x})[0]


@pytest.fixture
def built(bench):
    """A float conv engine of two adjacent profiles, lengths 2 to 16 and 17 to 64."""

    def make(version="8.6", **settings):
        made = bench(version, **settings)
        made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
        made.profile("x", (1, 4, 17), (1, 4, 32), (1, 4, 64))
        return made, made.engine(made.parsed(models.conv()))

    return make


@pytest.mark.parametrize("version", versions())
def test_every_version_computes(built, version):
    made, engine = built(version)
    np.testing.assert_allclose(made.run(engine, X, profile=1), reference(models.conv(), X), rtol=1e-5, atol=1e-6)
    assert not made.device.violations


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([], "no optimization profile has been defined"),
        ([("z", (1,), (1,), (1,))], "x: dynamic input is missing dimensions in profile 0"),
        ([("x", (1, 5, 2), (1, 5, 4), (1, 5, 8))], "profile has min=5, opt=5, max=5 but tensor has 4"),
        ([("x", (2,), (4,), (8,))], "has 3 dimensions but profile 0 has 1 dimensions"),
    ],
)
def test_profiles_that_only_the_build_refuses(bench, shapes, words):
    made = bench("10.0")
    for one in shapes:
        made.profile(*one)
    assert made.build(made.parsed(models.conv())) is None
    assert words in made.errors


def test_min_0_builds(bench):
    made = bench("10.0")
    made.profile("x", (1, 4, 0), (1, 4, 4), (1, 4, 8))
    assert made.build(made.parsed(models.conv())) is not None


def test_qdq_wants_the_int8_flag_or_a_strongly_typed_network(bench):
    made = bench("10.0")
    made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
    assert made.build(made.parsed(models.quantized())) is None
    assert "int8 is not configured in the builder" in made.errors
    strong = 1 << int(made.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert made.build(made.parsed(models.quantized(), strong)) is not None
    made.config.set_flag(made.trt.BuilderFlag.INT8)
    assert made.build(made.parsed(models.quantized())) is not None
    assert made.build(made.parsed(models.quantized(), strong)) is None
    assert "!config.getFlag(BuilderFlag::kINT8)" in made.errors


def test_too_little_workspace(bench):
    made = bench("8.6")
    made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 64))
    made.config.set_memory_pool_limit(made.trt.MemoryPoolType.WORKSPACE, 8 * 64 * 4 - 1)
    assert made.build(made.parsed(models.conv())) is None
    assert "within workspace limit: 2048 bytes wanted" in made.errors


def test_an_engine_of_another_version_or_gpu_or_none(built, bench):
    made, engine = built("8.6")
    plan = bytes(engine.serialize())
    assert made.trt.Runtime(made.log).deserialize_cuda_engine(plan) is not None
    for damaged in (b"", b"no engine", plan[:-1], plan[:200] + b"\0" + plan[201:]):
        assert made.trt.Runtime(made.log).deserialize_cuda_engine(damaged) is None
    assert "Magic tag does not match" in made.errors
    assert "checksum" in made.errors
    other = bench("8.5")
    assert other.trt.Runtime(other.log).deserialize_cuda_engine(plan) is None
    assert "expecting library version 8.5.3.1 got 8.6.1" in other.errors
    elsewhere = bench("8.6", gpu="Fake A10", compute_capability=(8, 6))
    assert elsewhere.trt.Runtime(elsewhere.log).deserialize_cuda_engine(plan) is None
    assert "expecting compute 8.6 got compute 9.0" in elsewhere.errors


def test_host_memory_is_a_buffer_alone(built, tmp_path):
    _, engine = built()
    plan = engine.serialize()
    assert memoryview(plan).nbytes == plan.nbytes == len(bytes(plan))
    assert (tmp_path / "plan").write_bytes(plan) == plan.nbytes
    for wrong in (lambda: len(plan), lambda: plan[0], lambda: list(plan)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        plan.decode()


def test_tensors_by_name(built):
    made, engine = built("10.0")
    trt = made.trt
    assert [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)] == ["x", "y"]
    assert [engine.get_tensor_mode(n) for n in "xy"] == [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]
    assert engine.get_tensor_dtype("x") == trt.float32
    assert tuple(engine.get_tensor_shape("y")) == (1, 8, -1)
    assert [tuple(s) for s in engine.get_tensor_profile_shape("x", 1)] == [(1, 4, 17), (1, 4, 32), (1, 4, 64)]
    assert engine.get_tensor_profile_shape("x", 2) == []
    assert engine.num_optimization_profiles == 2
    assert engine.device_memory_size == engine.get_device_memory_size_for_profile(1) == 2 * 8 * 64 * 4
    assert engine.get_device_memory_size_for_profile(0) == 2 * 8 * 16 * 4


def test_bindings_have_one_set_a_profile(built):
    _, engine = built("8.4")
    assert [engine.get_binding_name(i) for i in range(engine.num_bindings)] == [
        "x",
        "y",
        "x [profile 1]",
        "y [profile 1]",
    ]
    assert [engine.binding_is_input(i) for i in range(4)] == [True, False, True, False]
    assert engine.get_binding_index("y [profile 1]") == 3
    assert engine.get_binding_index("z") == -1
    assert [tuple(s) for s in engine.get_profile_shape(1, 2)] == [(1, 4, 17), (1, 4, 32), (1, 4, 64)]


def test_bindings_of_another_profile_are_refused(built):
    made, engine = built("8.4")
    context, stream = engine.create_execution_context(), made.driver.Stream()
    assert not context.set_binding_shape(2, (1, 4, 20))
    assert "profile 0 is active" in made.errors
    assert context.set_optimization_profile_async(1, stream.handle)
    assert context.set_binding_shape(2, (1, 4, 20))
    assert tuple(context.get_binding_shape(3)) == (1, 8, 20)
    assert not context.execute_async_v2([0, 0], stream.handle)
    assert "2 bindings given, 4 read" in made.device.violations


def test_shapes_outside_the_profile(built):
    made, engine = built("8.5")
    context, stream = engine.create_execution_context(), made.driver.Stream()
    for shape in ((1, 4, 1), (1, 4, 17), (1, 5, 8), (1, 4)):
        assert context.set_input_shape("x", shape) is False
    assert "does not satisfy any optimization profile" in made.errors
    assert context.set_input_shape("nobody", (1,)) is False
    assert context.infer_shapes() == ["x"]
    assert tuple(context.get_tensor_shape("y")) == (1, 8, -1)
    assert context.set_input_shape("x", (1, 4, 16))
    assert tuple(context.get_tensor_shape("y")) == (1, 8, 16)
    assert context.set_optimization_profile_async(1, stream.handle)
    assert context.infer_shapes() == ["x"]
    assert context.set_optimization_profile_async(2, stream.handle) is False
    assert context.active_optimization_profile == 1


def test_what_an_execution_lacks(built):
    made, engine = built("10.0")
    context, handle = engine.create_execution_context(), made.driver.Stream().handle
    x = made.on_device(X)
    assert not context.execute_async_v3(handle)
    assert "allInputDimensionsSpecified" in made.errors
    context.set_optimization_profile_async(1, handle)
    context.set_input_shape("x", X.shape)
    context.set_tensor_address("x", int(x))
    assert not context.execute_async_v3(handle)
    assert "Neither address or allocator is set for tensor y" in made.errors
    small = made.driver.mem_alloc(8 * 40 * 4 - 1)
    context.set_tensor_address("y", int(small))
    assert not context.execute_async_v3(handle)
    assert "output y: 1280 bytes" in made.device.violations[0]
    with pytest.raises(AttributeError):
        context.active_optimization_profile = 0


def test_an_output_whose_shape_the_data_decides(bench):
    made = bench("10.0")
    made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
    engine = made.engine(made.parsed(models.nonzero()))
    context, handle = engine.create_execution_context(), made.driver.Stream().handle
    context.set_input_shape("x", (1, 4, 8))
    assert tuple(context.get_tensor_shape("y")) == (3, -1)
    x = np.zeros((1, 4, 8), np.float32)
    x[0, 2, [3, 5]] = 1
    calls = []

    class Allocator(made.trt.IOutputAllocator):
        def __init__(self):
            made.trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, tensor_name, _memory, size, _alignment):
            self.memory = made.driver.mem_alloc(size)
            calls.append((tensor_name, size))
            return int(self.memory)

        def notify_shape(self, tensor_name, shape):
            calls.append((tensor_name, tuple(shape)))

    allocator, memory = Allocator(), made.on_device(x)
    context.set_tensor_address("x", int(memory))
    assert context.set_output_allocator("y", allocator)
    assert context.execute_async_v3(handle), made.errors
    assert calls == [("y", 3 * 2 * 8), ("y", (3, 2))]
    out = np.empty((3, 2), np.int64)
    made.driver.memcpy_dtoh(out, allocator.memory)
    assert out.tolist() == [[0, 0], [2, 2], [3, 5]]


def test_one_profile_has_one_context_before_9(built):
    made, engine = built("8.5")
    first, second = engine.create_execution_context(), engine.create_execution_context()
    assert (first.active_optimization_profile, second.active_optimization_profile) == (0, -1)
    assert second.set_optimization_profile_async(0, 0) is False
    assert "chosen by another IExecutionContext" in made.errors
    assert second.set_optimization_profile_async(1, 0)
    made, engine = built("10.0")
    contexts = [engine.create_execution_context() for _ in range(2)]
    assert [c.active_optimization_profile for c in contexts] == [0, 0]


def test_memory_of_engines_and_contexts_counts(built):
    # Weights take 8 * 4 * 3 * 4 bytes, a context 2 * 8 * 64 * 4.
    made, engine = built("10.0", memory_bytes=384 + 4096 + 1000)
    free = made.driver.mem_get_info()[0]
    context = engine.create_execution_context()
    assert free - made.driver.mem_get_info()[0] == engine.device_memory_size == 4096
    assert engine.create_execution_context() is None
    assert "OutOfMemory" in made.errors
    with pytest.raises(made.driver.MemoryError):
        made.driver.mem_alloc(1001)
    del context
    assert made.driver.mem_get_info()[0] == free
    assert engine.create_execution_context() is not None


def test_fp16_rounds_the_weights(built, bench):
    made, engine = built()
    exact = made.run(engine, X, profile=1)
    half = bench("8.6")
    half.profile("x", (1, 4, 17), (1, 4, 32), (1, 4, 64))
    half.config.set_flag(half.trt.BuilderFlag.FP16)
    rounded = half.run(half.engine(half.parsed(models.conv())), X)
    assert 0 < np.abs(rounded - exact).max() < 0.02


def test_the_inspector(bench):
    for version, ends in (("8.5", "Bindings"), ("8.6", "Bindings"), ("11.4", "I/O Tensors")):
        made = bench(version)
        made.profile("x", (2, 4), (8, 4), (16, 4))
        made.config.profiling_verbosity = made.trt.ProfilingVerbosity.DETAILED
        if hasattr(made.trt.BuilderFlag, "INT8"):
            made.config.set_flag(made.trt.BuilderFlag.INT8)
        engine = made.engine(made.parsed(models.quantized(weight_rank=2)))
        text = engine.create_engine_inspector().get_engine_information(made.trt.LayerInformationFormat.JSON)
        if version != "8.5":
            with pytest.raises(ValueError, match="control character"):
                json.loads(text)
        found = json.loads(text, strict=False)
        assert set(found) == {"Layers", ends}
        product = next(layer for layer in found["Layers"] if layer["Name"] == "product")
        assert product["Weights"]["Type"] == "Int8"
        if ends == "Bindings":
            assert product["Inputs"][0]["Format/Datatype"] == "N/A due to dynamic shapes"


def test_layers_are_names_alone_unless_the_build_was_detailed(built):
    made, engine = built()
    text = engine.create_engine_inspector().get_engine_information(made.trt.LayerInformationFormat.JSON)
    assert json.loads(text)["Layers"] == ["conv", "relu"]
    assert engine.num_layers == 2


def test_the_profiler(built):
    made, engine = built()
    times = []

    class Profiler(made.trt.IProfiler):
        def __init__(self):
            made.trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name, ms):
            times.append((layer_name, ms))

    context = engine.create_execution_context()
    context.profiler = Profiler()
    memory, target = made.on_device(X[..., :8]), made.driver.mem_alloc(8 * 8 * 4)
    context.set_input_shape("x", (1, 4, 8))
    context.set_tensor_address("x", int(memory))
    context.set_tensor_address("y", int(target))
    assert context.execute_async_v3(0)
    assert [name for name, _ in times] == ["conv", "relu"]
    context.enqueue_emits_profile = False
    assert context.execute_async_v3(0)
    assert len(times) == 2
    assert context.report_to_profiler()
    assert len(times) == 4


def test_timing_caches(bench):
    made = bench("8.6")
    made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
    cache = made.config.create_timing_cache(b"")
    assert made.config.set_timing_cache(cache, False)
    network = made.parsed(models.conv())
    assert made.build(network) is not None
    kept = bytes(made.config.get_timing_cache().serialize())
    assert made.config.set_timing_cache(made.config.create_timing_cache(kept), False)
    other = bench("8.5")
    assert not other.config.set_timing_cache(other.config.create_timing_cache(kept), False)
    assert "another TensorRT version" in other.warnings


def test_a_build_that_is_cancelled(bench):
    made = bench("10.0")
    events = []

    class Monitor(made.trt.IProgressMonitor):
        def __init__(self):
            made.trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name, _parent_phase, _num_steps):
            events.append(phase_name)

        def step_complete(self, _phase_name, _step):
            return False

        def phase_finish(self, phase_name):
            events.append(phase_name)

    made.config.progress_monitor = Monitor()
    made.profile("x", (1, 4, 2), (1, 4, 8), (1, 4, 16))
    assert made.build(made.parsed(models.conv())) is None
    assert "BuildCanceled" in made.errors
    assert events == ["Building engine"] * 2
