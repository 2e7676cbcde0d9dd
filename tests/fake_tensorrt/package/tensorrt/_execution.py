"""ONNX Runtime underneath."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np
import onnxruntime

NUMPY = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool", "UINT8": "uint8",
}  # fmt: skip
_ORT = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int8)": "int8",
    "tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(bool)": "bool", "tensor(uint8)": "uint8",
}  # fmt: skip


def session(model: bytes, plain: bool = False) -> Any:
    """A session with one thread; ``plain`` leaves the graph as it is, so that every tensor can be seen."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def converted(running: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Feeds in the types of the ONNX model: TensorRT 8 knows an int64 input as INT32, a double as FLOAT."""
    return {i.name: feeds[i.name].astype(_ORT[i.type], copy=False) for i in running.get_inputs()}


def zeros(running: Any, shapes: Mapping[str, Any]) -> dict[str, Any]:
    return {i.name: np.zeros(shapes[i.name], _ORT[i.type]) for i in running.get_inputs()}


def item_bytes(dtype: str) -> int:
    return int(np.dtype(NUMPY[dtype]).itemsize)
