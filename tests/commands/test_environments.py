from __future__ import annotations

import re
import sys

import onnxruntime
import pytest

from harness.cli import main


@pytest.fixture
def listed(cache, tmp_path, monkeypatch, capsys):
    """What is listed where ``[environments]`` holds some lines: a row a line, words by spaces."""

    def run(lines):
        (tmp_path / "harness.toml").write_text(f"[environments]\n{lines}\n")
        monkeypatch.chdir(tmp_path)
        assert main(["environments"]) == 0
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run


def test_one_missing_interpreter_hides_no_other(listed):
    said = "\n".join(listed(f'gone = "/no/such/python"\nhere = "{sys.executable}"'))
    assert f"onnxruntime-{onnxruntime.__version__}-cpu" in said
    assert "gone" in said
    assert said.count("missing:") == 1
    assert "no such interpreter" in said


def test_a_host_that_cannot_be_reached_is_listed_as_what_a_run_would_say(listed):
    said = " ".join(listed('gpu = { python = "python3", host = "ssh=-F none -p 1 me@127.0.0.1" }'))
    assert "gpu" in said
    assert f"onnxruntime-{onnxruntime.__version__}-cpu" in said
    assert re.search("missing: (cannot be reached|there is no ssh)", said)
