"""Shape policies: what calibration sees of samples whose length is not the profile's opt.

``reinterpret`` is the hazard, not a choice: what TensorRT really reads when a calibrator hands over a bare pointer
to an array of another shape (``docs/guide/shape-policies.md``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.corpus.samples import Feeds, cut, length_of, pad, valid_length
from harness.errors import CalibrationFailed, LengthOutOfRange
from harness.spec.calibration import Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from harness.spec.model import Model
    from harness.spec.shapes import Layout, Profile

__all__ = ["Seen", "apply", "calibration_profile", "handed_over", "in_layout", "in_profile"]


@dataclass
class Seen:
    """What a policy made of the samples: the table that ``harness calibrate`` prints.

    :param supplied: samples that came in.
    :param batches: batches that went out.
    :param left_out: samples that gave no batch (``truncate`` of a sample shorter than opt; nothing valid in it).
    :param elements: elements of the varying axis that came in, summed over samples.
    :param padded: elements written beyond a sample's end.
    :param lost: elements that no batch holds, those beyond a sample's valid part among them.
    :param lengths: length of each sample that came in.
    """

    supplied: int = 0
    batches: int = 0
    left_out: int = 0
    elements: int = 0
    padded: int = 0
    lost: int = 0
    lengths: list[int] = field(default_factory=list)

    @property
    def padded_fraction(self) -> float:
        """Share of what calibration sees that is padding, 0 to 1."""
        shown = self.elements - self.lost + self.padded
        return self.padded / shown if shown else 0.0

    @property
    def lost_fraction(self) -> float:
        """Share of the data that calibration never sees, 0 to 1."""
        return self.lost / self.elements if self.elements else 0.0

    def merged(self, other: Seen) -> Seen:
        """The sum of two counts (profiles of one layout)."""
        return Seen(
            self.supplied + other.supplied,
            self.batches + other.batches,
            self.left_out + other.left_out,
            self.elements + other.elements,
            self.padded + other.padded,
            self.lost + other.lost,
            self.lengths + other.lengths,
        )


def calibration_profile(layout: Layout, lengths: Iterable[int]) -> int:
    """Index of the profile whose opt shape calibrates: the one that holds the samples' median length.

    TensorRT takes one calibration profile a build and defaults to the first one, Polygraphy to the last one;
    the harness always names it.
    """
    inside = sorted(length for length in lengths if layout.minimum <= length <= layout.maximum)
    if not inside:
        raise CalibrationFailed(
            "no calibration sample has a length that the layout admits",
            where=f"layout {layout.name} ({layout.minimum}..{layout.maximum})",
            todo="give data of these lengths, or another layout",
        )
    return layout.dispatch(inside[len(inside) // 2])


def in_layout(model: Model, samples: Iterable[Feeds], layout: Layout) -> Iterator[Feeds]:
    """The samples, each checked against the layout.

    :raises LengthOutOfRange: a sample's length fits no profile; the message names the sample.
    """
    for index, feeds in enumerate(samples):
        try:
            layout.dispatch(length_of(model, feeds))
        except LengthOutOfRange as error:
            raise LengthOutOfRange(
                error.what, where=f"calibration sample {index}, {error.where}", todo=error.todo
            ) from None
        yield feeds


def in_profile(model: Model, samples: Iterable[Feeds], profile: Profile) -> Iterator[Feeds]:
    """Only the samples whose length the profile admits."""
    return (feeds for feeds in samples if length_of(model, feeds) in profile)


def apply(model: Model, samples: Iterable[Feeds], policy: Policy, profile: Profile, seen: Seen) -> Iterator[Feeds]:
    """Batches for calibration, one at a time; ``seen`` is filled while they are drawn.

    =============  =======================================================================================
    ``ragged``     every sample at its own length
    ``pad``        to opt: short samples extended with the model's pad values, long ones cut
    ``truncate``   to opt: long samples cut, samples shorter than opt left out
    ``window``     cut into opt-long pieces; the last piece of a long sample is moved back to end with the
                   sample, a sample shorter than opt is padded
    ``per_profile``  like ``pad``; the caller draws once for each profile, with the samples of that profile
    ``reinterpret``  the first opt-volume elements of a flat buffer that only grows: a longer sample is cut in
                   memory order (re-strided where the varying axis is not outermost), a shorter one is followed
                   by what the sample before left there
    =============  =======================================================================================

    Where the model has a length input, ``pad``, ``truncate``, ``window`` and ``per_profile`` go by the *valid* length:
    what lies beyond it is dropped first (it would make batches of nothing but padding) and counts as lost; a batch
    is filled up with the model's own pad values. A sample in which nothing is valid is left out.

    :param profile: its opt is the length every policy but ``ragged`` aims at.
    """
    stale: dict[str, NDArray[Any]] = {}
    for feeds in samples:
        length = length_of(model, feeds)
        seen.supplied += 1
        seen.elements += length
        seen.lengths.append(length)
        for batch in _batches(model, feeds, length, policy, profile.opt, seen, stale):
            seen.batches += 1
            yield batch


def handed_over(model: Model, samples: Iterable[Feeds], policy: Policy, profile: Profile) -> Iterator[Feeds]:
    """What a TensorRT calibrator is given: batches at opt; under ``reinterpret`` the samples as they are.

    There TensorRT itself does what :func:`apply` shows: it reads opt-volume elements from the pointer.
    """
    if policy is Policy.REINTERPRET:
        return iter(samples)
    return apply(model, samples, policy, profile, Seen())


def _batches(
    model: Model,
    feeds: Feeds,
    length: int,
    policy: Policy,
    opt: int,
    seen: Seen,
    stale: dict[str, NDArray[Any]],
) -> Iterator[Feeds]:
    if policy is Policy.RAGGED:
        yield feeds
    elif policy is Policy.REINTERPRET:
        seen.lost += max(0, length - opt)
        yield _reinterpreted(model, feeds, opt, stale)
    else:
        valid = valid_length(model, feeds)
        if valid < (opt if policy is Policy.TRUNCATE else 1):
            seen.left_out += 1
            seen.lost += length
            return
        seen.lost += length - valid
        if valid <= opt:
            seen.padded += opt - valid
            yield pad(model, cut(model, feeds, 0, valid), opt)
        elif policy is Policy.WINDOW:
            starts = list(range(0, valid - opt + 1, opt))
            if starts[-1] + opt < valid:
                starts.append(valid - opt)
            for start in starts:
                yield cut(model, feeds, start, start + opt)
        else:
            seen.lost += valid - opt
            yield cut(model, feeds, 0, opt)


def _reinterpreted(model: Model, feeds: Feeds, opt: int, stale: dict[str, NDArray[Any]]) -> Feeds:
    out = dict(feeds)
    for name in dict.fromkeys(axis.input for axis in model.axes):
        array = feeds[name]
        shape = list(array.shape)
        for axis in model.axes:
            if axis.input == name:
                shape[axis.dim] = opt
        volume = int(np.prod(shape))
        buffer = stale.get(name, np.zeros(0, array.dtype))
        if buffer.size < max(volume, array.size):  # grow-only, as Polygraphy's device buffer
            grown = np.zeros(max(volume, array.size), array.dtype)
            grown[: buffer.size] = buffer
            buffer = grown
        buffer[: array.size] = array.reshape(-1)
        stale[name] = buffer
        out[name] = buffer[:volume].reshape(shape).copy()
    return out
