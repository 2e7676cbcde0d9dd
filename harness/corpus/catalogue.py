"""The seam between the harness and models: an entry knows how to get an ONNX file and how to draw samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.corpus.samples import Feeds
    from harness.spec.model import Model

__all__ = ["Entry", "ready_keys"]


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue, or a user's own.

    :param model: what varies and how it is judged.
    :param onnx: returns the path of the FP32 ONNX file; fetches or makes it on first use.
    :param samples: ``samples(split, seed)`` yields an endless, deterministic stream of natural-length feeds;
        ``split`` is ``"calibration"`` or ``"test"`` and the two never share content. A finite source just ends.
        For a model that is ready it is what INT8 is held against, by default its own graph without Q/DQ.
    :param ready: returns the path of the model's own Q/DQ file, where it was quantized elsewhere: nothing is
        calibrated. None for a model that the harness quantizes.
    :param without_qdq: ``onnx`` is the ready file's own graph without Q/DQ, and not an FP32 file that was given.
    :param version: changes whenever the recipe would give other bytes; part of every cache key.
    :param synthetic: the samples are drawn, not real; every record says so.
    :param draw: ``draw(length, seed)`` makes one random sample of exactly that length, the same one every time;
        None where content is cut from real samples (see :mod:`harness.corpus.content`).
    :param every: ``every()`` yields all samples of a finite source, both splits, in its own order; None where the
        stream is endless. For calibration that is not followed by a test.
    :param lasting: an unchanged ``version`` means unchanged samples. False for a data loader script: what was drawn
        from it must not be taken for what it gives in another run.
    """

    model: Model
    onnx: Callable[[], Path]
    samples: Callable[[str, int], Iterator[Feeds]]
    version: str
    synthetic: bool = False
    draw: Callable[[int, int], Feeds] | None = None
    every: Callable[[], Iterator[Feeds]] | None = None
    lasting: bool = True
    ready: Callable[[], Path] | None = None
    without_qdq: bool = False


def ready_keys(entries: Mapping[str, Entry]) -> frozenset[str]:
    """The models whose own files have Q/DQ."""
    return frozenset(key for key, entry in entries.items() if entry.ready is not None)
