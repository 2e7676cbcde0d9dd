from __future__ import annotations

import numpy as np
import pytest

from harness.runtimes.wire import pack, pack_all, unpack

ARRAYS = {
    "scalar": np.array(3.5, np.float32),
    "scalar type": np.float64(2.0),
    "empty": np.zeros((0, 4), np.float32),
    "int64": np.array([-(2**62), 2**62]),
    "float16": np.array([[1.5, np.nan, np.inf]], np.float16),
    "bool": np.array([True, False, True]),
    "big endian": np.arange(4, dtype=">i4"),
    "transposed": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
    "strided": np.arange(10, dtype=np.int16)[::3],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were(name):
    array = ARRAYS[name]
    back = unpack(pack(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert back.flags.owndata


@pytest.mark.parametrize("thing", [[1, 2], np.array(["a"]), np.array([None]), "text"])
def test_what_is_no_array_of_numbers_is_refused_by_name(thing):
    with pytest.raises(TypeError, match=r"^x: "):
        pack_all({"x": thing})
