"""Layers back to nodes, through what runtimes do to names and tensors."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.explain.onnxruntime_layers import rows
from harness.explain.origins import End, Row, origins
from harness.runtimes.onnxruntime_profile import layers
from tests.explain.conftest import network


def row(name, operator="", *, role="other", reads=(), makes=(), words=None, **more):
    ends = [tuple(End(one) for one in names) for names in (reads, makes)]
    return Row(name, operator, "fp32", role, *ends, words=(name,) if words is None else words, **more)


def nodes_of(model, *found):
    return [one.nodes for one in origins(model, found)]


def test_what_lies_between_two_tensors_is_the_layers():
    fused = row("conv", "FusedConv", role="compute", reads=("x",), makes=("r",))
    rest = row("turn", "Transpose", reads=("r",), makes=("t",))
    assert nodes_of(network(), fused, rest) == [("conv", "relu"), ("turn",)]


def test_a_product_whose_output_was_renamed_takes_its_activation_along():
    quantized = row("conv_token_5", "QLinearConv", role="compute", reads=("q",), makes=("conv",))
    rest = row("turn", "Transpose", reads=("conv",), makes=("turn",))
    assert nodes_of(network(), quantized, rest) == [("conv", "relu"), ("turn",)]
    alone = row("relu", "Relu", reads=("conv",), makes=("relu",))
    assert nodes_of(network(), quantized, alone)[0] == ("conv",), "the activation has a layer of its own"


def test_a_product_that_is_called_by_its_activation():
    found = row("relu_nchwc", "Conv", role="compute", reads=("reorder_token_1",), makes=("reorder_token_3",))
    assert nodes_of(network(), found) == [("conv", "relu")]


def test_what_is_inserted_is_nobodys():
    turn = row("turn", "Transpose", reads=("r_QuantizeLinear_Output",), makes=("t_QuantizeLinear_Output",))
    quantize = row(
        "r_QuantizeLinear", "QuantizeLinear", role="quantize", reads=("r",), makes=("r_QuantizeLinear_Output",)
    )
    reorder = row("ReorderOutput_token_7", "ReorderOutput", role="reformat", makes=("t",), inserted=True)
    assert nodes_of(network(), quantize, turn, reorder) == [(), ("turn",), ()]


def test_several_layers_that_name_a_node_leave_it_to_its_product():
    head = row("__myl_Move", words=("conv",))
    product = row("conv", role="compute", words=("conv",))
    tail = row("__myl_Relu", words=("conv", "relu"))
    assert nodes_of(network(), head, product, tail) == [(), ("conv",), ("relu",)]


def test_a_piece_of_the_graph_swallows_what_is_between():
    whole = row("{ForeignNode[conv...share]}", words=("conv", "share"), reads=("x",), makes=("y",), swallows=True)
    assert nodes_of(network(), whole) == [("conv", "relu", "turn", "product", "sum", "share")]


def test_a_fusion_that_kept_no_name_has_what_lies_between_its_neighbours():
    first = row("turn", "Transpose", reads=("r",), makes=("t",))
    fused = row("QuickThing", "QuickThing", reads=("t",), makes=("QuickThing",))
    last = row("share", "Sigmoid", reads=("QuickThing",), makes=("y",))
    conv = row("conv", "FusedConv", role="compute", reads=("x",), makes=("r",))
    assert nodes_of(network(), conv, first, fused, last)[2] == ("product", "sum")


@pytest.mark.parametrize("name", ["gelu", "layer_norm"])
def test_fusions_of_onnxruntime_are_told_apart(tmp_path, name):
    """What ONNX Runtime makes of a real chain: every node of the model is in exactly one layer."""
    model = _gelu() if name == "gelu" else _layer_norm()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    told = layers((tmp_path / "optimized.onnx").read_bytes(), "", {})
    assert len(told) < len(model.graph.node), "nothing was fused, so this tests nothing"
    names = {node.name: node.op_type for node in model.graph.node}
    found = [node for one in origins(model, rows(told, names)) for node in one.nodes]
    assert sorted(found) == sorted(names)


def _chain(nodes, weights):
    made = [helper.make_node(op, reads, [out], name=f"node_{out}", **said) for op, reads, out, said in nodes]
    graph = helper.make_graph(
        made, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _gelu():
    weights = {"w": np.eye(16), "root": np.sqrt(2.0), "one": 1.0, "half": 0.5}
    return _chain(
        [("MatMul", ["x", "w"], "a", {}), ("Div", ["a", "root"], "b", {}), ("Erf", ["b"], "c", {}),
         ("Add", ["c", "one"], "d", {}), ("Mul", ["a", "d"], "e", {}), ("Mul", ["e", "half"], "y", {})],
        weights,
    )  # fmt: skip


def _layer_norm():
    weights = {"w": np.eye(16), "two": 2.0, "tiny": 1e-5, "scale": np.ones(16), "shift": np.zeros(16)}
    return _chain(
        [("MatMul", ["x", "w"], "a", {}), ("ReduceMean", ["a"], "m", {"axes": [-1]}), ("Sub", ["a", "m"], "d", {}),
         ("Pow", ["d", "two"], "s", {}), ("ReduceMean", ["s"], "v", {"axes": [-1]}), ("Add", ["v", "tiny"], "e", {}),
         ("Sqrt", ["e"], "r", {}), ("Div", ["d", "r"], "n", {}), ("Mul", ["n", "scale"], "o", {}),
         ("Add", ["o", "shift"], "p", {}), ("MatMul", ["p", "w"], "y", {})],
        weights,
    )  # fmt: skip


def test_a_model_that_is_not_known_has_no_nodes():
    assert nodes_of(onnx.ModelProto(), row("conv", reads=("x",), makes=("y",))) == [()]
