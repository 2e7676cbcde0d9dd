"""A folder of somebody who gates: a configuration with two stand-ins of TensorRT, a model, samples, a small matrix."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

import jsonschema
import numpy as np
import onnx

from tests.fake_tensorrt import interpreter, models, resettle

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "tensorrt-8.5.3.1", "tensorrt-8.6.1"
SIDES = ("old:tensorrt", "new:tensorrt")
"""The stand-ins' interpreters have ONNX Runtime, too."""
FP32, INT8 = "conv-fp32-single", "conv-int8-minmax-ragged-single"
MATRIX = """
precisions = ["fp32", "int8"]
methods = ["minmax"]
layouts = ["single"]
routes = ["qdq"]
compared = []
samples = 4
tests = 6
launches = 2
blocks = 2
"""
CONFIG = """
matrix = "small.toml"
[environments]
old = {old}
new = {new}
[latency]
tolerated = 0.9
caught = 0.99
{models}
"""
"""Times of a stand-in say nothing: only what is twice as slow would be seen."""
MODEL = """
[[models]]
key = "{key}"
path = "{key}.onnx"
axes = ["x:2=n"]
range = "4:16:64"
data = "data"
"""


class Yard:
    """:ivar old, new: folders of the stand-ins, for ``resettle``."""

    def __init__(self, folder: Path, keys: tuple[str, ...] = ("conv",)) -> None:
        self.folder, self.old, self.new = folder, folder / OLD, folder / NEW
        pythons = {"old": interpreter("8.5.3.1", self.old), "new": interpreter("8.6.1", self.new)}
        (folder / "data").mkdir()
        for length in (4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 20, 24, 30, 40, 50, 60):
            x = np.random.default_rng(length).normal(size=(1, 4, length)).astype(np.float32)
            np.savez(folder / "data" / f"{length}.npz", x=x)
        for key in keys:
            model = onnx.load_from_string(models.conv())
            model.graph.name = key
            onnx.save(model, folder / f"{key}.onnx")
        (folder / "small.toml").write_text(MATRIX)
        written = "".join(MODEL.format(key=key) for key in keys)
        paths = {name: json.dumps(str(path)) for name, path in pythons.items()}
        (folder / "harness.toml").write_text(CONFIG.format(models=written, **paths))

    def plant(self, **settings: object) -> None:
        """Change how the candidate's stand-in behaves; nothing is what it was."""
        resettle(self.new, **{"crash": "", "victim": "", **settings})

    def run_file(self) -> Path:
        """The newest run's records."""
        return max((self.folder / "results").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


def schema() -> dict[str, object]:
    return json.loads((resources.files("harness.gate") / "report.schema.json").read_text("utf-8"))


def checked(report: dict[str, object]) -> dict[str, object]:
    """The report, if it is as the published schema says."""
    jsonschema.Draft202012Validator(schema()).validate(report)
    return report
