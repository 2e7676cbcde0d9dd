"""The fixture models through the same door as a user's: prepared without a change of what they compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from fixtures import negatives, recipes
from fixtures.catalogue import ENTRIES
from harness.corpus.own import own_entry
from harness.corpus.synthetic import synthetic_feeds
from harness.errors import ModelRefused
from harness.modelfile import inspect, prepare, read_facts, weighted_nodes


def outputs(path, feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("key", list(ENTRIES))
def test_preparing_changes_no_output(key):
    entry = ENTRIES[key]
    original, model = entry.onnx(), entry.model
    ready = prepare(original, model)
    length = min(model.opt, 64 * 512)
    feeds = synthetic_feeds(model, read_facts(original).inputs, {}, length, seed=1)
    for before, after in zip(outputs(original, feeds), outputs(ready, feeds), strict=True):
        np.testing.assert_allclose(after, before, atol=2e-5, rtol=2e-5)
    proto = onnx.load(ready)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version >= 17
    assert [entry.domain for entry in proto.opset_import] == [""]
    initializers = {tensor.name for tensor in proto.graph.initializer}
    weights = [node.input[1] for node in proto.graph.node if node.name in set(weighted_nodes(proto))]
    assert weights
    assert set(weights) <= initializers  # none is left behind a Constant or an Identity
    assert prepare(ready, model) != ready  # a prepared file is a model like any other
    inspect(ready)


def test_counts_of_weighted_nodes():
    counts = {
        key: len(weighted_nodes(onnx.load(prepare(ENTRIES[key].onnx())))) for key in ("vad", "wave", "rec", "plc")
    }
    assert counts["wave"] == counts["vad"] == 6  # framing adds nothing to quantize
    assert counts["rec"] == 38 + 9  # of 13 MatMul, 4 multiply activations
    assert counts["plc"] == 4 + 12


def test_real_files_are_refused_each_for_its_reason():
    with pytest.raises(ModelRefused, match="control flow that depends on the data"):
        prepare(negatives.control_flow())
    with pytest.raises(ModelRefused, match=r"already quantized: \d+ quantized operators"):
        inspect(negatives.already_int8())
    with pytest.raises(ModelRefused, match="no varying axis: only the batch varies"):
        inspect(negatives.static())
    with pytest.raises(ModelRefused, match="no varying axis: only the batch varies"):
        own_entry(negatives.static(), axes=["input_1:1=samples"], range_="1000:144160")


def test_a_real_model_as_a_users_own():
    own = own_entry(
        recipes.vad(), axes=["input:sequence_length=frames"], range_="3:300", constants=["h=0", "c=0"], key="mine"
    )
    feeds = next(own.samples("test", 0))
    probabilities = outputs(prepare(own.onnx(), own.model), feeds)[0]
    assert probabilities.shape == feeds["input"].shape[:1]
    assert not feeds["h"].any()
