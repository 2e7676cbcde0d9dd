"""A model that brings its own Q/DQ, through a run: built as it is, held against FP32, said so in records."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from harness.calibration.artefacts import int8
from harness.corpus.own import own_entry
from harness.errors import ModelRefused, UsageError
from harness.modelfile import prepare
from harness.spec.calibration import Dialect, Precision, Route
from harness.spec.case import Case
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter

RANGES = {"x": (-4.0, 4.0), "r": (0.0, 12.0), "h": (-12.0, 12.0), "y": (-10.0, 10.0)}
OLD, STRONG, ORT = "tensorrt-8.6.1", "tensorrt-11.4.0.106", "onnxruntime-1.32.0-cpu"
RUNTIMES = {OLD: ("8.6", "8.6.1"), STRONG: ("11.4", "11.4.0.106")}


@pytest.fixture
def files(own_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    prepared = prepare(own_model)
    return {dialect.value: int8(prepared, RANGES, dialect) for dialect in Dialect}


@pytest.fixture
def bench(files, own_data, own_model, tmp_path):
    def entry(dialect, float_=None):
        return own_entry(files[dialect], axes=["x:2=n"], range_="16:256", data=own_data, float_=float_, key=dialect)

    entries = {"s8s8": entry("s8s8", own_model), "u8s8": entry("u8s8")}
    environments = {
        name: Environment(name, str(interpreter(short, tmp_path / short)), "tensorrt", version)
        for name, (short, version) in RUNTIMES.items()
    }
    environments[ORT] = Environment(ORT, "", "onnxruntime", "1.32.0")
    with Workers() as workers:
        yield Workbench(entries, environments, workers, None, SimpleNamespace(samples=4, tests=2), 0)


def case(model="s8s8", runtime=OLD, route=Route.QDQ):
    return Case(model, runtime, Precision.INT8, None, "single", route)


@pytest.mark.parametrize("chosen", [case(), case(runtime=STRONG, route=Route.QDQ_STRONG)], ids=str)
def test_it_is_built_as_it_is_and_held_against_fp32(bench, chosen):
    ((facts, _),) = bench.build(chosen)
    assert bench.build_options(chosen, 0, 1)["strong"] == (chosen.route is Route.QDQ_STRONG)
    assert facts["seconds"] >= 0
    for aggregate in bench.accuracy(chosen, bench.served(chosen)).values():
        assert 20 < aggregate.comparison.sqnr_db < 60
    assert bench.chosen_methods(chosen) == ()


def test_what_records_say(bench):
    said = bench.about_ready(case())
    assert said["baseline"] == "the FP32 file that was given"
    assert (said["activations"], said["weights"], said["per_channel"], said["operators"]) == (2, 2, 2, 2)
    assert said["warnings"] == []
    assert bench.about_ready(case("u8s8", ORT))["baseline"] == "its own graph, Q/DQ taken out"
    assert bench.about_ready(Case("s8s8", OLD, Precision.FP16, None, "single")) == {}


def test_unsigned_is_refused_for_tensorrt_before_a_build(bench):
    with pytest.raises(ModelRefused, match="tensorrt cannot take these Q/DQ: unsigned integers"):
        bench.build(case("u8s8"))
    assert bench.artefacts(case("u8s8", ORT))


def test_scales_are_refused_with_the_model(bench, files, own_data):
    import onnx

    broken = onnx.load(files["s8s8"])
    (scale,) = (one for one in broken.graph.initializer if one.name == "x_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(0), "x_scale"))
    path = files["s8s8"].with_name("broken.onnx")
    onnx.save(broken, path)
    entry = own_entry(path, axes=["x:2=n"], range_="16:256", data=own_data, key="broken")
    bench.entries["broken"] = entry
    with pytest.raises(ModelRefused, match="1 of 1 scales are not positive"):
        bench.make_ready("broken")
    assert "broken" in bench.refused


def test_a_float_file_is_for_a_ready_model(own_model, own_data, files):
    with pytest.raises(UsageError, match="has no Q/DQ"):
        own_entry(own_model, axes=["x:2=n"], range_="16:256", data=own_data, float_=own_model)
    with pytest.raises(ModelRefused, match="already quantized"):
        own_entry(files["s8s8"], axes=["x:2=n"], range_="16:256", data=own_data, float_=files["u8s8"])


def test_suites(suites, own, files, own_model):
    """On this machine's ONNX Runtime: rounded by its Q/DQ, computed in float, judged; nothing is calibrated."""
    options = own(model=files["s8s8"], float=own_model, bound="sqnr_db=20")
    done = suites.quickly(*options, "--runtime", "onnxruntime", "-m", "not latency", "--layouts", "single")
    assert done.code == 0, done.text
    (path,) = suites.new_runs()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    mine = [one for one in records if one.get("fields", {}).get("precision") == "int8"]
    assert {(one["kind"], one["verdict"]) for one in mine} == {
        ("build", "in float"), ("accuracy", "pass"), ("drawn", "unjudged"), ("profiles", "pass"),
    }  # fmt: skip
    for one in mine:
        assert one["case"].endswith("-int8-ready-single")
        assert (one["fields"]["method"], one["fields"]["policy"]) == ("ready", None)
        assert one["values"]["ready"]["baseline"] == "the FP32 file that was given"
        assert "int8" in one["model"]
    assert "ready is INT8 as the model's own file has it; FP32 is the FP32 file that was given" in done.out
    assert "METHOD-POLICY" not in done.out
