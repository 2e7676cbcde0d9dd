"""A small model of each kind of operator that matters, clean, and ways to change it.

x [1, 32, L] -> Conv, Relu -> Conv, residual Add, Relu -> rows [1, L, 32] -> attention and a feed-forward part, each
with a LayerNormalization before it and a residual Add behind -> logits [1, L, 32].
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from harness.calibration.observe import observe
from harness.calibration.qdq import tensors_to_observe, write_qdq
from harness.calibration.ranges import choose
from harness.modelfile import weighted_nodes
from harness.spec.calibration import Dialect, Method
from harness.spec.model import Axis, Model

WIDE = 32
SPEC = Model("small", (Axis("x", 2),), "frames", 4, 600, 100)
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def fp32():
    draw = np.random.default_rng(5)
    weights = {"conv1_w": (WIDE, WIDE, 3), "conv2_w": (WIDE, WIDE, 3), "up_w": (WIDE, 64), "down_w": (64, WIDE)}
    weights |= dict.fromkeys(("query_w", "key_w", "value_w", "out_w", "logits_w"), (WIDE, WIDE))
    arrays = {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in weights.items()}
    arrays |= {name: draw.normal(0, 0.1, WIDE).astype(np.float32) for name in ("conv1_b", "conv2_b")}
    arrays |= {"up_b": draw.normal(0, 0.1, 64).astype(np.float32), "half": np.array(0.18, np.float32)}
    arrays |= {name: np.ones(WIDE, np.float32) for name in ("norm1_s", "norm2_s", "norm3_s")}
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "conv1_w", "conv1_b"], ["c1"], "conv1", kernel_shape=[3], pads=[1, 1]),
        make("Relu", ["c1"], ["r1"], "relu1"),
        make("Conv", ["r1", "conv2_w", "conv2_b"], ["c2"], "conv2", kernel_shape=[3], pads=[1, 1]),
        make("Add", ["c2", "r1"], ["s1"], "skip"),
        make("Relu", ["s1"], ["r2"], "relu2"),
        make("Transpose", ["r2"], ["rows"], "turn", perm=[0, 2, 1]),
        make("LayerNormalization", ["rows", "norm1_s"], ["n1"], "norm1"),
        make("MatMul", ["n1", "query_w"], ["q"], "query"),
        make("MatMul", ["n1", "key_w"], ["k"], "key"),
        make("MatMul", ["n1", "value_w"], ["v"], "value"),
        make("Transpose", ["k"], ["kt"], "turn_keys", perm=[0, 2, 1]),
        make("MatMul", ["q", "kt"], ["scores"], "qk"),
        make("Mul", ["scores", "half"], ["scaled"], "scaled"),
        make("Softmax", ["scaled"], ["share"], "softmax", axis=-1),
        make("MatMul", ["share", "v"], ["mixed"], "av"),
        make("MatMul", ["mixed", "out_w"], ["o"], "out"),
        make("Add", ["rows", "o"], ["h1"], "residual1"),
        make("LayerNormalization", ["h1", "norm2_s"], ["n2"], "norm2"),
        make("MatMul", ["n2", "up_w"], ["u"], "up"),
        make("Add", ["u", "up_b"], ["ub"], "up_bias"),
        make("Relu", ["ub"], ["ur"], "up_relu"),
        make("MatMul", ["ur", "down_w"], ["d"], "down"),
        make("Add", ["h1", "d"], ["h2"], "residual2"),
        make("LayerNormalization", ["h2", "norm3_s"], ["n3"], "norm3"),
        make("MatMul", ["n3", "logits_w"], ["logits"], "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", FLOAT, [1, WIDE, "frames"])],
        [helper.make_tensor_value_info("logits", FLOAT, [1, "frames", WIDE])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def samples():
    draw = np.random.default_rng(6)
    return [{"x": draw.normal(size=(1, WIDE, length)).astype(np.float32)} for length in (8, 30, 60)]


def seen(proto):
    """What calibration sees of it."""
    return observe(proto, tensors_to_observe(proto, weighted_nodes(proto), Dialect.U8S8), samples())


def qdq(proto, dialect, folder, method="minmax"):
    """The model as this harness writes it."""
    nodes = weighted_nodes(proto)
    found = observe(proto, tensors_to_observe(proto, nodes, dialect), samples())
    onnx.save(proto, folder / "fp32.onnx")
    write_qdq(folder / "fp32.onnx", nodes, choose(found, Method.parse(method), dialect), dialect, folder / "qdq.onnx")
    return onnx.load(folder / "qdq.onnx")


# -- ways to change a graph: each works on it in place ----------------------------------------------------------------


def node(model, name):
    return next(one for one in model.graph.node if one.name == name)


def producer(model, tensor):
    return next(one for one in model.graph.node if tensor in one.output)


def get(model, name):
    return numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == name))


def put(model, name, array):
    """Set a constant, or add it."""
    kept = [one for one in model.graph.initializer if one.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(array), name)])


def insert(model, before, *nodes):
    """Nodes in front of the one of that name."""
    at = next(index for index, one in enumerate(model.graph.node) if one.name == before)
    for offset, new in enumerate(nodes):
        model.graph.node.insert(at + offset, new)


def remove(model, *names):
    kept = [one for one in model.graph.node if one.name not in names]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def reads(model, reader, old, new):
    """One node reads another tensor."""
    one = node(model, reader)
    one.input[:] = [new if name == old else name for name in one.input]


def add_pair(model, tensor, reader, *, scale=0.03, dtype=np.int8, zero=0, at=""):
    """A Q/DQ pair on a tensor, for one of its readers; returns what the reader reads now."""
    stem = f"{tensor}_{reader}_more"
    put(model, f"{stem}_scale", np.array(scale, np.float32))
    put(model, f"{stem}_zero", np.array(zero, dtype))
    rest = [f"{stem}_scale", f"{stem}_zero"]
    insert(
        model,
        at or reader,
        helper.make_node("QuantizeLinear", [tensor, *rest], [f"{stem}_q"], f"{stem}_q"),
        helper.make_node("DequantizeLinear", [f"{stem}_q", *rest], [f"{stem}_dq"], f"{stem}_dq"),
    )
    reads(model, reader, tensor, f"{stem}_dq")
    return f"{stem}_dq"


def without_pair(model, reader, position=0):
    """A node reads what was quantized for it as it was before; a pair that nobody reads then is gone."""
    one = node(model, reader)
    dequantize = producer(model, one.input[position])
    quantize = producer(model, dequantize.input[0])
    one.input[position] = quantize.input[0]
    if not any(dequantize.output[0] in other.input for other in model.graph.node):
        remove(model, quantize.name, dequantize.name)
