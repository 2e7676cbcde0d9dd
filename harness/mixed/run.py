"""A search for one model of the workbench: its corpora, palette, gains and times; and the plan that comes out."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from harness.calibration import pipeline
from harness.calibration.rescaling import ROWS_VERSION, rescaled_file
from harness.calibration.rows import SAMPLES, WORTH_BITS, spreads
from harness.corpus.buckets import PICKING
from harness.corpus.samples import Corpus
from harness.errors import BuildFailed, DataError, UsageError
from harness.latency import weights_of
from harness.mixed.corpus import counts_by_cost, unseen
from harness.mixed.evaluate import Evaluator
from harness.mixed.gains import Gains, Stopwatch, by_kernels, by_products
from harness.mixed.palette import Palette
from harness.mixed.plan import Plan, ranges_of
from harness.mixed.search import Settings, estimated_kept, search
from harness.paths import cache_dir
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.shapes import bucket_names, length_buckets, single
from harness.trt_forms import check_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.calibration.ranges import Ranges
    from harness.calibration.rescaling import Rows
    from harness.corpus.samples import Feeds
    from harness.materials import Materials
    from harness.mixed.assignment import Assignment
    from harness.mixed.found import Candidate, Found
    from harness.mixed.outcome import Outcome
    from harness.spec.model import Bounds

__all__ = ["METHODS", "Asked", "Searched", "bounds_of", "feeds_and_weights", "search_corpus", "search_model"]

METHODS = (
    "mse", "percentile99", "percentile99.3", "percentile99.5", "percentile99.65", "percentile99.8", "percentile99.9",
    "percentile99.95", "percentile", "percentile99.999", "entropy", "minmax",
)  # fmt: skip
"""What ranges are tried by, whole and tensor by tensor."""

_BLOCKS, _NEAR_BLOCKS, _FINAL_BLOCKS = 5, 15, 15
_NEAR = 0.05
_LEAST = 3
"""Samples a bucket that a chosen file is looked at by once more."""


@dataclass(frozen=True)
class Asked:
    """What to search for.

    :param bounds: bucket -> bounds; see :func:`bounds_of`.
    :param keep: the least share of plain INT8's speed-up.
    :param each: samples of the middle bucket that files are judged by; short buckets get more, long ones fewer.
    :param budget_s: of the search itself.
    """

    key: str
    dialect: Dialect
    bounds: Mapping[str, Bounds]
    keep: float = 0.9
    each: int = 32
    budget_s: float = 240.0
    seed: int = 0


@dataclass(frozen=True)
class Searched:
    """What came of it.

    :param seconds: with ranges, references and the last timing.
    """

    plan: Plan
    found: Found
    palette: Palette
    seconds: float


def bounds_of(materials: Materials, key: str) -> dict[str, Bounds]:
    """The model's accuracy bounds, bucket by bucket.

    :raises UsageError: it has none, so nothing says when a file is right.
    """
    model = materials.model(key)
    found = {name: bound for name in bucket_names(model) if (bound := model.bounds_for(name))}
    if not found:
        raise UsageError(
            f"{key} has no accuracy bounds, so nothing says when a file is right",
            where="mixed precision",
            todo="--bound score=0.97, or --bound sqnr_db=20, or bounds in harness.toml",
        )
    return found


def search_model(materials: Materials, asked: Asked, on_step: Callable[[str], None] = lambda _: None) -> Searched:
    """Search; what was run before for the same model, samples and ranges is not run again.

    Accuracy is ONNX Runtime's on the CPU in both dialects: the numbers that a file computes hardly depend on who
    computes them. Times are measured here for ``u8s8``; ``s8s8`` is for GPUs, where shares of the products stand for
    them.

    :raises CalibrationFailed, DataError: see :func:`harness.calibration.pipeline.calibrate`, :func:`unseen`.
    """
    begun, key, dialect = time.monotonic(), asked.key, asked.dialect
    prepared, model = materials.prepared(key), materials.model(key)
    on_step("ranges by every method")
    by_method = _ranges(materials, key, dialect, prepared)
    palette = Palette.of(prepared, by_method, dialect, others=_rescaled(materials, key, dialect))
    corpus = search_corpus(materials, asked)
    evaluator = Evaluator(
        palette, prepared, model, corpus, materials.output(key), materials.score(key),
        journal=_journal(prepared, corpus, by_method, dialect, materials),
    )  # fmt: skip
    feeds, weights = feeds_and_weights(materials, key, corpus)
    on_step("what INT8 saves, operator by operator")
    if dialect is Dialect.U8S8:
        gains = by_kernels(palette, prepared, feeds, weights)
        watch = Stopwatch(next(iter(palette.plain.values())), prepared, feeds, weights, asked.seed)
        kept = _timed(watch, palette, asked.keep)
    else:
        gains, watch = by_products(palette, feeds, weights), None
        kept = _estimated(gains)
    settings = Settings(asked.bounds, asked.keep, asked.budget_s, rows=_worth_rescaling(materials, key))
    found = search(evaluator, gains, settings, kept, on_step=on_step)
    best = found.best
    chosen = palette.of_rows(best.assignment.rows)
    method = next(iter(chosen.ranges))
    ranges = ranges_of(chosen.prepared, chosen.nodes, dialect, chosen.ranges, best.assignment)
    nothing = found.candidates[0].assignment
    evidence = _evidence(asked, found, evaluator, gains, corpus, materials)
    on_step("the chosen file on other samples")
    evidence["confirmed"] = _confirmed(materials, asked, palette, corpus, best)
    if watch is not None:
        plain, mixed = watch.speedups(
            [next(iter(palette.plain.values())), palette.paint(best.assignment)], _FINAL_BLOCKS
        )
        evidence |= {"speedup_plain": plain, "speedup": mixed, "speedup_kept": mixed / plain}
    evidence["plain_ranges"] = ranges_of(palette.prepared, palette.nodes, dialect, by_method, nothing)
    seconds = time.monotonic() - begun
    plan = Plan(key, prepared.name, dialect, method, best.assignment, ranges, {**evidence, "seconds": seconds})
    return Searched(plan, found, palette, seconds)


def feeds_and_weights(materials: Materials, key: str, corpus: Corpus) -> tuple[dict[str, Feeds], dict[str, float]]:
    """What is timed: of each bucket a sample of the search near its opt, and the bucket's share of the traffic.

    :param corpus: see :func:`search_corpus`.
    """
    lengths = materials.corpus(key, "calibration").lengths
    return _near_opt(materials, key, corpus), weights_of(materials.model(key), lengths)


def _worth_rescaling(materials: Materials, key: str) -> Rows:
    """Rows that differ so much in size that some of them have few codes left."""
    prepared, corpus = materials.prepared(key), materials.corpus(key, "calibration")
    worth = [one.row for one in spreads(prepared, itertools.islice(corpus, SAMPLES)) if one.bits >= WORTH_BITS]
    return tuple(row for row in worth if _compute_the_same(prepared, (row,), corpus[0]))


def _compute_the_same(prepared: Path, rows: Rows, sample: Feeds) -> bool:
    try:
        check_equal(prepared, rescaled_file(prepared, rows), sample)
    except BuildFailed:
        return False
    return True


def _rescaled(materials: Materials, key: str, dialect: Dialect) -> Callable[[Rows], Palette]:
    """Palettes of the model with some rows rescaled, each with ranges of its own; the last ones are kept.

    Ranges go by the model, the calibration samples and the rows, and so what a journal has of them stands.
    """

    @lru_cache(maxsize=3)
    def palette(rows: Rows) -> Palette:
        file = rescaled_file(materials.prepared(key), rows)
        return Palette.of(file, _ranges(materials, key, dialect, file), dialect, rows=rows)

    return palette


def _ranges(materials: Materials, key: str, dialect: Dialect, prepared: Path) -> dict[str, Ranges]:
    """Method -> ranges off one observation, what ``auto`` chooses first."""
    model = materials.model(key)
    corpus, layout = materials.corpus(key, "calibration"), single(model)
    seen = pipeline.observed(prepared, model, corpus, Policy.RAGGED, layout)

    def calibrated(method: Method) -> pipeline.Calibrated:
        calibration = Calibration(method, Policy.RAGGED)
        return pipeline.from_observed(seen, prepared, model, corpus, corpus.lengths, calibration, layout, dialect)

    auto = calibrated(Method("auto"))
    first = str(auto.methods[0])
    rest = {name: calibrated(Method.parse(name)).ranges[0] for name in METHODS if name != first}
    return {first: auto.ranges[0], **rest}


def search_corpus(materials: Materials, asked: Asked) -> Corpus:
    """What files are judged by, drawn once and kept like other corpora; samples of a source that may give others next
    time go with this run.

    :raises DataError: see :func:`unseen`.
    """
    entry = materials.entries[asked.key]
    counts = counts_by_cost(entry, asked.each)
    calibration = materials.corpus(asked.key, "calibration")
    described = f"{PICKING}/{entry.version}/{calibration.digest}/{counts}/{asked.seed}"
    return _drawn(materials, asked, "search", described, lambda: unseen(entry, calibration, counts, asked.seed + 1))


def _drawn(
    materials: Materials, asked: Asked, what: str, described: str, draw: Callable[[], Iterator[Feeds]]
) -> Corpus:
    name = hashlib.sha256(described.encode()).hexdigest()[:16]
    folder = materials.corpora_folder(asked.key) / f"{asked.key}-{what}-{name}"
    if (kept := Corpus.open(folder)) is not None:
        return kept
    return Corpus.write(folder, materials.model(asked.key), draw(), f"{asked.key} {what}, seed {asked.seed}")


def _confirmed(
    materials: Materials, asked: Asked, palette: Palette, searched: Corpus, best: Candidate
) -> dict[str, Any] | None:
    """What the chosen file reaches on samples that it was not chosen by, half as many: the search's own are kinder.

    None where no sample is left.
    """
    entry, key = materials.entries[asked.key], asked.key
    counts = tuple(max(_LEAST, count // 2) for count in counts_by_cost(entry, asked.each))
    calibration = materials.corpus(key, "calibration")
    described = f"{PICKING}/{entry.version}/{calibration.digest}/{searched.digest}/{counts}/{asked.seed}"
    try:
        corpus = _drawn(
            materials, asked, "confirm", described,
            lambda: unseen(entry, calibration, counts, asked.seed + 2, searched),
        )  # fmt: skip
    except DataError:
        return None
    prepared, model = materials.prepared(key), materials.model(key)
    evaluator = Evaluator(palette, prepared, model, corpus, materials.output(key), materials.score(key))
    outcome = evaluator.outcome(best.assignment)
    return {
        "digest": corpus.digest,
        "samples": {name: len(ones) for name, ones in outcome.buckets.items()},
        "missed": outcome.missed(asked.bounds),
        "buckets": _by_bucket(outcome),
    }


def _journal(
    prepared: Path, corpus: Corpus, by_method: Mapping[str, Ranges], dialect: Dialect, materials: Materials
) -> Path:
    """Everything that a run's outcome depends on, but the assignment and the samples' indices."""
    described = json.dumps([
        prepared.name, corpus.digest, dialect.value, onnxruntime.__version__, ROWS_VERSION,
        {method: sorted(ranges.items()) for method, ranges in by_method.items()},
        sorted(f"{entry.model.output} {entry.version} {_score_digest(materials, key)}"
               for key, entry in materials.entries.items()),
    ])  # fmt: skip
    return cache_dir("mixed") / f"{hashlib.sha256(described.encode()).hexdigest()[:24]}.jsonl"


def _score_digest(materials: Materials, key: str) -> str:
    """Of the file that the score's function is in: what it said is worth nothing when it has changed."""
    score = materials.score(key)
    source = None if score is None else inspect.getsourcefile(inspect.unwrap(score.function))
    return "" if source is None else hashlib.sha256(Path(source).read_bytes()).hexdigest()


def _near_opt(materials: Materials, key: str, corpus: Corpus) -> dict[str, Feeds]:
    """Of each bucket the sample whose length is nearest to its opt: what is timed."""
    model = materials.model(key)
    buckets = length_buckets(model)
    found = {}
    for name, profile in zip(bucket_names(model), buckets.profiles, strict=True):
        inside = [index for index, length in enumerate(corpus.lengths) if length in profile]
        if inside:
            found[name] = corpus[min(inside, key=lambda index: (abs(corpus.lengths[index] - profile.opt), index))]
    return found


def _timed(watch: Stopwatch, palette: Palette, keep: float) -> Callable[[Assignment], float]:
    """Ranges change no times: files that differ by them alone are timed once; near the limit, more thoroughly."""
    seen: dict[Assignment, float] = {}

    def kept(assignment: Assignment) -> float:
        key = replace(assignment, methods=())
        if key not in seen:
            file = palette.paint(assignment)
            seen[key] = watch.kept(file, _BLOCKS)
            if abs(seen[key] - keep) < _NEAR:
                seen[key] = watch.kept(file, _NEAR_BLOCKS)
        return seen[key]

    return kept


def _estimated(gains: Gains) -> Callable[[Assignment], float]:
    return lambda assignment: estimated_kept(gains, assignment.in_float)


def _evidence(
    asked: Asked, found: Found, evaluator: Evaluator, gains: Gains, corpus: Corpus, materials: Materials
) -> dict[str, Any]:
    best = found.best
    return {
        "bounds": {
            name: {field: value for field, value in vars(bound).items() if value is not None}
            for name, bound in asked.bounds.items()
        },
        "keep": asked.keep,
        "times": "measured" if gains.how == "kernels" else "shares of the products",
        "calibration_digest": materials.corpus(asked.key, "calibration").digest,
        "search_digest": corpus.digest,
        "samples": {name: len(ones) for name, ones in best.outcome.buckets.items()},
        "seed": asked.seed,
        "onnxruntime": onnxruntime.__version__,
        "finished": found.finished,
        "files": len(found.candidates),
        "runs": evaluator.runs,
        "met": not best.missed,
        "met_for_certain": not best.shortfall,
        "plain": _reached(found.candidates[0]),
        "reached": _reached(best),
        "front": [_reached(one) for one in found.front()],
        "operators": [
            {
                "node": one.node,
                "noise_db": _db(one.on),
                "without_db": None if one.off is None else _db(one.off),
                "saved": one.saved,
                "in_float": one.node in best.assignment.in_float,
            }
            for one in found.sensitivities
        ],
    }


def _reached(one: Candidate) -> dict[str, Any]:
    return {
        "step": one.step,
        "kept": one.kept,
        "shortfall": one.shortfall,
        "missed": one.missed,
        "sqnr_db": -_db(one.noise),
        "in_float": len(one.assignment.in_float),
        "rows": len(one.assignment.rows),
        "buckets": _by_bucket(one.outcome),
    }


def _by_bucket(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "sqnr_db": min(outcome.sqnr_db(name), 999.0),
            "score": outcome.score(name),
            "score_interval": outcome.score_interval(name),
        }
        for name in outcome.buckets
    }


def _db(ratio: float) -> float:
    return 10 * math.log10(max(ratio, 1e-12))
