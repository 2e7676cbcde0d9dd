from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.calibration.cache import ALGORITHMS, CalibrationCache, from_ranges
from harness.errors import CacheMismatch, DataError

PLAIN = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
REAL = [
    "a:0",
    "StatefulPartitionedCall/conv:0",
    "with space",
    "x: 3f800000",
    "::",
    "(Unnamed Layer* 3) [Conv]_output",
]
NAMES = st.text(PLAIN, min_size=1, max_size=30) | st.sampled_from(REAL)
SCALES = st.floats(width=32, min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)

WRITTEN = """TRT-8503-EntropyCalibration2
images: 3c010a14
/model/conv/Conv_output_0: 3cd7f65a
StatefulPartitionedCall/out:0: 3f800000
"""


@given(st.dictionaries(NAMES, SCALES, max_size=8), st.sampled_from(ALGORITHMS), st.sampled_from(["8503", "101600"]))
def test_what_is_written_reads_back_exactly(scales, algorithm, version):
    cache = CalibrationCache(version, algorithm, scales)
    back = CalibrationCache.loads(cache.dumps())
    assert back == cache
    assert list(back.scales) == list(scales)
    assert back.dumps() == cache.dumps()


def test_a_file_as_tensorrt_writes_it():
    cache = CalibrationCache.loads(WRITTEN)
    assert (cache.version, cache.algorithm) == ("8503", "EntropyCalibration2")
    assert cache.scales["/model/conv/Conv_output_0"] == 0.026362586766481400
    assert cache.scales["StatefulPartitionedCall/out:0"] == 1.0
    assert cache.dumps() == WRITTEN
    low, high = cache.ranges()["/model/conv/Conv_output_0"]
    assert high == -low == 127 * 0.026362586766481400


def test_windows_line_ends_and_blank_lines_are_no_matter():
    assert CalibrationCache.loads(WRITTEN.replace("\n", "\r\n") + "\r\n\n") == CalibrationCache.loads(WRITTEN)


@pytest.mark.parametrize(
    "header",
    ["TRT-7000-EntropyCalibration2", "TRT-8003-MinMaxCalibration", "TRT-8601-LegacyCalibration",
     "TRT-101600-EntropyCalibration2", "TRT-100001-EntropyCalibration"],
)  # fmt: skip
def test_headers_of_every_generation(header):
    cache = CalibrationCache.loads(header + "\na: 3f800000\n")
    assert header == f"TRT-{cache.version}-{cache.algorithm}"


@pytest.mark.parametrize("text", ["", "\n", "a: 3f800000\n", "TRT-8503\na: 3f800000", "{}", "TRT-x-Entropy\n"])
def test_without_a_header_it_is_no_cache(text):
    with pytest.raises(DataError, match="no header TRT-<version>-<algorithm>") as caught:
        CalibrationCache.loads(text, "calib.cache")
    assert caught.value.where == "calib.cache"


@pytest.mark.parametrize(
    "line",
    ["images", "images 3c010a14", "images: 3c010a", "images: 3c010a1400", "images: xyzxyzxy", "images: ",
     "images: 00000000", "images: 80000000", "images: bf800000", "images: 7f800000", "images: 7fc00000",
     "images: 0.0263", "images: 3c 01 0a 14"],
)  # fmt: skip
def test_a_bad_line_is_named_by_its_number(line):
    text = f"TRT-8503-EntropyCalibration2\nfine: 3f800000\n\n{line}\n"
    with pytest.raises(DataError, match="8 hex digits") as caught:
        CalibrationCache.loads(text, "calib.cache")
    assert caught.value.where == "calib.cache:4"
    assert repr(line) in caught.value.what


def test_a_tensor_listed_twice_is_named():
    with pytest.raises(DataError, match="'a' is listed twice") as caught:
        CalibrationCache.loads("TRT-8503-EntropyCalibration2\na: 3f800000\na: 3f800000\n")
    assert caught.value.where.endswith(":3")


def test_another_version_or_algorithm_is_refused_by_name():
    cache = CalibrationCache("8503", "EntropyCalibration2", {"a": 1.0})
    cache.check("8503", "EntropyCalibration2")
    with pytest.raises(CacheMismatch, match="made by version 8503, wanted 8601"):
        cache.check("8601", "EntropyCalibration2")
    with pytest.raises(CacheMismatch, match="made by algorithm EntropyCalibration2, wanted MinMaxCalibration"):
        cache.check("8503", "MinMaxCalibration")


@given(
    st.dictionaries(
        NAMES, st.tuples(st.floats(-1e30, -1e-30), st.floats(1e-30, 1e30)) | st.just((0.0, 2.0)), min_size=1
    )
)
def test_our_ranges_survive_the_way_through_a_cache(ranges):
    cache = from_ranges(ranges, "101600")
    assert cache.algorithm == "MinMaxCalibration"
    back = CalibrationCache.loads(cache.dumps())
    assert back == cache
    for name, (low, high) in ranges.items():
        assert back.ranges()[name][1] == pytest.approx(max(-low, high), rel=1e-6)
        assert np.float32(back.scales[name]) == back.scales[name]


def test_an_algorithm_that_tensorrt_does_not_have():
    with pytest.raises(DataError, match="unknown algorithm 'Entropy3'"):
        from_ranges({"a": (-1.0, 1.0)}, "8503", "Entropy3")
