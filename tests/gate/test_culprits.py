from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from harness.calibration import artefacts
from harness.corpus.own import own_entry
from harness.gate.culprits import Culprit, culprits, cut_out, quantized_operators
from harness.gate.pairs import pair_up
from harness.results.store import Store
from harness.spec.calibration import Dialect
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Workers, find_environments
from tests.fake_tensorrt import models


@pytest.fixture
def quantized(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_and_product(np.random.default_rng(0)))
    ranges = dict.fromkeys(("x", "r", "t", "c", "y"), (-4.0, 4.0))
    return onnx.load(artefacts.int8(path, ranges, Dialect.S8S8))


def test_operators_are_listed_by_kind_the_smallest_first(quantized):
    assert quantized_operators(quantized) == {"Conv 1-D": ("conv",), "MatMul": ("product",)}
    weight = next(one for one in quantized.graph.initializer if one.name.startswith("w") and len(one.dims) == 3)
    more = onnx.ModelProto()
    more.CopyFrom(quantized)
    conv = next(node for node in more.graph.node if node.op_type == "Conv")
    dequantize = next(node for node in more.graph.node if node.output[0] == conv.input[1])
    small = numpy_helper.from_array(numpy_helper.to_array(weight)[:1], "small")
    more.graph.initializer.append(small)
    for node, reads in ((dequantize, ("small", "small_d")), (conv, (conv.input[0], "small_d"))):
        again = more.graph.node.add()
        again.CopyFrom(node)
        again.name = f"small_{node.op_type}"
        again.output[0] = "small_d" if node is dequantize else "small_y"
        again.input[0] = reads[0]
        if node is conv:
            again.input[1] = reads[1]
    assert quantized_operators(more)["Conv 1-D"] == ("small_Conv", "conv")


def test_floats_are_no_culprits(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_and_product(np.random.default_rng(0)))
    assert quantized_operators(onnx.load(path)) == {}


@pytest.mark.parametrize(("name", "reads", "kinds"), [("conv", ("x",), "Conv"), ("product", ("t",), "MatMul")])
def test_a_cut_has_the_operator_its_quantizers_and_nothing_else(quantized, name, reads, kinds):
    cut = cut_out(quantized, name)
    assert cut.inputs == reads
    types = [node.op_type for node in cut.model.graph.node]
    assert types.count(kinds) == 1
    assert set(types) == {"QuantizeLinear", "DequantizeLinear", kinds}
    assert {one.name for one in cut.model.graph.initializer} < {one.name for one in quantized.graph.initializer}


def test_a_culprit_says_how_many_there_are():
    assert str(Culprit("MatMul", ("a", "b", "c"), "refused")) == "MatMul in INT8 (a and 2 more)"
    assert str(Culprit("Conv 1-D", ("a",), "refused")) == "Conv 1-D in INT8 (a)"


def test_where_there_are_no_profiles_none_are_asked_for(tmp_path, monkeypatch):
    """A model that ONNX Runtime refuses: its operators build alone, and the gate goes on."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_and_product(np.random.default_rng(0)))
    (tmp_path / "data").mkdir()
    for length in range(8, 40, 2):
        x = np.random.default_rng(length).normal(size=(1, models.C, length)).astype(np.float32)
        np.savez(tmp_path / "data" / f"{length}.npz", x=x)
    entry = own_entry(path, axes=["x:2=n"], range_="8:16:40", data=tmp_path / "data")
    (found,) = (e for e in find_environments(tmp_path) if e.runtime == "onnxruntime")
    sides = {name: replace(found, name=name) for name in (found.name, f"{found.name}@new")}
    matrix = Matrix(precisions=("int8",), methods=("minmax",), layouts=("single",), compared=(), samples=4, tests=1)
    run = Store(tmp_path / "results").open_run()
    with Workers() as workers:
        bench = Workbench({"net": entry}, sides, workers, run, matrix, 0)
        (pair,) = pair_up(matrix, ["net"], *sides.values()).both
        assert culprits(bench, pair) == []
