"""Several builds of one engine: each is made anew, and they are what latency is judged over."""

from __future__ import annotations

import numpy as np
import pytest

from harness.corpus.own import own_entry
from harness.spec.calibration import Precision
from harness.spec.case import Case
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter, models

NAME = "tensorrt-8.6.1"
CASE = Case("conv", NAME, Precision.FP32, None, "single")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "conv.onnx").write_bytes(models.conv())
    (tmp_path / "data").mkdir()
    for length in (4, 8, 12, 16, 24, 40):
        x = np.random.default_rng(length).normal(size=(1, 4, length)).astype(np.float32)
        np.savez(tmp_path / "data" / f"{length}.npz", x=x)
    entry = own_entry(tmp_path / "conv.onnx", axes=["x:2=n"], range_="4:8:64", data=tmp_path / "data")
    environment = Environment(NAME, str(interpreter("8.6", tmp_path / "venv")), "tensorrt", "8.6.1")
    with Workers() as workers:
        yield Workbench({"conv": entry}, {NAME: environment}, workers, None, Matrix(builds=3, samples=4, tests=2), 0)


def test_each_number_is_another_build(bench):
    first = bench.build(CASE)
    again = bench.rebuilt(CASE)
    assert [facts["cached"] for facts, _ in first] == [False]
    assert [[facts["cached"] for facts, _ in one] for one in again] == [[False], [False]]
    assert [[facts["cached"] for facts, _ in one] for one in bench.rebuilt(CASE)] == [[True], [True]]


def test_a_side_of_a_session_has_them_all(bench):
    side = bench.side(CASE)
    assert side.builds == 3
    assert all(side.file(build, "short").is_file() for build in range(3))


def test_what_runs_in_int8_is_asked_of_each_build(bench, monkeypatch):
    """They may differ: each chose its own kernels."""
    told = iter([{"int8": 1, "float": 0}, {"int8": 0, "float": 1}, {"int8": 1, "float": 0}])
    loaded = []
    serve = bench._engines.serve

    def spied(worker, files, *rest):
        loaded.append(list(files))
        served = serve(worker, files, *rest)
        for engine in served.engines:
            monkeypatch.setattr(engine, "coverage", lambda: next(told))
        return served

    monkeypatch.setattr(bench._engines, "serve", spied)
    builds = [bench.build(CASE), *bench.rebuilt(CASE)]
    assert [bench.coverage(CASE, built)[0]["int8"] for built in builds] == [1, 0, 1]
    assert loaded == [[path for _, path in built] for built in builds]
