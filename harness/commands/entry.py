"""Which model and which samples ``harness calibrate`` works on."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.console import progress
from harness.corpus.own import own_entry
from harness.corpus.registry import load_catalogue
from harness.corpus.samples import Corpus
from harness.errors import UsageError, close_to
from harness.paths import cache_dir
from harness.spec.config import find_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Feeds

__all__ = ["counted", "find_entry", "is_path", "spooled"]

_DRAWN = 64


def find_entry(
    model: str,
    *,
    data: str | None,
    axes: Sequence[str],
    range_: str,
    length_inputs: Sequence[str],
    pads: Sequence[str],
    constants: Sequence[str],
) -> Entry:
    """A catalogue key's entry, or one made of an ONNX file and the options.

    :raises UsageError: no such key or file; an option that only a file takes was given with a key.
    :raises ConfigError, ModelRefused, DataError: see :mod:`harness.corpus.registry`, :mod:`harness.corpus.own`.
    """
    if is_path(model):
        if axes and not range_:
            raise UsageError(
                "which lengths? no range was given",
                where=model,
                todo="--range MIN:MAX or MIN:OPT:MAX, e.g. 16:2000",
            )
        return own_entry(
            model, axes=axes, range_=range_, data=data, length_inputs=length_inputs, pads=pads, constants=constants
        )
    entries = load_catalogue(find_config())
    if model not in entries:
        close = close_to(model, entries)
        known = f"the models are {', '.join(entries)}" if entries else "no catalogue is configured here"
        raise UsageError(
            f"no model and no file {model!r}",
            where="MODEL",
            todo=f"did you mean {close[0]!r}?" if close else f"give the path of an ONNX file, or a key: {known}",
        )
    given = {"--data": data, "--axis": axes, "--range": range_, "--length-input": length_inputs}
    given |= {"--pad": pads, "--constant": constants}
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} describes an ONNX file of your own, but {model!r} is a model of the catalogue",
                where=model,
                todo="leave it out, or give the path of the ONNX file",
            )
    return entries[model]


def is_path(text: str) -> bool:
    """Whether MODEL names a file rather than a key."""
    return text.endswith(".onnx") or "/" in text or Path(text).exists()


@contextmanager
def spooled(entry: Entry, count: int | None, seed: int) -> Iterator[Corpus]:
    """The samples to calibrate with, on disk while they are needed.

    A data loader may give other samples each time it is asked, and take its time: so choosing the profile, every
    observing pass and the digest go by one reading of it.

    :param count: how many; None for all of a finite source, or 64.
    :raises DataError: see :class:`harness.corpus.fitting.Fitting`; there is none.
    """
    if entry.every is not None:
        stream, origin = entry.every(), "your data"
    else:
        stream, count = entry.samples("calibration", seed), count or _DRAWN
        origin = "synthetic" if entry.synthetic else f"{entry.model.key} calibration, seed {seed}"
    with tempfile.TemporaryDirectory(prefix="calibrate.", dir=cache_dir("corpora")) as folder:
        with progress("reading samples", count) as step:
            drawn = counted(itertools.islice(stream, count), step)
            corpus = Corpus.write(Path(folder) / "corpus", entry.model, drawn, origin)
        yield corpus


def counted(samples: Iterable[Feeds], step: Callable[[], None]) -> Iterator[Feeds]:
    """The samples; ``step`` is called after each one was used."""
    for feeds in samples:
        yield feeds
        step()
