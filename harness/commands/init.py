"""``harness init``: a commented ``harness.toml`` from a model, asked of the file and not of the person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.console import note, show, suites_from

if TYPE_CHECKING:
    from harness.corpus.catalogue import Entry
    from harness.corpus.proposal import Proposal
    from harness.spec.config import Config

__all__ = ["init"]

_FILE = "harness.toml"

_HELP = """\
Write a harness.toml for MODEL, an ONNX file in FP32 or with Q/DQ, by asking the file.

Found in it, or by running it at a few lengths in ONNX Runtime: what varies and which inputs follow it, the lengths that
it takes, the input that holds a length, states and switches. With --data the range is that of your samples. What was
guessed says so in the file. At a terminal you are asked before it is written.
"""


@click.command(no_args_is_help=True, help=_HELP)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR|LOADER.py", help=".npz files, one a sample, or a script with load_data().")
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies.  [default: found]")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths.  [default: found]")
@click.option("--key", default="", metavar="NAME", help="The model's name in the harness.  [default: the file's]")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=_FILE, show_default=True, help="Where to.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
def init(
    model: Path,
    data: str | None,
    axes: tuple[str, ...],
    range_: str,
    key: str,
    out: Path,
    *,
    force: bool,
    yes: bool,
) -> None:
    """Look at the file, and write what was found."""
    from harness.commands.init_text import a_sample, toml
    from harness.corpus.proposal import propose
    from harness.spec.config import find_config

    out = out / _FILE if out.is_dir() else out
    _check_out(out, force=force)
    note(f"asking {model}")
    found = propose(model, data=data, range_=range_, axes=axes)
    folder = out.absolute().parent
    before = find_config(folder)
    text = toml(found, folder, before, key)
    name = key or found.entry.model.key
    _check_read(text, before, name)
    for line in _found(found):
        note(line)
    if not yes and sys.stdin.isatty():
        _confirm(out)
    _write(out, text)
    show(f"wrote {out}: model {name}")
    if found.data is None:
        note(a_sample(found))
    for command in _next(name, out, found.entry):
        note(f"next: {command}")


def _confirm(out: Path) -> None:
    if not click.confirm(f"write {out}?", default=True, err=True):
        note("nothing was written; what the file cannot tell can be said: harness init --help")
        click.get_current_context().exit(1)


def _check_out(out: Path, *, force: bool) -> None:
    from harness.errors import UsageError

    if out.name != _FILE:
        raise UsageError(
            f"only a file that is called {_FILE} is read",
            where=str(out),
            todo=f"--out {out.parent / _FILE}, or a folder",
        )
    if not out.absolute().parent.is_dir():
        raise UsageError("no such folder", where=str(out.absolute().parent), todo="make it first, or --out elsewhere")
    if out.exists() and not force:
        raise UsageError(
            "it is there already, and is left as it is",
            where=str(out),
            todo="--out ANOTHER/harness.toml, or --force to write over it",
        )


def _check_read(text: str, before: Config, key: str) -> None:
    """What is written is read as strictly as if the user had written it, and beside the models that stay.

    :raises HarnessError: it could not be.
    """
    import tempfile

    from harness.corpus.registry import load_catalogue
    from harness.errors import UsageError
    from harness.spec.config import Config, read_config

    with tempfile.TemporaryDirectory(prefix="init.") as scratch:
        file = Path(scratch) / _FILE
        file.write_text(text, encoding="utf-8")
        read_config(file)
    kept = load_catalogue(Config(root=before.root, file=before.file, catalogue=before.catalogue))
    if key in kept:
        raise UsageError(
            f"a model of the catalogue is called {key!r} already",
            where=str(before.catalogue),
            todo=f"give yours another name: --key my_{key}",
        )


def _found(found: Proposal) -> list[str]:
    rows = [("varies", found.axes), ("holds the length", found.length_inputs), ("never varies", found.constants)]
    lines = [f"  {what:<17} {one.option}{f'  ({one.why})' if one.why else ''}" for what, all_ in rows for one in all_]
    lines += [f"  {'held at 1':<17} {one.option}  ({one.why})" for one in found.held]
    return [*lines, f"  {'lengths':<17} {found.range}  ({found.range_why})"]


def _write(out: Path, text: str) -> None:
    from harness.errors import WriteFailed

    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WriteFailed(f"cannot be written: {error.strerror}", where=str(out), todo="check its folder") from error


def _next(key: str, out: Path, entry: Entry) -> list[str]:
    here = out.absolute().parent
    at = "" if Path.cwd().is_relative_to(here) else f"cd {here} && "
    folder = suites_from(Path.cwd() if not at else here)
    calibrate = [f"{at}harness calibrate {key} --emit qdq-u8s8 -o {key}.int8.onnx"] if entry.ready is None else []
    return [*calibrate, f"{at}pytest {folder} --models {key}"]
