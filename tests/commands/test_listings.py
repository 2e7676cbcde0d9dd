from __future__ import annotations

import json
import sys

import onnxruntime
import pytest

from harness.cli import main


@pytest.fixture
def project(cache, model, data, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{model.name}"\naxes = ["x:1=frames"]\nrange = "4:10:20"\ndata = "{data.name}"\n'
        'score = "mine:word_errors"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models(project, capsys):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    for text in ("small", "x:1 = frames", "4..20", "10", "4-5-7", "word_errors"):
        assert text in said


@pytest.mark.parametrize("command", [["models"], ["fetch"], ["fetch", "vad"]], ids=" ".join)
def test_where_no_models_are_configured(command, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"harness: {tmp_path}: no models: ")
    assert "harness init MODEL.onnx" in said.err


def test_environments(project, capsys):
    assert main(["environments"]) == 0
    said = capsys.readouterr().out
    assert f"onnxruntime-{onnxruntime.__version__}-cpu" in said
    assert "build and run" in said


def test_an_interpreter_that_is_not_there(project, capsys):
    assert main(["environments", "--python", "/no/such/python"]) == 5
    assert capsys.readouterr().err.startswith("harness: /no/such/python: no such interpreter\n")


def test_fetch(project, model, capsys):
    assert main(["fetch", "small"]) == 0
    said = capsys.readouterr()
    assert said.out == f"small: {model} ({model.stat().st_size / 1e6:.1f} MB)\n"
    assert said.err == "[1/1] small\nnext: pytest suites/ --models small, which needs no network now\n"


def test_fetch_all_brings_what_the_catalogue_wants_too(project, capsys):
    (project / "list.py").write_text("ENTRIES = {}\ndef fetch_all():\n    print('all of it')\n")
    toml = (project / "harness.toml").read_text()
    (project / "harness.toml").write_text('catalogue = "list.py"\n' + toml)
    try:
        assert main(["fetch"]) == 0
    finally:
        sys.modules.pop("list", None)
    assert capsys.readouterr().out.endswith("all of it\n")


def test_fetch_of_a_model_that_is_not_there(project, capsys):
    assert main(["fetch", "smal"]) == 2
    assert capsys.readouterr().err == "harness: fetch: no model 'smal'\n  -> did you mean 'small'?\n"


def test_models_for_a_program(project, capsys):
    assert main(["models", "--json"]) == 0
    (small,) = json.loads(capsys.readouterr().out)
    assert (small["key"], small["axes"], small["axis_name"]) == ("small", [{"input": "x", "dim": 1}], "frames")
    assert [small[name] for name in ("minimum", "opt", "maximum")] == [4, 10, 20]
    assert small["buckets"][0] == {"min": 4, "opt": 5, "max": 7}
    assert not small["synthetic"]


def test_environments_for_a_program(project, capsys):
    with (project / "harness.toml").open("a") as file:
        file.write('[environments]\ngone = "/no/such/python"\n')
    assert main(["environments", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    here = found[f"onnxruntime-{onnxruntime.__version__}-cpu"]
    assert (here["version"], here["can_build"], here["can_run"], here["why"]) == (
        onnxruntime.__version__,
        True,
        True,
        "",
    )
    assert found["gone"]["why"].startswith("missing: ")
    assert not found["gone"]["can_run"]


@pytest.mark.parametrize("command", [["models"], ["environments"], ["doctor"]], ids=" ".join)
def test_tables_fit_100_columns(command, project, capsys):
    assert main(command) == 0
    tables = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("┏", "┃", "┡", "│", "└"))]
    assert tables
    assert max(map(len, tables)) <= 100
