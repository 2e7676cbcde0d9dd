"""A model run at a few lengths, to learn which ones it takes. ONNX Runtime, on the CPU, in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ModelRefused
from harness.sessions import quiet_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.onnx_facts import ModelFacts, TensorFacts
    from harness.spec.model import Axis

__all__ = ["Found", "Trial"]

_SIZES = (32, 64, 16, 128, 256, 1024, 4096, 16_384)
"""Tried in turn where nothing is known yet."""
_LONGEST_RUN_S = 2.0
"""A run that takes so long ends the search upwards: longer ones would only take longer."""
_LARGEST_DRAWN = 15
"""What :mod:`harness.corpus.synthetic` draws integers up to."""


@dataclass(frozen=True)
class Found:
    """A value of an option, and how it was found; empty where nobody need look at it again."""

    option: str
    why: str


class Trial:
    """One model, opened once.

    ``values`` holds inputs that never vary, ``following`` the names of those that hold the length; ``said`` what the
    last run that failed said.

    :raises ModelRefused: ONNX Runtime does not load it.
    """

    def __init__(self, facts: ModelFacts) -> None:
        import onnxruntime

        options = quiet_options(4)  # failing is what most runs here are for
        try:
            self._session = onnxruntime.InferenceSession(str(facts.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its pybind exceptions share no base class but Exception
            raise ModelRefused(
                "ONNX Runtime cannot load it", where=str(facts.path), todo="its message is below", detail=str(error)
            ) from error
        self.facts = facts
        self.values: dict[str, float] = {}
        self.following: set[str] = set()
        self.said = ""
        self._seconds = 0.0

    def runs(self, sizes: Mapping[Axis, int]) -> bool:
        """Whether it runs with these dimensions of these sizes, and all other open ones 1."""
        open_ = {(axis.input, axis.dim): size for axis, size in sizes.items()}
        length = next(iter(sizes.values()))
        feeds = {tensor.name: self._array(tensor, open_, length) for tensor in self.facts.inputs}
        began = time.monotonic()
        try:
            self._session.run(None, feeds)
        except Exception as error:  # noqa: BLE001 - its pybind exceptions share no base class but Exception
            self.said = str(error)
            return False
        self._seconds = time.monotonic() - began
        return True

    def _array(self, tensor: TensorFacts, open_: Mapping[tuple[str, int], int], length: int) -> NDArray[Any]:
        dims = enumerate(tensor.dims)
        shape = [open_.get((tensor.name, dim), 1) if isinstance(size, str) else size for dim, size in dims]
        if tensor.name in self.following:
            return np.full(shape, length, tensor.dtype)
        if tensor.name in self.values:
            return np.full(shape, self.values[tensor.name], tensor.dtype)
        if tensor.dtype.startswith("float"):
            return np.random.default_rng(0).standard_normal(shape, np.float32).astype(tensor.dtype)
        return np.ones(shape, tensor.dtype)

    def a_size(self, axes: Sequence[Axis], first: Iterable[int] = _SIZES) -> int | None:
        """A size at which it runs with all of these equal; None where there is none among those tried."""
        return next((size for size in first if self.runs(dict.fromkeys(axes, size))), None)

    def settle(self, axes: Sequence[Axis], shortest: int, longest: int) -> list[Found]:
        """Constants that random numbers need beside: integer sequences that only 0 is sure to be valid for.

        :raises ModelRefused: it runs at no length that was tried.
        """
        sizes = (shortest, *_SIZES, longest)
        if self.a_size(axes, sizes) is None:
            raise ModelRefused(
                f"it runs at none of the lengths {', '.join(map(str, sorted(set(sizes))))}",
                where=str(self.facts.path),
                todo="name what varies: --axis INPUT:DIM=NAME, or write the table by hand (docs/guide/own-model.md)",
                detail=self.said,
            )
        size = self.a_size(axes, sizes)
        assert size is not None
        integers = [t for t in self.facts.inputs if "int" in t.dtype and any(axis.input == t.name for axis in axes)]
        found = []
        for tensor in integers if len(integers) > 1 else ():
            runs = {}
            for value in (_LARGEST_DRAWN, 0):
                self.values[tensor.name] = value
                runs[value] = self.runs(dict.fromkeys(axes, size))
            if runs[0] and not runs[_LARGEST_DRAWN]:
                found.append(
                    Found(f"{tensor.name}=0", "of the integers that random samples hold only 0 is sure to run")
                )
            else:
                del self.values[tensor.name]
        return found

    def range(self, axes: Sequence[Axis], shortest: int, longest: int) -> tuple[int, int, str]:
        """The part of ``shortest..longest`` at which it runs, or the nearest lengths above at which it does; and why.

        Found by halving between a length at which it runs and one at which it does not.
        """

        def runs(size: int) -> bool:
            return self.runs(dict.fromkeys(axes, size))

        inside = self.a_size(axes, (round((shortest * longest) ** 0.5), *_SIZES, shortest, longest))
        assert inside is not None  # settle() has asked
        low, high = min(shortest, inside), inside
        why = []
        if not runs(low):
            low = _edge(runs, inside, low)
            why.append(f"it does not run below {low}")
        while high < longest:
            upper = min(2 * high, longest)
            if not runs(upper):
                high = _edge(runs, high, upper)
                why.append(f"nor above {high}" if why else f"it does not run above {high}")
                break
            high = upper
            if self._seconds > _LONGEST_RUN_S:
                why.append(f"a run at {high} takes {self._seconds:.0f} s here")
                break
        return low, high, "; ".join(why) or f"it runs at both ends: {low} and {high}"


def _edge(runs: Callable[[int], bool], good: int, bad: int) -> int:
    """The size next to ``bad`` at which it still runs, where one border lies between."""
    while abs(good - bad) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if runs(middle) else (good, middle)
    return good
