"""One-dimensional convolutions in rank 4 compute what they did."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.modelfile import weighted_nodes
from harness.trt_planes import aliases, convolutions_2d

LENGTHS = (9, 16, 57)


def graph_of(nodes, weights, outputs=("y",), channels=6):
    """x float32 [1, channels, T] to outputs of rank 3."""
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", floats, [1, channels, "T"])],
        [helper.make_tensor_value_info(name, floats, [1, None, None]) for name in outputs],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return onnx.shape_inference.infer_shapes(made)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv(source, target, weights, op="Conv", **attributes):
    return helper.make_node(op, [source, *weights.split()], [target], name=f"conv_{target}", **attributes)


def outputs(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def same(model, made, channels=6, lengths=LENGTHS):
    onnx.checker.check_model(made, full_check=True)
    for length in lengths:
        feeds = {"x": draw(1, channels, length, seed=length)}
        for expected, given in zip(outputs(model, feeds), outputs(made, feeds), strict=True):
            assert given.shape == expected.shape
            assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


def kinds(model):
    return [node.op_type for node in model.graph.node]


def shape_of_weights(model):
    return [list(t.dims) for t in model.graph.initializer if t.name.startswith("w")]


@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ((8, 6, 3), {}),
        ((8, 6, 3), {"pads": [1, 1]}),
        ((8, 6, 4), {"pads": [2, 0], "strides": [2]}),
        ((8, 6, 3), {"dilations": [3], "pads": [3, 3], "kernel_shape": [3]}),
        ((9, 2, 3), {"group": 3, "pads": [1, 1]}),
        ((6, 1, 5), {"group": 6, "pads": [2, 2], "auto_pad": "NOTSET"}),
        ((8, 6, 1), {"strides": [3]}),
        ((8, 6, 4), {"auto_pad": "SAME_UPPER", "strides": [2]}),
        ((8, 6, 4), {"auto_pad": "SAME_LOWER"}),
        ((8, 6, 4), {"auto_pad": "VALID", "kernel_shape": [4]}),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(weights, attributes, bias):
    constants = {"w": draw(*weights), **({"b": draw(weights[0])} if bias else {})}
    model = graph_of([conv("x", "y", "w b" if bias else "w", **attributes)], constants)
    made = convolutions_2d(model)
    assert kinds(made) == ["Unsqueeze", "Conv", "Squeeze"]
    assert shape_of_weights(made) == [[*weights, 1]]
    same(model, made)


@pytest.mark.parametrize(
    ("weights", "attributes"),
    [
        ((6, 8, 4), {"strides": [2], "pads": [1, 1]}),
        ((6, 8, 3), {"strides": [3], "output_padding": [2], "kernel_shape": [3]}),
        ((6, 2, 3), {"group": 3, "dilations": [2]}),
        ((6, 1, 4), {"group": 6, "strides": [2]}),
        ((6, 8, 4), {"strides": [2], "auto_pad": "SAME_UPPER"}),
    ],
)
def test_transposed_convolutions(weights, attributes):
    model = graph_of([conv("x", "y", "w", "ConvTranspose", **attributes)], {"w": draw(*weights)})
    made = convolutions_2d(model)
    assert kinds(made) == ["Unsqueeze", "ConvTranspose", "Squeeze"]
    same(model, made)


def test_an_output_shape_that_is_written_down():
    node = conv("x", "y", "w", "ConvTranspose", strides=[2], output_shape=[18])
    model = graph_of([node], {"w": draw(6, 8, 4)})
    same(model, convolutions_2d(model), lengths=[9])


CHAIN = [
    conv("x", "a", "w b", pads=[1, 1]),
    helper.make_node("Relu", ["a"], ["r"], name="relu"),
    conv("r", "c", "w b", pads=[1, 1]),
    helper.make_node("LeakyRelu", ["c"], ["l"], name="leaky", alpha=0.1),
    helper.make_node("Mul", ["half", "l"], ["m"], name="half of it"),
    helper.make_node("Add", ["m", "a"], ["s"], name="residual"),
    helper.make_node("Clip", ["s", "low", "high"], ["k"], name="clip"),
    conv("k", "y", "v", pads=[2, 2]),
]
CONSTANTS = {"w": draw(6, 6, 3), "b": draw(6), "v": draw(6, 6, 5), "half": [0.5], "low": -2.0, "high": 2.0}


def test_a_chain_has_one_pair():
    model = graph_of(CHAIN, CONSTANTS)
    before = model.SerializeToString()
    made = convolutions_2d(model)
    assert model.SerializeToString() == before
    assert kinds(made) == ["Unsqueeze", *kinds(model), "Squeeze"]
    assert aliases(made) == {"x_2d": "x", "y_2d": "y"}
    same(model, made)
    assert weighted_nodes(made) == weighted_nodes(model)
    inside = {node.name: (node.input[0], node.output[0]) for node in made.graph.node}
    assert inside["conv_c"] == ("r", "c")  # what a cache calls them


def test_what_is_read_in_rank_3_is_there_in_both():
    nodes = [
        *CHAIN[:3],
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Transpose", ["t"], ["u"], perm=[0, 2, 1]),
        helper.make_node("Add", ["x", "c"], ["z"]),
        helper.make_node("Mul", ["c", "per_channel"], ["q"]),
    ]
    model = graph_of(nodes, {**CONSTANTS, "per_channel": draw(6, 1)}, outputs=("u", "z", "q", "a"))
    made = convolutions_2d(model)
    assert aliases(made) == {f"{name}_2d": name for name in "xarcz"}
    # x + c stays in rank 4, as x is there already; the product with a vector does not
    reads = {node.output[0]: list(node.input) for node in made.graph.node}
    assert reads["z_2d"] == ["x_2d", "c_2d"]
    assert reads["q"] == ["c", "per_channel"]
    same(model, made)


def test_one_unsqueeze_for_two_readers_and_weights_that_are_shared():
    nodes = [
        conv("x", "a", "w"),
        conv("x", "y", "w"),
        helper.make_node("ReduceSum", ["w"], ["z"], keepdims=1),
    ]
    model = graph_of(nodes, {"w": draw(6, 6, 3)}, outputs=("a", "y", "z"))
    made = convolutions_2d(model)
    assert kinds(made).count("Unsqueeze") == 1
    assert sorted(shape_of_weights(made)) == [[6, 6, 3], [6, 6, 3, 1]]
    same(model, made)


def test_names_that_are_taken():
    nodes = [conv("x", "x_2d", "w"), helper.make_node("Neg", ["x_2d"], ["axes_of_2d"])]
    model = graph_of(nodes, {"w": draw(6, 6, 3)}, outputs=("x_2d", "axes_of_2d"))
    made = convolutions_2d(model)
    assert aliases(made) == {"x_2d_1": "x", "x_2d_2d": "x_2d", "axes_of_2d_2d": "axes_of_2d"}
    same(model, made)


def test_what_stays_as_it_is():
    square = helper.make_node("Conv", ["x4", "w"], ["y"])
    graph = helper.make_graph(
        [square],
        "g",
        [helper.make_tensor_value_info("x4", TensorProto.FLOAT, [1, 6, 8, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(draw(8, 6, 3, 3), "w")],
    )
    flat = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert convolutions_2d(flat) is flat
    computed = graph_of(
        [helper.make_node("Neg", ["w"], ["v"]), conv("x", "y", "v")], {"w": draw(8, 6, 3)}
    )  # as behind a DequantizeLinear
    assert convolutions_2d(computed) is computed


def test_a_second_time_there_is_nothing_to_do():
    made = convolutions_2d(graph_of(CHAIN, CONSTANTS))
    assert convolutions_2d(made) is made
    assert aliases(onnx.load_from_string(made.SerializeToString())) == aliases(made)
