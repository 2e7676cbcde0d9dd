"""Builder, builder configuration, optimization profiles, timing caches."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import Any

import fake_cuda

from . import _calibration, _engine, _graph
from ._execution import session
from ._network import Network
from ._speaking import say


class Profile:
    """What a builder's ``create_optimization_profile`` gives."""

    def __init__(self, api: Any, logger: Any) -> None:
        self.api, self.logger = api, logger
        self.extra_memory_target = 1.0
        self.shapes: dict[str, list[tuple[int, ...]]] = {}
        self.values: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, *shapes: Any) -> None:
        for word, shape in zip(("min", "opt", "max"), shapes):
            if any(n < 0 for n in shape):
                say(self.api, self.logger, "ERROR", "IOptimizationProfile::setDimensions: Error Code 3: API Usage Error "
                    "(Parameter check failed, condition: std::all_of(dims.d, dims.d + dims.nbDims, x >= 0).)")  # fmt: skip
                raise RuntimeError(f"Shape provided for {word} is inconsistent with other shapes.")
        self.shapes[name] = [tuple(shape) for shape in shapes]

    def set_shape_input(self, name: str, *values: Any) -> None:
        self.values[name] = [list(v) for v in values]

    def get_shape(self, name: str) -> list[Any]:
        if name not in self.shapes:
            say(self.api, self.logger, "ERROR", f"IOptimizationProfile::getDimensions: Error Code 4: API Usage Error (Cannot "
                f"get dimensions for input: {name}. Input is not present in this OptimizationProfile)")  # fmt: skip
            return []
        return [self.api.classes["Dims"](shape) for shape in self.shapes[name]]

    def get_shape_input(self, name: str) -> list[list[int]]:
        return self.values.get(name, [])

    def wrong(self) -> list[str]:
        """Inputs whose shapes do not satisfy min <= opt <= max."""
        names = []
        for name, triple in (*self.shapes.items(), *self.values.items()):
            low, opt, high = triple
            if not len(low) == len(opt) == len(high) or not all(a <= b <= c for a, b, c in zip(low, opt, high)):
                names.append(name)
        return names

    def __bool__(self) -> bool:
        wrong = self.wrong()
        if wrong:
            say(self.api, self.logger, "ERROR", "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid "
                f"optimization profiles for input tensors {', '.join(wrong)}, please ensure that the optimization profiles "
                "satisfy MIN<=OPT<=MAX.)")  # fmt: skip
        return not wrong


class TimingCache:
    def __init__(self, api: Any, heading: bytes, keys: set[str]) -> None:
        self.api, self.heading, self.keys = api, heading, keys

    def serialize(self) -> Any:
        return _engine.host_memory(self.api, self.heading + b"\n" + "\n".join(sorted(self.keys)).encode())

    def combine(self, other: Any, ignore_mismatch: bool) -> bool:
        if other._state.heading != self.heading and not ignore_mismatch:
            return False
        self.keys |= other._state.keys
        return True

    def reset(self) -> bool:
        self.keys.clear()
        return True


class Config:
    def __init__(self, api: Any, logger: Any) -> None:
        self.api, self.logger = api, logger
        self.reset()

    def reset(self) -> None:
        self.flags = 1 << int(self.api.enum("BuilderFlag", "TF32"))
        self.profiles: list[Profile] = []
        self.calibration_profile: Profile | None = None
        self.timing_cache: TimingCache | None = None
        self.int8_calibrator = self.progress_monitor = self.algorithm_selector = self.error_recorder = None
        self.avg_timing_iterations, self.min_timing_iterations = 1, 1
        self.profile_stream, self.max_aux_streams, self.max_num_tactics = 0, -1, -1
        self.quantization_flags, self.DLA_core, self.plugins_to_serialize = 0, -1, []
        self._level = 3
        self._pools: dict[str, int] = {}
        self._tactics = (1 << len(self.api.classes["TacticSource"].__members__)) - 1
        self._previews: set[str] = set()
        self.profiling_verbosity = self.api.enum("ProfilingVerbosity", "LAYER_NAMES_ONLY")
        self.engine_capability = self.api.enum("EngineCapability", "STANDARD")
        self.default_device_type = self.api.enum("DeviceType", "GPU")
        if self.api.has("HardwareCompatibilityLevel"):
            self.hardware_compatibility_level = self.api.enum("HardwareCompatibilityLevel", "NONE")

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._level = min(max(level, 0), 5)  # 9 is taken for 5 (seen in TensorRT-RTX 1.7)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    @property
    def max_workspace_size(self) -> int:
        return self._pools.get("WORKSPACE", fake_cuda.total_bytes())

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self._pools["WORKSPACE"] = size

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def has(self, name: str) -> bool:
        member = self.api.enum("BuilderFlag", name)
        return member is not None and self.get_flag(member)

    def set_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag: Any) -> None:
        self.quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag: Any) -> bool:
        return bool(self.quantization_flags >> int(flag) & 1)

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        (self._previews.add if enable else self._previews.discard)(feature.name)

    def get_preview_feature(self, feature: Any) -> bool:
        return feature.name in self._previews

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, fake_cuda.total_bytes())

    def set_tactic_sources(self, sources: int) -> bool:
        self._tactics = sources
        return True

    def get_tactic_sources(self) -> int:
        return self._tactics

    def set_calibration_profile(self, profile: Any) -> bool:
        self.calibration_profile = profile._state
        return True

    def get_calibration_profile(self) -> Any:
        return self.api.wrap("IOptimizationProfile", self.calibration_profile)

    def add_optimization_profile(self, profile: Any) -> int:
        if not profile._state:
            say(self.api, self.logger, "ERROR", "IBuilderConfig::addOptimizationProfile: Error Code 3: API Usage Error (Parameter "
                "check failed, condition: profile->isValid().)")  # fmt: skip
            return -1
        self.profiles.append(profile._state)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: Any) -> Any:
        heading, _, keys = bytes(memoryview(serialized)).partition(b"\n")
        heading = heading or timing_heading(self.api)
        return self.api.wrap(
            "ITimingCache", TimingCache(self.api, heading, set(keys.decode("utf-8", "replace").split()))
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._state.heading != timing_heading(self.api) and not ignore_mismatch:
            say(
                self.api,
                self.logger,
                "WARNING",
                "Timing cache was made by another TensorRT version or on another device: it is not used",
            )
            return False
        self.timing_cache = cache._state
        return True

    def get_timing_cache(self) -> Any:
        return self.api.wrap("ITimingCache", self.timing_cache)


def timing_heading(api: Any) -> bytes:
    return f"fake timing cache {api.version} {fake_cuda.SETTINGS['gpu']}".encode()


class BuildFailed(Exception):
    """Its text is what goes to the log."""


class Builder:
    def __init__(self, api: Any, logger: Any) -> None:
        if fake_cuda.tensorrt_came_late and api.release[:2] == (8, 5):
            os.kill(os.getpid(), signal.SIGSEGV)  # seen in 8.5.3.1, every time
        self.api, self.logger = api, logger
        self.max_threads, self.max_batch_size, self.error_recorder = 1, 1, None
        self.max_DLA_batch_size, self.num_DLA_cores = 1, 0
        self.platform_has_fast_fp16 = self.platform_has_fast_int8 = self.platform_has_tf32 = True

    def reset(self) -> None:
        pass

    def create_network(self, flags: int) -> Any:
        return self.api.wrap("INetworkDefinition", Network(self.api, self, flags))

    def create_builder_config(self) -> Any:
        return self.api.wrap("IBuilderConfig", Config(self.api, self.logger))

    def create_optimization_profile(self) -> Any:
        return self.api.wrap("IOptimizationProfile", Profile(self.api, self.logger))

    def is_network_supported(self, network: Any, config: Any) -> bool:
        return True

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        try:
            plan = self._build(network._state, config._state)
        except (BuildFailed, _calibration.CalibrationFailed) as failure:
            say(self.api, self.logger, "ERROR", str(failure))
            say(self.api, self.logger, "ERROR", "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion "
                "engine != nullptr failed. )")  # fmt: skip
            return None
        return _engine.host_memory(self.api, plan)

    def build_engine(self, network: Any, config: Any) -> Any:
        plan = self.build_serialized_network(network, config)
        return None if plan is None else _engine.Runtime(self.api, self.logger).deserialize_cuda_engine(plan)

    build_engine_with_config = build_engine

    def _build(self, network: Network, config: Config) -> bytes:
        model = network.model
        if not network.outputs:
            raise BuildFailed(
                "4: [network.cpp::validate::2921] Error Code 4: Internal Error (Network must have at least one output)"
            )
        self._progress(config)
        profiles = self._profiles(network, config)
        self._check_precision(network, config)
        time.sleep(float(fake_cuda.SETTINGS["build_seconds"]))
        if fake_cuda.SETTINGS["crash"] == "build":
            os.kill(os.getpid(), signal.SIGSEGV)
        quantized: list[str] = []
        calibrator = config.int8_calibrator
        if config.has("INT8") and _graph.is_quantized(model):
            if calibrator is not None:
                self._say("WARNING", "Calibrator won't be used in explicit precision mode. Use quantization aware training to generate "
                          "network with Quantize/Dequantize nodes.")  # fmt: skip
        elif config.has("INT8") and calibrator is None:
            self._say(
                "WARNING",
                "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32 or Bool.",
            )
        elif config.has("INT8"):
            model, quantized = self._calibrated(network, config, profiles)
        if config.has("FP16"):
            model = _graph.with_half_weights(model)
        largest = total = 0
        for shapes in profiles:
            every, one = _graph.activation_bytes(network.model, {name: triple[2] for name, triple in shapes.items()})
            largest, total = max(largest, one), max(total, every)
        if largest > config.max_workspace_size:
            # The stand-in's rule: a tactic wants as much workspace as its output has bytes.
            raise BuildFailed("10: [optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation "
                              f"for node {network.layers[0].name} within workspace limit: {largest} bytes wanted.)")  # fmt: skip
        try:
            session(model.SerializeToString())
        except Exception as error:
            raise BuildFailed(f"10: [optimizer.cpp::computeCosts] Error Code 10: Internal Error ({error})") from None
        if config.timing_cache is not None:
            for layer in network.layers:
                config.timing_cache.keys.add(hashlib.sha256(layer.node.SerializeToString()).hexdigest()[:16])
        return _engine.write_plan(self.api, network, config, model, profiles, quantized, total)

    def _calibrated(self, network: Network, config: Config, profiles: list[Any]) -> tuple[Any, list[str]]:
        opt = {name: triple[1] for name, triple in profiles[0].items()}
        if config.calibration_profile is not None:
            given = config.calibration_profile.shapes
            opt = {name: tuple(given[name][1]) if name in given else shape for name, shape in opt.items()}
        elif any(-1 in tensor._shape for tensor in network.inputs):
            self._say("WARNING", "Calibration Profile is not defined. Calibrating with Profile 0")
        inputs = {t.name: (t._dtype, opt[t.name]) for t in network.inputs}
        scales = _calibration.scales_of(
            self.api, config.int8_calibrator, network.model, inputs, lambda text: self._say("WARNING", text)
        )
        model, quantized, missing = _graph.with_scales(network.model, scales)
        for name in missing:
            self._say("WARNING", f"Missing scale and zero-point for tensor {name}, expect fall back to non-int8 implementation for any "
                      "layer consuming or producing given tensor")  # fmt: skip
        return model, quantized

    def _profiles(self, network: Network, config: Config) -> list[dict[str, list[tuple[int, ...]]]]:
        """For each profile, every input's min, opt and max. A static network has one."""
        dynamic = [t for t in network.inputs if -1 in t._shape or t.is_shape_tensor]
        if dynamic and not config.profiles:
            raise BuildFailed("4: [network.cpp::validate::3022] Error Code 4: Internal Error (Network has dynamic or shape inputs, but no "
                              "optimization profile has been defined.)")  # fmt: skip
        found = []
        for index, profile in enumerate(config.profiles or [Profile(self.api, self.logger)]):
            complete = {}
            for tensor in network.inputs:
                triple = profile.shapes.get(tensor.name)
                if tensor.is_shape_tensor and tensor.name not in profile.values:
                    raise BuildFailed(
                        f"4: Error Code 4: API Usage Error ({tensor.name}: shape input is missing values in profile {index}.)"
                    )
                if triple is None:
                    if -1 in tensor._shape:
                        raise BuildFailed("4: [network.cpp::validate::3029] Error Code 4: Internal Error "
                                          f"({tensor.name}: dynamic input is missing dimensions in profile {index}.)")  # fmt: skip
                    triple = [tuple(tensor._shape)] * 3
                if len(triple[0]) != len(tensor._shape):
                    raise BuildFailed(f"Error Code 4: API Usage Error (Dynamic-shaped input tensor {tensor.name} has {len(tensor._shape)} "
                                      f"dimensions but profile {index} has {len(triple[0])} dimensions.)")  # fmt: skip
                for axis, size in enumerate(tensor._shape):
                    ends = [shape[axis] for shape in triple]
                    if size != -1 and any(end != size for end in ends):
                        raise BuildFailed(f"Error Code 4: API Usage Error (Dimension mismatch for tensor {tensor.name} and profile {index}. "
                                          f"At dimension axis {axis}, profile has min={ends[0]}, opt={ends[1]}, max={ends[2]} but tensor has "
                                          f"{size}.)")  # fmt: skip
                complete[tensor.name] = [tuple(shape) for shape in triple]
            found.append(complete)
        return found

    def _check_precision(self, network: Network, config: Config) -> None:
        if network.strongly_typed:
            for name in ("INT8", "FP16", "BF16", "FP8", "INT4"):
                if config.has(name):
                    raise BuildFailed("3: IBuilder::buildSerializedNetwork: Error Code 3: API Usage Error (Parameter check failed, condition: "
                                      f"!config.getFlag(BuilderFlag::k{name}). A strongly typed network takes its types from the model.)")  # fmt: skip
        elif _graph.is_quantized(network.model) and not config.has("INT8"):
            raise BuildFailed("4: [network.cpp::validate::2722] Error Code 4: Internal Error (Int8 precision has been set for a layer or layer "
                              "output, but int8 is not configured in the builder)")  # fmt: skip

    def _progress(self, config: Config) -> None:
        monitor = config.progress_monitor
        if monitor is None:
            return
        monitor.phase_start("Building engine", None, 2)
        going = monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        if not going:
            raise BuildFailed("IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user")

    def _say(self, severity: str, message: str) -> None:
        say(self.api, self.logger, severity, message)
