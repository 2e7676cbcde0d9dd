"""Kernels are told whose they are: each weighted operator has some in either file, whatever it was fused with."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from onnx import helper

from fixtures.catalogue import ENTRIES
from harness.mixed.gains import by_kernels, by_products
from harness.mixed.palette import Palette
from harness.modelfile import prepare
from harness.spec.calibration import Dialect
from tests.mixed.conftest import draws
from tests.mixed.test_palette_forms import observed


def idle(model, path):
    """A file with the model's inputs that computes nothing of it."""
    inputs, nodes, outputs = list(model.graph.input), [], []
    for place, one in enumerate(inputs):
        nodes.append(helper.make_node("Identity", [one.name], [f"same_{place}"]))
        outputs.append(helper.make_tensor_value_info(f"same_{place}", onnx.TensorProto.FLOAT, None))
    made = helper.make_model(
        helper.make_graph(nodes, "idle", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(made, path)
    return made


def owned(palette, prepared, feeds, tmp_path):
    """Nodes that have time of their own in FP32's file, and those that have in INT8's."""
    nothing = idle(palette.prepared, tmp_path / "idle.onnx")
    floats = by_kernels(replace(palette, plain={"x": nothing}), prepared, {"b": feeds}, {"b": 1.0})
    int8 = by_kernels(palette, tmp_path / "idle.onnx", {"b": feeds}, {"b": 1.0})
    return {name for name, us in floats.saved.items() if us > 0}, {name for name, us in int8.saved.items() if us < 0}


def test_shares_of_the_products(small):
    shares = by_products(small.palette(), {"b": draws(1, 1)[0]}, {"b": 1.0}).saved
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["conv"] / shares["inner"] == pytest.approx(4 * 3 / 8, rel=0.1), "a bias is added, too"
    assert shares["last"] / shares["inner"] == pytest.approx(6 / 8)


@pytest.mark.parametrize("key", ["vad", "rec"])
def test_every_operator_of_real_models(key, tmp_path):
    """Of rec the last product is fused with the transposition before it."""
    entry = ENTRIES[key]
    prepared, feeds = prepare(entry.onnx(), entry.model), next(entry.samples("calibration", 0))
    palette = Palette.of(prepared, {"minmax": observed(prepared, Dialect.U8S8, [feeds])}, Dialect.U8S8)
    floats, int8 = owned(palette, prepared, feeds, tmp_path)
    assert floats == int8 == set(palette.nodes)
