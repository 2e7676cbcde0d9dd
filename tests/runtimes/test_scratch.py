from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runtimes.scratch import Scratch, sweep

ROOT = Path(__file__).parents[2]
OWNER = """
import sys
from harness.runtimes.scratch import Scratch
scratch = Scratch(sys.argv[1])
(scratch.folder() / "half").write_bytes(b"made")
print(scratch.folder(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def owner(tmp_path):
    """A process that holds a folder, and the folder."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def entries(tmp_path):
    return sorted(path.name for path in (tmp_path / "scratch").glob("*"))


def test_a_folder_goes_when_it_is_closed(tmp_path):
    scratch = Scratch(str(tmp_path))
    assert entries(tmp_path) == []
    folder = scratch.folder()
    assert scratch.folder() == folder
    (folder / "half").write_bytes(b"made")
    scratch.close()
    scratch.close()
    assert entries(tmp_path) == []
    assert scratch.folder().is_dir()
    scratch.close()


def test_what_a_killed_process_left_goes_when_the_next_one_makes_a_folder(tmp_path, owner):
    process, folder = owner
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "half").is_file()
    scratch = Scratch(str(tmp_path))
    own = scratch.folder()
    assert not folder.exists()
    assert entries(tmp_path) == [own.name, own.name + ".lock"]
    scratch.close()


def test_the_folder_of_a_living_process_stays(tmp_path, owner):
    _, folder = owner
    Scratch(str(tmp_path)).folder()
    sweep(str(tmp_path))
    assert (folder / "half").is_file()


def test_own_folders_stay(tmp_path):
    first, second = Scratch(str(tmp_path)), Scratch(str(tmp_path))
    assert first.folder() != second.folder()
    assert first.folder().is_dir()


def test_nothing_to_sweep(tmp_path):
    sweep(str(tmp_path / "not there"))
