"""LayerNormalization in primitive operators computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.trt_layer_norm import layer_norm_primitives


def normalized(axis=None, *, bias=True, opset=17, outputs=("y",), before=(), **attributes):
    """x float32 [1, T, 5, 4] (-> before -> n) -> LayerNormalization -> y."""
    random = np.random.default_rng(1)
    chosen = {} if axis is None else {"axis": axis}
    shape = [5, 4] if axis in {-2, 2} else [4]
    weights = {"scale": random.normal(size=shape), **({"bias": random.normal(size=shape)} if bias else {})}
    names = ["n" if before else "x", *weights]
    node = helper.make_node("LayerNormalization", names, list(outputs), name="norm", **chosen, **attributes)
    graph = helper.make_graph(
        [*before, node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "T", 5, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def outputs(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def same(model, made):
    onnx.checker.check_model(made, full_check=True)
    assert "LayerNormalization" not in {node.op_type for node in made.graph.node}
    for length in (1, 7, 30):
        x = np.random.default_rng(length).normal(3, 2, size=(1, length, 5, 4)).astype(np.float32)
        for expected, given in zip(outputs(model, {"x": x}), outputs(made, {"x": x}), strict=True):
            assert given.shape == expected.shape
            assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


def version(model):
    return model.opset_import[0].version


@pytest.mark.parametrize("axis", [None, -1, -2, 3, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("opset", "lowered"), [(17, 14), (18, 18)])
def test_axes_and_bias(axis, bias, opset, lowered):
    model = normalized(axis, bias=bias, opset=opset)
    made = layer_norm_primitives(model)
    kinds = ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"]
    assert [node.op_type for node in made.graph.node] == kinds[: None if bias else -1]
    assert (version(made), version(model)) == (lowered, opset)
    same(model, made)


def test_epsilon():
    model = normalized(epsilon=0.5)
    same(model, layer_norm_primitives(model))


def test_mean_and_inverse_deviation_as_outputs():
    model = normalized(outputs=("y", "mean", "inverse"))
    same(model, layer_norm_primitives(model))
    model = normalized(outputs=("y", "", "inverse"))
    same(model, layer_norm_primitives(model))


def test_the_opset_stays_where_another_operator_needs_it():
    window = helper.make_node("HannWindow", ["four"], ["h"])
    model = normalized(before=(window, helper.make_node("Add", ["x", "h"], ["n"])))
    model.graph.initializer.append(numpy_helper.from_array(np.array(4), "four"))
    made = layer_norm_primitives(model)
    assert version(made) == 17
    same(model, made)


def test_an_axis_counted_from_the_front_of_an_unknown_rank_stays():
    before = [helper.make_node("Neg", ["x"], ["n"])]
    model = normalized(3, before=before)  # no shape of n was inferred
    assert layer_norm_primitives(model) is model
    model = onnx.shape_inference.infer_shapes(model)
    same(model, layer_norm_primitives(model))
    model = normalized(-1, before=before)
    same(model, layer_norm_primitives(model))


def test_without_any_the_model_itself_comes_back():
    made = layer_norm_primitives(normalized())
    assert layer_norm_primitives(made) is made
