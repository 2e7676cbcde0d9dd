from __future__ import annotations

import pytest

from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case

CALIBRATION = Calibration(Method.parse("percentile"), Policy.RAGGED)


@pytest.mark.parametrize(
    ("case", "reads"),
    [
        (
            Case("wave", "onnxruntime-1.32.0-cpu", Precision.INT8, CALIBRATION, "buckets3"),
            "wave-onnxruntime-1.32.0-cpu-int8-percentile-ragged-buckets3",
        ),
        (Case("rec", "tensorrt-8.5.3.1", Precision.FP16, None, "single"), "rec-tensorrt-8.5.3.1-fp16-single"),
        (
            Case("vad", "tensorrt-8.5.3.1", Precision.INT8, CALIBRATION, "geometric5", Route.CACHE),
            "vad-tensorrt-8.5.3.1-int8-percentile-ragged-cache-geometric5",
        ),
        (
            Case("digits", "tensorrt-11.4.0", Precision.INT8, None, "single", Route.QDQ_STRONG),
            "digits-tensorrt-11.4.0-int8-ready-qdq_strong-single",
        ),
    ],
)
def test_an_id_reads(case, reads):
    assert case.id == str(case) == reads


def test_cases_are_values():
    one, other = (Case("rec", "tensorrt-8.5.3.1", Precision.FP32, None, "single") for _ in range(2))
    assert one == other
    assert len({one, other}) == 1
