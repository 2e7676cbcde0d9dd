from __future__ import annotations

import pytest

from harness.runtimes.optimized_graph import weighted_operators


def test_only_operators_with_weights_count(conv):
    assert weighted_operators(conv.read_bytes()) == {"int8": 0, "float": 1, "operators": {"Conv": 1}, "in_float": ["c"]}


def test_a_weight_is_found_behind_its_dequantize_node(qdq_conv):
    # As written, before any runtime fused it: the convolution computes in floating point.
    assert weighted_operators(qdq_conv.read_bytes()) == {
        "int8": 0,
        "float": 1,
        "operators": {"Conv": 1},
        "in_float": ["c"],
    }


@pytest.mark.parametrize("cut", [50, 200])
def test_half_a_file_is_refused(conv, cut):
    with pytest.raises(ValueError, match="protobuf"):
        weighted_operators(conv.read_bytes()[:-cut])
