from __future__ import annotations

import pytest

from harness.explain.rules import findings
from harness.spec.calibration import Dialect
from tests.explain.rules.clean import SPEC, qdq


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
