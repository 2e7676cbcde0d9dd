"""Every fixture model, FP32 and s8s8, in every real TensorRT-RTX: which builds where, and what computes in INT8."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import onnx
import pytest

from fixtures.catalogue import ENTRIES
from harness.calibration.pipeline import calibrate
from harness.calibration.qdq import write_qdq
from harness.corpus.samples import cut, length_of
from harness.errors import BuildFailed
from harness.modelfile import prepare, profiles_for, read_facts, weighted_nodes
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import single
from harness.workers import Worker
from tests.runtimes.rtx_probes import NO_INT8_KERNEL, VERSIONS, WANTS_A_GPU, environment

SAMPLES = 3
LONGEST = 4  # times opt: enough for a range, and quick
INT8 = {"digits": 6, "plc": 16, "rec": 47, "text": 24, "vad": 6, "wave": 6, "wave_len": 6}
"""Operators that compute in INT8: all that are quantized. Of the 36 of text 18 became 6, three of one input."""


@pytest.fixture(scope="module")
def made():
    """Key of a fixture model -> its prepared file, its s8s8 file, its profiles."""
    with tempfile.TemporaryDirectory() as folder:
        yield {key: (*_written(key, Path(folder)), _profiles(key)) for key in ENTRIES}


def _written(key, folder):
    entry = ENTRIES[key]
    model, layout = entry.model, single(entry.model)
    prepared = prepare(entry.onnx(), model)
    drawn = itertools.islice(entry.samples("calibration", 0), SAMPLES)
    samples = [cut(model, feeds, 0, min(length_of(model, feeds), LONGEST * model.opt)) for feeds in drawn]
    lengths = [length_of(model, feeds) for feeds in samples]
    calibration = Calibration(Method("minmax"), Policy.RAGGED)
    found = calibrate(prepared, model, samples, lengths, calibration, layout, Dialect.S8S8)
    written = folder / f"{key}-s8s8.onnx"
    write_qdq(prepared, weighted_nodes(onnx.load(prepared)), found.for_profile(0), Dialect.S8S8, written)
    return prepared, written


def _profiles(key):
    model = ENTRIES[key].model
    return profiles_for(model, read_facts(prepare(ENTRIES[key].onnx(), model)), single(model).profiles)


@pytest.fixture(scope="module", params=VERSIONS)
def worker(request, made, pytestconfig, tmp_path_factory):
    """Engines lie in a folder that goes with the fixture: they are half a gigabyte."""
    found = environment(request.param, pytestconfig.rootpath, tmp_path_factory.mktemp("no_tox"))
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        patched.setenv("TRT_INT8_HARNESS_CACHE", folder)
        with Worker(found, deadline_s=300) as running:
            yield running


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_fp32_builds_in_every_version(worker, made, key):
    prepared, _, profiles = made[key]
    facts, engine = worker.build(prepared, {"profiles": profiles})
    assert engine.stat().st_size == facts["bytes"] > 0
    assert facts["coverage"]["int8"] == 0
    assert facts["coverage"]["float"] > 0


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_int8_builds_where_the_version_has_kernels(worker, made, key):
    prepared, quantized, profiles = made[key]
    assert quantized.stat().st_size < prepared.stat().st_size
    first = "1.5" if key == "text" else "1.7"  # it has no convolutions
    if worker.environment.version < first:
        with pytest.raises(BuildFailed) as caught:
            worker.build(quantized, {"profiles": profiles})
        assert (WANTS_A_GPU if key == "text" else NO_INT8_KERNEL) in caught.value.detail
        return
    facts, _ = worker.build(quantized, {"profiles": profiles})
    assert facts["coverage"]["int8"] == INT8[key]
    sizes = f"FP32 {prepared.stat().st_size:,}, s8s8 {quantized.stat().st_size:,}, engine {facts['bytes']:,} bytes"
    print(f"{key}: {sizes}, {facts['seconds']:.1f} s")  # pytest -rP
