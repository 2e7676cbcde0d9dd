"""A model: an ONNX file's inputs, the axis that varies, and how far its outputs may drift."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.spec.shapes import Layout

__all__ = ["Axis", "Bounds", "Model"]


@dataclass(frozen=True)
class Axis:
    """One dimension of one input that follows the length."""

    input: str
    dim: int


@dataclass(frozen=True)
class Bounds:
    """What an INT8 case must reach in one length bucket: how near to FP32 its outputs are, and how fast it is.

    All but ``speedup`` are per sample; ``None`` means "not bounded". ``score`` is in the unit of the model's score.

    :param sqnr_db: least signal-to-quantization-noise ratio, dB.
    :param cosine: least cosine similarity.
    :param worst: largest absolute difference of one element.
    :param score: worst admissible task score.
    :param speedup: how many times faster than the float baseline INT8 has to be, with 95 % confidence.
    """

    sqnr_db: float | None = None
    cosine: float | None = None
    worst: float | None = None
    score: float | None = None
    speedup: float | None = None

    def __bool__(self) -> bool:
        """Whether accuracy is bounded in any way; a speed-up says nothing about it."""
        return any(value is not None for value in (self.sqnr_db, self.cosine, self.worst, self.score))


@dataclass(frozen=True)
class Model:
    """What the harness has to know about a model beside the file itself.

    :param key: short name, used in case ids (``[a-z0-9_]+``).
    :param axes: every (input, dim) that follows the length; the first one defines a sample's length.
    :param axis_name: what the length counts ("samples", "frames", "tokens").
    :param minimum: shortest length the model takes.
    :param maximum: longest length to serve.
    :param opt: length to tune for; the traffic's typical one.
    :param length_inputs: integer inputs that hold the number of *valid* elements: a cut lowers them, a pad
        leaves them, so padding stays masked.
    :param pad_values: (input, value) written beyond the end of a padded sample; 0 elsewhere.
    :param output: the output that is scored; the first floating-point one if empty.
    :param score: ``module:function`` (see :mod:`harness.accuracy`); empty for none.
    :param bounds: (bucket name, bounds); what ``"*"`` bounds holds in every bucket that does not say otherwise.
        ``"drawn"`` and ``"drawn-short"`` are for single examples, see :meth:`bounds_for_draw`; ``"traffic"`` is for the
        speed-up over all lengths.
    :param gains: factors that drawn examples multiply the floating-point inputs that vary with; the first one is
        what a failing example shrinks to. Name only those at which INT8 should still be right: at a tenth of the
        loudness a speech model's agreement with FP32 falls to 0.1.
    :param buckets: the layout that names the length buckets; thirds of log-length if None.
    """

    key: str
    axes: tuple[Axis, ...]
    axis_name: str
    minimum: int
    maximum: int
    opt: int
    length_inputs: tuple[str, ...] = ()
    pad_values: tuple[tuple[str, float], ...] = ()
    output: str = ""
    score: str = ""
    bounds: tuple[tuple[str, Bounds], ...] = ()
    gains: tuple[float, ...] = (1.0,)
    buckets: Layout | None = field(default=None)

    def __post_init__(self) -> None:
        if not self.axes:
            raise UsageError("no varying axis", where=self.key, todo="name one: --axis input:dim=name")
        if not 1 <= self.minimum <= self.opt <= self.maximum:
            raise UsageError(
                f"range {self.minimum}..{self.opt}..{self.maximum} is not 1 <= min <= opt <= max",
                where=self.key,
                todo="give --range MIN:MAX or --range MIN:OPT:MAX in growing order",
            )

    def pad_value(self, name: str) -> float:
        """The value written beyond the end of input ``name``."""
        return dict(self.pad_values).get(name, 0.0)

    def bounds_for(self, bucket: str) -> Bounds:
        """The bounds of one length bucket's corpus, pooled, laid over those of all buckets."""
        table = dict(self.bounds)
        own, everywhere = table.get(bucket, Bounds()), table.get("*", Bounds())
        return replace(everywhere, **{name: value for name, value in vars(own).items() if value is not None})

    def bounds_for_draw(self, bucket: str) -> Bounds:
        """The bounds of one drawn example: ``drawn-<bucket>``, or ``drawn``. Never ``*``: one example is no corpus."""
        table = dict(self.bounds)
        return table.get(f"drawn-{bucket}", table.get("drawn", Bounds()))

    def speedup_of_traffic(self) -> float | None:
        """How many times faster INT8 has to be over all lengths together. What is asked of ``*`` is each bucket's."""
        return dict(self.bounds).get("traffic", Bounds()).speedup
