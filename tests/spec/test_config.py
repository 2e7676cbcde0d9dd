from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.spec.config import find_config, read_config
from harness.spec.latency import LatencySettings

FULL = """
catalogue = "fixtures/catalogue.py"
results = "out"
matrix = "nightly.toml"
deadline_s = 30
require = ["tensorrt-*"]
[environments]
trt85 = "envs/trt85/bin/python"
found = "python3.10"
gpu = { python = "/usr/bin/python3", host = "ssh=me@gpu1" }
[[models]]
path = "a.onnx"
axes = ["x:1=n"]
range = "1:9"
data = "samples"
constants = ["h=0", "c=c.npy"]
gains = [1, 0.5]
bounds = { "*" = { sqnr_db = 10, speedup = 1.3 } }
[latency]
caught = 0.06
budget_s = 30
[[latency.overrides]]
runtimes = ["onnxruntime", "*-cuda"]
tolerated = 0.03
[[latency.overrides]]
models = ["a*"]
caught = 0.1
launches = 8
blocks = 12
"""


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "harness.toml").write_text(FULL)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    config = find_config(deep)
    assert config.root == tmp_path
    assert config.catalogue == tmp_path / "fixtures" / "catalogue.py"
    assert config.results == tmp_path / "out"
    assert config.matrix == str(tmp_path / "nightly.toml")
    assert config.deadline_s == 30
    assert [(e.name, e.python, e.host) for e in config.environments] == [
        ("trt85", str(tmp_path / "envs/trt85/bin/python"), ""),
        ("found", "python3.10", ""),
        ("gpu", "/usr/bin/python3", "ssh=me@gpu1"),
    ]
    (model,) = config.models
    assert model.path == tmp_path / "a.onnx"
    assert model.gains == (1.0, 0.5)
    assert model.data == str(tmp_path / "samples")
    assert model.constants == ("h=0", f"c={tmp_path / 'c.npy'}")
    assert dict(model.bounds)["*"].sqnr_db == 10
    assert dict(model.bounds)["*"].speedup == 1.3


def test_latency_is_judged_by_model_and_runtime(tmp_path):
    (tmp_path / "harness.toml").write_text(FULL)
    latency = read_config(tmp_path / "harness.toml").latency
    default = LatencySettings(caught=0.06, budget_s=30)
    assert latency.settings("b", "tensorrt-10.3.0") == default
    assert latency.settings("b", "onnxruntime-1.32.0-cpu") == replace(default, tolerated=0.03)
    assert latency.settings("b", "onnxruntimes") == default
    assert latency.settings("b", "x-cuda").tolerated == 0.03
    assert latency.settings("abc", "onnxruntime-1.32.0-cpu") == LatencySettings(0.03, 0.1, 30, 8, 12)
    assert find_config(tmp_path / "nowhere").latency.settings("b", "c").budget_s == 30


def test_nothing_anywhere_gives_the_defaults(tmp_path):
    config = find_config(tmp_path)
    if config.file is None:  # a stray file above the temporary folder is not ours to forbid
        assert (config.root, config.results, config.matrix) == (tmp_path, tmp_path / "results", "quick")


def test_harness_toml_wins_and_says_over_what(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.harness]\nresults = "p"\n')
    assert find_config(tmp_path).results == tmp_path / "p"
    assert find_config(tmp_path).passed_over is None
    (tmp_path / "harness.toml").write_text('results = "h"\n')
    config = find_config(tmp_path)
    assert config.results == tmp_path / "h"
    assert config.passed_over == tmp_path / "pyproject.toml"


def test_a_pyproject_of_another_kind_is_walked_past(tmp_path):
    (tmp_path / "harness.toml").write_text('results = "h"\n')
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert find_config(inner).root == tmp_path


@pytest.mark.parametrize(
    ("text", "what", "todo"),
    [
        ("catalog = 'x'", "unknown key catalog", "did you mean 'catalogue'"),
        ("zzz = 1", "unknown key zzz", "the keys here are catalogue, models"),
        ("deadline_s = 'long'", "deadline_s: expected float, got str", ""),
        ("deadline_s = 0", "deadline_s: expected float > 0", ""),
        ("require = 'x'", "require: expected array", ""),
        ("[[models]]\npath='a'\naxes=['x:1']\nrange='1:2'\nlenght_inputs=[]", "lenght_inputs", "'length_inputs'"),
        ("[[models]]\npath='a'\nrange='1:2'", "missing key 'axes' in models[0]", ""),
        ("[[models]]\npath='a'\naxes=['x']\nrange='1:2'\nbounds={all={sqnr=1}}", "sqnr", "did you mean 'sqnr_db'"),
        ("[environments]\ngpu = { pyton = 'x' }", "pyton", "did you mean 'python'"),
        ("[[models]]\npath='a'\naxes=['x']\nrange='1:2'\ngains=[0.0]", "models[0].gains", ""),
        ("[[models]]\npath='a'\naxes=['x']\nrange='1:2'\ngains=[]", "models[0].gains", ""),
        ("models = [", "no TOML", "mend the line"),
        ("[latency]\ntolerated = 0.05\ncaught = 0.02", "tolerated = 0.05, caught = 0.02", "0.02 is 2 %"),
        ("[latency]\ntolerated = -1\ncaught = 0.02", "tolerated = -1", "0.02 is 2 %"),
        ("[latency]\ncaught = 0.01", "tolerated = 0.02, caught = 0.01", "0.02 is 2 %"),
        ("[latency]\ncaught = nan", "caught = nan", "0.02 is 2 %"),
        ("[[latency.overrides]]\ntolerated = 0.05", "tolerated = 0.05, caught = 0.05", "0.02 is 2 %"),
        ("[latency]\ntolerated = 2\ncaught = 5", "tolerated = 2, caught = 5", "0.02 is 2 %"),
        ("[[latency.overrides]]\ncaught = 0.1", "latency.overrides[0] names no models", "[latency] itself"),
        ("[[latency.overrides]]\nmodels = ['a']", "latency.overrides[0] changes nothing", "a margin or a budget"),
        ("[latency]\nlaunches = 'x'", "latency.launches: expected int", "docs/measurement.md"),
        ("[latency]\nbudget = 3", "budget", "did you mean 'budget_s'"),
        ("[latency]\nbudget_s = 0", "latency.budget_s: expected float > 0", ""),
        ("[[latency.overrides]]\nmodel = ['a']", "model", "did you mean 'models'"),
        ("[[latency.overrides]]\nlaunches = 1", "launches", ""),
    ],
)
def test_mistakes_name_file_key_and_what_was_meant(tmp_path, text, what, todo):
    for name, content, prefix in [
        ("harness.toml", text, ""),
        ("pyproject.toml", _under_tool(text), "tool.harness."),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError) as error:
            read_config(tmp_path / name)
        assert what in error.value.what.replace(prefix, "")
        assert todo in error.value.todo
        assert error.value.where == str(tmp_path / name)
        if "TOML" not in what:
            assert prefix in error.value.what


def _under_tool(text):
    text = text.replace("[[models]]", "[[tool.harness.models]]")
    text = text.replace("[environments]", "[tool.harness.environments]").replace("[latency]", "[tool.harness.latency]")
    text = text.replace("[[latency.", "[[tool.harness.latency.")
    return text if text.startswith("[") else f"[tool.harness]\n{text}"


def test_the_projects_own_configuration():
    config = read_config(Path(__file__).parents[2] / "pyproject.toml")
    assert config.catalogue is not None
    assert config.catalogue.is_file()
