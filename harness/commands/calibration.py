"""The run behind ``harness calibrate``: samples in, files out, a table of what was seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from harness import __version__
from harness.calibration.pipeline import calibrate
from harness.commands.console import note, progress, show
from harness.commands.emit import check_target, targets, write_all
from harness.commands.entry import counted, spooled
from harness.commands.seen import calibrated_at, seen, summary
from harness.modelfile import prepare, read_facts, refuse_quantized
from harness.results.record import encode
from harness.spec.calibration import Policy
from harness.spec.shapes import layout_from_text
from harness.trt_forms import aliases, check_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.calibration.pipeline import Calibrated
    from harness.commands.emit import Form
    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Corpus, Feeds
    from harness.spec.calibration import Calibration
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["Done", "Request", "run", "tell", "tell_json"]


@dataclass(frozen=True)
class Request:
    """What was asked for, checked as far as it can be without the model.

    :param layout: see :func:`harness.spec.shapes.layout_from_text`.
    :param count: samples to take; None for all of a finite source, or 64.
    """

    entry: Entry
    calibration: Calibration
    layout: str
    form: Form
    out: Path
    count: int | None = None
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Done:
    """What came of it.

    :param facts: what the files themselves say of where they come from.
    :param files: those written, the ones to build from last.
    """

    request: Request
    corpus: Corpus
    found: Calibrated
    layout: Layout
    facts: Mapping[str, Any]
    files: Sequence[Path]


def tell(done: Done) -> None:
    """Tables for a person, and a line a file."""
    show(summary(done.request.entry.model, done.corpus, done.found, done.request.calibration, done.layout))
    for path in done.files:
        show(f"wrote {path}")


def tell_json(done: Done) -> None:
    """One JSON object: what the tables show, every range, and the files."""
    show(json.dumps(json.loads(encode({**done.facts, **seen(done.found), "files": list(done.files)}))))


def run(request: Request, tell: Callable[[Done], None] = tell) -> list[Path]:
    """Calibrate, write and show. Returns the files written.

    :param tell: prints what came of it.
    :raises UsageError, ModelRefused, DataError, BuildFailed, CalibrationFailed: see the functions that are called.
    :raises WriteFailed: the result cannot be written; then nothing is.
    """
    entry, model, form = request.entry, request.entry.model, request.form
    layout = layout_from_text(request.layout, model)
    if entry.ready is not None and entry.without_qdq:
        refuse_quantized(read_facts(entry.ready()))
    source = entry.onnx()
    beside = form.beside(request.out)
    for path in (request.out, *beside):
        check_target(path, source)
    prepared = prepare(source, model)
    built_from = form.built_from(prepared, model)
    tensors = form.tensors(onnx.load(prepared))
    passes = len(layout.profiles) if request.calibration.policy is Policy.PER_PROFILE else 1
    if entry.synthetic:
        note("no --data: random numbers are observed, and real data will have other ranges")
    with (
        spooled(entry, request.count, request.seed) as corpus,
        progress("observing samples", passes * len(corpus)) as step,
    ):
        for name in _always_zero(model, corpus):
            note(f"input {name} is 0 in every sample: ranges from it say nothing about real data")
        check_equal(prepared, built_from, next(iter(corpus)))
        found = calibrate(
            prepared,
            model,
            _Watched(corpus, step, passes),
            corpus.lengths,
            request.calibration,
            layout,
            form.dialect,
            threads=request.threads,
            tensors=tensors,
        )
    facts = _facts(request, source, corpus, found, layout)
    contents = form.contents(prepared, built_from, found, layout, facts)
    files = dict(zip(targets(request.out, len(contents)), contents, strict=True))
    for path in files:
        check_target(path, source)
    write_all(files | {path: built_from.read_bytes() for path in beside})
    tell(Done(request, corpus, found, layout, facts, [*files, *beside]))
    for path in beside:
        _note_build_from(path, source, [*aliases(built_from), *tensors])
    for warning in form.warnings(onnx.load(built_from, load_external_data=False)):
        note(f"note: {warning}")
    return [*files, *beside]


def _always_zero(model: Model, samples: Iterable[Feeds]) -> list[str]:
    """Varying floating-point inputs without any value but 0; reads no further than to the first one of each."""
    silent = list(dict.fromkeys(axis.input for axis in model.axes))
    for feeds in samples:
        silent = [name for name in silent if feeds[name].dtype.kind == "f" and not feeds[name].any()]
        if not silent:
            break
    return silent


@dataclass
class _Watched:
    """A corpus that may be read several times. What the observing passes read counts; ``auto`` reads more."""

    samples: Iterable[Feeds]
    step: Callable[[], None]
    passes: int

    def __iter__(self) -> Iterator[Feeds]:
        self.passes -= 1
        if self.passes >= 0:
            return counted(self.samples, self.step)
        if self.passes == -1:
            note("trying every method on some of the samples")
        return iter(self.samples)


def _facts(request: Request, source: Path, corpus: Corpus, found: Calibrated, layout: Layout) -> dict[str, Any]:
    model = read_facts(source)
    return {
        "harness": __version__,
        "model": {"key": request.entry.model.key, "file": source.name, "sha256": model.digest},
        "method": str(request.calibration.method),
        "chosen": [str(method) for method in found.methods],
        "policy": request.calibration.policy.value,
        "dialect": request.form.dialect.value,
        "layout": layout.name,
        "run_at": calibrated_at(found, request.calibration, layout),
        "corpus": {
            "digest": corpus.digest,
            "origin": corpus.origin,
            "samples": len(corpus),
            "batches": found.consumed,
            "lengths": [min(corpus.lengths), max(corpus.lengths)],
        },
    }


def _note_build_from(beside: Path, source: Path, tensors: list[str]) -> None:
    """A cache goes by names; those that preparing the file, or its form, made are not in the user's own."""
    graph = onnx.load(source, load_external_data=False).graph
    known = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    new = [name for name in tensors if name not in known]
    why = f": {source.name} does not have {len(new)} of the {len(tensors)} names ({new[0]!r})" if new else ""
    note(f"build from {beside}, which has the tensor names of the cache{why}")
