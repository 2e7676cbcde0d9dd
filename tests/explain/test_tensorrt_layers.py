"""What TensorRT's inspector says, in the forms of its versions, and what a stand-in of them runs.

The layers' texts are as 8.5 and 8.6 on a GPU and the documents of 10 and 11 have them, cut to what is read.
"""

from __future__ import annotations

import pytest

from harness.explain import assemble
from harness.explain.cost import costs
from harness.explain.tensorrt_layers import rows
from tests.explain.conftest import network
from tests.fake_tensorrt import loaded

NAMES = {node.name: node.op_type for node in network().graph.node}

IN_8_5 = {
    "Name": "conv + relu", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
    "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1, 8, 1, 10],
                "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
    "Outputs": [{"Name": "r", "Location": "Device", "Dimensions": [1, 16, 1, 10],
                 "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
    "Weights": {"Type": "Int8", "Count": 384}, "Bias": {"Type": "Float", "Count": 16}, "Activation": "RELU",
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs",
}  # fmt: skip
IN_8_6 = {
    **IN_8_5, "Name": "conv_1 || other", "Metadata": "[ONNX Layer: conv | C:\\models.py(3)]\x1e[ONNX Layer: relu]",
    "Inputs": [{"Name": "x", "Dimensions": [1, 8, 1, -1], "Format/Datatype": "N/A due to dynamic shapes"}],
}  # fmt: skip
IN_11 = {
    "Name": "product_myl0_3", "LayerType": "gemm", "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_tn_n",
    "Inputs": [{"Name": "t", "Dimensions": [1, 10, 16], "Format": "Linear", "Datatype": "Half"}],
    "Outputs": [{"Name": "__mye1", "Dimensions": [1, 10, 32], "Format": "Linear", "Datatype": "Half"}],
    "Metadata": "[ONNX Layer: product]\x1f[ONNX Layer: sum]",
}  # fmt: skip
REFORMAT = {
    "Name": "Reformatting CopyNode for Input Tensor 0 to conv + relu", "LayerType": "Reformat", "Origin": "REFORMAT",
    "Inputs": [{"Name": "x", "Dimensions": [1, 8, 10], "Format/Datatype": "Row major linear FP32"}],
    "Outputs": [{"Name": "Reformatted Input Tensor 0 to conv + relu", "Dimensions": [1, 8, 10],
                 "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
}  # fmt: skip
QUANTIZE = {"Name": "x_QuantizeLinear", "LayerType": "Scale", "Inputs": [], "Outputs": []}
FOREIGN = {"Name": "{ForeignNode[turn...share]}", "LayerType": "Myelin", "Inputs": [{"Name": "r"}],
           "Outputs": [{"Name": "y"}]}  # fmt: skip


def made(*told, times=None):
    model = network()
    return assemble.layers(model, costs(model, {"x": (1, 8, 10)}), rows(told, times or {}, NAMES), times or {})


def test_tf32_is_not_fp32():
    """As TensorRT 8.6 has it on an H200: an FP16 build may still compute a product of FP32 in TF32, at another roof."""
    tactic = "sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_cgasize1x2x1_warpgroupsize1x1x1_beta0"
    ends = [{"Name": "t", "Dimensions": [1, 10, 16], "Format/Datatype": "Row major linear FP32"}]
    told = {"Name": "product", "LayerType": "CaskGemmConvolution", "TacticName": tactic, "Inputs": ends,
            "Outputs": [], "Weights": {"Type": "Float", "Count": 512}}  # fmt: skip
    (layer,) = made(told)
    assert layer.precision == "tf32"
    (layer,) = made({**told, "TacticName": "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_ffma"})
    assert layer.precision == "fp32"


def test_a_fused_convolution_of_8_5():
    (layer,) = made(IN_8_5, times={"conv + relu": [0.010, 0.012, 0.014]})
    assert (layer.operator, layer.nodes, layer.precision, layer.role) == ("Conv", ("conv", "relu"), "int8", "compute")
    assert layer.kernel.startswith("sm80_xmma")
    assert layer.moved_bytes == 80 + 160 + 384 + 64
    assert layer.operations == 2 * 16 * 8 * 28 + 160
    assert layer.time_us == pytest.approx(11)


def test_names_of_8_6_stand_in_its_metadata_beside_doc_strings():
    (layer,) = made(IN_8_6)
    assert (layer.nodes, layer.precision) == (("conv", "relu"), "int8")
    assert layer.moved_bytes == 4 * 80 + 160 + 384 + 64, "what is not told is looked up in the model"


def test_types_of_11_stand_apart_from_formats():
    (layer,) = made(IN_11)
    assert (layer.nodes, layer.precision, layer.operator) == (("product", "sum"), "fp16", "MatMul")


def test_what_is_inserted_has_a_role_and_a_size():
    reformat, quantize = made(REFORMAT, QUANTIZE)
    assert (reformat.role, reformat.nodes, reformat.moved_bytes) == ("reformat", (), 4 * 80 + 80)
    assert (quantize.role, quantize.nodes) == ("quantize", ())


def test_a_net_that_became_one_node_is_all_of_its_nodes():
    _, whole = made(IN_8_5, FOREIGN)
    assert whole.nodes == ("turn", "product", "sum", "share")
    assert (whole.operator, whole.role, whole.precision) == ("MatMul", "compute", "")


def test_of_several_profiles_the_one_that_ran():
    told = [IN_8_5, {**IN_8_5, "Name": "conv + relu [profile 1]"}]
    assert [layer.name for layer in made(*told, times={"conv + relu [profile 1]": [1.0]})] == [
        "conv + relu", "conv + relu [profile 1]",
    ], "one without a mark may belong to every profile"  # fmt: skip
    assert [layer.name for layer in made(*told, times={"conv + relu": [1.0]})] == ["conv + relu"]


def test_names_alone_are_names():
    (layer,) = made({"Name": "conv"})
    assert (layer.nodes, layer.precision, layer.time_us) == (("conv",), "", None)


def test_an_inspector_may_say_anything():
    strange = {"Name": None, "Inputs": ["x", {"Name": "t", "Dimensions": "?"}], "Weights": {"Count": "many"}}
    (layer,) = made(strange)
    assert layer.moved_bytes is None or layer.moved_bytes >= 0


@pytest.mark.parametrize("version", ["8.5", "8.6", "10.13", "11.0"])
def test_versions_on_the_stand_in(version, file, tmp_path):
    import numpy as np

    profile = [{"x": [[1, 8, 4], [1, 8, 16], [1, 8, 64]]}]
    with loaded(version, tmp_path / "fake"):
        from harness.runtimes.tensorrt import TensorRt

        runtime = TensorRt()
        runtime.build(str(file), str(tmp_path / "engine"), {"profiles": profile})
        engine = runtime.load(str(tmp_path / "engine"), {})
        engine.keep("here", {"x": np.ones((1, 8, 10), np.float32)})
        told, times = engine.layers("here"), engine.layer_times("here", 3)
        engine.close()
    layers = made(*told, times=times)
    assert [one.nodes for one in layers] == [(name,) for name in NAMES]
    assert all(one.time_us is not None and one.precision == "fp32" for one in layers)
    conv = layers[0]
    assert (conv.operator, conv.role, conv.operations) == ("Conv", "compute", 2 * 16 * 8 * 28)
