"""Engines: a plan that describes itself, runtime, engine, inspector.

A plan is ``MAGIC``, the sha256 of the rest, the length of a JSON header, the header, the ONNX model that stands for the
network in its precision.
"""

from __future__ import annotations

import hashlib
import json
import struct
import weakref
from typing import Any

import numpy as np
import onnx

import fake_cuda

from . import _graph
from ._context import Context
from ._execution import item_bytes
from ._gpu import RuntimeConfig, misfit
from ._speaking import say

MAGIC = b"fake-trt"


def host_memory(api: Any, content: bytes) -> Any:
    cls = api.classes["IHostMemory"]
    return bytes.__new__(cls, content)


def write_plan(
    api: Any, network: Any, config: Any, model: Any, profiles: list[Any], quantized: list[str], activation_bytes: int
) -> bytes:
    data_dependent = _graph.data_dependent_outputs(network.model)
    tensors = [
        {
            "name": t.name, "dtype": t._dtype, "shape": t._shape, "input": t.is_network_input, "host": t.is_shape_tensor,
            "data_dependent": t.name in data_dependent,
        }
        for t in (*network.inputs, *network.outputs)
    ]  # fmt: skip
    explicit = _graph.is_quantized(network.model)
    plain = "Half" if config.has("FP16") else "Float"
    known = _graph.shapes(network.model)
    constant = {t.name: int(np.prod(t.dims)) for t in network.model.graph.initializer}
    made = {o: n.op_type for n in network.model.graph.node for o in n.output}
    layers = []
    for layer in network.layers:
        node = layer.node
        int8 = layer.name in quantized
        if explicit and node.op_type in _graph.WEIGHTED:
            int8 = all(made.get(name) == "DequantizeLinear" for name in node.input[:2])
        layers.append({
            "name": layer.name, "op": node.op_type, "precision": "Int8" if int8 else plain,
            "inputs": [_dims(known, name) for name in node.input if name and name not in constant],
            "outputs": [_dims(known, name) for name in node.output if name],
            "weights": sum(constant.get(name, 0) for name in node.input),
        })  # fmt: skip
    header = json.dumps({
        "version": api.version, "gpu": fake_cuda.SETTINGS["gpu"], "capability": fake_cuda.SETTINGS["compute_capability"],
        "name": network.name, "graph": model.graph.name, "tensors": tensors, "layers": layers, "activation_bytes": activation_bytes,
        "verbosity": config.profiling_verbosity.name, "refittable": config.has("REFIT"),
        "profiles": [{name: [list(s) for s in triple] for name, triple in profile.items()} for profile in profiles],
        "values": [profile.values for profile in config.profiles] or [{}],
        "capabilities": [one.name for one in config._capabilities],
        "tactic_sources": config.get_tactic_sources(), "sharing": "PROFILE_SHARING_0806" in config._previews,
    }).encode()  # fmt: skip
    body = struct.pack("<Q", len(header)) + header + model.SerializeToString()
    return MAGIC + hashlib.sha256(body).digest() + body


def _dims(known: dict[str, Any], name: str) -> list[Any]:
    return [name, [-1 if size is None else size for size in known.get(name, (1, []))[1]]]


class Damaged(Exception):
    pass


def read_plan(plan: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and ONNX model; Damaged with the words for the log."""
    if plan[: len(MAGIC)] != MAGIC:
        raise Damaged("1: [stdArchiveReader.cpp::StdArchiveReaderInitCommon::46] Error Code 1: Serialization (Serialization assertion "
                      "magicTagRead == kMAGIC_TAG failed.Magic tag does not match)")  # fmt: skip
    body = plan[len(MAGIC) + 32 :]
    if hashlib.sha256(body).digest() != plan[len(MAGIC) : len(MAGIC) + 32]:
        raise Damaged("1: [stdArchiveReader.cpp::StdArchiveReaderInitCommon::57] Error Code 1: Serialization (Serialization assertion "
                      "header.checksum == checksum failed.)")  # fmt: skip
    (length,) = struct.unpack_from("<Q", body)
    return json.loads(body[8 : 8 + length]), body[8 + length :]


class Runtime:
    def __init__(self, api: Any, logger: Any) -> None:
        self.api, self.logger = api, logger
        self.max_threads, self.DLA_core, self.num_DLA_cores, self.error_recorder = 1, -1, 0, None
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized: Any) -> Any:
        try:
            plan, model = read_plan(bytes(memoryview(serialized)))
            if plan["version"] != self.api.version:
                raise Damaged("6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
                              f"{self.api.version} got {plan['version']}, please rebuild.")  # fmt: skip
            wrong = misfit(self.api, plan)
            if wrong:
                raise Damaged(wrong)
            engine = Engine(self.api, self.logger, plan, model)
        except Damaged as damage:
            say(self.api, self.logger, "ERROR", str(damage))
            say(self.api, self.logger, "ERROR", "4: [runtime.cpp::deserializeCudaEngine::66] Error Code 4: Internal Error (Engine "
                "deserialization failed.)")  # fmt: skip
            return None
        except fake_cuda.OutOfMemory as error:
            say(
                self.api,
                self.logger,
                "ERROR",
                f"2: [defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime ({error})",
            )
            return None
        return self.api.wrap("ICudaEngine", engine)


class Engine:
    def __init__(self, api: Any, logger: Any, plan: dict[str, Any], model: bytes) -> None:
        self.api, self.logger, self.plan, self.model = api, logger, plan, model
        self.tensors = {t["name"]: t for t in plan["tensors"]}
        self.names = list(self.tensors)
        self.profiles: list[dict[str, Any]] = plan["profiles"]
        self.taken: dict[int, Any] = {}
        size = _graph.weight_bytes(onnx.load_from_string(model))
        fake_cuda.reserve(size)
        weakref.finalize(self, fake_cuda.release, size)
        self.name, self.num_layers = plan["name"], len(plan["layers"])
        self.num_io_tensors, self.num_optimization_profiles = len(self.names), len(self.profiles)
        self.num_bindings = len(self.names) * len(self.profiles)
        self.device_memory_size = self.device_memory_size_v2 = plan["activation_bytes"]
        self.refittable, self.has_implicit_batch_dimension = plan["refittable"], False
        self.tactic_sources, self.num_aux_streams, self.max_batch_size = plan["tactic_sources"], 0, 1
        self.error_recorder = None

    @property
    def profiling_verbosity(self) -> Any:
        return self.api.enum("ProfilingVerbosity", self.plan["verbosity"])

    @property
    def engine_capability(self) -> Any:
        return self.api.enum("EngineCapability", "STANDARD")

    def serialize(self) -> Any:
        header = json.dumps(self.plan).encode()
        body = struct.pack("<Q", len(header)) + header + self.model
        return host_memory(self.api, MAGIC + hashlib.sha256(body).digest() + body)

    def create_execution_context(self, *strategy: Any) -> Any:
        try:
            return self.api.wrap("IExecutionContext", Context(self.api, self, self._own(strategy), *strategy))
        except fake_cuda.OutOfMemory:
            say(self.api, self.logger, "ERROR", f"2: [executionContext.cpp::ExecutionContext::375] Error Code 2: OutOfMemory (no further "
                f"information; {self.device_memory_size} bytes wanted)")  # fmt: skip
            return None

    def create_runtime_config(self) -> Any:
        return self.api.wrap("IRuntimeConfig", RuntimeConfig(self.api))

    def _own(self, strategy: tuple[Any, ...]) -> bool:
        return not strategy or getattr(strategy[0], "name", "STATIC") != "USER_MANAGED"

    def create_execution_context_without_device_memory(self) -> Any:
        return self.api.wrap("IExecutionContext", Context(self.api, self, False))

    def create_engine_inspector(self) -> Any:
        return self.api.wrap("EngineInspector", Inspector(self.api, self))

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        largest = {name: triple[2] for name, triple in self.profiles[profile_index].items()}
        return _graph.activation_bytes(onnx.load_from_string(self.model), largest)[0]

    get_device_memory_size_for_profile_v2 = get_device_memory_size_for_profile

    # named tensors

    def _tensor(self, name: str) -> Any:
        found = self.tensors.get(name)
        if found is None:
            say(self.api, self.logger, "ERROR", f"3: Error Code 3: API Usage Error (Parameter check failed, condition: "
                f"validTensorName({name}). Given invalid tensor name: {name}.)")  # fmt: skip
        return found

    def get_tensor_name(self, index: int) -> Any:
        return self.names[index] if 0 <= index < len(self.names) else None

    def get_tensor_mode(self, name: str) -> Any:
        tensor = self._tensor(name)
        word = "NONE" if tensor is None else "INPUT" if tensor["input"] else "OUTPUT"
        return self.api.enum("TensorIOMode", word)

    def get_tensor_dtype(self, name: str) -> Any:
        tensor = self._tensor(name)
        return self.api.enum("DataType", "FLOAT" if tensor is None else tensor["dtype"])

    def get_tensor_shape(self, name: str) -> Any:
        tensor = self._tensor(name)
        return self.api.classes["Dims"]([] if tensor is None else tensor["shape"])

    def get_tensor_location(self, name: str) -> Any:
        tensor = self._tensor(name)
        return self.api.enum("TensorLocation", "HOST" if tensor and tensor["host"] else "DEVICE")

    def get_tensor_format(self, name: str, *_: Any) -> Any:
        return self.api.enum("TensorFormat", "LINEAR")

    def get_tensor_format_desc(self, name: str, *_: Any) -> str:
        return f"Row major linear {self.tensors[name]['dtype']} format (kLINEAR)"

    def get_tensor_bytes_per_component(self, name: str, *_: Any) -> int:
        return -1 if name not in self.tensors else item_bytes(self.tensors[name]["dtype"])

    def get_tensor_components_per_element(self, name: str, *_: Any) -> int:
        return -1

    def get_tensor_vectorized_dim(self, name: str, *_: Any) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return bool(self.tensors[name]["host"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        if self._tensor(name) is None or not self.tensors[name]["input"] or not 0 <= profile_index < len(self.profiles):
            return []
        return [self.api.classes["Dims"](shape) for shape in self.profiles[profile_index][name]]

    def get_tensor_profile_values(self, profile_index: Any, name: Any) -> Any:
        return self.plan["values"][int(profile_index)].get(name, [])

    # bindings, one set a profile

    def _binding(self, index: Any) -> tuple[Any, int]:
        if isinstance(index, str):
            index = self.get_binding_index(index)
        return self.tensors[self.names[index % len(self.names)]], index // len(self.names)

    def __len__(self) -> int:
        return self.num_bindings

    def __getitem__(self, index: Any) -> Any:
        return self.get_binding_index(index) if isinstance(index, str) else self.get_binding_name(index)

    def get_binding_name(self, index: int) -> Any:
        if not 0 <= index < self.num_bindings:
            return None
        profile = index // len(self.names)
        return self.names[index % len(self.names)] + (f" [profile {profile}]" if profile else "")

    def get_binding_index(self, name: str) -> int:
        for index in range(self.num_bindings):
            if self.get_binding_name(index) == name:
                return index
        return -1

    def binding_is_input(self, index: Any) -> bool:
        return bool(self._binding(index)[0]["input"])

    def get_binding_dtype(self, index: Any) -> Any:
        return self.api.enum("DataType", self._binding(index)[0]["dtype"])

    def get_binding_shape(self, index: Any) -> Any:
        return self.api.classes["Dims"](self._binding(index)[0]["shape"])

    def get_location(self, index: Any) -> Any:
        return self.api.enum("TensorLocation", "HOST" if self._binding(index)[0]["host"] else "DEVICE")

    def is_shape_binding(self, index: int) -> bool:
        return bool(self._binding(index)[0]["host"])

    def is_execution_binding(self, index: int) -> bool:
        return not self.is_shape_binding(index)

    def get_profile_shape(self, profile_index: int, binding: Any) -> Any:
        name = self._binding(binding)[0]["name"]
        return [self.api.classes["Dims"](shape) for shape in self.profiles[profile_index][name]]

    def get_profile_shape_input(self, profile_index: int, binding: Any) -> Any:
        return self.plan["values"][profile_index].get(self._binding(binding)[0]["name"], [])


class Inspector:
    """Layer information as the version gives it: names alone, or objects when the build was DETAILED."""

    def __init__(self, api: Any, engine: Engine) -> None:
        self.api, self.engine = api, engine
        self.execution_context: Any = None
        self.error_recorder = None

    def _layer(self, layer: dict[str, Any]) -> Any:
        verbosity = self.engine.plan["verbosity"]
        if verbosity == "NONE":
            return ""
        if verbosity != "DETAILED":
            return layer["name"]
        known = self.execution_context is not None and not self.execution_context._state.infer_shapes()
        word = {"Int8": "Int8", "Half": "FP16", "Float": "FP32"}[layer["precision"]]
        found = {
            "Name": layer["name"], "LayerType": "CaskConvolution" if layer["op"] == "Conv" else layer["op"],
            "Inputs": [self._end(name, dims, word, known) for name, dims in layer["inputs"]],
            "Outputs": [self._end(name, dims, word, known) for name, dims in layer["outputs"]],
            "ParameterType": {"Conv": "Convolution"}.get(layer["op"], layer["op"]),
        }  # fmt: skip
        if layer["op"] in _graph.WEIGHTED:
            found["Weights"] = {"Type": layer["precision"], "Count": layer["weights"]}
            found["TacticName"] = f"fake_{'i8i8' if word == 'Int8' else word.lower()}_{layer['op'].lower()}"
        if self.api.release >= (8, 6, 0):
            found["Metadata"] = f"[ONNX Layer: {layer['name']}]\x1e"  # the genuine separator is a raw control character
        return found

    def _end(self, name: str, dims: list[int], word: str, known: bool) -> dict[str, Any]:
        end: dict[str, Any] = {"Name": name, "Location": "Device", "Dimensions": dims}
        if self.api.release[0] >= 11:
            return {**end, "Format": "Row major linear", "Datatype": word}
        varying = -1 in dims and not known
        return {**end, "Format/Datatype": "N/A due to dynamic shapes" if varying else f"Row major linear {word} format"}

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        layers = self.engine.plan["layers"]
        return _text(self._layer(layers[layer_index]), format) if 0 <= layer_index < len(layers) else ""

    def get_engine_information(self, format: Any) -> str:
        layers = [self._layer(layer) for layer in self.engine.plan["layers"]]
        if format.name != "JSON":
            return "\n".join(_text(layer, format) for layer in layers)
        names = self.engine.names
        if self.api.release[0] >= 11:
            return _text({"Layers": layers, "I/O Tensors": [{"Name": n, "ProfileInfo": []} for n in names]}, format)
        bindings = (
            [self.engine.get_binding_name(i) for i in range(self.engine.num_bindings)]
            if self.api.release[0] < 10
            else names
        )
        return _text({"Layers": layers, "Bindings": bindings}, format)


def _text(found: Any, format: Any) -> str:
    if format.name != "JSON":
        return found if isinstance(found, str) else str(found.get("Name", ""))
    # Genuine text holds control characters as they are, so that json.loads needs strict=False.
    return json.dumps(found, indent=1).replace("\\u001e", "\x1e")
