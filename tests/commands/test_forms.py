"""What `harness trtexec` names and `harness calibrate` writes is what the suites build, for an older parser, too."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from harness.calibration.cache import CalibrationCache
from harness.cli import main
from harness.corpus.registry import load_catalogue
from harness.runtimes.tensorrt import TensorRt
from harness.spec.case import read_case
from harness.spec.config import find_config
from harness.workbench import Workbench
from harness.workers import Environment
from tests.fake_tensorrt import loaded, models

PROFILES = [{"x": [[1, 4, 4], [1, 4, 8], [1, 4, 32]]}]
OLD, NEW = "8.5.3.1", "10.16.1.11"
FORM, SCALES = [8, 4, 3, 1], {"x", "x_2d", "c", "t", "y"}
"""Shape of the convolution's weights, tensors of the cache: wherever caches are read."""


@pytest.fixture
def project(cache, tmp_path, monkeypatch):
    """A convolution and a product over x float32 [N, 4, T] as a configured model, with its data."""
    random = np.random.default_rng(0)
    (tmp_path / "mine.onnx").write_bytes(models.conv_and_product(random))
    models.write_samples(tmp_path / "data", random)
    (tmp_path / "harness.toml").write_text(
        '[[models]]\npath = "mine.onnx"\naxes = ["x:2=frames"]\nrange = "4:8:32"\ndata = "data"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def printed(project, capsys):
    """The files that the printed command names, after those that are missing have been made as it says."""

    def run(*arguments):
        assert main(["trtexec", *arguments]) == 0
        said = capsys.readouterr()
        if said.err:
            assert main(shlex.split(said.err.partition("first: harness ")[2])) == 0
            capsys.readouterr()
        words = dict(word.partition("=")[::2] for word in shlex.split(said.out.replace("\\\n", " ")))
        return words["--onnx"], words.get("--calib"), words

    return run


def suites(version, case):
    """The workbench of a run, which has no worker: what it builds from is made here."""
    (entry,) = load_catalogue(find_config()).values()
    name = f"tensorrt-{version}"
    environments = {name: Environment(name, "", "tensorrt", version)}
    bench = Workbench({"mine": entry}, environments, None, None, SimpleNamespace(samples=6, tests=2), 0)
    return bench, read_case(case)


def kernel(path):
    (found,) = [
        list(t.dims) for t in onnx.load(path).graph.initializer if t.dims and t.dims[0] == 8 and len(t.dims) > 2
    ]
    return found


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_is_built_from_the_form(printed, version, precision):
    case = f"mine-tensorrt-{version}-{precision}-single"
    path, _, words = printed(case)
    assert kernel(path) == FORM
    bench, read = suites(version, case)
    assert bench.artefacts(read) == (Path(path),)
    assert words["--optShapes"] == "x:1x4x8"


def test_types_in_the_model_are_those_of_the_form(printed):
    case = "mine-tensorrt-11.4.0.106-fp16-single"
    path, _, _ = printed(case)
    bench, read = suites("11.4.0.106", case)
    assert bench.artefacts(read) == (Path(path),)


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("route", ["cache", "qdq", "calibrator"])
def test_int8_builds_as_in_the_suites(printed, tmp_path, version, route):
    """By the stand-in: the cache is taken, both operators are INT8, and what comes out is near the model."""
    words = {"cache": "minmax-ragged-cache", "qdq": "minmax-ragged", "calibrator": "minmax-pad-calibrator"}[route]
    case = f"mine-tensorrt-{version}-int8-{words}-single"
    path, calib, said = printed(case)
    assert "--int8" in said
    assert kernel(path) == FORM
    bench, read = suites(version, case)
    options = {"profiles": PROFILES, "flags": ["INT8", "FP16"]}
    if calib:
        assert Path(path) == bench.artefacts(read)[0]
        options |= {"algorithm": "MinMaxCalibration", "files": {"cache": calib}}
        scales = CalibrationCache.loads(Path(calib).read_text()).scales
        assert set(scales) == SCALES
        (beside,) = Path(calib).parent.glob("*.prepared.onnx")
        assert beside.read_bytes() == Path(path).read_bytes(), "the file beside a cache is the one to build from"
    if route == "cache":
        (files,) = bench.calibration_files(read)
        assert CalibrationCache.loads(files["cache"].read_text()).scales.keys() == scales.keys()
    with loaded(version, tmp_path / "fake"):
        runtime = TensorRt()
        facts = runtime.build(path, str(tmp_path / "engine"), options)
        engine = runtime.load(str(tmp_path / "engine"), {})
        assert facts["calibration"] is None or facts["calibration"]["cache_used"]
        assert engine.coverage()["int8"] == 2
        x = {"x": np.random.default_rng(5).normal(size=(1, 4, 17)).astype(np.float32)}
        given = engine.run(x)["y"]
    (expected,) = onnxruntime.InferenceSession("mine.onnx").run(None, x)
    assert 0 < np.abs(given - expected).max() < 0.05 * np.abs(expected).max()


def test_a_qdq_file_without_a_version_is_that_of_the_model(project, capsys):
    assert main(["calibrate", "mine", "--method", "minmax", "-o", "plain.onnx"]) == 0
    assert kernel("plain.onnx") == [8, 4, 3]
    assert "--trt-version 8503 writes them in the form that its parser takes" in capsys.readouterr().err
    assert main(["calibrate", "mine", "--method", "minmax", "--trt-version", "8503", "-o", "old.onnx"]) == 0
    assert kernel("old.onnx") == [8, 4, 3, 1]
    assert "one-dimensional" not in capsys.readouterr().err


def test_a_form_that_computes_something_else_is_refused(project, monkeypatch, capsys):
    from harness.commands import emit

    def broken(path, *_):
        made = onnx.load(path)
        weights = next(t for t in made.graph.initializer if t.name == "w")
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 1.1, "w"))
        onnx.save(made, project / "broken.onnx")
        return project / "broken.onnx"

    monkeypatch.setattr(emit, "for_parser", broken)
    assert main(["calibrate", "mine", "--emit", "trt-cache", "--trt-version", "8503", "-o", "a.cache"]) == 1
    assert "differs from the model at output 'y'" in capsys.readouterr().err
    assert not Path("a.cache").exists()
