"""The ``auto`` method: ``mse``, unless another method keeps this model's outputs clearly nearer to FP32.

No method is best everywhere: a percentile wins where a few outliers carry nothing (speech) and loses badly where they
carry everything (a transformer's feed-forward layers); see ``docs/guide/methods.md``. All are read off the same
observation, so trying them costs a Q/DQ file and a few runs each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.accuracy import Aggregate
from harness.calibration.observe import open_session
from harness.calibration.qdq import write_qdq
from harness.calibration.ranges import choose
from harness.errors import CalibrationFailed
from harness.spec.calibration import Dialect, Method

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.calibration.observe import Observation
    from harness.corpus.samples import Feeds

__all__ = ["CANDIDATES", "best_method", "spread_over_lengths"]

CANDIDATES = tuple(
    Method.parse(text) for text in ("minmax", "percentile99.9", "percentile", "percentile99.999", "entropy", "mse")
)
_INCUMBENT = "mse"
_MARGIN_DB = 1.0
"""What a method must gain to be preferred to mse. Over a few dozen samples SQNR moves by about this much between draws
of the samples, and mse is the one method that is nowhere far behind (``tox run -e bench -- accuracy``)."""
_SAMPLES = 24
_GROUPS = 3

Outputs = dict[str, "NDArray[Any]"]


def spread_over_lengths(lengths: Sequence[int], ties: Sequence[str]) -> list[int]:
    """Indices of at most 24 samples, evenly over the sorted lengths, shortest and longest included; sorted by length.

    :param ties: what orders samples of one length: their digests, so that the choice does not depend on the order in
        which samples come.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], ties[index]))
    places = np.unique(np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).round().astype(int))
    return [order[place] for place in places]


def best_method(
    prepared: Path,
    nodes: Sequence[str],
    observation: Observation,
    dialect: Dialect,
    samples: Sequence[Feeds],
    output: str,
) -> tuple[Method, dict[str, float]]:
    """``mse``, or the candidate with the highest SQNR against FP32 if it is 1 dB above; and what each reached, in dB.

    SQNR is pooled over a third of the samples at a time and averaged over the thirds, so that long samples do not
    outvote short ones.

    :param samples: at their own lengths, sorted by length (see :func:`spread_over_lengths`).
    :param output: the output to compare (see :func:`harness.modelfile.scored_output`).
    :raises CalibrationFailed: no candidate gives finite outputs.
    """
    references = list(_outputs(prepared, samples))
    reached: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="auto.") as scratch:
        path = Path(scratch, "candidate.onnx")
        for method in CANDIDATES:
            write_qdq(prepared, nodes, choose(observation, method, dialect), dialect, path)
            reached[str(method)] = _mean_sqnr_db(references, _outputs(path, samples), output)
    usable = {name: value for name, value in reached.items() if not np.isnan(value)}
    if not usable:
        raise CalibrationFailed("no method gives finite outputs", where=str(prepared), todo="check the samples")
    best = max(usable, key=lambda name: usable[name])
    if usable.get(_INCUMBENT, -np.inf) >= usable[best] - _MARGIN_DB:
        best = _INCUMBENT
    return Method.parse(best), reached


def _outputs(path: Path, samples: Iterable[Feeds]) -> Iterator[Outputs]:
    session = open_session(path, (), threads=1)
    names = [value.name for value in session.get_outputs()]
    for feeds in samples:
        yield dict(zip(names, session.run(names, feeds), strict=True))


def _mean_sqnr_db(references: Sequence[Mapping[str, Any]], candidates: Iterable[Outputs], output: str) -> float:
    groups = [Aggregate(output) for _ in range(min(_GROUPS, len(references)))]
    for index, (reference, candidate) in enumerate(zip(references, candidates, strict=True)):
        groups[index * len(groups) // len(references)].add(reference, candidate)
    return float(np.mean([group.comparison.sqnr_db for group in groups]))
