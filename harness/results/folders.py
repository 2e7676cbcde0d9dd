"""Whole runs: finding one by name, bringing some in from another folder, removing old ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from harness.errors import ResultsError, UsageError, close_to
from harness.results.record import now
from harness.results.store import Store, is_written

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from harness.results.query import RunSummary

__all__ = ["BASELINES", "Imported", "Pruned", "baselines", "import_folder", "plan_prune", "prune", "run_path"]

BASELINES = "baselines.txt"
"""In a folder of runs: ids of runs that are never pruned, one a line; ``#`` begins a comment."""


@dataclass(frozen=True)
class Imported:
    """Run files by what became of them: copied, already here, or another file of the same name here."""

    copied: tuple[str, ...]
    known: tuple[str, ...]
    different: tuple[str, ...]


@dataclass(frozen=True)
class Pruned:
    """Runs to be removed, and those that stay although they are old enough, with the reason."""

    removed: tuple[Path, ...]
    stay: tuple[tuple[Path, str], ...]
    size_bytes: int


def run_path(folder: Path, name: str) -> Path:
    """The file of a run, by its id or the beginning of it that no other run has.

    :raises UsageError: there is none, or several.
    """
    runs = Store(folder).runs()
    found = [path for path in runs if path.stem == name] or [path for path in runs if path.stem.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(path.stem for path in found[:5])
        raise UsageError(f"{len(found)} runs begin with {name!r}", where=str(folder), todo=f"which: {shown}, ...?")
    near = close_to(name, [path.stem for path in runs])
    todo = f"did you mean {near[0]}?" if near else "harness results list shows what there is; --results names a folder"
    raise UsageError(f"no run {name!r}", where=str(folder), todo=todo)


def import_folder(source: Path, folder: Path) -> Imported:
    """Copy the runs of another folder that are not here. A copy is here whole or not at all; nothing is written over.

    :raises ResultsError: something cannot be read or written.
    """
    copied: list[str] = []
    known: list[str] = []
    different: list[str] = []
    for path in Store(source).runs():
        target = folder / path.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if target.exists() or not _copy(path, target):
                (known if _digest(path) == _digest(target) else different).append(path.stem)
            else:
                copied.append(path.stem)
        except OSError as error:
            raise ResultsError(
                f"cannot be copied: {error.strerror}", where=str(path), todo=f"check permissions and room in {folder}"
            ) from error
    return Imported(tuple(copied), tuple(known), tuple(different))


def _copy(source: Path, target: Path) -> bool:
    scratch = target.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        shutil.copy2(source, scratch)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        os.link(scratch, target)  # unlike a rename, it never replaces one that came meanwhile
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def baselines(folder: Path) -> tuple[str, ...]:
    """What :data:`BASELINES` names; nothing where there is no such file.

    :raises ResultsError: it cannot be read.
    """
    path = folder / BASELINES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot be read: {error}", where=str(path), todo="one run id a line") from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))


def plan_prune(
    folder: Path,
    runs: Sequence[RunSummary],
    keep: Collection[str],
    older_than: timedelta | None = None,
    keep_last: int | None = None,
) -> Pruned:
    """What :func:`prune` would remove: runs that ended longer ago than that, or all but the newest so many.

    :param runs: all of them, the oldest first. One without records goes by its file's time.
    :param keep: ids of runs that stay, beside :func:`baselines`.
    :raises UsageError: neither or both is asked for, or ``keep`` names a run that is not there.
    """
    if (older_than is None) == (keep_last is None):
        raise UsageError("by age or by count?", todo="give one of --older-than 90d and --keep-last 100")
    protected = {run_path(folder, name).stem for name in keep}
    named = set(baselines(folder))
    if missing := named - {one.run for one in runs}:
        # A slip of the pen there would remove the very run it should keep.
        raise UsageError(
            f"{BASELINES} names runs that are not here: {', '.join(sorted(missing))}",
            where=str(folder / BASELINES),
            todo="write their ids whole, or take those lines out",
        )
    if older_than is not None:
        limit = now().replace(tzinfo=None) - older_than
        old = [one for one in runs if _ended(folder, one) < limit]
    else:
        old = list(runs[: max(0, len(runs) - (keep_last or 0))])
    removed, stay = [], []
    for one in old:
        path = folder / f"{one.run}.jsonl"
        if one.run in protected | named:
            stay.append((path, "a baseline" if one.run in named else "--keep"))
        elif is_written(path):
            stay.append((path, "being written"))
        else:
            removed.append(path)
    return Pruned(tuple(removed), tuple(stay), sum(path.stat().st_size for path in removed))


def _ended(folder: Path, one: RunSummary) -> datetime:
    if one.ended is not None:
        return one.ended
    changed = (folder / f"{one.run}.jsonl").stat().st_mtime
    return datetime.fromtimestamp(changed, UTC).replace(tzinfo=None)


def prune(plan: Pruned) -> None:
    """Remove the runs. What is compacted of them is no longer read from then on, and goes with the next compacting.

    :raises ResultsError: one cannot be removed.
    """
    for path in plan.removed:
        try:
            path.with_suffix(".gate.md").unlink(missing_ok=True)  # a gate's summary lies beside its records
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResultsError(
                f"cannot be removed: {error.strerror}", where=str(path), todo="check the folder's permissions"
            ) from error
