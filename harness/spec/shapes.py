"""Optimization profiles and layouts: which lengths an engine is built for, and who serves which length."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from harness.errors import LayoutError, LengthOutOfRange

if TYPE_CHECKING:
    from harness.spec.model import Model

__all__ = [
    "Layout",
    "Profile",
    "bucket_names",
    "buckets3",
    "geometric",
    "layout_from_text",
    "length_buckets",
    "single",
]


@dataclass(frozen=True, order=True)
class Profile:
    """TensorRT's min/opt/max for the varying axis, in elements of that axis."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise LayoutError(
                f"profile {self.min}-{self.opt}-{self.max} is not 1 <= min <= opt <= max",
                todo="write it as MIN-OPT-MAX",
            )

    def __contains__(self, length: object) -> bool:
        # Integral, not int: what comes out of an array is a number of NumPy's.
        return isinstance(length, Integral) and self.min <= int(length) <= self.max

    def __str__(self) -> str:
        return f"{self.min}-{self.opt}-{self.max}"


@dataclass(frozen=True)
class Layout:
    """An ordered list of profiles that covers a range of lengths without a gap or an overlap."""

    name: str
    profiles: tuple[Profile, ...]

    def __post_init__(self) -> None:
        if not self.profiles:
            raise LayoutError("a layout without profiles", where=self.name, todo="give at least one MIN-OPT-MAX")
        for left, right in zip(self.profiles, self.profiles[1:], strict=False):
            if right.min <= left.max:
                raise LayoutError(
                    f"profiles {left} and {right} overlap or are out of order",
                    where=self.name,
                    todo=f"start the second one at {left.max + 1}",
                )
            if right.min > left.max + 1:
                raise LayoutError(
                    f"lengths {left.max + 1}..{right.min - 1} fall between profiles {left} and {right}",
                    where=self.name,
                    todo=f"start the second one at {left.max + 1}",
                )

    @property
    def minimum(self) -> int:
        return self.profiles[0].min

    @property
    def maximum(self) -> int:
        return self.profiles[-1].max

    def dispatch(self, length: int) -> int:
        """Index of the profile that serves ``length``.

        :raises LengthOutOfRange: no profile does; the message names the nearest one.
        """
        for index, profile in enumerate(self.profiles):
            if length in profile:
                return index
        nearest = self.profiles[0] if length < self.minimum else self.profiles[-1]
        raise LengthOutOfRange(
            f"length {length} is outside {self.minimum}..{self.maximum}; the nearest profile is {nearest}",
            where=f"layout {self.name}",
            todo="cut the input, or choose a layout that covers it",
        )

    def check_covers(self, model: Model) -> None:
        """Refuse a layout that promises what the model cannot take, or leaves out what it must serve.

        :raises LayoutError: a profile is shorter than the model's minimum, or the model's range is not covered.
        """
        if self.minimum < model.minimum:
            raise LayoutError(
                f"profile {self.profiles[0]} starts below {model.minimum}, the shortest input the model takes",
                where=f"{model.key}, layout {self.name}",
                todo=f"start at {model.minimum}",
            )
        if self.minimum > model.minimum or self.maximum < model.maximum:
            raise LayoutError(
                f"covers {self.minimum}..{self.maximum}, but the model serves {model.minimum}..{model.maximum}",
                where=f"{model.key}, layout {self.name}",
                todo="extend the outer profiles, or narrow the model's range (--range)",
            )


def single(model: Model) -> Layout:
    """One profile over the whole range, tuned for the model's opt length."""
    return Layout("single", (Profile(model.minimum, model.opt, model.maximum),))


def geometric(model: Model, count: int) -> Layout:
    """``count`` adjacent profiles of equal ratio max/min; opt is each profile's geometric middle.

    A range too narrow for ``count`` profiles gets fewer.
    """
    if count < 1:
        raise LayoutError(f"geometric({count}): at least one profile", todo="geometric1, geometric2, ...")
    ratio = model.maximum / model.minimum
    edges = [round(model.minimum * ratio ** (i / count)) for i in range(count + 1)]
    edges[-1] = model.maximum
    profiles: list[Profile] = []
    low = model.minimum
    for high in edges[1:]:
        if high < low:
            continue
        profiles.append(Profile(low, min(max(round(math.sqrt(low * high)), low), high), high))
        low = high + 1
    return Layout(f"geometric{count}", tuple(profiles))


def length_buckets(model: Model) -> Layout:
    """The model's length buckets: its own, or thirds of log-length. Tables and bounds go by these."""
    return model.buckets or Layout("buckets3", geometric(model, 3).profiles)


def bucket_names(model: Model) -> tuple[str, ...]:
    """``short``, ``middle`` and ``long`` for three buckets, else each bucket's MIN-OPT-MAX."""
    profiles = length_buckets(model).profiles
    names = ("short", "middle", "long")
    return names if len(profiles) == len(names) else tuple(str(profile) for profile in profiles)


def buckets3(model: Model) -> Layout:
    """Three adjacent profiles, one a length bucket."""
    return Layout("buckets3", length_buckets(model).profiles)


_USER_PROFILE = re.compile(r"(\d+)-(\d+)-(\d+)")


def layout_from_text(text: str, model: Model) -> Layout:
    """``single``, ``buckets3``, ``geometricN`` (or ``geometric(N)``), or ``MIN-OPT-MAX,MIN-OPT-MAX,...``.

    :raises LayoutError: the text is none of these, or the profiles do not cover the model's range.
    """
    text = text.strip()
    if text == "single":
        layout = single(model)
    elif text == "buckets3":
        layout = buckets3(model)
    elif match := re.fullmatch(r"geometric\(?(\d+)\)?", text):
        layout = geometric(model, int(match[1]))
    else:
        parts = [part.strip() for part in text.split(",")]
        matches = [_USER_PROFILE.fullmatch(part) for part in parts]
        if not all(matches):
            bad = parts[[bool(m) for m in matches].index(False)]
            raise LayoutError(
                f"{bad!r} is no profile and no layout name",
                where=f"layout {text!r}",
                todo="use single, buckets3, geometricN, or MIN-OPT-MAX,MIN-OPT-MAX",
            )
        profiles = tuple(Profile(int(m[1]), int(m[2]), int(m[3])) for m in matches if m)
        layout = Layout("+".join(f"{p.min}-{p.opt}-{p.max}" for p in profiles), profiles)
    layout.check_covers(model)
    return layout
