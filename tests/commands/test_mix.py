"""`harness mix`: a search from end to end, its plan, its record, and the case that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fixtures.catalogue import ENTRIES
from harness.cli import main
from harness.corpus.registry import load_catalogue
from harness.mixed.plan import find
from harness.modelfile import prepare
from harness.paths import cache_dir
from harness.spec.calibration import Dialect, Method
from harness.spec.config import find_config

from .conftest import ROOT


@pytest.fixture
def data(tmp_path):
    """Forty samples of 4 to 20 frames."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(1)
    for index in range(40):
        x = random.normal(size=(1, 4 + index % 17, 4)).astype(np.float32)
        np.savez(folder / f"{index:03}.npz", x=x)
    return folder


@pytest.fixture
def project(cache, model, data, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{model.name}"\naxes = ["x:1=frames"]\nrange = "4:10:20"\ndata = "{data.name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project, capsys):
    def run(*arguments, code=0):
        small = ("--samples", "8", "--each", "3", "--budget", "20")
        assert main(["mix", "small", *small, *map(str, arguments)]) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def suites(project):
    def suites(*arguments, code=0):
        command = [sys.executable, "-m", "pytest", str(ROOT / "suites"), "--models", "small", "-p", "no:cacheprovider"]
        command += ["--runtime", f"onnxruntime-{onnxruntime.__version__}", "--layouts", "single"]
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run(
            [*command, "--samples", "8", *arguments],
            cwd=project, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout[-3000:] + done.stderr
        return done.stdout

    return suites


def test_a_plan_a_record_and_a_file(run, project):
    said = run("--bound", "sqnr_db=20", "-o", "mixed.onnx")
    assert "of 2 operators stay in float" in said.out
    assert "times faster than FP32" in said.out
    assert "--precision fp32,int8,int8-mixed" in said.err
    assert max(map(len, said.out.splitlines())) <= 100
    onnx.checker.check_model(onnx.load(project / "mixed.onnx"), full_check=True)
    entry = load_catalogue(find_config())["small"]
    plan = find(prepare(entry.onnx(), entry.model), Dialect.U8S8)
    assert plan.model == "small"
    (file,) = (project / "results").glob("*.jsonl")
    (one,) = [made for made in map(json.loads, file.read_text().splitlines()) if made["kind"] == "mixed"]
    assert one["values"]["met"] is True
    assert one["values"]["reached"]["buckets"]["short"]["sqnr_db"] >= 20
    assert one["corpus"]["calibration"] == one["values"]["calibration_digest"]


def test_as_json_for_tensorrt(run, project):
    made = json.loads(run("--dialect", "s8s8", "--bound", "sqnr_db=20", "--json").out)
    assert made["plan"]["dialect"] == "s8s8"
    assert made["plan"]["evidence"]["times"] == "shares of the products"
    session = onnxruntime.InferenceSession(made["file"], providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((1, 5, 4), np.float32)})[0].shape == (1, 5, 256)


def test_bounds_that_int8_misses_are_met_by_leaving_operators_in_float(run):
    made = json.loads(run("--dialect", "s8s8", "--bound", "sqnr_db=31.8", "--json").out)
    assert len(made["plan"]["assignment"]["in_float"]) == 1
    assert made["plan"]["evidence"]["met"] is True
    assert made["plan"]["evidence"]["plain"]["buckets"]["middle"]["sqnr_db"] < 31.8


def test_all_in_float_is_no_answer(run):
    """The suites would fail such a case: nothing of it runs in INT8."""
    made = json.loads(run("--bound", "sqnr_db=70", "--json").out)
    assert made["plan"]["evidence"]["met"] is False
    assert len(made["plan"]["assignment"]["in_float"]) < 2


def test_without_bounds_nothing_says_when_a_file_is_right(run):
    said = run(code=2)
    assert "no accuracy bounds" in said.err
    assert "--bound score=" in said.err


def test_the_case_runs_what_was_found(run, project, suites):
    run("--bound", "sqnr_db=32", "--keep", "0")  # whatever the clock says
    done = suites("--precision", "fp32,int8,int8-mixed", "-k", "test_corpus or test_build")
    assert "mixed-ragged" in done
    file = max((project / "results").glob("*.jsonl"), key=lambda one: one.stat().st_mtime_ns)
    made = [json.loads(line) for line in file.read_text().splitlines()]
    sqnr = {one["fields"]["method"]: one["values"]["buckets"]["short"]["sqnr_db"]
            for one in made if one["kind"] == "accuracy" and one["fields"]["precision"] == "int8"}  # fmt: skip
    assert sqnr["mixed"] > sqnr["auto"]
    assert main(["report", "--out", "pages"]) == 0
    page = (project / "pages" / "model-small.html").read_text()
    for part in ("int8 mixed", "auto-ragged", "Mixed precision, u8s8", "Files of the search"):
        assert part in page


def test_without_a_search_the_case_names_it(suites):
    done = suites("--precision", "int8-mixed", "-k", "test_build", code=1)
    assert "harness mix small --dialect u8s8" in done


def test_mixed_is_a_method_that_says_itself():
    assert str(Method.parse("mixed")) == "mixed"


@pytest.fixture
def own_plans(tmp_path, monkeypatch):
    """A cache that has what was fetched, and plans and artefacts of the test's own."""
    there, folder = cache_dir(), tmp_path / "plans"
    for name in ("fixtures", "recipes", "speech"):
        cache_dir(name)
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(there / name)
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(folder))
    monkeypatch.chdir(ROOT)
    return folder


def test_a_model_of_the_catalogue(own_plans, tmp_path, capsys):
    limits = ("--budget", "10", "--samples", "16", "--each", "4")
    targets = ("-o", str(tmp_path / "vad.onnx"), "--results", str(tmp_path / "runs"))
    assert main(["mix", "vad", "--bound", "score=0.9", *limits, "--json", *targets]) == 0
    made = json.loads(capsys.readouterr().out)
    evidence = made["plan"]["evidence"]
    assert set(evidence["bounds"]) == set(evidence["reached"]["buckets"]) == {"short", "middle", "long"}
    assert {name: one["score"] for name, one in evidence["bounds"].items()} == {
        "short": 0.9,
        "middle": 0.9,
        "long": 0.9,
    }
    assert evidence["reached"]["kept"] > 0
    assert (own_plans / "mixed") in Path(made["kept"]).parents
    session = onnxruntime.InferenceSession(tmp_path / "vad.onnx", providers=["CPUExecutionProvider"])
    feeds = next(ENTRIES["vad"].samples("test", 0))
    assert all(np.isfinite(one).all() for one in session.run(None, feeds))
    assert len(list((tmp_path / "runs").glob("*.jsonl"))) == 1


def test_a_file_with_qdq_of_its_own_is_refused(run, project):
    """It would be calibrated anew, and what it carries thrown away."""
    assert main(["calibrate", "small", "--method", "minmax", "--samples", "4", "-o", "own.onnx"]) == 0
    described = ("--axis", "x:1=frames", "--range", "4:10:20", "--data", "data", "--bound", "sqnr_db=10")
    assert main(["mix", "own.onnx", *described]) == 2


def test_an_earlier_plan_that_met_the_same_bounds_stays(run, project, cache):
    bound = ("--bound", "sqnr_db=10")
    kept = json.loads(run(*bound, "--json").out)["kept"]
    file = Path(kept)
    plan = json.loads(file.read_text())
    plan["evidence"] |= {"met": True, "met_for_certain": True, "seed": 77}
    file.write_text(json.dumps(plan))
    met = json.loads(run(*bound, "--json").out)
    assert met["plan"]["evidence"]["met_for_certain"] is True
    assert met["kept"] == kept
    file.write_text(json.dumps({**plan, "evidence": {**plan["evidence"], "bounds": {"*": {"sqnr_db": 300.0}}}}))
    assert "its plan stays" not in run(*bound).err
