"""What pybind11 does with arguments: which values it takes for a type, and which overload fits."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

REQUIRED = object()


UNSIGNED = frozenset({"pool_size", "memory", "stream_handle", "flags", "tactic_sources", "size"})


class Refused(Exception):
    """An argument that does not fit."""


def as_int(value: Any) -> int:
    if isinstance(value, float | str | bytes) or value is None or isinstance(value, list | tuple):
        raise Refused
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Refused from None


def as_unsigned(value: Any) -> int:
    number = as_int(value)
    if number < 0:
        raise Refused
    return number


def as_float(value: Any) -> float:
    if isinstance(value, str | bytes):
        raise Refused
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused from None


def as_str(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(instance(value, str))


def as_bool(value: Any) -> bool:
    if value is None:
        return False
    if not hasattr(type(value), "__bool__"):
        raise Refused
    return bool(value)


def as_buffer(value: Any) -> Any:
    try:
        memoryview(value)
    except TypeError:
        raise Refused from None
    return value


def as_list(value: Any, item: Callable[[Any], Any] | None) -> list[Any]:
    if isinstance(value, str | bytes) or not hasattr(value, "__getitem__") or not hasattr(value, "__len__"):
        raise Refused
    return [item(one) if item else one for one in value]


def bind(parameters: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The converted arguments in the signature's order; Refused when they do not fit."""
    if len(args) > len(parameters):
        raise Refused
    used, values = 0, []
    for position, (name, convert, default) in enumerate(parameters):
        if position < len(args):
            if name in kwargs:
                raise Refused
            values.append(convert(args[position]))
        elif name in kwargs:
            used += 1
            values.append(convert(kwargs[name]))
        elif default is REQUIRED:
            raise Refused
        else:
            values.append(default)
    if used != len(kwargs):
        raise Refused
    return values


def inside(text: str, pair: str = "()") -> str:
    """What the first bracket of ``text`` encloses."""
    start, depth = text.index(pair[0]), 0
    for index in range(start, len(text)):
        depth += (text[index] == pair[0]) - (text[index] == pair[1])
        if depth == 0:
            return text[start + 1 : index]
    return text[start + 1 :]


def split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth, last = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "([<{") - (letter in ")]}" or (letter == ">" and text[index - 1] != "-"))
        if letter == "," and depth == 0:
            parts.append(text[last:index].strip())
            last = index + 1
    return [*parts, text[last:].strip()]


def instance(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise Refused
    return value
