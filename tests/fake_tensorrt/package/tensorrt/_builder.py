"""The builder: what it checks, what it calibrates, and why it gives None."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import Any

import fake_cuda

from . import _calibration, _engine, _graph
from ._config import Config, Profile
from ._execution import session
from ._network import Network
from ._speaking import say


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
        if fake_cuda.poison:
            raise BuildFailed(
                f"1: [caskUtils.cpp::createCaskHardwareInfo] Error Code 1: Cuda Runtime ({fake_cuda.poison})"
            )
        if not network.outputs:
            raise BuildFailed(
                "4: [network.cpp::validate::2921] Error Code 4: Internal Error (Network must have at least one output)"
            )
        self._progress(config)
        profiles = self._profiles(network, config)
        self._check_precision(network, config)
        if fake_cuda.SETTINGS["victim"] in ("", model.graph.name):
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
