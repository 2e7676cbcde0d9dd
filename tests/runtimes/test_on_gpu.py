"""The genuine TensorRT on a GPU: what the stand-in cannot show. ``HARNESS_TEST_TRT_PYTHON`` names an interpreter.

HARNESS_TEST_TRT_PYTHON=.tox/trt86/bin/python pytest tests/runtimes/test_on_gpu.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from harness.errors import BuildFailed, HarnessError
from harness.spec.config import find_config
from harness.workers import Worker
from harness.workers.environments import find_environments
from tests.fake_tensorrt import models

PYTHON = os.environ.get("HARNESS_TEST_TRT_PYTHON", "")
PROFILE = {"x": [[1, 4, 2], [1, 4, 16], [1, 4, 64]]}
TWO = [{"x": [[1, 4, 2], [1, 4, 8], [1, 4, 16]]}, {"x": [[1, 4, 17], [1, 4, 32], [1, 4, 64]]}]

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="HARNESS_TEST_TRT_PYTHON names no interpreter with TensorRT and a GPU"
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield from started()


def started():
    (environment,) = [
        one
        for one in find_environments(Path("nowhere"), [PYTHON])
        if one.runtime == "tensorrt" and one.python == str(Path(PYTHON).absolute())
    ]
    options = find_config().options.of(environment.name)
    with Worker(replace(environment, options=options), deadline_s=120) as worker:
        yield worker


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "conv.onnx"
    path.write_bytes(models.conv())
    return path


@pytest.fixture(scope="module")
def engine_file(worker, source):
    return worker.build(source, {"profiles": [PROFILE], "flags": ["-TF32"]})[1]


def sample(length):
    return {"x": np.random.default_rng(length).standard_normal((1, 4, length)).astype(np.float32)}


def expected(source, feeds):
    session = onnxruntime.InferenceSession(source)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize("length", [2, 16, 31, 64])
def test_fp32_is_onnx_runtimes_to_rounding(worker, source, engine_file, length):
    with worker.load(engine_file) as engine:
        given = engine.run(sample(length))
    for name, values in expected(source, sample(length)).items():
        np.testing.assert_allclose(given[name], values, rtol=1e-4, atol=1e-5)


def test_going_between_profiles_changes_no_output(worker, source):
    _, path = worker.build(source, {"profiles": TWO, "flags": ["-TF32"]})
    with worker.load(path) as engine:
        first = {length: engine.run(sample(length)) for length in (8, 40, 16, 64)}
        again = {length: engine.run(sample(length)) for length in (64, 8, 40, 16)}
    for length, outputs in first.items():
        for name, values in outputs.items():
            assert np.array_equal(values, again[length][name])
            np.testing.assert_allclose(values, expected(source, sample(length))[name], rtol=1e-4, atol=1e-5)


def test_cuda_graphs_give_the_same_and_the_profiler_still_sees_layers(worker, engine_file):
    outputs, layers = {}, {}
    for graph in (False, True):
        with worker.load(engine_file, {"cuda_graph": graph}) as engine:
            engine.keep("24", sample(24))
            engine.keep("40", sample(40))
            for label in ("24", "40", "24"):
                assert len(engine.timed(label, 2, 3)["device_ns"]) == 3
                outputs[graph, label] = engine.result(label)  # of a launch, where there is a graph
            layers[graph] = {name: len(times) for name, times in engine.layer_times("24", 4).items()}
    for label in ("24", "40"):
        eager, launched = outputs[False, label], outputs[True, label]
        assert all(np.array_equal(values, launched[name]) for name, values in eager.items())
    assert layers[True] == layers[False]
    assert set(layers[False].values()) == {4}


def test_memory_and_layers_are_told(worker, engine_file):
    with worker.load(engine_file) as engine:
        engine.keep("24", sample(24))
        assert engine.memory()["context_bytes"] > 0
        assert any("onv" in str(layer) for layer in engine.layers("24"))


def test_builds_are_made_anew_by_number(worker, source):
    facts = [worker.build(source, {"profiles": [PROFILE], "flags": ["-TF32"], "build": n})[0] for n in (1, 2)]
    assert [one["cached"] for one in facts] == [False, False]
    assert worker.build(source, {"profiles": [PROFILE], "flags": ["-TF32"], "build": 2})[0]["cached"]


def test_a_damaged_engine_is_told_and_the_worker_goes_on(worker, engine_file, source, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(engine_file.read_bytes()[: engine_file.stat().st_size // 2])
    with pytest.raises(BuildFailed, match="cannot load this engine"):
        worker.load(broken)
    with worker.load(engine_file) as engine:
        assert set(engine.run(sample(8))) == set(expected(source, sample(8)))


def test_a_length_beyond_every_profile_is_refused(worker, engine_file):
    with worker.load(engine_file) as engine:
        with pytest.raises(HarnessError, match="65"):
            engine.run(sample(65))
        engine.run(sample(64))
