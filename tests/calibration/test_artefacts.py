from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from harness.calibration import artefacts
from harness.spec.calibration import Dialect

RANGES = {"x": (-4.0, 4.0), "t": (0.0, 30.0), "c": (-30.0, 30.0), "p": (-90.0, 90.0)}


def test_int8_is_made_once_and_anew_for_anything_else(prepared):
    first = artefacts.int8(prepared, RANGES, Dialect.U8S8)
    stamp = first.stat().st_mtime_ns
    assert artefacts.int8(prepared, dict(reversed(RANGES.items())), Dialect.U8S8) == first
    assert first.stat().st_mtime_ns == stamp
    wider = RANGES | {"x": (-4.0, np.nextafter(4.0, 5.0))}
    others = {artefacts.int8(prepared, RANGES, Dialect.S8S8), artefacts.int8(prepared, wider, Dialect.U8S8)}
    assert len(others | {first, artefacts.fp16(prepared)}) == 4
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(first).graph.node}


@pytest.mark.parametrize("size", [0, 100, 0.6])
def test_a_damaged_artefact_is_made_anew(prepared, size):
    makers = [lambda: artefacts.int8(prepared, RANGES, Dialect.U8S8), lambda: artefacts.fp16(prepared)]
    for make in makers:
        whole = make().read_bytes()
        make().write_bytes(whole[: size if isinstance(size, int) else int(size * len(whole))])
        assert make().read_bytes() == whole


def test_fp16_keeps_float_inputs_and_outputs_and_stays_near(prepared, samples):
    path = artefacts.fp16(prepared)
    exact, half = (onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (prepared, path))
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims)}
    assert types == {onnx.TensorProto.FLOAT16}
    assert artefacts.fp16(prepared) == path
    for feeds in samples:
        (wanted,), (got,) = exact.run(None, feeds), half.run(None, feeds)
        assert got.dtype == np.float32
        assert got == pytest.approx(wanted, rel=0.02, abs=0.02 * float(np.abs(wanted).max()))
    assert [file.suffix for file in path.parent.iterdir()] == [".onnx"]
