"""Builder configuration, optimization profiles, timing caches."""

from __future__ import annotations

from typing import Any

import fake_cuda

from . import _engine
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
        self._capabilities: list[Any] = []
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

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count: int) -> None:
        self._capabilities = [self.api.enum("ComputeCapability", "NONE")] * count

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        if compute_capability.name == "NONE":
            say(self.api, self.logger, "ERROR", "Compute capability cannot be kNONE")
            return False
        self._capabilities[index] = compute_capability
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self._capabilities[index]

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
