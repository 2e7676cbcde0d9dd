"""A stand-in for TensorRT, for tests alone: the genuine names and signatures of one version, behaviour on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import fake_cuda

from . import _builder, _engine, _network, _speaking
from ._binding import Api

fake_cuda.tensorrt_came_late = fake_cuda.context_made

_API = Api(
    json.loads((Path(__file__).parent / "api.json").read_text("utf-8")),
    {
        "Builder": _builder.Builder,
        "OnnxParser": _network.Parser,
        "Runtime": _engine.Runtime,
        "Logger": _speaking.Logger,
    },
)
__version__ = _API.version
for _name, _class in _API.classes.items():
    if "." not in _name:
        globals()[_name] = _class
for _name, _text in _API.facts["constants"].items():
    if isinstance(_text, str) and "." in _text and _text.partition(".")[0] in _API.classes:
        _kind, _, _member = _text.partition(".")
        globals()[_name] = getattr(_API.classes[_kind], _member)


def _volume(iterable: Any) -> int:
    vol = 1
    for elem in iterable:
        vol *= elem
    return vol


def _nptype(trt_type: Any) -> Any:
    names = {
        "FLOAT": "float32",
        "HALF": "float16",
        "INT8": "int8",
        "INT32": "int32",
        "INT64": "int64",
        "UINT8": "uint8",
    }
    names["BOOL"] = "bool" if _API.release[0] < 10 else "bool_"  # np.bool is not there from numpy 1.24 up to 2.0
    known = {member: getattr(np, name) for member, name in names.items()}  # all of them first, as the genuine one does
    if trt_type.name not in known:
        raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type}")
    return known[trt_type.name]


def _init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    return True


_FUNCTIONS = {
    "volume": _volume,
    "nptype": _nptype,
    "init_libnvinfer_plugins": _init_libnvinfer_plugins,
    "get_nv_onnx_parser_version": lambda: int("".join(f"{n:02}" for n in _API.release)),
}
for _name in _API.facts["functions"]:
    if _name in _FUNCTIONS:
        globals()[_name] = _FUNCTIONS[_name]
del _name, _class, _text, _kind, _member
