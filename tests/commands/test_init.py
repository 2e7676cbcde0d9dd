"""``harness init``: the catalogue's real files, then what is written is calibrated and tested as it stands."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from fixtures.catalogue import ENTRIES
from fixtures.negatives import already_int8, control_flow, static
from harness.cli import main
from harness.corpus.registry import load_catalogue
from harness.spec.config import find_config

ROOT = Path(__file__).parents[2]
_TINY = 'precisions = ["int8"]\ncompared = ["mse-pad"]\nsamples = 4\ntests = 1\ndraws = 2\nblocks = 2\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("key", ENTRIES)
def test_a_real_model(key, here, capsys):
    """The same axes, lengths and constants as a person wrote into the catalogue."""
    entry = ENTRIES[key]
    assert main(["init", str(entry.onnx()), "--key", key, "--yes"]) == 0
    assert "next: harness calibrate" in capsys.readouterr().err
    found = load_catalogue(find_config(here))[key]
    assert set(found.model.axes) == set(entry.model.axes)
    assert found.model.length_inputs == entry.model.length_inputs
    assert found.model.minimum >= entry.model.minimum
    feeds = next(found.samples("calibration", 0))
    assert set(feeds) == set(next(entry.samples("calibration", 0)))


def test_a_real_model_with_its_real_data_is_calibrated(here, capsys):
    entry = ENTRIES["vad"]
    (here / "samples").mkdir()
    for index, (feeds, _) in enumerate(zip(entry.samples("calibration", 0), range(4), strict=False)):
        np.savez(here / "samples" / f"{index}.npz", input=feeds["input"])
    assert main(["init", str(entry.onnx()), "--key", "vad", "--data", "samples", "-y"]) == 0
    text = (here / "harness.toml").read_text("utf-8")
    table = tomllib.loads(text)["models"][0]
    assert table["data"] == "samples"
    assert table["constants"] == ["h=0", "c=0"]
    assert main(["calibrate", "vad", "--emit", "json", "-o", "vad.json"]) == 0, capsys.readouterr().err
    assert (here / "vad.json").exists()


def test_the_suites_take_what_is_written(here, model, data, capsys):
    assert main(["init", str(model), "--data", str(data), "--yes"]) == 0
    (here / "tiny.toml").write_text(_TINY)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "suites"),
        "--models",
        "small",
    ]
    command += ["--matrix", "tiny.toml", "--benchmark-disable", "-k", "build or accuracy", "--runtime", "onnxruntime"]
    done = subprocess.run(
        [*command, "--results", "results"], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "records:" in done.stdout


@pytest.mark.parametrize(
    ("make", "said"),
    [(control_flow, "control flow"), (already_int8, "already quantized"), (static, "only the batch varies")],
)
def test_files_that_the_harness_refuses(make, said, here, capsys):
    assert main(["init", str(make()), "--yes"]) == 1
    assert said in capsys.readouterr().err
    assert not list(here.iterdir())


def test_nothing_is_written_over(here, model, capsys):
    (here / "harness.toml").write_text("results = 'mine'\n")
    assert main(["init", str(model), "--yes"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (here / "harness.toml").read_text() == "results = 'mine'\n"
    assert main(["init", str(model), "--yes", "--force"]) == 0
    assert "small" in load_catalogue(find_config(here))


def test_another_file(here, model, capsys):
    (here / "sub").mkdir()
    assert main(["init", str(model), "--yes", "--out", "sub"]) == 0
    said = capsys.readouterr()
    assert said.out == "wrote sub/harness.toml: model small\n"
    assert f"next: cd {here / 'sub'} && harness calibrate small" in said.err
    assert "small" in load_catalogue(find_config(here / "sub"))
    assert main(["init", str(model), "--yes", "--out", "no/such/harness.toml"]) == 2
    assert main(["init", str(model), "--yes", "--out", "sub/mine.toml"]) == 2
    assert "--out sub/harness.toml" in capsys.readouterr().err
    assert not (here / "sub/mine.toml").exists()


def test_without_data_it_says_what_a_sample_holds(here, model, capsys):
    assert main(["init", str(model), "--yes"]) == 0
    text, said = (here / "harness.toml").read_text("utf-8"), capsys.readouterr().err
    for line in ("x: float32[1, frames, 4]", "samples/"):
        assert line in text
        assert line in said
    assert "numpy.savez('samples/00001.npz', **{\"x\": ...})" in said


def test_the_catalogue_that_was_there_stays(here, model, capsys):
    (here / "pyproject.toml").write_text(f'[tool.harness]\ncatalogue = "{ROOT / "fixtures/catalogue.py"}"\n')
    assert main(["init", str(model), "--yes"]) == 0
    assert {"small", *ENTRIES} == set(load_catalogue(find_config(here)))
    assert main(["init", str(model), "--yes", "--force", "--key", "vad"]) == 2
    assert "--key my_vad" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("evil", "code"), [("x\"] # '''", 0), ("x\x7f", 0), ("x[\u2028bold]", 0), ('x"]\nresults = "stolen"\n#', 2)]
)
def test_names_that_would_be_toml(evil, code, here, tmp_path, capsys):
    """Names of tensors come from a file: they stay inside their strings and comments."""
    path = tmp_path / 'a"b.onnx'
    graph = helper.make_graph(
        [helper.make_node("MatMul", [evil, "w"], ["y"])],
        "evil",
        [helper.make_tensor_value_info(evil, onnx.TensorProto.FLOAT, [1, "T", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, "T", 4])],
        [helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 4], np.ones(16))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert main(["init", str(path), "--yes"]) == code
    assert (here / "harness.toml").exists() == (code == 0)
    if code == 0:
        config = find_config(here)
        assert config.results == here / "results"
        assert config.models[0].axes[0].startswith(evil)
        assert "a_b" in load_catalogue(config)


@pytest.mark.parametrize(("answer", "code"), [(b"\n", 0), (b"n\n", 1)])
def test_at_a_terminal_it_asks(answer, code, here, model):
    controller, terminal = pty.openpty()
    os.write(controller, answer)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "init", str(model)], stdin=terminal, capture_output=True, timeout=120,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(terminal)
    os.close(controller)
    assert b"write harness.toml?" in done.stderr
    assert done.returncode == code
    assert (here / "harness.toml").exists() == (code == 0)
