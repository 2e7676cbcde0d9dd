from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from harness import __version__
from harness.cli import cli, main
from harness.commands.examples import EXAMPLES
from tests.report.test_live import Terminal

ROOT = Path(__file__).parents[1]


def test_help_teaches_the_first_hour(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    shown = [
        said.index(f"\n    {line}")
        for line in ("harness init ", "pytest suites/ ", "harness calibrate ", "harness gate ")
    ]
    assert shown == sorted(shown)
    for command in cli.commands:
        assert f"\n  {command} " in said
    assert all(len(line) <= 80 for line in said.splitlines())


def every(group=cli, before=()):
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from every(command, (*before, name))


@pytest.mark.parametrize("words", [*every()], ids=" ".join)
def test_every_command_teaches_by_example(words, capsys):
    assert main([*words, "-h"]) == 0
    said = capsys.readouterr().out
    assert f"Usage: harness {' '.join(words)}" in said
    examples = said.partition("\n  Example")[2]
    assert f"\n    harness {words[0]} " in examples
    assert words[-1] in examples
    assert all(len(line) <= 80 for line in examples.splitlines())


def test_examples_are_of_commands():
    """None is left behind when a command is renamed."""
    assert set(EXAMPLES) <= {" ".join(words) for words in every()}


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours(environ, coloured):
    raw = Terminal([sys.executable, "-m", "harness", "calibrat"], **environ).raw
    assert (b"\x1b[1;31m" in raw) == coloured
    assert b"No such command" in raw


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
