"""All that is said of a case: on the stand-in for TensorRT, where layouts have profiles."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from harness.corpus.own import own_entry
from harness.explain import explained
from harness.explain.layer import Roofline
from harness.results.store import Store
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter

NAME = "tensorrt-8.6.1"


@pytest.fixture
def on_tensorrt(cache, file, tmp_path, monkeypatch):
    monkeypatch.setattr(explained, "roofline", lambda *_, **__: Roofline({"fp32": 1e11}, 3e10))
    entry = own_entry(str(file), axes=["x:2=frames"], range_="4:64", data=None)
    there = Environment(NAME, str(interpreter("8.6", tmp_path / "fake")), "tensorrt", "8.6.1")
    with closing(Store(tmp_path / "results").open_run()) as run:
        made = Workbench({"small": entry}, {NAME: there}, Workers(), run, Matrix(samples=4, tests=1), 0)
        with closing(made):
            yield made


@pytest.mark.parametrize(("layout", "switch_us", "said"), [("buckets3", 1e9, True), ("buckets3", 0.0, False),
                                                         ("single", 1e9, False)])  # fmt: skip
def test_what_a_change_of_profile_costs(on_tensorrt, layout, switch_us, said):
    case = Case("small", NAME, Precision.INT8, Calibration(Method("minmax"), Policy.RAGGED), layout)
    found = explained.explained(on_tensorrt, case, lengths=[16], switch_us=switch_us)
    assert np.isfinite(found.tables[0].whole_us)
    assert ("dear-switch" in {one.kind for one in found.findings}) is said
