"""Whether a user's sample fits the model: names, dtypes, sizes, lengths, values; each has its own message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.corpus.samples import Feeds, length_of
from harness.corpus.synthetic import fill, holds_one
from harness.errors import DataError, close_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from harness.onnx_facts import TensorFacts
    from harness.spec.model import Model

__all__ = ["Fitting"]


@dataclass(frozen=True)
class Fitting:
    """Checks that samples fit the model, and fills in what follows from the length or never changes.

    :param inputs: the model's inputs.
    :param constants: values of inputs that samples may leave out; a sample's own value wins.
    """

    model: Model
    inputs: Sequence[TensorFacts]
    constants: Mapping[str, NDArray[Any]]

    def fit(self, raw: Mapping[str, Any], where: str) -> Feeds:
        """The complete, checked sample.

        :raises DataError: a name, dtype, rank, size, length or value that the model cannot take.
        """
        known = [tensor.name for tensor in self.inputs]
        unknown = [name for name in raw if name not in known]
        if unknown:
            absent = [tensor for tensor in self.inputs if tensor.name not in raw]
            fitting = [tensor.name for tensor in absent if _could_be(np.asarray(raw[unknown[0]]), tensor)]
            # The only one that it could be, whatever it is called; never one that it could not be.
            close = fitting if len(fitting) == 1 else close_to(unknown[0], fitting)
            raise DataError(
                f"array {unknown[0]!r} is no input of the model",
                where=where,
                todo=f"name it {close[0]!r}" if close else f"the inputs are {', '.join(map(str, self.inputs))}",
            )
        feeds = {t.name: _plain(raw[t.name], t, where) for t in self.inputs if t.name in raw}
        filled = {*self.constants, *self.model.length_inputs}
        for tensor in self.inputs:
            if tensor.name not in feeds and tensor.name not in filled:
                raise DataError(
                    f"no array for input {tensor}; it has {', '.join(feeds) or 'none at all'}",
                    where=where,
                    todo=self._instead(tensor),
                )
            if tensor.name in feeds:
                _check_array(feeds[tensor.name], tensor, where)
        lengths = {axis.input for axis in self.model.axes}
        length = self._length({**feeds, **self._late(lengths - set(feeds), feeds)}, where)
        for tensor in self.inputs:
            if tensor.name in feeds:
                continue
            value = self.constants.get(tensor.name, np.asarray(length))
            feeds[tensor.name] = fill(self.model, tensor, length, value)
        self._check_length_inputs(feeds, length, where)
        return {name: feeds[name] for name in known}

    def _instead(self, tensor: TensorFacts) -> str:
        once = f"--constant {tensor.name}=VALUE"
        if "int" in tensor.dtype and holds_one(self.model, tensor):
            length = f"--length-input {tensor.name}={self.model.axis_name}"
            return f"if it is the sample's length: {length}; else add it to every sample, or give it once: {once}"
        return f"add it to every sample, or give it once: {once}"

    def _late(self, names: set[str], feeds: Feeds) -> Feeds:
        # A constant that varies, as a mask of ones does, is as long as the inputs that the sample brought.
        axis = next((axis for axis in self.model.axes if axis.input in feeds), None)
        length = feeds[axis.input].shape[axis.dim] if axis else self.model.opt
        return {t.name: fill(self.model, t, length, self.constants[t.name]) for t in self.inputs if t.name in names}

    def _length(self, feeds: Feeds, where: str) -> int:
        try:
            length = length_of(self.model, feeds)
        except DataError as error:
            raise DataError(error.what, where=where, todo=error.todo) from error
        if not self.model.minimum <= length <= self.model.maximum:
            raise DataError(
                f"{length} {self.model.axis_name}, outside the range {self.model.minimum}..{self.model.maximum}",
                where=where,
                todo="widen --range, or leave the sample out",
            )
        return length

    def _check_length_inputs(self, feeds: Feeds, length: int, where: str) -> None:
        unit = self.model.axis_name
        for name in self.model.length_inputs:
            values = np.unique(feeds[name])
            if values.size != 1 or not 1 <= values[0] <= length:
                raise DataError(
                    f"length input {name!r} holds {values.tolist()}, the sample has {length} {unit}",
                    where=where,
                    todo=f"it counts valid elements: 1..{length}; leave it out and it is filled in",
                )


def _plain(value: Any, tensor: TensorFacts, where: str) -> NDArray[Any]:  # noqa: ANN401 - it is the user's
    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
        raise DataError(
            f"input {tensor.name!r} is a {type(value).__name__}, not an array",
            where=where,
            todo=f"np.asarray({tensor.name}, dtype=np.{tensor.dtype})",
        )
    return np.asarray(value)  # takes tensors of other libraries too


def _could_be(array: NDArray[Any], tensor: TensorFacts) -> bool:
    """Whether the array has the input's rank, and a dtype of the same kind: whole numbers, floats, truth values."""
    kind = tensor.dtype.rstrip("0123456789").removeprefix("u")
    return array.ndim == len(tensor.dims) and array.dtype.name.rstrip("0123456789").removeprefix("u") == kind


def _check_array(array: NDArray[Any], tensor: TensorFacts, where: str) -> None:
    if array.dtype.name != tensor.dtype:
        raise DataError(
            f"input {tensor.name!r} has dtype {array.dtype.name}, the model takes {tensor.dtype}",
            where=where,
            todo=f"convert it where it is made: {tensor.name}.astype(np.{tensor.dtype})",
        )
    if array.ndim != len(tensor.dims):
        raise DataError(
            f"input {tensor.name!r} has shape {array.shape}; the model takes {len(tensor.dims)}-D {tensor}",
            where=where,
            todo="add or drop a dimension, often the batch: array[None]",
        )
    for index, (size, dim) in enumerate(zip(array.shape, tensor.dims, strict=True)):
        if isinstance(dim, int) and size != dim:
            raise DataError(
                f"input {tensor.name!r} has shape {array.shape}; dimension {index} must be {dim}: {tensor}",
                where=where,
                todo="reshape or crop it where it is made",
            )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        kind = "NaN" if np.isnan(array).any() else "infinite"
        raise DataError(
            f"input {tensor.name!r} holds {bad} {kind} {'value' if bad == 1 else 'values'} of {array.size}",
            where=where,
            todo="leave the sample out, or repair what made it",
        )
