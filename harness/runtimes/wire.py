"""Arrays as plain data: ``(dtype, shape, bytes)``, the same on both sides of the channel."""

# ruff: noqa: ANN401 - what comes from a native library or over the channel has no types

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

__all__ = ["Packed", "pack", "pack_all", "unpack", "unpack_all"]

Packed = tuple[str, tuple[int, ...], bytes]


def pack(array: Any) -> Packed:
    """An array of any numeric or boolean dtype and any rank, in C order.

    :raises TypeError: not an array, or an array of Python objects or strings.
    """
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"expected an array, got {type(array).__name__}")
    if array.dtype.kind not in "biufc":
        raise TypeError(f"arrays of dtype {array.dtype} cannot travel; numbers and booleans can")
    return array.dtype.str, tuple(int(n) for n in array.shape), array.tobytes()


def unpack(packed: Packed) -> np.ndarray[Any, Any]:
    """A writable array that owns its memory."""
    dtype, shape, data = packed
    array = np.empty(shape, dtype)
    if data:
        array.reshape(-1)[:] = np.frombuffer(data, dtype)
    return array


def pack_all(arrays: Mapping[str, Any]) -> dict[str, Packed]:
    """Every array of a feed or of a result.

    :raises TypeError: as :func:`pack`, naming the array.
    """
    packed = {}
    for name, array in arrays.items():
        try:
            packed[name] = pack(array)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
    return packed


def unpack_all(packed: Mapping[str, Packed]) -> dict[str, np.ndarray[Any, Any]]:
    """The inverse of :func:`pack_all`."""
    return {name: unpack(item) for name, item in packed.items()}
