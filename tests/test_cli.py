from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import __version__
from harness.cli import main

ROOT = Path(__file__).parents[1]


def test_help_teaches_by_two_examples(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.count("harness calibrate ") == 2
    for command in ("calibrate", "fetch", "models", "environments"):
        assert f"\n  {command} " in said


@pytest.mark.parametrize("command", ["calibrate", "fetch", "models", "environments"])
def test_every_command_has_help(command, capsys):
    assert main([command, "-h"]) == 0
    assert f"Usage: harness {command}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"harness {__version__}\n"


def test_help_loads_nothing_heavy():
    program = (
        "import sys\nfrom harness.cli import main\ncode = main(['--help'])\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'execnet', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_arguments_is_help_on_stderr(capsys):
    assert main([]) == 2
    assert "Usage: harness" in capsys.readouterr().err


def test_unknown_command(capsys):
    assert main(["calibrat"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: No such command 'calibrat'.")
    assert "-> see harness --help" in said


def test_a_bracket_in_a_message_is_no_markup(capsys):
    assert main(["calibrate", "[bold]no", "-o", "x"]) == 2
    assert "no file '[bold]no'" in capsys.readouterr().err
