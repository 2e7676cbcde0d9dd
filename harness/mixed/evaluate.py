"""Run files of assignments over a corpus and compare them with FP32; what was run once is kept, also over a crash."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.accuracy import compare
from harness.errors import CalibrationFailed
from harness.mixed.outcome import One, Outcome
from harness.sessions import quiet_options
from harness.spec.shapes import bucket_names, length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from harness.accuracy import Score
    from harness.corpus.samples import Corpus
    from harness.mixed.assignment import Assignment
    from harness.mixed.palette import Palette
    from harness.spec.model import Model

__all__ = ["Evaluator", "open_model"]

Outputs = dict[str, "NDArray[Any]"]


def open_model(model: onnx.ModelProto | Path, *, profile: str = "") -> Any:  # noqa: ANN401 - onnxruntime has no types
    """A session on the CPU, one thread, as cases run there.

    :param profile: prefix of the file that a profile goes to; empty for none.
    """
    import onnxruntime

    options = quiet_options()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # samples differ in shape
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    source = model.SerializeToString() if hasattr(model, "SerializeToString") else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class Evaluator:
    """Compares files with FP32 on one corpus.

    :param prepared: the FP32 file. :param corpus: what the search looks at; no sample of it may be a test's.
    :param output: that is compared. :param score: the task score, if there is one.
    :param journal: a JSON Lines file of what was run so far; made where it is not there.
    """

    def __init__(
        self,
        palette: Palette,
        prepared: Path,
        model: Model,
        corpus: Corpus,
        output: str,
        score: Score | None,
        journal: Path | None = None,
    ) -> None:
        self.palette, self.model, self.output, self.score = palette, model, output, score
        self.corpus, self.buckets = corpus, length_buckets(model)
        self._references = list(_outputs(prepared, (corpus[index] for index in range(len(corpus)))))
        self._journal, self._seen = journal, _read(journal)
        self._ends_whole = _ends_whole(journal)
        self.runs = 0

    @property
    def lower_is_better(self) -> bool:
        return bool(self.score and self.score.lower_is_better)

    def some(self, each: int) -> tuple[int, ...]:
        """Indices of the first ``each`` samples of every bucket."""
        taken: dict[int, list[int]] = {}
        for index, length in enumerate(self.corpus.lengths):
            taken.setdefault(self.buckets.dispatch(length), []).append(index)
        return tuple(sorted(index for indices in taken.values() for index in indices[:each]))

    def outcome(self, assignment: Assignment, indices: Sequence[int] | None = None) -> Outcome:
        """Run the assignment's file.

        :param indices: of the corpus; all of it without.
        :raises CalibrationFailed: ONNX Runtime refuses the file or fails on a sample.
        """
        wanted = tuple(range(len(self.corpus)) if indices is None else indices)
        key = _key(assignment, wanted)
        if key not in self._seen:
            self._seen[key] = self._run(self.palette.paint(assignment), wanted).as_data()
            self.runs += 1
            self._write(key)
        return Outcome.from_data(self._seen[key], lower_is_better=self.lower_is_better)

    def of_file(self, file: Path) -> Outcome:
        """Of any file with the model's inputs and outputs, over the whole corpus; it is not kept."""
        return self._run(file, tuple(range(len(self.corpus))))

    def _run(self, file: onnx.ModelProto | Path, indices: Sequence[int]) -> Outcome:
        names = bucket_names(self.model)
        found: dict[str, list[One]] = {}
        candidates = _outputs(file, (self.corpus[index] for index in indices))
        for index, candidate in zip(indices, candidates, strict=True):
            reference = self._references[index]
            one = compare(reference, candidate, self.output, self.score)
            left = reference[self.output].astype(np.float64).ravel()
            noise = left - candidate[self.output].astype(np.float64).ravel()
            measured = One(float(left @ left), float(noise @ noise), one.cosine, one.worst, one.score, one.score_weight)
            found.setdefault(names[self.buckets.dispatch(self.corpus.lengths[index])], []).append(measured)
        return Outcome({name: tuple(found[name]) for name in names if name in found}, self.lower_is_better)

    def _write(self, key: str) -> None:
        if self._journal is not None:
            line = json.dumps({"key": key, "outcome": self._seen[key]}) + "\n"
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(line if self._ends_whole else f"\n{line}")
            self._ends_whole = True


def _outputs(file: onnx.ModelProto | Path, samples: Iterable[dict[str, NDArray[Any]]]) -> Iterable[Outputs]:
    try:
        session = open_model(file)
        names = [value.name for value in session.get_outputs()]
        for feeds in samples:
            yield dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise CalibrationFailed(
            f"ONNX Runtime cannot run a file of the search: {error}", where="mixed precision"
        ) from error


def _key(assignment: Assignment, indices: Sequence[int]) -> str:
    text = json.dumps([assignment.as_data(), list(indices)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(journal: Path | None) -> dict[str, Any]:
    """What was run before; a last line that a crash cut short is left out."""
    seen: dict[str, Any] = {}
    if journal is not None and journal.exists():
        for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                seen[entry["key"]] = entry["outcome"]
            except (ValueError, KeyError, TypeError):
                continue
    return seen


def _ends_whole(journal: Path | None) -> bool:
    """Whether a line can be written behind the last one: a crash may have left half of it, and would spoil both."""
    if journal is None or not journal.exists():
        return True
    return journal.read_bytes()[-1:] in {b"", b"\n"}
