"""``harness lint`` on files: what it prints, its exit codes, what it refuses; and on models with real weights."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.cli import main
from harness.spec.calibration import Dialect
from tests.explain.rules import clean, planted


@pytest.fixture
def wrong(tmp_path):
    """A Q/DQ file whose scale is 0, and which has the note of a residual."""
    model = clean.qdq(clean.fp32(), Dialect.S8S8, tmp_path)
    planted.set_pair(model, "down", scale=0.0)
    planted.residual_beside_a_weight(model)
    onnx.save(model, tmp_path / "wrong.onnx")
    return str(tmp_path / "wrong.onnx")


@pytest.fixture
def float_file(tmp_path):
    onnx.save(clean.fp32(), tmp_path / "float.onnx")
    return str(tmp_path / "float.onnx")


def test_what_it_says(wrong, capsys):
    assert main(["lint", wrong]) == 1
    said, notes = capsys.readouterr()
    lines = said.splitlines()
    assert lines[0].startswith("wrong  bad-scale: ")
    assert lines[1] == "       in ur_scale"
    assert lines[2].startswith("       -> ")
    assert lines[3].startswith("note   quantized-residual: ")
    assert lines[-1] == "findings: 1 wrong, 1 note (Q/DQ, s8s8, 9 of 9 operators with weights in INT8)"
    assert "x:2" in notes


@pytest.mark.parametrize(("fail_on", "code"), [("wrong", 0), ("slow", 0), ("note", 1), ("never", 0)])
def test_fail_on_of_notes(float_file, fail_on, code, capsys):
    assert main(["lint", float_file, "--fail-on", fail_on]) == code
    assert capsys.readouterr().out.splitlines()[-1] == "findings: 1 note (no Q/DQ); 9 operators with weights"


@pytest.mark.parametrize(("fail_on", "code"), [("wrong", 1), ("slow", 1), ("note", 1), ("never", 0)])
def test_fail_on_of_what_is_wrong(wrong, fail_on, code):
    assert main(["lint", wrong, "--fail-on", fail_on]) == code


def test_json(wrong, capsys):
    assert main(["lint", wrong, "--json", "--axis", "x:2=frames", "--range", "4:600", "--fail-on", "never"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["qdq"], told["dialect"], told["operators_with_weights"], told["in_int8"]) == (True, "s8s8", 9, 9)
    assert [one["kind"] for one in told["findings"]] == ["bad-scale", "long-attention", "quantized-residual"]
    assert told["findings"][0]["evidence"] == {"count": 1, "value": 0.0}
    assert "float-fallback" in told["silent_rules"]
    assert "long-attention" not in told["silent_rules"]


def test_dialect(wrong, capsys):
    assert main(["lint", wrong, "--dialect", "u8s8", "--json", "--fail-on", "never"]) == 0
    assert json.loads(capsys.readouterr().out)["dialect"] == "u8s8"


def test_a_file_cannot_paint_on_the_terminal(tmp_path, capsys):
    model = clean.fp32()
    clean.node(model, "qk").name = "\x1b[31mqk\x07"
    onnx.save(model, tmp_path / "painted.onnx")
    assert main(["lint", str(tmp_path / "painted.onnx")]) == 0
    said = capsys.readouterr().out
    assert "\u241b[31mqk\u2407" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.onnx"], "no such file"),
        (["text.onnx"], "not an ONNX model: it looks like text"),
        (["cut.onnx"], "not an ONNX model"),
        (["external.onnx"], "external data"),
        (["circle.onnx"], "functions cannot be written out"),
        (["float.onnx", "--axis", "x:2=frames"], "no range was given"),
        (["float.onnx", "--axis", "y:2=frames", "--range", "4:600"], "no input 'y'"),
        (["float.onnx", "--axis", "x:0=frames", "--range", "4:600"], "fixed to 1"),
        (["float.onnx", "--dialect", "u4"], "u4"),
        (["no_such_key"], "no model and no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_refused_with_2(words, said, float_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "cut.onnx").write_bytes(onnx.load(float_file).SerializeToString()[:3000])
    model = onnx.load(float_file)
    onnx.save(model, "external.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    circle = onnx.load(float_file)
    circle.opset_import.append(helper.make_opsetid("own", 1))
    again = helper.make_node("Again", ["a"], ["b"], domain="own")
    circle.functions.append(helper.make_function("own", "Again", ["a"], ["b"], [again], [circle.opset_import[1]]))
    circle.graph.node.append(helper.make_node("Again", ["x"], ["y"], domain="own"))
    onnx.save(circle, "circle.onnx")
    assert main(["lint", *words]) == 2
    assert said in capsys.readouterr().err


def test_external_data(float_file, tmp_path, capsys):
    """Weights beside the file are read as those in it."""
    onnx.save(
        onnx.load(float_file),
        tmp_path / "beside.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert main(["lint", str(tmp_path / "beside.onnx")]) == 0
    assert main(["lint", float_file]) == 0
    first, second = capsys.readouterr().out.split("with weights\n")[:2]
    assert first == second


def test_a_key_of_the_catalogue(capsys):
    assert main(["lint", "vad", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in told["findings"]} == {"recurrent", "small-operator"}
    assert "long-attention" not in told["silent_rules"]


def test_a_weight_that_is_exact_but_for_its_outliers_is_json_too(tmp_path, capsys):
    """Without its largest 0.1 % it is all zeros: kept without any error, which is no number in JSON."""
    column = np.zeros(200_000, np.float32)
    column[0], column[1:151] = 1.0, 0.0039
    model = clean.fp32()
    clean.put(model, "sparse_w", np.repeat(column[:, None], 2, axis=1))
    clean.put(model, "many", np.array([1, 1, 200_000], np.int64))
    product = [
        helper.make_node("Expand", ["h2", "many"], ["wide"], "wide"),
        helper.make_node("MatMul", ["wide", "sparse_w"], ["thin"], "sparse"),
    ]
    clean.insert(model, "norm3", *product)
    onnx.save(model, tmp_path / "sparse.onnx")
    assert main(["lint", str(tmp_path / "sparse.onnx"), "--json"]) == 0
    (found,) = (one for one in json.loads(capsys.readouterr().out)["findings"] if one["kind"] == "outlier-weights")
    assert 0 < found["cost_db"] <= 100
