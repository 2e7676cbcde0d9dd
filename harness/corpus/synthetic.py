"""Random samples for a model that came without data. Every record made from them says ``synthetic``."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.corpus.samples import Feeds
    from harness.onnx_facts import TensorFacts
    from harness.spec.model import Model

__all__ = ["check_drawable", "fill", "holds_one", "shape_at", "synthetic_feeds", "synthetic_stream"]

_LARGEST_INTEGER = 16
"""Integers are drawn below it: small enough to be a token, a class or a speaker in about any model."""


def shape_at(model: Model, tensor: TensorFacts, length: int) -> tuple[int, ...]:
    """The input's shape at a length: its varying axes that long, any other open dimension (a batch) 1."""
    follows = {axis.dim for axis in model.axes if axis.input == tensor.name}
    return tuple(
        length if index in follows else dim if isinstance(dim, int) else 1 for index, dim in enumerate(tensor.dims)
    )


def holds_one(model: Model, tensor: TensorFacts) -> bool:
    """Whether the input holds one element or none, at any length: a length, a class or a switch, no sequence."""
    follows = any(axis.input == tensor.name for axis in model.axes)
    return not follows and math.prod(shape_at(model, tensor, model.opt)) <= 1


def check_drawable(model: Model, inputs: Sequence[TensorFacts], constants: Mapping[str, NDArray[Any]]) -> None:
    """Refuse to draw a lone integer: it is often a length, and a random one masks nearly all of the sample.

    :raises UsageError: an integer input of one element or none that is no length input, constant or mask.
    """
    known = {*constants, *model.length_inputs, *_masks(model, inputs)}
    for tensor in inputs:
        if "int" in tensor.dtype and tensor.name not in known and holds_one(model, tensor):
            raise UsageError(
                f"{tensor.name} is an integer that nothing sets: is it a length?",
                where=model.key,
                todo=f"--length-input {tensor.name}={model.axis_name}, or --constant {tensor.name}=VALUE",
            )


def _masks(model: Model, inputs: Sequence[TensorFacts]) -> set[str]:
    return {name for name, _ in model.pad_values} | {t.name for t in inputs if "mask" in t.name.lower()}


def fill(model: Model, tensor: TensorFacts, length: int, value: NDArray[Any]) -> NDArray[Any]:
    """A constant, as an array of the input's dtype and of its shape at ``length``.

    :raises DataError: the value cannot be spread over that shape.
    """
    shape = shape_at(model, tensor, length)
    try:
        return np.array(np.broadcast_to(value.astype(tensor.dtype), shape))
    except ValueError as error:
        raise DataError(
            f"a constant of shape {value.shape} does not fit input {tensor}",
            where=model.key,
            todo=f"give one number, or an array of shape {shape}",
        ) from error


def synthetic_feeds(
    model: Model, inputs: Sequence[TensorFacts], constants: Mapping[str, NDArray[Any]], length: int, seed: int
) -> Feeds:
    """One random sample of exactly ``length``, the same for the same arguments on any machine.

    Floating-point inputs are standard normal; length inputs hold the length; bool inputs, and integer inputs with
    a pad value or with "mask" in their name, are ones; other integers are uniform in 0..15; constants as given.
    See :func:`check_drawable` for what should be asked first.

    :raises DataError: an input of a type that cannot be drawn.
    """
    random = np.random.default_rng([seed, length])
    feeds: Feeds = {}
    masks = _masks(model, inputs)
    for tensor in inputs:
        shape = shape_at(model, tensor, length)
        if tensor.name in constants:
            feeds[tensor.name] = fill(model, tensor, length, constants[tensor.name])
        elif tensor.name in model.length_inputs:
            feeds[tensor.name] = np.full(shape, length, tensor.dtype)
        elif tensor.dtype.startswith("float"):
            feeds[tensor.name] = random.standard_normal(shape, np.float32).astype(tensor.dtype)
        elif tensor.dtype == "bool" or (tensor.name in masks and "int" in tensor.dtype):
            feeds[tensor.name] = np.ones(shape, tensor.dtype)
        elif "int" in tensor.dtype:
            feeds[tensor.name] = random.integers(0, _LARGEST_INTEGER, shape).astype(tensor.dtype)
        else:
            raise DataError(
                f"no random values for {tensor}",
                where=model.key,
                todo=f"--constant {tensor.name}=..., or --data",
            )
    return feeds


def synthetic_stream(
    model: Model,
    inputs: Sequence[TensorFacts],
    constants: Mapping[str, NDArray[Any]],
    split: str,
    seed: int,
) -> Iterator[Feeds]:
    """Endless random samples, their lengths log-uniform over the model's range; splits share none."""
    random = np.random.default_rng([seed, zlib.crc32(split.encode())])
    low, high = math.log(model.minimum), math.log(model.maximum)
    while True:
        length = round(math.exp(random.uniform(low, high)))
        length = min(max(length, model.minimum), model.maximum)
        yield synthetic_feeds(model, inputs, constants, length, int(random.integers(2**32)))
