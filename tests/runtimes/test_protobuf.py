"""Fields of protobuf messages, against what ``onnx`` writes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from harness.runtimes.protobuf import fields, numbers, only

DIMS, TYPE, NAME = 1, 2, 8


def test_a_tensor_as_onnx_writes_it():
    tensor = numpy_helper.from_array(np.zeros((3, 300, 1), np.int8), "weights")
    content = tensor.SerializeToString()
    assert numbers(content, DIMS) == [3, 300, 1]
    assert numbers(content, TYPE) == [tensor.data_type]
    assert only(content, NAME) == b"weights"
    assert only(content, 99) == b""


def test_packed_numbers_are_the_same_numbers():
    assert numbers(bytes([0x0A, 3, 3, 0xAC, 0x02]), DIMS) == [3, 300]


@pytest.mark.parametrize("content", [b"\x0a\x05ab", b"\xff", b"\x0b"])
def test_what_is_cut_short_is_no_message(content):
    with pytest.raises(ValueError, match="protobuf"):
        list(fields(content))
