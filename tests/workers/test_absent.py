"""What a run says of runtimes that it was asked for and that are not there."""

from __future__ import annotations

import pytest

from harness.errors import EnvironmentMissing
from harness.workers import Environment
from harness.workers.absent import asked_for, not_installed
from harness.workers.environments import TOX

UNABLE = {"can_run": False, "can_build": False, "why": "no GPU"}
ONNX = Environment("onnxruntime-1.32.0-cpu", "/o/python", "onnxruntime", "1.32.0")
NEW = Environment("tensorrt-10.3.0", "/a/python", "tensorrt", "10.3.0")
OLD = Environment("tensorrt-8.5.3.1", "/b/python", "tensorrt", "8.5.3.1", **UNABLE)
OWN = Environment("tensorrt-8.6.1", "/c/python", "tensorrt", "8.6.1")


def names(found):
    return [one.name for one in found]


def test_a_pattern_asks_for_every_version_that_is_known():
    chosen, absent = asked_for([ONNX, NEW], ["tensorrt-*"])
    assert names(chosen) == ["tensorrt-10.3.0"]
    assert names(absent) == [name for name in TOX if name.startswith("tensorrt-") and name != "tensorrt-10.3.0"]
    chosen, absent = asked_for([ONNX, NEW], ["tensorrt-8.[56]*", "onnx*"])
    assert names(chosen) == ["onnxruntime-1.32.0-cpu"]
    assert names(absent) == ["tensorrt-8.5.3.1", "tensorrt-8.6.0", "onnxruntime-1.22.1-cpu"]


@pytest.mark.parametrize("word", ["tensorrt", "tensorrt-10", "onnxruntime", "onnxruntime-1.32.0-cpu"])
def test_a_word_asks_for_what_there_is(word):
    chosen, absent = asked_for([ONNX, NEW], [word])
    assert len(chosen) == 1
    assert absent == []


@pytest.mark.parametrize(
    ("word", "missing", "command"),
    [
        ("tensorrt-8.6", ["tensorrt-8.6.0"], "python -m tox run -e trt86 --notest"),
        ("tensorrt-8.5.3.1", ["tensorrt-8.5.3.1"], "python -m tox run -e trt85 --notest"),
        ("tensorrt-8", ["tensorrt-8.4.1.5", "tensorrt-8.5.3.1", "tensorrt-8.6.0"], "python -m tox run -e trt84"),
        (
            "tensorrt-11.4",
            ["tensorrt-11.4.0.106"],
            "-e trt114 --notest (wants HARNESS_TRT_INDEX to name the index, CUDA's headers for pycuda)",
        ),
        ("tensorrt-rtx-1.5", ["tensorrt-rtx-1.5.0.114"], "python -m tox run -e rtx15 --notest"),
        ("onnxruntime-1.22", ["onnxruntime-1.22.1-cpu"], "python -m tox run -e ort122 --notest"),
    ],
)
def test_a_known_word_of_which_nothing_is_there(word, missing, command):
    chosen, absent = asked_for([ONNX, NEW], [word])
    assert chosen == []
    assert names(absent) == missing
    assert absent[0].reason.startswith(f"{missing[0]} is not installed: ")
    assert command in absent[0].reason


@pytest.mark.parametrize("word", ["tensorrt-99", "tensorrt-8.5.1.7", "openvino", "openvino-*", "tensort-*", ""])
def test_a_word_that_nothing_is_known_by_is_an_error(word):
    with pytest.raises(EnvironmentMissing, match="no runtime matches"):
        asked_for([ONNX, NEW], ["onnxruntime", word])


def test_another_release_of_a_version_stands_for_it():
    chosen, absent = asked_for([OWN], ["tensorrt-8.*"])
    assert names(chosen) == ["tensorrt-8.6.1"]
    assert names(absent) == ["tensorrt-8.4.1.5", "tensorrt-8.5.3.1"]
    assert "tensorrt-8.6.0" not in names(not_installed([OWN]))


def test_what_is_there_and_can_do_nothing():
    """By a pattern it is passed over, and why is said; by its own name it is an error."""
    chosen, absent = asked_for([OLD, NEW], ["tensorrt-8.5*", "tensorrt-10.3*"])
    assert chosen == [NEW]
    assert [one.reason for one in absent] == ["tensorrt-8.5.3.1 (/b/python) can do nothing here: no GPU"]
    with pytest.raises(EnvironmentMissing, match="can neither run nor build"):
        asked_for([OLD, NEW], ["tensorrt-8.5"])


def test_names_of_a_configuration():
    aliases = {"gpu": lambda: [NEW]}
    assert asked_for([ONNX], ["gpu"], aliases) == ([NEW], [])
    assert asked_for([ONNX], ["tensorrt-10.3*", "gpu"], aliases) == ([NEW], [])

    def gone():
        raise EnvironmentMissing("no such interpreter")

    with pytest.raises(EnvironmentMissing, match="no such interpreter"):
        asked_for([ONNX], ["gpu"], {"gpu": gone})
