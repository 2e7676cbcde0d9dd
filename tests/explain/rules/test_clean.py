from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from harness.explain.rules import findings
from harness.spec.calibration import Dialect
from tests.explain.rules.clean import SPEC, add_pair, insert, node, put, qdq


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("spec", [None, SPEC], ids=["no lengths", "lengths"])
def test_what_this_harness_writes_is_clean(float_model, dialect, spec, tmp_path):
    kinds = [one.kind for one in findings(qdq(float_model, dialect, tmp_path), model_spec=spec)]
    if dialect is Dialect.U8S8:
        # x86 kernels really take q k' in INT8 there, by the Q/DQ on outputs: ONNX Runtime's optimized graph has
        # a MatMulIntegerToFloat
        assert kinds == ["quantized-product"]
    else:
        assert kinds == (["long-attention"] if spec else [])


def test_a_chain_by_element_that_ends_in_a_quantizer_is_one_int8_kernel_on_tensorrt(float_model, tmp_path):
    """A hard swish of primitive operators between convolutions, as NVIDIA ModelOpt quantizes it."""
    model = qdq(float_model, Dialect.S8S8, tmp_path)
    put(model, "three", np.array(3, np.float32))
    put(model, "top", np.array(6, np.float32))
    put(model, "zero", np.array(0, np.float32))
    before = next(one for one in model.graph.node if one.op_type == "QuantizeLinear" and one.input[0] == "r1")
    insert(
        model,
        before.name,
        make_node("Add", ["r1", "three"], ["shifted"], "shift"),
        make_node("Clip", ["shifted", "zero", "top"], ["gate"], "gate"),
        make_node("Mul", ["r1", "gate"], ["gated"], "swish"),
        make_node("Div", ["gated", "top"], ["r1_more"], "sixth"),
    )
    before.input[0] = "r1_more"
    add_pair(model, "gate", "swish")
    add_pair(model, "r1", "swish")
    assert "idle-qdq" not in [one.kind for one in findings(model)]
    node(model, "sixth").op_type = "Mod"  # which TensorRT takes in no kernel of that kind
    assert "idle-qdq" in [one.kind for one in findings(model)]
