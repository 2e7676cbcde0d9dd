"""One run's models and data: files, corpora and scores, each made once."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.accuracy import Score, load_score
from harness.corpus import spread
from harness.corpus.buckets import PICKING, by_bucket
from harness.corpus.content import Draw, make
from harness.corpus.samples import Corpus
from harness.errors import HarnessError, UsageError
from harness.latency import inputs_of, weights_of
from harness.modelfile import ModelFacts, prepare, read_facts, scored_output
from harness.paths import cache_dir, written
from harness.ready import checked
from harness.spec.shapes import bucket_names, length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.calibration.ready import Checked
    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Feeds
    from harness.measure.arms import Input
    from harness.spec.matrix import Matrix
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["Materials", "bucket_name"]

_PICKING = 3
"""Part of a kept corpus's name: raise it when :class:`Materials` picks other samples from the same stream."""


class Materials:
    """What everything else is made from.

    :param entries: model key -> catalogue entry.
    :param matrix: says how many samples.
    :param seed: draws corpora.

    ``refused`` holds why a model's file, data or score could not be used, by model key.
    """

    def __init__(self, entries: Mapping[str, Entry], matrix: Matrix, seed: int) -> None:
        self.entries, self.matrix, self.seed = entries, matrix, seed
        self.refused: dict[str, HarnessError] = {}
        self._prepared: dict[str, Path] = {}
        self._facts: dict[str, ModelFacts] = {}
        self._scales: dict[str, Checked] = {}
        self._scores: dict[str, Score | None] = {}
        self._corpora: dict[tuple[str, str], Corpus] = {}
        self._passing: TemporaryDirectory[str] | None = None
        self._taken: dict[tuple[str, str], dict[str, int]] = {}

    def model(self, key: str) -> Model:
        return self.entries[key].model

    def prepared(self, key: str) -> Path:
        """The canonical FP32 file (see :func:`harness.modelfile.prepare`)."""
        if key not in self._prepared:
            entry = self.entries[key]
            self._prepared[key] = prepare(entry.onnx(), entry.model)
        return self._prepared[key]

    def ready(self, key: str) -> Path:
        """The file of a model that brings its own Q/DQ.

        :raises UsageError: it has none.
        """
        own = self.entries[key].ready
        if own is None:
            raise UsageError("an INT8 case without a calibration", where=key, todo="the model's file has no Q/DQ")
        return own()

    def scales(self, key: str) -> Checked:
        """What its Q/DQ are, checked before anything is built from them.

        :raises ModelRefused: see :func:`harness.calibration.ready.check`.
        """
        if key not in self._scales:
            self._scales[key] = checked(self.ready(key))
        return self._scales[key]

    def facts(self, key: str) -> ModelFacts:
        if key not in self._facts:
            self._facts[key] = read_facts(self.prepared(key))
        return self._facts[key]

    def corpus(self, key: str, split: str) -> Corpus:
        """``calibration`` (natural lengths) or ``test`` (the same number of samples in every length bucket).

        A user's own samples are picked over all of them, by the seed.
        """
        if (key, split) not in self._corpora:
            entry = self.entries[key]
            count = self.matrix.samples if split == "calibration" else self.matrix.tests
            low, high = entry.model.minimum, entry.model.maximum
            described = f"{_PICKING}/{PICKING}/{entry.version}/{split}/{self.seed}/{count}/{low}-{high}"
            name = hashlib.sha256(described.encode()).hexdigest()[:16]
            folder = self.corpora_folder(key) / f"{key}-{split}-{name}"
            origin = "synthetic" if entry.synthetic else f"{key} {split}, seed {self.seed}"
            of = folder / "of.json"
            found = Corpus.open(folder) if of.exists() else None
            if found is None:
                entry, counted = self._spread(entry, split, count)
                drawn = self._natural(entry, count) if split == "calibration" else by_bucket(entry, count, self.seed)
                found = Corpus.write(folder, entry.model, drawn, origin)
                with written(of) as file:  # another process of the run may be reading it
                    file.write(json.dumps(counted).encode())
            self._corpora[key, split] = found
            self._taken[key, split] = {"taken": len(found), **json.loads(of.read_text())}
        return self._corpora[key, split]

    def _spread(self, entry: Entry, split: str, count: int) -> tuple[Entry, dict[str, int]]:
        """The entry with a stream of picked samples, and of how many; as it is where the stream is endless."""
        if entry.every is None:
            return entry, {}
        stream = partial(entry.samples, split, self.seed)
        if split == "calibration":
            picked, total = spread.some(stream, count, self.seed)
        else:
            picked, total = spread.some_of_each(stream, entry.model, length_buckets(entry.model), count, self.seed)
        return replace(entry, samples=lambda *_: picked), {"of": total}

    def corpora_folder(self, key: str) -> Path:
        """The cache; for samples that may be others in the next run, a folder that goes with this one."""
        if self.entries[key].lasting:
            return cache_dir("corpora")
        if self._passing is None:
            self._passing = TemporaryDirectory(prefix="run.", dir=cache_dir("corpora"))
        return Path(self._passing.name)

    def _natural(self, entry: Entry, count: int) -> Iterator[Feeds]:
        return itertools.islice(entry.samples("calibration", self.seed), count)

    def score(self, key: str) -> Score | None:
        """The model's task score.

        :raises UsageError: it names no function.
        """
        if key not in self._scores:
            self._scores[key] = load_score(self.entries[key].model.score)
        return self._scores[key]

    def make_ready(self, key: str) -> None:
        """Get the model's file, samples and score, which everything else is made from; a second call does nothing.

        :raises HarnessError: one of them is refused; it is remembered in ``refused``.
        """
        try:
            if self.entries[key].ready is not None:
                self.scales(key)  # first: what is wrong with them would keep the float graph from being made, too
            self.prepared(key)
            self.score(key)
            for split in ("calibration", "test"):
                self.corpus(key, split)
        except HarnessError as error:
            self.refused[key] = error
            raise

    def buckets_without_samples(self, key: str) -> list[str]:
        """Length buckets that no test sample falls into: about them the test corpus says nothing."""
        model = self.model(key)
        buckets = length_buckets(model)
        seen = {bucket_name(buckets, length) for length in self.corpus(key, "test").lengths}
        return [name for name in bucket_names(model) if name not in seen]

    def output(self, key: str) -> str:
        """The output that is compared; see :func:`harness.modelfile.scored_output`."""
        return scored_output(self.model(key), self.facts(key))

    def inputs(self, key: str) -> tuple[Input, ...]:
        """Every bucket at its opt, weighed by the lengths of the calibration corpus, which are the natural ones."""
        entry, model = self.entries[key], self.model(key)
        corpus = None if entry.synthetic else self.corpus(key, "test")
        names = zip(bucket_names(model), length_buckets(model).profiles, strict=True)
        feeds = {name: make(Draw(bucket.opt), entry, corpus) for name, bucket in names}
        return inputs_of(model, weights_of(model, self.corpus(key, "calibration").lengths), feeds)

    def corpora_of(self, key: str) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        """Digests of a model's corpora so far, and how many samples of how many they hold, by split."""
        digests = {split: corpus.digest for (model, split), corpus in self._corpora.items() if model == key}
        return digests, {split: counts for (model, split), counts in self._taken.items() if model == key}

    def close(self) -> None:
        """Remove what does not last longer than the run."""
        if self._passing is not None:
            self._passing.cleanup()


def bucket_name(buckets: Layout, length: int) -> str:
    """``short``, ``middle`` or ``long`` for three buckets, else the profile's range."""
    index = buckets.dispatch(length)
    names = ("short", "middle", "long")
    return names[index] if len(buckets.profiles) == len(names) else str(buckets.profiles[index])
