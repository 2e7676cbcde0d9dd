"""Operations and bytes, against counting by hand and by brute force."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.explain.cost import Tensor, costs, moved_bytes, operations
from tests.explain.conftest import network


def one_node(node, inputs, weights=(), outputs=("y",)):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(weights).items()]
    graph = helper.make_graph([node], "one", values, made, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_node_of_a_small_network():
    found = costs(network(), {"x": (1, 8, 10)})
    assert found.nodes["conv"].operations == 2 * 16 * 8 * (3 * 10 - 2), "the ends of the kernel have nothing to read"
    assert found.nodes["conv"].moved_bytes == 4 * (80 + 16 * 8 * 3 + 16 + 160)
    assert found.nodes["relu"].operations == 160
    assert found.nodes["product"].operations == 2 * 10 * 16 * 32
    assert found.nodes["product"].moved_bytes == 4 * (160 + 16 * 32 + 320)
    assert found.nodes["sum"].operations == 320
    assert found.tensors["y"] == Tensor("float", (1, 10, 32))


@pytest.mark.parametrize(
    ("pads", "strides", "dilations", "pad"),
    [([1, 2, 0, 1], [1, 2], [1, 1], ""), ([2, 2, 2, 2], [2, 1], [2, 1], ""), (None, [2, 3], [1, 1], "SAME_UPPER"),
     (None, [1, 2], [1, 1], "SAME_LOWER"), (None, [1, 1], [1, 1], "VALID")],
)  # fmt: skip
def test_a_convolution_counts_what_it_reads(pads, strides, dilations, pad):
    kernel = (3, 2)
    said = {"strides": strides, "dilations": dilations, **({"pads": pads} if pads else {"auto_pad": pad})}
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", group=2, **said)
    model = one_node(node, {"x": [1, 4, 7, 9]}, {"w": np.ones((6, 2, *kernel), np.float32)})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ones = session.run(None, {"x": np.ones((1, 4, 7, 9), np.float32)})[0]
    assert costs(model, {"x": (1, 4, 7, 9)}).nodes["conv"].operations == 2 * int(ones.sum()), "each product gave a 1"


def test_what_is_read_twice_moves_once():
    model = one_node(helper.make_node("Mul", ["x", "x"], ["y"], name="square"), {"x": [5, 8]})
    assert costs(model, {"x": (5, 8)}).nodes["square"].moved_bytes == 2 * 4 * 40


def test_a_long_kernel_over_a_long_input_is_counted_without_a_table_of_both():
    long, kernel = 10**6, 10**4
    shapes = [Tensor("float", (1, 1, long)), Tensor("float", (1, 1, kernel))]
    made = [Tensor("float", (1, 1, long))]
    tracemalloc.start()
    counted = operations("Conv", shapes, made, {"pads": [kernel - 1, 0]})
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    assert counted == 2 * (long * kernel - kernel * (kernel - 1) // 2), "causal: the first places lack taps"


def test_a_transposed_convolution_and_a_recurrent_net():
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2])
    model = one_node(node, {"x": [1, 4, 5]}, {"w": np.ones((4, 3, 2), np.float32)})
    assert costs(model, {"x": (1, 4, 5)}).nodes["up"].operations == 2 * 4 * 5 * 3 * 2
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="lstm", hidden_size=6)
    weights = {"w": np.ones((1, 24, 5), np.float32), "r": np.ones((1, 24, 6), np.float32)}
    model = one_node(node, {"x": [7, 2, 5]}, weights)
    assert costs(model, {"x": (7, 2, 5)}).nodes["lstm"].operations == 2 * 7 * 2 * 4 * 6 * (5 + 6)


def test_a_shape_that_depends_on_the_data_is_read_off_a_run():
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"], name="where"),
        helper.make_node("Cast", ["at"], ["y"], name="cast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "data", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert costs(model, {"x": (4,)}).nodes["cast"].operations is None
    found = costs(model, {"x": (4,)}, {"x": np.array([0, 1, 1, 1], np.float32)})
    assert found.tensors["at"] == Tensor("int64", (1, 3))
    assert found.nodes["cast"].moved_bytes == 3 * (8 + 4)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "counted"),
    [
        ("QLinearMatMul", [(5, 8), (), (), (8, 3)], (5, 3), 2 * 5 * 3 * 8),
        ("MatMulInteger", [(2, 5, 8), (8, 3)], (2, 5, 3), 2 * 2 * 5 * 3 * 8),
        ("Attention", [(1, 5, 8), (8, 24)], (1, 5, 8), 2 * 5 * 8 * 24 + 4 * 5 * 5 * 8),
        ("MultiHeadAttention", [(1, 5, 8), (1, 7, 8), (1, 7, 8)], (1, 5, 8), 4 * 5 * 7 * 8),
        ("MultiHeadAttention", [(1, 5, 2, 3, 4)], (1, 5, 8), None),  # packed: which axis is the length is its own
        ("NhwcConv", [(1, 9, 9, 4), (6, 4, 3, 3)], (1, 7, 7, 6), None),
        ("Reshape", [(5, 8), (1,)], (40,), 0),
        ("ReduceMean", [(5, 8)], (5, 1), 40),
        ("Gather", [(1000, 8), (5,)], (5, 8), 40),
    ],
)
def test_operators_by_their_shapes(operator, inputs, output, counted):
    read = [Tensor("float", dims) for dims in inputs]
    assert operations(operator, read, [Tensor("float", output)]) == counted


def test_bytes_follow_the_type_and_what_is_really_read():
    large, small = Tensor("float", (1000, 8)), Tensor("float", (5, 8))
    assert moved_bytes("Gather", [large, Tensor("int64", (5,))], [small]) == 2 * 5 * 8 * 4, "not the whole table"
    assert moved_bytes("Add", [Tensor("int8", (5, 8))] * 2, [Tensor("uint8", (5, 8))]) == 3 * 40
    assert moved_bytes("MatMulNBits", [Tensor("uint4", (5,))], [Tensor("float16", (5,))]) == 3 + 10
    assert moved_bytes("Reshape", [large], [large]) == 0
    assert Tensor("float8e4m3fn", (5,)).bytes == 5
    assert [Tensor(kind, (5,)).bytes for kind in ("float4e2m1", "uint2")] == [3, 2]
    assert moved_bytes("Add", [None, small], [small]) is None


def test_einsum_multiplies_every_label():
    shapes = [Tensor("float", (2, 3, 4)), Tensor("float", (2, 4, 5))]
    made = [Tensor("float", (2, 3, 5))]
    assert operations("Einsum", shapes, made, {"equation": "bij,bjk->bik"}) == 2 * 2 * 3 * 4 * 5
    assert operations("Einsum", shapes, made, {"equation": "...ij,...jk->...ik"}) is None
    assert operations("Einsum", shapes[:1], [Tensor("float", (2, 4))], {"equation": "bij->bj"}) == 24, "a sum"
    assert operations("Einsum", [*shapes, shapes[0]], made, {"equation": "bij,bjk,bij->bik"}) is None, "in which order?"


def test_unknown_shapes_stay_unknown():
    for operator in ("Conv", "MatMul", "LSTM", "Attention", "Relu"):
        assert operations(operator, [None, None, None], [None]) is None
    assert list(itertools.chain(costs(onnx.ModelProto(), {}).nodes)) == []
