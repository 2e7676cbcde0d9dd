"""Tables of real engines: what ran, in what, and which nodes of the model it was."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from harness.corpus.registry import load_catalogue
from harness.explain.beside import beside, by_role
from harness.explain.explained import Explained, as_data, inputs_at, record
from harness.explain.roofline import Scale, roofline
from harness.explain.tables import Effort, table, tables
from harness.results.record import decode, encode
from harness.results.store import Store
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case, read_case
from harness.spec.config import find_config
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Workers
from harness.workers.environments import of_interpreter

ROOT = Path(__file__).parents[2]
QUICK = Effort(seconds=0.02, least=5, most=9)


@pytest.fixture
def case(bench):
    (runtime,) = bench.environments
    return Case("small", runtime, Precision.FP32, None, "single")


@pytest.fixture
def int8(case):
    return replace(case, precision=Precision.INT8, calibration=Calibration(Method("minmax"), Policy.RAGGED))


def test_float_and_int8_side_by_side(bench, case, int8):
    (given,) = inputs_at(bench, "small", [48])
    was, now = table(bench, case, given, QUICK), table(bench, int8, given, QUICK)
    for one in (was, now):
        assert one.length == 48
        assert min(one.whole_us, one.size_bytes) > 0
        assert all(layer.time_us is not None for layer in one.layers)
        assert all(layer.operations is not None and layer.moved_bytes is not None for layer in one.layers)
        assert sum(one.share(layer) for layer in one.layers) == pytest.approx(1)
    (conv,) = (layer for layer in was.layers if "conv" in layer.nodes)
    assert (conv.nodes, conv.precision, conv.role) == (("conv", "relu"), "fp32", "compute"), "they are fused"
    assert {node for layer in was.layers for node in layer.nodes} == {"conv", "relu", "turn", "product", "sum", "share"}

    counts = bench.coverage(int8, bench.build(int8))[0]
    in_int8 = [layer for layer in now.layers if layer.role == "compute" and layer.precision == "int8"]
    assert len(in_int8) == counts["int8"] == 2
    assert {"conv", "product"} <= {node for layer in in_int8 for node in layer.nodes}
    assert by_role(now)["quantize"] > 0 == by_role(was)["quantize"]

    both = beside(was, now)
    (product,) = (pair for pair in both.pairs if "product" in pair.nodes)
    assert (product.baseline[0].precision, product.candidate[0].precision) == ("fp32", "int8")
    inserted = [pair for pair in both.pairs if not pair.nodes]
    assert all(not pair.baseline and pair.change_us >= 0 for pair in inserted if pair.candidate)
    changes = [pair.change_us for pair in both.pairs]
    assert changes == sorted(changes, reverse=True)
    total = sum(pair.candidate_us or 0 for pair in both.pairs)
    assert total == pytest.approx(now.profiled_us), "each layer is in one pair"


def test_whole_runs_are_timed_before_any_length_is_profiled(bench, case, monkeypatch):
    done = []
    engine = type(bench.served(case).engine_for(16))
    for name in ("timed", "layer_times"):
        before = getattr(engine, name)
        monkeypatch.setattr(
            engine, name, lambda self, *given, _name=name, _before=before: done.append(_name) or _before(self, *given)
        )
    inputs = inputs_at(bench, "small", [16, 48])
    assert [one.length for one in tables(bench, case, inputs, QUICK)] == [16, 48]
    assert done == ["timed"] * 4 + ["layer_times"] * 2


def test_a_roofline_is_measured_once(bench, case, int8):
    scale = Scale(((64, 64),), (16, 64))
    found = roofline(bench, case.runtime, scale, QUICK)
    assert set(found.operations_per_s) == {"fp32", "int8"}, "FP16 computes in FP32 on a CPU"
    assert min(found.operations_per_s.values()) > 1e8
    assert found.bytes_per_s > 1e8
    bench.workers.close()
    told = []
    assert roofline(bench, case.runtime, scale, QUICK, told.append) == found
    assert told == [], "nothing was measured"


def test_records_hold_tables(bench, case, int8):
    (given,) = inputs_at(bench, "small", [16])
    now, was = table(bench, int8, given, QUICK), table(bench, case, given, QUICK)
    found = Explained("frames", (now,), (was,))
    record(bench, int8, found)
    (made,) = (one for one in bench.records if one["kind"] == "layers")
    read = decode(encode(made))
    assert (read["case"], read["values"]["length"], read["values"]["layers_of"]) == (int8.id, 16, len(now.layers))
    assert read["values"]["against"]["case"] == case.id
    assert read["values"]["layers"][0]["name"] == now.layers[0].name
    assert as_data(found)["beside"][0]["length"] == 16


@pytest.mark.parametrize("precision", ["fp32", "int8-minmax-ragged"])
def test_a_real_model_layer_by_layer(precision, tmp_path):
    """vad on this interpreter's ONNX Runtime, with its own data out of the shared cache."""
    (there,) = (one for one in of_interpreter(sys.executable) if one.name.endswith("-cpu"))
    entry = load_catalogue(find_config(ROOT))["vad"]
    with closing(Store(tmp_path).open_run()) as run:
        bench = Workbench({"vad": entry}, {there.name: there}, Workers(), run, Matrix(samples=6, tests=1), 0)
        with closing(bench):
            case = read_case(f"vad-{there.name}-{precision}-single")
            (given,) = inputs_at(bench, "vad", [54])
            found = table(bench, case, given, QUICK)
            counts = bench.coverage(case, bench.build(case))[0]
    weighted = [layer for layer in found.layers if layer.role == "compute"]
    assert sum(layer.precision == "int8" for layer in weighted) == counts["int8"]
    assert {"/encoder.0/Conv", "/recurrent/LSTM"} <= {node for layer in weighted for node in layer.nodes}
    assert set(counts["in_float"]) <= {layer.name for layer in weighted if layer.precision == "fp32"}
    assert None not in {value for layer in found.layers for value in (layer.operations, layer.moved_bytes)}
    (lstm,) = (layer for layer in weighted if "/recurrent/LSTM" in layer.nodes)
    assert lstm.operations >= 2 * 54 * 4 * 128 * (128 + 128)
