"""The protobuf wire format, which is frozen: a worker has numpy and a runtime, not necessarily ``onnx``."""

from __future__ import annotations

from typing import Iterator

__all__ = ["fields", "numbers", "only"]


def only(data: bytes, wanted: int) -> bytes:
    """The first length-delimited field of that number; empty where there is none."""
    return next((value for number, value in fields(data) if number == wanted), b"")


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, content) of every length-delimited field; numbers are skipped.

    :raises ValueError: it is no protobuf message.
    """
    for number, value in _all(data):
        if isinstance(value, bytes):
            yield number, value


def numbers(data: bytes, wanted: int) -> list[int]:
    """The values of an integer field, packed or not.

    :raises ValueError: it is no protobuf message.
    """
    found: list[int] = []
    for number, value in _all(data):
        if number != wanted:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        at, view = 0, memoryview(value)
        while at < len(view):
            one, at = _varint(view, at)
            found.append(one)
    return found


def _all(data: bytes) -> "Iterator[tuple[int, bytes | int]]":
    """Numbers of fixed width are skipped."""
    at, view = 0, memoryview(data)
    while at < len(view):
        key, at = _varint(view, at)
        wire_type = key & 7
        if wire_type == 0:
            value, at = _varint(view, at)
            yield key >> 3, value
        elif wire_type == 1:
            at += 8
        elif wire_type == 2:
            size, at = _varint(view, at)
            yield key >> 3, bytes(view[at : at + size])
            at += size
        elif wire_type == 5:
            at += 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {at}: no protobuf message")
    if at != len(view):
        raise ValueError("a field reaches beyond the end: no whole protobuf message")


def _varint(view: "memoryview[int]", at: int) -> tuple[int, int]:
    result, shift = 0, 0
    while True:
        if at >= len(view):
            raise ValueError("a number reaches beyond the end: no whole protobuf message")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, at
        shift += 7
