"""Synthetic work of known cost: a chain of small layers, and the same chain with real extra layers as its slowdown.

A self-test needs a slowdown whose size is known and which is no sleep: extra layers run through the same kernels, and
so suffer from the host as the rest does. Shapes are fixed, so any runtime that reads ONNX takes the files as they are.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.errors import UsageError
from harness.paths import cache_dir, written

if TYPE_CHECKING:
    from pathlib import Path

    from harness.corpus.samples import Feeds

__all__ = ["LAYERS", "chain", "feeds"]

LAYERS = 155
"""Layers of the baseline: 2.2 to 3 ms on one thread of a server CPU."""

_ROWS, _WIDTH = 64, 128


def chain(layers: int = LAYERS) -> Path:
    """The path of a chain of ``layers`` times Gemm (64x128x128) and ReLU; made once, cached by content.

    All layers share one weight, which stays in the cache: the time is computing, not reading weights.

    :raises UsageError: fewer than one layer. :raises WriteFailed: the cache folder cannot be made.
    """
    if layers < 1:
        raise UsageError(f"a chain of {layers} layers", todo="at least one")
    content = _model(layers).SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).hexdigest()
    path = cache_dir("workloads") / f"chain{layers}-{digest[:16]}.onnx"
    if not path.is_file():
        with written(path) as file:
            file.write(content)
    return path


def feeds() -> Feeds:
    """The chain's input: ``x``, (64, 128) float32, the same at every call."""
    return {"x": np.random.default_rng(1).standard_normal((_ROWS, _WIDTH)).astype(np.float32)}


def _model(layers: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    # Orthogonal, with a bias: a plain random matrix applied 100 times ends in denormals, which cost 100 times as much.
    matrix, _ = np.linalg.qr(random.standard_normal((_WIDTH, _WIDTH)))
    weight = numpy_helper.from_array(np.round(matrix, 6).astype(np.float32), "weight")
    bias = numpy_helper.from_array(np.full(_WIDTH, 0.125, np.float32), "bias")
    nodes, value = [], "x"
    for layer in range(layers):
        nodes += [
            helper.make_node("Gemm", [value, "weight", "bias"], [f"product{layer}"], name=f"gemm{layer}"),
            helper.make_node("Relu", [f"product{layer}"], [f"value{layer}"], name=f"relu{layer}"),
        ]
        value = f"value{layer}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [_ROWS, _WIDTH])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [_ROWS, _WIDTH])],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
