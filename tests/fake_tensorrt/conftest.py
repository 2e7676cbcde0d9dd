"""A version of the stand-in in this process, with its device ready."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.fake_tensorrt import loaded


class Bench:
    """One version, its device, a logger that keeps, and the steps of a build."""

    def __init__(self, trt: Any) -> None:
        import fake_cuda
        from pycuda import driver

        self.trt, self.driver, self.device = trt, driver, fake_cuda
        driver.init()
        driver.Device(0).retain_primary_context().push()
        outer = self

        class Log(trt.ILogger):
            def __init__(self):
                trt.ILogger.__init__(self)

            def log(self, severity, message):
                outer.lines.append((severity.name, message))

        self.lines: list[tuple[str, str]] = []
        self.log = Log()
        self.builder = trt.Builder(self.log)
        self.config = self.builder.create_builder_config()

    @property
    def errors(self):
        return "\n".join(text for severity, text in self.lines if severity == "ERROR")

    @property
    def warnings(self):
        return "\n".join(text for severity, text in self.lines if severity == "WARNING")

    def network(self, flags=None):
        explicit = getattr(self.trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        if flags is None:
            flags = 0 if explicit is None else 1 << int(explicit)
        return self.builder.create_network(flags)

    def parsed(self, model, flags=None):
        network = self.network(flags)
        parser = self.trt.OnnxParser(network, self.log)
        assert parser.parse(model), self.errors
        return network

    def refusal(self, model):
        """What the parser says of a model that it refuses."""
        parser = self.trt.OnnxParser(self.network(), self.log)
        assert not parser.parse(model)
        assert parser.num_errors == 1
        return parser.get_error(0).desc()

    def profile(self, name, *shapes, config=None):
        profile = self.builder.create_optimization_profile()
        profile.set_shape(name, *shapes)
        (config or self.config).add_optimization_profile(profile)
        return profile

    def build(self, network):
        return self.builder.build_serialized_network(network, self.config)

    def engine(self, network):
        plan = self.build(network)
        assert plan is not None, self.errors
        engine = self.trt.Runtime(self.log).deserialize_cuda_engine(plan)
        assert engine is not None, self.errors
        return engine

    def on_device(self, array, size=0):
        """A copy of an array in device memory of its size, or of ``size`` bytes."""
        memory = self.driver.mem_alloc(size or array.nbytes)
        self.driver.memcpy_htod(memory, np.ascontiguousarray(array))
        return memory

    def calibrator(self, batches, cache=None, kind="IInt8MinMaxCalibrator", size=0):
        """One that hands over these arrays, each in memory of its own, and keeps what it is asked and given."""
        base = getattr(self.trt, kind)
        outer = self

        class Calibrator(base):
            def __init__(self):
                base.__init__(self)
                self.left = iter(batches)
                self.kept, self.names, self.written = [], [], None

            def get_batch_size(self):
                return 1

            def get_batch(self, names):
                self.names.append(names)
                batch = next(self.left, None)
                if batch is None:
                    return None
                self.kept.append(outer.on_device(batch, size))
                return [int(self.kept[-1])]

            def read_calibration_cache(self):
                return cache

            def write_calibration_cache(self, text):
                self.written = bytes(text).decode()

        made = Calibrator()
        self.config.set_flag(self.trt.BuilderFlag.INT8)
        self.config.int8_calibrator = made
        return made

    def run(self, engine, x, profile=0):
        """The output ``y`` of an engine whose input is ``x``, by the API that the version has."""
        context = engine.create_execution_context()
        memory, stream = self.on_device(x), self.driver.Stream()
        assert context.set_optimization_profile_async(profile, stream.handle)
        if hasattr(engine, "num_io_tensors"):
            assert context.set_input_shape("x", x.shape), self.errors
            out = np.empty(tuple(context.get_tensor_shape("y")), np.float32)
            target = self.driver.mem_alloc(out.nbytes)
            assert context.set_tensor_address("x", int(memory))
            assert context.set_tensor_address("y", int(target))
            assert context.execute_async_v3(stream.handle), self.errors
        else:
            first = profile * 2
            assert context.set_binding_shape(first, x.shape), self.errors
            out = np.empty(tuple(context.get_binding_shape(first + 1)), np.float32)
            target = self.driver.mem_alloc(out.nbytes)
            bindings = [0] * engine.num_bindings
            bindings[first : first + 2] = [int(memory), int(target)]
            assert context.execute_async_v2(bindings, stream.handle), self.errors
        self.driver.memcpy_dtoh_async(out, target, stream)
        stream.synchronize()
        return out


@pytest.fixture
def bench(tmp_path):
    """Make a bench of a version: ``bench("8.6")``. All that were made are unloaded in the end."""
    open_now = []

    def make(version="8.6", **settings):
        block = loaded(version, tmp_path / f"{version}-{len(open_now)}", **settings)
        trt = block.__enter__()
        open_now.append(block)
        return Bench(trt)

    yield make
    for block in reversed(open_now):
        block.__exit__(None, None, None)
