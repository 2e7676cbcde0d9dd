"""Every planted fault is found, by the one rule that is for it, where it is; and nothing else is found then."""

from __future__ import annotations

import math

import onnx
import pytest

from harness.explain.rules import RULES, findings
from harness.spec.calibration import Dialect
from tests.explain.rules import clean
from tests.explain.rules.planted import PLANTS


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The clean model: as it is, and as this harness writes it in either dialect."""
    proto = clean.fp32()
    made = {None: proto} | {one: clean.qdq(proto, one, tmp_path_factory.mktemp(one.value)) for one in Dialect}
    return {into: model.SerializeToString() for into, model in made.items()}


@pytest.mark.parametrize("plant", PLANTS, ids=str)
def test_planted(plant, models):
    sound, model = (onnx.load_from_string(models[plant.into]) for _ in range(2))
    plant.change(model)
    before = ({one.kind for one in findings(sound, model_spec=plant.spec)} | {*plant.along}) - {plant.kind}
    found = findings(model, model_spec=plant.spec, dialect=plant.asked)
    assert {one.kind for one in found} - before == {plant.kind}, [one.what for one in found]
    (one,) = [one for one in found if one.kind == plant.kind]
    assert one.severity == plant.severity
    assert one.severity in RULES[one.kind].severities
    if plant.where:
        assert one.where == plant.where
    for name, value in plant.evidence.items():
        assert one.evidence[name] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value), name
    assert all(not isinstance(value, float) or math.isfinite(value) for value in one.evidence.values())
    assert one.what
    assert one.todo


def test_planted_models_are_models(models):
    """All but those whose fault is that no runtime loads them: a fault that no file can have proves nothing."""
    import onnxruntime

    cannot = {"scale-length", "old-opset", "bad-scale", "lone-dequantize", "malformed"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    refused = {}
    for plant in PLANTS:
        if plant.kind not in cannot and plant.change.__name__ != "transposed_conv_by_input_channel":
            model = onnx.load_from_string(models[plant.into])
            plant.change(model)
            try:
                onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # noqa: BLE001 - its errors share no class
                refused[str(plant)] = str(error)[:200]
    assert not refused
