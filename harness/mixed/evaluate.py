"""Run files of assignments over a corpus and compare them with FP32; what was run once is kept, also over a crash."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.accuracy import compare
from harness.errors import CalibrationFailed
from harness.mixed.outcome import One, Outcome, joined
from harness.sessions import quiet_options
from harness.spec.shapes import bucket_names, length_buckets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
_FEWEST = 3
_PARTS = 3


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
        session = _opened(prepared)
        with ThreadPoolExecutor(_cores()) as pool:
            self._references = list(pool.map(lambda index: _outputs(session, corpus[index]), range(len(corpus))))
        self._journal, self._seen = journal, _read(journal)
        self._ends_whole = _ends_whole(journal)
        self.runs = 0

    @property
    def lower_is_better(self) -> bool:
        return bool(self.score and self.score.lower_is_better)

    def some(self, each: int) -> tuple[int, ...]:
        """Indices of the first samples of every bucket: ``each``, or fewer where the bucket has few because its samples
        cost much: a sixth of them, but three.
        """
        return tuple(
            sorted(i for mine in self._by_bucket.values() for i in mine[: min(each, max(_FEWEST, len(mine) // 6))])
        )

    @cached_property
    def _by_bucket(self) -> dict[int, list[int]]:
        taken: dict[int, list[int]] = {}
        for index, length in enumerate(self.corpus.lengths):
            taken.setdefault(self.buckets.dispatch(length), []).append(index)
        return taken

    @cached_property
    def _parts(self) -> tuple[tuple[int, ...], ...]:
        """The corpus in thirds, each with its share of every bucket: what is far off is dropped after the first."""
        parts = (
            tuple(sorted(i for mine in self._by_bucket.values() for i in mine[first::_PARTS]))
            for first in range(_PARTS)
        )
        return tuple(part for part in parts if part)

    def outcome(self, assignment: Assignment, indices: Sequence[int] | None = None) -> Outcome:
        """Run the assignment's file.

        :param indices: of the corpus; all of it without.
        :raises CalibrationFailed: ONNX Runtime refuses the file or fails on a sample.
        """
        parts = self._parts if indices is None else (tuple(indices),)
        keys = [(_key(assignment, part), part) for part in parts]
        missing = [(key, part) for key, part in keys if key not in self._seen]
        if missing:
            session = _opened(self.palette.paint(assignment))
            for key, part in missing:
                self._seen[key] = self._run(session, part).as_data()
                self._write(key)
            self.runs += 1
        found = [Outcome.from_data(self._seen[key], lower_is_better=self.lower_is_better) for key, _ in keys]
        return joined(found)

    def first_part(self, assignment: Assignment) -> Outcome:
        """The same on a third of the corpus; :meth:`outcome` goes on from there."""
        return self.outcome(assignment, self._parts[0])

    def of_file(self, file: Path) -> Outcome:
        """Of any file with the model's inputs and outputs, over the whole corpus; it is not kept."""
        return self._run(_opened(file), tuple(range(len(self.corpus))))

    def _run(self, session: Any, indices: Sequence[int]) -> Outcome:  # noqa: ANN401 - onnxruntime has no types
        """Samples are shared out between the cores; each runs on one thread, so that its numbers are the suites'."""
        names = bucket_names(self.model)
        found: dict[str, list[One]] = {}
        with ThreadPoolExecutor(_cores()) as pool:
            for index, one in zip(indices, pool.map(partial(self._one, session), indices), strict=True):
                found.setdefault(names[self.buckets.dispatch(self.corpus.lengths[index])], []).append(one)
        return Outcome({name: tuple(found[name]) for name in names if name in found}, self.lower_is_better)

    def _one(self, session: Any, index: int) -> One:  # noqa: ANN401 - onnxruntime has no types
        reference, candidate = self._references[index], _outputs(session, self.corpus[index])
        one = compare(reference, candidate, self.output, self.score)
        left = reference[self.output].astype(np.float64).ravel()
        noise = left - candidate[self.output].astype(np.float64).ravel()
        # no BLAS: its threads and these would wait for each other
        signal, power = (float(np.einsum("i,i", side, side)) for side in (left, noise))
        return One(signal, power, one.cosine, one.worst, one.score, one.score_weight)

    def _write(self, key: str) -> None:
        if self._journal is not None:
            line = json.dumps({"key": key, "outcome": self._seen[key]}) + "\n"
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(line if self._ends_whole else f"\n{line}")
            self._ends_whole = True


def _opened(file: onnx.ModelProto | Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    with _refusals():
        return open_model(file)


def _outputs(session: Any, feeds: dict[str, NDArray[Any]]) -> Outputs:  # noqa: ANN401 - onnxruntime has no types
    with _refusals():
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise CalibrationFailed(
            f"ONNX Runtime cannot run a file of the search: {error}", where="mixed precision"
        ) from error


def _cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
