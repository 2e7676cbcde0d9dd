"""Networks and the ONNX parser."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from . import _graph
from ._speaking import say

_UNSUPPORTED = {
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "Unique",
    "StringNormalizer",
}
_ONNX_TYPES = {
    TensorProto.FLOAT: "FLOAT", TensorProto.DOUBLE: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT32: "INT32",
    TensorProto.INT8: "INT8", TensorProto.BOOL: "BOOL", TensorProto.UINT8: "UINT8", TensorProto.BFLOAT16: "BF16",
}  # fmt: skip
_UINT8_WARNING = (
    "TensorRT supports QuantizeLinear/DequantizeLinear with UINT8 zero_point only on DLA (version >= 3.16). "
    "Defaulting to INT8 instead. "
)
_NOT_PARSED = "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model."
_ZERO_POINT = {
    8: 'Assertion failed: shiftIsAllZeros(zeroPoint) && "TRT only supports symmetric quantization - zeroPt must be all zeros"',
    10: (
        "Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported. Please set "
        "kENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA to enable asymmetric quantization if it is on DLA."
    ),
}


class Tensor:
    def __init__(self, api: Any, name: str, dtype: str, shape: list[int], is_shape: bool, is_input: bool) -> None:
        self.api, self.name, self._dtype = api, name, dtype
        self._shape, self.is_shape_tensor = shape, is_shape
        self.is_execution_tensor = not is_shape
        self.is_network_input, self.is_network_output = is_input, not is_input
        self.allowed_formats, self.dynamic_range, self.broadcast_across_batch = 1, None, False

    @property
    def dtype(self) -> Any:
        return self.api.enum("DataType", self._dtype)

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._dtype = value.name

    @property
    def shape(self) -> Any:
        return self.api.classes["Dims"](self._shape)

    @shape.setter
    def shape(self, value: Any) -> None:
        self._shape = list(value)

    @property
    def location(self) -> Any:
        return self.api.enum("TensorLocation", "HOST" if self.is_shape_tensor else "DEVICE")

    def get_dimension_name(self, index: int) -> str:
        return ""

    def set_dynamic_range(self, low: float, high: float) -> bool:
        self.dynamic_range = (low, high)
        return True

    def reset_dynamic_range(self) -> None:
        self.dynamic_range = None


class Layer:
    def __init__(self, api: Any, node: Any, name: str) -> None:
        self.api, self.node, self.name = api, node, name
        self.metadata = f"[ONNX Layer: {node.name}]"
        self.num_inputs, self.num_outputs = len(node.input), len(node.output)

    @property
    def type(self) -> Any:
        return self.api.enum("LayerType", _graph.layer_type(self.node.op_type)) or self.api.enum("LayerType", "SHUFFLE")


class Network:
    def __init__(self, api: Any, builder: Any, flags: int) -> None:
        self.api, self.builder, self.flags = api, builder, flags
        self.name = "Unnamed Network 0"
        self.model: Any = None
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: list[Layer] = []
        explicit = api.enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")
        self.has_implicit_batch_dimension = api.release[0] < 10 and not flags >> int(explicit) & 1
        typed = api.enum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
        self.strongly_typed = api.rtx or api.release[0] >= 11 or (typed is not None and bool(flags >> int(typed) & 1))

    def get_flag(self, flag: Any) -> bool:
        return self.strongly_typed if flag.name == "STRONGLY_TYPED" else bool(self.flags >> int(flag) & 1)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def _at(self, kind: str, items: list[Any], index: int, call: str) -> Any:
        if 0 <= index < len(items):
            return self.api.wrap(kind, items[index])
        say(self.api, self.builder.logger, "ERROR", f"INetworkDefinition::{call}: Error Code 3: API Usage Error (Parameter "
            f"check failed, condition: index < {len(items)}. Invalid index: {index}.)")  # fmt: skip
        return None

    def get_input(self, index: int) -> Any:
        return self._at("ITensor", self.inputs, index, "getInput")

    def get_output(self, index: int) -> Any:
        return self._at("ITensor", self.outputs, index, "getOutput")

    def get_layer(self, index: int) -> Any:
        return self._at("ILayer", self.layers, index, "getLayer")

    __getitem__ = get_layer


class ParserError:
    def __init__(self, api: Any, code: str, desc: str, node: int, proto: Any = None) -> None:
        self.api, self._code, self._desc, self._node, self._proto = api, code, desc, node, proto

    def code(self) -> Any:
        return self.api.enum("ErrorCode", self._code)

    def desc(self) -> str:
        return self._desc

    def file(self) -> str:
        return "ModelImporter.cpp"

    def func(self) -> str:
        return "parseNode"

    def line(self) -> int:
        return 726

    def node(self) -> int:
        return self._node

    def node_name(self) -> str:
        return self._proto.name if self._proto is not None else ""

    def node_operator(self) -> str:
        return self._proto.op_type if self._proto is not None else ""

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0


class Refusal(Exception):
    def __init__(self, code: str, desc: str, node: int = -1, proto: Any = None) -> None:
        super().__init__(desc)
        self.code, self.desc, self.node, self.proto = code, desc, node, proto


class Parser:
    def __init__(self, api: Any, network: Any, logger: Any) -> None:
        self.api, self.logger = api, logger
        self.network: Network = network._state
        self.errors: list[ParserError] = []
        self.flags = 0

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        if not 0 <= index < len(self.errors):
            say(
                self.api,
                self.logger,
                "ERROR",
                f"vector::_M_range_check: __n (which is {index}) >= this->size() (which is {len(self.errors)})",
            )
            return None
        return self.api.wrap("ParserError", self.errors[index])

    def clear_errors(self) -> None:
        self.errors.clear()

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def supports_operator(self, op_name: str) -> bool:
        return op_name not in self._unsupported() and onnx.defs.has(op_name)

    def supports_model(self, model: Any, path: str | None = None) -> Any:
        loaded = onnx.load_from_string(bytes(memoryview(model)))
        nodes = list(range(len(loaded.graph.node)))
        try:
            self._check_operators(loaded)
            self._check(loaded)
        except Refusal:
            return False, [(nodes, False)]
        return True, [(nodes, True)]

    def parse_from_file(self, model: str) -> bool:
        with open(model, "rb") as file:
            return self.parse(file.read())

    def parse(self, model: Any, path: str | None = None) -> bool:
        try:
            if self.network.has_implicit_batch_dimension:
                raise Refusal("INVALID_VALUE", (
                    'Assertion failed: !_importer_ctx.network()->hasImplicitBatchDimension() && "This version of the ONNX '
                    'parser only supports TensorRT INetworkDefinitions with an explicit batch dimension."'))  # fmt: skip
            try:
                loaded = _graph.with_initializers(onnx.load_from_string(bytes(memoryview(model))))
            except DecodeError:
                raise Refusal("MODEL_DESERIALIZE_FAILED", _NOT_PARSED) from None
            self._check_operators(loaded)
            try:
                loaded = onnx.shape_inference.infer_shapes(loaded, data_prop=True)
            except onnx.shape_inference.InferenceError as error:
                raise Refusal("INVALID_GRAPH", f"Assertion failed: {error}") from None
            self._check(loaded)
            del loaded.graph.value_info[:]  # what was uint8 may be int8 by now
            loaded = onnx.shape_inference.infer_shapes(loaded, data_prop=True)
        except Refusal as refusal:
            at = f"In node {refusal.node} (parseGraph): " if refusal.node >= 0 else ""
            say(self.api, self.logger, "ERROR", f"{at}{refusal.code}: {refusal.desc}")
            self.errors.append(ParserError(self.api, refusal.code, refusal.desc, refusal.node, refusal.proto))
            return False
        self._fill(loaded)
        return True

    def _unsupported(self) -> set[str]:
        # LayerNormalization: INormalizationLayer came with 8.6.
        return _UNSUPPORTED | (set() if self.api.release >= (8, 6, 0) else {"LayerNormalization"})

    def _check_operators(self, model: Any) -> None:
        for index, node in enumerate(model.graph.node):
            if node.op_type in self._unsupported() or not onnx.defs.has(node.op_type, node.domain):
                if self.api.release[0] >= 10:
                    say(self.api, self.logger, "ERROR", f"{node.name}: operator {node.op_type} is not supported")
                    raise Refusal("UNSUPPORTED_NODE", "false", index, node)
                raise Refusal("UNSUPPORTED_NODE", (
                    'Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
                    f" (No importer registered for op: {node.op_type})"), index, node)  # fmt: skip

    def _check(self, model: Any) -> None:
        values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        shapes = _graph.shapes(model)
        made = {output: node for node in model.graph.node for output in node.output}
        for index, node in enumerate(model.graph.node):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                self._check_scale(model, index, node, values)
            if node.op_type == "Squeeze" and len(node.input) < 2 and not any(a.name == "axes" for a in node.attribute):
                if any(not isinstance(n, int) for n in shapes.get(node.input[0], (0, [None]))[1] or [None]):
                    raise Refusal("UNSUPPORTED_NODE", (
                        "Cannot infer squeeze dimensions from a dynamic shape! Please re-export your model with the Squeeze "
                        "axes input set."), index, node)  # fmt: skip
            # Seen in 8.5.3.1, taken to hold before it; not known of 8.6, which lets it pass here.
            if node.op_type == "Conv" and self.api.release < (8, 6, 0):
                weight = made.get(node.input[1])
                if weight is not None and weight.op_type == "DequantizeLinear":
                    if len(shapes.get(node.input[1], (0, []))[1] or []) == 3:
                        raise Refusal(
                            "UNSUPPORTED_NODE",
                            "The input tensor shape misaligns with the input kernel shape.",
                            index,
                            node,
                        )

    def _check_scale(self, model: Any, index: int, node: Any, values: dict[str, Any]) -> None:
        scale = values.get(node.input[1])
        if scale is not None and not (scale > 0).all():
            raise Refusal(
                "INVALID_NODE",
                "Assertion failed: (scaleAllPositive || allowNegativeScale): Scale coefficients must all be positive",
                index,
                node,
            )
        zero = values.get(node.input[2]) if len(node.input) > 2 else None
        is_uint8 = (zero.dtype if zero is not None else "uint8") == "uint8"
        if zero is None and node.op_type == "DequantizeLinear":
            made = next((n for n in model.graph.node if node.input[0] in n.output), None)
            is_uint8 = made is not None and len(made.input) < 3
        if zero is not None and zero.any():
            raise Refusal("UNSUPPORTED_NODE", _ZERO_POINT[8 if self.api.release[0] < 10 else 10], index, node)
        if zero is not None and is_uint8:
            if self.api.release < (10, 11, 0):
                raise Refusal(
                    "UNSUPPORTED_NODE",
                    "Assertion failed: (zeroPoint.type == INT8): TensorRT currently supports only int8 zero points",
                    index,
                    node,
                )
            say(self.api, self.logger, "WARNING", _UINT8_WARNING)
            for tensor in model.graph.initializer:
                if tensor.name in (node.input[0], node.input[2]):
                    saturated = np.minimum(numpy_helper.to_array(tensor), 127).astype(np.int8)
                    tensor.CopyFrom(numpy_helper.from_array(saturated, tensor.name))

    def _fill(self, model: Any) -> None:
        api, network = self.api, self.network
        network.model = model
        shape_inputs = _graph.shape_inputs(model)
        names = {tensor.name for tensor in model.graph.initializer}
        inferred = _graph.shapes(model)
        for kept, given in ((network.inputs, model.graph.input), (network.outputs, model.graph.output)):
            for value in given:
                if value.name in names:
                    continue
                kind, dims = inferred[value.name]
                is_input = kept is network.inputs
                shape = [d if isinstance(d, int) else -1 for d in dims]
                kept.append(
                    Tensor(api, value.name, self._type(kind), shape, is_input and value.name in shape_inputs, is_input)
                )
        network.layers = [Layer(api, n, name) for n, name in _graph.named(model)]

    def _type(self, onnx_type: int) -> str:
        if onnx_type == TensorProto.INT64:
            # 8.x has no INT64: "Your ONNX model has been generated with INT64 weights ... cast down to INT32".
            return "INT64" if self.api.enum("DataType", "INT64") is not None else "INT32"
        return _ONNX_TYPES[onnx_type]
