"""Every fixture's s8s8 graph is parsed and built by real TensorRT-RTX, or the dialect is wrong."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import onnx
import pytest

from fixtures.catalogue import ENTRIES
from harness.calibration.pipeline import calibrate
from harness.calibration.qdq import write_qdq
from harness.corpus.samples import cut, length_of
from harness.modelfile import inspect, prepare, profiles_for, weighted_nodes
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import single
from harness.workers import Worker, find_environments

SAMPLES = 3
LONGEST = 4  # times opt: enough for a range, and quick


@pytest.fixture(scope="module")
def worker(pytestconfig, tmp_path_factory):
    named = os.environ.get("HARNESS_TEST_RTX_PYTHON")
    python = Path(named) if named else pytestconfig.rootpath / ".tox" / "rtx17" / "bin" / "python"
    if not python.exists():
        missing = "no TensorRT-RTX environment; install it with: python -m tox run -e rtx17 --notest"
        if os.environ.get("HARNESS_REQUIRE_RTX") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    nowhere = tmp_path_factory.mktemp("no_tox")
    (environment,) = (e for e in find_environments(nowhere, [str(python)]) if e.runtime == "tensorrt-rtx")
    with Worker(environment, deadline_s=300) as running:
        yield running


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_it_builds(  # or did: engines are kept by the digest of the file, the options and the runtime
    key, worker, tmp_path
):
    entry = ENTRIES[key]
    model, layout = entry.model, single(entry.model)
    prepared = prepare(entry.onnx(), model)
    drawn = itertools.islice(entry.samples("calibration", 0), SAMPLES)
    samples = [cut(model, feeds, 0, min(length_of(model, feeds), LONGEST * model.opt)) for feeds in drawn]
    found = calibrate(
        prepared,
        model,
        samples,
        [length_of(model, feeds) for feeds in samples],
        Calibration(Method("minmax"), Policy.RAGGED),
        layout,
        Dialect.S8S8,
    )
    written = tmp_path / f"{key}-s8s8.onnx"
    nodes = weighted_nodes(onnx.load(prepared))
    write_qdq(prepared, nodes, found.for_profile(0), Dialect.S8S8, written)

    facts, engine = worker.build(written, {"profiles": profiles_for(model, inspect(prepared), layout.profiles)})

    assert engine.is_file()
    assert engine.stat().st_size == facts["bytes"] > 0
    sizes = f"FP32 {prepared.stat().st_size:,}, s8s8 {written.stat().st_size:,}, engine {facts['bytes']:,} bytes"
    print(f"{key}: {sizes}, {facts['seconds']:.1f} s")  # pytest -rP
    assert written.stat().st_size < prepared.stat().st_size
