"""Execution contexts: shapes, addresses, profiles, output allocators, execution by ONNX Runtime."""

from __future__ import annotations

import ctypes
import time
import weakref
from typing import Any

import numpy as np

import fake_cuda

from ._execution import NUMPY, converted, session, zeros
from ._speaking import say


class Context:
    def __init__(self, api: Any, engine: Any, owns_memory: bool, config: Any = None) -> None:
        self.api, self.engine_state, self.config = api, engine, config
        size = engine.device_memory_size if owns_memory else 0
        fake_cuda.reserve(size)
        weakref.finalize(self, fake_cuda.release, size)
        self.lacks_memory = not owns_memory and engine.device_memory_size > 0
        self.running = session(engine.model)
        self.name, self.debug_sync, self.enqueue_emits_profile = "", False, True
        self.profiler = self.error_recorder = self.temporary_allocator = None
        self.nvtx_verbosity, self.persistent_cache_limit = engine.profiling_verbosity, 0
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self.probed: dict[Any, dict[str, tuple[int, ...]]] = {}
        self.last_ms: float | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._profile = -1
        self._take(0)

    @property
    def engine(self) -> Any:
        return self.api.wrap("ICudaEngine", self.engine_state)

    @property
    def device_memory(self) -> int:
        return 0

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        self.set_device_memory(address, self.engine_state.device_memory_size)

    def set_device_memory(self, memory: int, size: int) -> None:
        fake_cuda.view(memory, size, "set_device_memory")
        self.lacks_memory = size < self.engine_state.device_memory_size

    # profiles

    def _take(self, index: int) -> bool:
        taken = self.engine_state.taken
        holder = taken.get(index)
        shared = self.api.release[0] >= 9 or self.engine_state.plan["sharing"]
        if holder is not None and holder() not in (None, self) and not shared:
            return False
        if self._profile in taken and taken[self._profile]() is self:
            del taken[self._profile]
        taken[index] = weakref.ref(self)
        self._profile = index
        profile = self.engine_state.profiles[index]
        self.shapes = {
            n: tuple(t["shape"]) for n, t in self.engine_state.tensors.items() if t["input"] and -1 not in t["shape"]
        }
        self.output_shapes = {}
        assert set(profile) >= set(self.shapes)
        return True

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, index: int) -> None:
        if not self.set_optimization_profile_async(index, 0):
            raise RuntimeError(f"Error in set optimization profile. profile index: {index}")

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if not 0 <= profile_index < len(self.engine_state.profiles):
            return self._refuse(f"setOptimizationProfileAsync: Error Code 3: API Usage Error (Parameter check failed, condition: "
                                f"profileIndex >= 0 && profileIndex < mEngine.getNbOptimizationProfiles(). {profile_index})")  # fmt: skip
        if profile_index == self._profile:
            return True
        if not self._take(profile_index):
            return self._refuse(f"Profile {profile_index} has been chosen by another IExecutionContext. Use another profileIndex or "
                                "destroy the IExecutionContext that use this profile.")  # fmt: skip
        return True

    # shapes

    def set_input_shape(self, name: str, shape: Any) -> bool:
        tensor = self.engine_state.tensors.get(name)
        if tensor is None or not tensor["input"]:
            return self._refuse(
                f"3: [executionContext.cpp::setInputShape::2010] Error Code 3: API Usage Error (Given invalid tensor name: {name}.)"
            )
        if self._profile < 0:
            return self._refuse("3: Error Code 3: API Usage Error (no optimization profile has been set)")
        low, _, high = self.engine_state.profiles[self._profile][name]
        wanted = tuple(shape)
        if len(wanted) != len(low) or not all(a <= b <= c for a, b, c in zip(low, wanted, high)):
            return self._refuse("3: [executionContext.cpp::setInputShape::2257] Error Code 3: API Usage Error (Parameter check failed at: "
                                "runtime/api/executionContext.cpp::setInputShape::2257, condition: satisfyProfile Runtime dimension does not "
                                f"satisfy any optimization profile. {name}: {list(wanted)}, profile {self._profile} has {low} to {high})")  # fmt: skip
        self.shapes[name] = wanted
        self.output_shapes = {}
        return True

    def infer_shapes(self) -> list[str]:
        return [n for n, t in self.engine_state.tensors.items() if t["input"] and n not in self.shapes]

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self.infer_shapes()

    all_shape_inputs_specified = True

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self.engine_state.tensors.get(name)
        if tensor is None:
            self._refuse(f"3: Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
            return self.api.classes["Dims"]([])
        if tensor["input"]:
            return self.api.classes["Dims"](self.shapes.get(name, tensor["shape"]))
        if -1 not in tensor["shape"] or self.infer_shapes() or tensor["data_dependent"]:
            return self.api.classes["Dims"](tensor["shape"])
        return self.api.classes["Dims"](self._outputs_at()[name])

    def _outputs_at(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs at the inputs' shapes. Shape tensors need their values first, as they do genuinely."""
        key = tuple(sorted(self.shapes.items()))
        if key not in self.probed:
            feeds = zeros(self.running, self.shapes)
            for name, tensor in self.engine_state.tensors.items():
                if tensor["input"] and tensor["host"] and name in self.addresses:
                    feeds[name] = self._host(name, tensor, self.addresses[name]).astype(feeds[name].dtype)
            names = [o.name for o in self.running.get_outputs()]
            found = {n: tuple(a.shape) for n, a in zip(names, self.running.run(names, feeds))}
            if any(t["host"] for t in self.engine_state.tensors.values()):
                return found
            self.probed[key] = found
        return self.probed[key]

    def get_tensor_strides(self, name: str) -> Any:
        shape = list(self.get_tensor_shape(name))
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
        return self.api.classes["Dims"](strides)

    def get_max_output_size(self, name: str) -> int:
        tensor = self.engine_state.tensors[name]
        size = np.dtype(NUMPY[tensor["dtype"]]).itemsize
        if tensor["data_dependent"]:
            # Cannot be more than every element of every input, one index a dimension.
            return int(sum(np.prod(s) for s in self.shapes.values())) * max(1, len(tensor["shape"])) * size
        return int(np.prod(list(self.get_tensor_shape(name)))) * size

    # addresses

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine_state.tensors:
            return self._refuse(f"3: Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        self.addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self.addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        tensor = self.engine_state.tensors.get(name)
        if tensor is None or tensor["input"]:
            return self._refuse(f"3: Error Code 3: API Usage Error (Given invalid tensor name: {name}.)")
        if output_allocator is None:
            self.allocators.pop(name, None)
        else:
            self.allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self.allocators.get(name)

    def set_input_consumed_event(self, event: int) -> bool:
        return True

    def get_input_consumed_event(self) -> int:
        return 0

    def set_aux_streams(self, streams: list[int]) -> None:
        pass

    def update_device_memory_size_for_shapes(self) -> int:
        return int(self.engine_state.device_memory_size)

    # bindings

    def set_binding_shape(self, binding: int, shape: Any) -> bool:
        tensor, profile = self.engine_state._binding(binding)
        if profile != self._profile:
            return self._refuse(f"3: [executionContext.cpp::setBindingDimensions] Error Code 3: API Usage Error (binding {binding} belongs to "
                                f"profile {profile}, profile {self._profile} is active)")  # fmt: skip
        return self.set_input_shape(tensor["name"], shape)

    def get_binding_shape(self, binding: int) -> Any:
        return self.get_tensor_shape(self.engine_state._binding(binding)[0]["name"])

    def get_shape(self, binding: int) -> list[int]:
        return list(self.get_binding_shape(binding))

    def get_strides(self, binding: int) -> Any:
        return self.get_tensor_strides(self.engine_state._binding(binding)[0]["name"])

    def set_shape_input(self, binding: int, shape: list[int]) -> bool:
        return True

    # execution

    def execute_v2(self, bindings: list[int]) -> bool:
        engine = self.engine_state
        if self.api.has("ICudaEngine", "num_bindings"):
            if len(bindings) < engine.num_bindings:
                fake_cuda.note(f"{len(bindings)} bindings given, {engine.num_bindings} read")
                return self._refuse("1: Error Code 1: Cuda Runtime (an illegal memory access was encountered)")
            first = max(self._profile, 0) * len(engine.names)
            bindings = bindings[first : first + len(engine.names)]
        return self._execute(dict(zip(engine.names, bindings)))

    def execute_async_v2(self, bindings: list[int], stream_handle: int, input_consumed: Any = None) -> bool:
        return self.execute_v2(bindings)

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self._execute(self.addresses)

    def _execute(self, addresses: dict[str, int]) -> bool:
        engine = self.engine_state
        missing = self.infer_shapes()
        if missing:
            return self._refuse("3: [executionContext.cpp::enqueueInternal::816] Error Code 3: API Usage Error (Parameter check failed, condition: "
                                f"allInputDimensionsSpecified(routine). {missing[0]})")  # fmt: skip
        for name, tensor in engine.tensors.items():
            if (
                not addresses.get(name)
                and name not in self.allocators
                and (not tensor["input"] or 0 not in self.shapes[name])
            ):
                return self._refuse("3: [executionContext.cpp::resolveSlots::2791] Error Code 3: API Usage Error (Parameter check failed, condition: "
                                    f"tensorAddress != nullptr. Neither address or allocator is set for tensor {name}. Call setTensorAddress, "
                                    "setInputTensorAddress or setOutputAllocator before enqueueV3.)")  # fmt: skip
        if self.lacks_memory:
            return self._refuse("3: Error Code 3: API Usage Error (device memory is not set)")
        if fake_cuda.SETTINGS["crash"] == "run" and fake_cuda.SETTINGS["victim"] in ("", engine.plan["graph"]):
            fake_cuda.poison = "an illegal memory access was encountered"
            return True  # it is asynchronous: who waits for it is told
        try:
            feeds = {n: self._read(n, t, addresses) for n, t in engine.tensors.items() if t["input"]}
            start = time.perf_counter()
            names = [n for n, t in engine.tensors.items() if not t["input"]]
            outputs = self.running.run(names, converted(self.running, feeds))
            self.last_ms = (time.perf_counter() - start) * 1e3
            for name, array in zip(names, outputs):
                self._write(name, array, addresses)
        except fake_cuda.IllegalAddress as error:
            return self._refuse(f"1: [genericReformat.cuh::copyRunKernel::1435] Error Code 1: Cuda Runtime ({error})")
        if self.profiler is not None and self.enqueue_emits_profile:
            self.report_to_profiler()
        return True

    def _host(self, name: str, tensor: Any, address: int) -> Any:
        kind = np.dtype(NUMPY[tensor["dtype"]])
        count = int(np.prod(self.shapes[name], dtype=np.int64))
        raw = (ctypes.c_ubyte * (count * kind.itemsize)).from_address(address)
        return np.frombuffer(raw, kind).reshape(self.shapes[name]).copy()

    def _read(self, name: str, tensor: Any, addresses: dict[str, int]) -> Any:
        if tensor["host"]:
            return self._host(name, tensor, addresses[name])
        shape = self.shapes[name]
        kind = np.dtype(NUMPY[tensor["dtype"]])
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return fake_cuda.view(addresses.get(name, 0), size, f"input {name}").view(kind).reshape(shape)

    def _write(self, name: str, array: Any, addresses: dict[str, int]) -> None:
        tensor = self.engine_state.tensors[name]
        content = np.ascontiguousarray(array.astype(NUMPY[tensor["dtype"]], copy=False))
        address = addresses.get(name, 0)
        allocator = self.allocators.get(name)
        if allocator is not None:
            address = self._allocated(allocator, name, address, content.nbytes)
        fake_cuda.view(address, content.nbytes, f"output {name}")[:] = content.reshape(-1).view(np.uint8)
        if allocator is not None:
            allocator.notify_shape(name, self.api.classes["Dims"](content.shape))

    def _allocated(self, allocator: Any, name: str, address: int, size: int) -> int:
        given = getattr(allocator, "reallocate_output_async", None)
        if given is not None:
            return int(given(name, address, size, 256, 0) or 0)
        return int(allocator.reallocate_output(name, address, size, 256) or 0)

    def report_to_profiler(self) -> bool:
        if self.profiler is None or self.last_ms is None:
            return False
        layers = self.engine_state.plan["layers"]
        for layer in layers:
            self.profiler.report_layer_time(layer["name"], self.last_ms / len(layers))
        return True

    def _refuse(self, message: str) -> bool:
        say(self.api, self.engine_state.logger, "ERROR", message)
        return False
