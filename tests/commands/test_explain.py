"""`harness explain`: on a model of one's own, as a table, as JSON, as records; and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest

from harness.best import candidates
from harness.calibration.artefacts import int8
from harness.cli import main
from harness.explain import explained
from harness.explain.layer import Roofline
from harness.modelfile import prepare
from harness.spec.calibration import Dialect, Method


@pytest.fixture
def project(cache, model, data, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{model.name}"\naxes = ["x:1=frames"]\nrange = "4:10:20"\ndata = "{data.name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explained, "roofline", lambda *_, **__: Roofline({"fp32": 1e11, "int8": 4e11}, 3e10))
    return tmp_path


@pytest.fixture
def run(project, capsys):
    def run(*arguments, code=0):
        assert main(["explain", *map(str, arguments)]) == code
        return capsys.readouterr()

    return run


def test_int8_beside_fp32_and_a_record_of_it(run, project):
    said = run("small", "--length", "12", "--method", "minmax", "--top", "3").out
    for part in ("small-onnxruntime-", "at 12 frames", "what got slower first", "QuantizeLinear"):
        assert part in said
    assert max(map(len, said.splitlines()[2:6])) <= 100
    (file,) = (project / "results").glob("*.jsonl")
    made = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["kind"] for one in made if one["kind"] != "run"] == ["layers"]
    assert main(["report", "--out", "pages"]) == 0, "a run that is nothing but layers has pages, too"


def test_all_of_it_as_json_without_a_side(run):
    (case,) = json.loads(run("small", "--precision", "fp32", "--length", "8", "--length", "16", "--json").out)["cases"]
    assert [table["length"] for table in case["tables"]] == [8, 16]
    assert case["baseline"] == case["beside"] == []
    assert {layer["precision"] for layer in case["tables"][0]["layers"]} == {"fp32"}
    assert all(layer["roof_reached"] > 0 for layer in case["tables"][0]["layers"] if layer["moved_bytes"])


def test_a_case_by_its_id_against_another(run):
    (case,) = json.loads(run("small", "--precision", "fp32", "--length", "8", "--json").out)["cases"]
    name = case["tables"][0]["case"]
    other = name.replace("fp32", "int8-minmax-ragged")
    (case,) = json.loads(run(other, "--against", name.replace("fp32", "fp16"), "--length", "8", "--json").out)["cases"]
    assert (case["tables"][0]["case"], case["baseline"][0]["case"]) == (other, name.replace("fp32", "fp16"))


@pytest.fixture
def own_scales(project):
    """The model with Q/DQ of its own, as a file beside it."""
    ranges = {"x": (-9.0, 9.0), "h": (-20.0, 20.0), "s": (0.0, 20.0), "y": (-90.0, 90.0)}
    return shutil.copy(int8(prepare(project / "small.onnx"), ranges, Dialect.U8S8), project / "trained.onnx")


def test_a_file_with_scales_of_its_own_is_explained_as_it_is(run, own_scales, project):
    options = (own_scales, "--axis", "x:1=frames", "--range", "4:10:20", "--length", "8", "--json")
    (case,) = json.loads(run(*options).out)["cases"]
    name = case["tables"][0]["case"]
    assert "-int8-ready-single" in name, "nothing is calibrated anew"
    assert case["baseline"][0]["case"] == name.replace("int8-ready", "fp32")
    model = onnx.load(own_scales)
    (scale,) = (one for one in model.graph.initializer if one.name == "x_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array(0, np.float32), "x_scale"))
    onnx.save(model, own_scales)
    assert "scales are not positive" in run(*options, code=1).err


def test_a_ready_case_of_a_model_that_is_not(run):
    (case,) = json.loads(run("small", "--precision", "fp32", "--length", "8", "--json").out)["cases"]
    name = case["tables"][0]["case"].replace("fp32", "int8-ready")
    assert "no Q/DQ of its own" in run(name, code=2).err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which case"),
        (("small", "--length", "21"), "not in the model's range"),
        (("small", "--against", "int9"), "is no case"),
        (("small", "--against", "other-onnxruntime-1.32.0-cpu-fp32-single"), "another model"),
        (("nothing",), "no model and no file"),
    ],
)
def test_what_is_refused(run, arguments, said):
    words = arguments or ("--top", "3")
    assert said in run(*words, code=2).err


BEST = ("small", "--best", "--bound", "sqnr_db=20")


def test_the_best_case_as_text_and_as_json(run, project, monkeypatch):
    monkeypatch.setattr(candidates, "CANDIDATES", (Method("mse"), Method("minmax")))
    # A goal that no noise of a shared machine can miss: whether INT8 is faster is nothing to assert here.
    said = run(*BEST, "--budget", "120", "--goal", "speedup=0.05").out
    for part in (
        "ship: small-onnxruntime-",
        "pytest suites/",
        "layout: ONNX Runtime has no profiles",
    ):
        assert part in said
    found = json.loads(run(*BEST, "--budget", "120", "--goal", "speedup=1000", "--json", code=6).out)
    assert found["word"] == "not met"
    assert found["kept"] > 0
    assert found["commands"][-1].startswith("pytest suites/ --models small")
    assert found["commands"][-1].endswith(" --bound sqnr_db=20")
    kinds = [json.loads(line)["kind"] for file in (project / "results").glob("*.jsonl") for line in file.open()]
    assert kinds.count("best") == 2
    assert main(["report", "--out", "pages"]) == 0
    assert any("best" in page.read_text() for page in (project / "pages").rglob("*.html"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("small", "--best"), "how far may outputs be off"),
        ((*BEST, "--precision", "int8"), "does not go with --best"),
        ((*BEST, "--goal", "speed=2"), "did you mean speedup"),
        ((*BEST, "--bound", "speedup=2"), "a speed-up is a goal here"),
        ((*BEST, "--traffic", "nothing.txt"), "cannot read the traffic"),
        (("small-onnxruntime-1.32.0-cpu-fp32-single", "--best"), "wants a model"),
        (("--best", "--seed", "1"), "which model"),
        (("small", "--goal", "speedup=2"), "goes with --best"),
    ],
)
def test_what_best_refuses(run, arguments, said):
    assert said in run(*arguments, code=2).err
