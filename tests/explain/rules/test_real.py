"""Real models, as this harness writes them in either dialect: what is found is known, and true.

What stands here was looked at one by one: the last convolution of vad has one output channel, an LSTM holds four tenths
of its weights; in plc everything behind the GRU has one row, and its last product one output; rec is clean.
"""

from __future__ import annotations

import onnx
import pytest

from harness.calibration.artefacts import int8
from harness.calibration.observe import observe
from harness.calibration.qdq import tensors_to_observe
from harness.calibration.ranges import choose
from harness.corpus.registry import load_catalogue
from harness.explain.rules import findings
from harness.modelfile import prepare, weighted_nodes
from harness.spec.calibration import Dialect, Method
from harness.spec.config import find_config

KNOWN = {
    ("vad", Dialect.S8S8): {"small-operator": ("/output/Conv",), "recurrent": ("/recurrent/LSTM",)},
    ("vad", Dialect.U8S8): {"recurrent": ("/recurrent/LSTM",)},
    ("plc", Dialect.S8S8): {
        "small-operator": ("Conv_0", "Gemm_71"),
        "recurrent": ("GRU_34", "GRU_42"),
        "gemv": ("Gemm_48", "Gemm_50", "Gemm_52", "Gemm_54", "Gemm_56", "Gemm_58", "Gemm_61", "Gemm_63"),
    },
    ("plc", Dialect.U8S8): {"recurrent": ("GRU_34", "GRU_42")},
    ("rec", Dialect.S8S8): {},
    ("rec", Dialect.U8S8): {},
}

AS_THEY_COME = {
    "vad": {"small-operator", "recurrent"},
    "plc": {"small-operator", "recurrent", "gemv", "old-opset"},
    "rec": {"activation-products", "old-opset"},
    "text": {"activation-products"},
}
"""Files as they were exported, by other opsets than the one that the harness prepares."""


@pytest.mark.parametrize("key", AS_THEY_COME)
def test_as_they_come(key):
    entry = load_catalogue(find_config())[key]
    found = findings(onnx.load(entry.onnx()), model_spec=entry.model)
    assert {one.kind for one in found} == AS_THEY_COME[key]
    assert {one.severity for one in found} == {"note"}


@pytest.fixture(scope="module")
def seen():
    """Model -> its prepared file and what a few samples show of it."""
    entries, made = load_catalogue(find_config()), {}

    def look(key):
        if key not in made:
            entry = entries[key]
            prepared = prepare(entry.onnx(), entry.model)
            proto = onnx.load(prepared)
            stream = entry.samples("calibration", 0)
            drawn = [next(stream) for _ in range(2)]
            tensors = tensors_to_observe(proto, weighted_nodes(proto), Dialect.U8S8)
            made[key] = (entry, prepared, observe(prepared, tensors, drawn))
        return made[key]

    return look


@pytest.mark.parametrize(("key", "dialect"), KNOWN, ids=str)
def test_known(key, dialect, seen):
    entry, prepared, observation = seen(key)
    ranges = choose(observation, Method.parse("mse"), dialect)
    model = onnx.load(int8(prepared, ranges, dialect))
    found = findings(model, model_spec=entry.model)
    assert {one.kind: one.where for one in found} == KNOWN[key, dialect]
