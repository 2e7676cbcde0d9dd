from __future__ import annotations

import sys

import numpy as np
import onnx
import onnx.parser
import pytest

from harness.corpus.registry import load_catalogue, pick
from harness.errors import ConfigError, UsageError
from harness.spec.config import read_config

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[T, 4] x) => (float[T, 4] y) { y = Relu(x) }"""

CATALOGUE = """
from dataclasses import replace
from harness.corpus.catalogue import Entry
from harness.spec.model import Axis, Model
from .near import KEYS
ENTRIES = {
    key: Entry(Model(key, (Axis("x", 0),), "n", 1, 9, 3), lambda: None, lambda split, seed: iter(()), "1")
    for key in KEYS
}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / f"pkg_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "near.py").write_text("KEYS = ['vad', 'wave', 'wave_len']\n")
    (folder / "catalogue.py").write_text(CATALOGUE)
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "mine.onnx")
    (tmp_path / "harness.toml").write_text(
        f'catalogue = "{folder.name}/catalogue.py"\n'
        '[[models]]\npath = "mine.onnx"\naxes = ["x:0=n"]\nrange = "2:8"\nscore = "m:f"\n'
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_catalogue_and_own_models_together(project):
    entries = load_catalogue(read_config(project / "harness.toml"))
    assert list(entries) == ["vad", "wave", "wave_len", "mine"]
    assert entries["mine"].synthetic
    assert entries["mine"].model.score == "m:f"
    assert np.shape(next(entries["mine"].samples("test", 0))["x"])[1] == 4
    assert [entry.model.key for entry in pick(entries, ["mine", "vad"])] == ["mine", "vad"]
    assert len(pick(entries, [])) == 4
    with pytest.raises(UsageError, match="no model 'wav'") as error:
        pick(entries, ["wav"])
    assert "did you mean 'wave'" in error.value.todo


def test_one_key_twice(project):
    text = (project / "harness.toml").read_text()
    (project / "harness.toml").write_text(text + 'key = "vad"\n')
    with pytest.raises(ConfigError, match="two models have the key 'vad'"):
        load_catalogue(read_config(project / "harness.toml"))


def test_catalogues_that_cannot_be_used(project):
    file = next(project.glob("pkg_*/catalogue.py"))
    config = project / "harness.toml"

    def use(name, text):
        (file.parent / f"{name}.py").write_text(text)
        config.write_text(f'catalogue = "{file.parent.name}/{name}.py"')
        return load_catalogue(read_config(config))

    with pytest.raises(ConfigError, match="no ENTRIES"):
        use("bare", "x = 1\n")
    with pytest.raises(ConfigError, match="cannot be imported: No module named 'not_installed'"):
        use("needy", "import not_installed\n")
    with pytest.raises(ConfigError, match="importing the catalogue fails: SyntaxError") as error:
        use("bent", "ENTRIES = {\n")
    assert "bent.py" in error.value.detail
    with pytest.raises(ConfigError, match="fails: ZeroDivisionError") as error:
        use("failing", "def half():\n    return 1 / 0\n\nhalf()\n")
    assert "in half" in error.value.detail
    assert "registry.py" not in error.value.detail
    config.write_text('catalogue = "nowhere.py"')
    with pytest.raises(ConfigError, match="no such catalogue"):
        load_catalogue(read_config(config))
    config.write_text("")
    assert load_catalogue(read_config(config)) == {}
