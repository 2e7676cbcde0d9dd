"""Classes as a dump of the genuine bindings lists them, which refuse what pybind11 refuses.

A method's behaviour is the method of the same name of the object that the wrapper holds (its state). A name that the
dump lacks is not there at all; one that it has and that no state has raises NotImplementedError.
"""

from __future__ import annotations

import re
from typing import Any, Callable, ClassVar, Mapping, Sequence

REQUIRED = object()
_UNSIGNED = frozenset({"pool_size", "memory", "stream_handle", "flags", "tactic_sources", "size"})
_ALIASES = {"IEngineInspector": "EngineInspector", "IParserError": "ParserError", "IRefitter": "Refitter"}
# Given as a pointer, so that None is a value: what a user implements and takes away again.
_OPTIONAL = frozenset({"IOutputAllocator", "IProfiler", "IErrorRecorder", "IGpuAllocator", "IProgressMonitor"})


class Refused(Exception):
    """An argument that does not fit."""


class Enum:
    """What ``py::enum_`` makes: equal to its own kind alone, an int only by ``int()``."""

    __members__: ClassVar[dict[str, Any]] = {}

    def __init__(self, value: int) -> None:
        if isinstance(value, float | str):
            raise TypeError(f"__init__(): incompatible constructor arguments. Invoked with: {value!r}")
        self._value = int(value)

    @property
    def value(self) -> int:
        return self._value

    @property
    def name(self) -> str:
        return next((n for n, member in self.__members__.items() if member._value == self._value), "???")

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._value == self._value

    def __hash__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self._value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class Meta(type):
    """A class without a constructor in the dump cannot be made; one whose __init__ was not called is no object."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = cls.__new__(cls)
        cls.__init__(made, *args, **kwargs)
        try:
            object.__getattribute__(made, "_state")
        except AttributeError:
            genuine = next(base for base in cls.__mro__ if "_genuine" in vars(base))
            raise TypeError(
                f"{genuine.__module__}.{genuine.__name__}.__init__() must be called when overriding __init__"
            ) from None
        return made


class Bound(metaclass=Meta):
    __slots__ = ("_state",)
    _genuine = "pybind11_object"

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} object at {id(self):#x}>"


class HostMemory(bytes):
    """A buffer, and nothing else of bytes: no length, no index, no comparison by content."""

    def __init__(self, *_: Any) -> None:
        raise TypeError("tensorrt.tensorrt.IHostMemory: No constructor defined!")

    def _no(self, *_: Any) -> Any:
        raise TypeError("'IHostMemory' object supports the buffer protocol only")

    __len__ = __getitem__ = __iter__ = __contains__ = __add__ = __mul__ = _no  # type: ignore[assignment]
    __eq__ = object.__eq__  # type: ignore[assignment]
    __hash__ = object.__hash__  # type: ignore[assignment]
    __repr__ = object.__repr__

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattribute__(self, name: str) -> Any:
        if name == "nbytes":
            return memoryview(self).nbytes
        if name.startswith("_"):
            return super().__getattribute__(name)
        raise AttributeError(f"'tensorrt.tensorrt.IHostMemory' object has no attribute {name!r}")


class Api:
    """The module's classes and functions, by a dump and by behaviours.

    :param facts: ``version``, ``classes``, ``functions``, ``constants`` of a dump.
    :param behaviours: class name -> class of its state; constructed as ``Behaviour(api, *arguments)``.
    """

    def __init__(self, facts: Mapping[str, Any], behaviours: Mapping[str, type]) -> None:
        self.facts, self.behaviours = facts, behaviours
        self.version: str = facts["version"]
        numbers = [int(n) for n in self.version.split(".")]
        self.release = tuple([*numbers, 0, 0][:3])
        self.classes: dict[str, Any] = {}
        waiting = dict(sorted(facts["classes"].items(), key=lambda item: ("." not in item[0], item[0])))
        while waiting:
            for name, entry in list(waiting.items()):
                bases = entry.get("bases", [])
                if all(base in self.classes or base not in facts["classes"] for base in bases):
                    self.classes[name] = self._class(name, entry, bases)
                    del waiting[name]
        for name, cls in self.classes.items():
            outer, _, inner = name.rpartition(".")
            if outer:
                setattr(self.classes[outer], inner, cls)

    def has(self, name: str, member: str = "") -> bool:
        entry = self.facts["classes"].get(name)
        if entry is None or not member:
            return entry is not None
        return any(member in entry.get(kind, ()) for kind in ("methods", "properties", "enum_members"))

    def enum(self, name: str, member: str) -> Any:
        return self.classes[name].__members__.get(member)

    def wrap(self, name: str, state: Any) -> Any:
        """An object of the genuine class around a state; the same one as long as it lives is not promised."""
        if state is None:
            return None
        made = self.classes[name].__new__(self.classes[name])
        object.__setattr__(made, "_state", state)
        return made

    def _class(self, name: str, entry: Mapping[str, Any], bases: Sequence[str]) -> Any:
        short = name.rpartition(".")[2]
        if "enum_members" in entry:
            return self._enum(short, name, entry)
        if short == "IHostMemory":
            dtype = property(lambda _: self.enum("DataType", "INT8"))
            return type(short, (HostMemory,), {"__module__": "tensorrt.tensorrt", "dtype": dtype})
        namespace: dict[str, Any] = {"__slots__": (), "__module__": "tensorrt.tensorrt", "_genuine": name}
        special = _SPECIAL.get(short)
        for method, texts in entry.get("methods", {}).items():
            if method in ("__enter__", "__exit__"):
                namespace[method] = _enter if method == "__enter__" else _exit
            elif special is None or method not in vars(special):
                namespace[method] = self._method(name, method, texts)
        if "__init__" not in entry.get("methods", {}):
            namespace["__init__"] = _no_constructor(short)
        for prop, text in entry.get("properties", {}).items():
            kind, _, access = text.rpartition(", ")
            if access == "static":
                namespace[prop] = self.classes["ILogger.Severity"].__members__[prop] if kind == "Severity" else None
            elif special is None or prop not in vars(special):
                namespace[prop] = self._property(name, prop, kind, access)
        parents = tuple(self.classes[base] for base in bases if base in self.classes)
        if special is not None and not any(issubclass(parent, special) for parent in parents):
            parents = (special, *parents)
        return Meta(short, parents or (Bound,), namespace)

    def _enum(self, short: str, name: str, entry: Mapping[str, Any]) -> Any:
        known = self.classes.get("ILogger.Severity")
        if short == "Severity" and known is not None:
            return known
        cls: Any = type(short, (Enum,), {"__module__": "tensorrt.tensorrt", "__members__": {}})
        for member, value in entry["enum_members"].items():
            cls.__members__[member] = cls(value)
            setattr(cls, member, cls.__members__[member])
        if "itemsize" in entry.get("properties", {}):
            cls.itemsize = property(lambda this: _ITEM_BYTES[this.name])
        return cls

    def _method(self, owner: str, method: str, texts: Sequence[str]) -> Callable[..., Any]:
        overloads: list[list[tuple[str, Callable[[Any], Any], Any]]] = []

        def prepare() -> None:
            overloads.extend(self._parameters(text) for text in texts)

        def call(this: Any, *args: Any, **kwargs: Any) -> Any:
            if not overloads:
                prepare()
            for parameters in overloads:
                try:
                    values = bind(parameters, args, kwargs)
                except Refused:
                    continue
                break
            else:
                raise TypeError(self._refusal(owner, method, texts, this, args, kwargs))
            if method == "__init__":
                state = self.behaviours.get(owner, Virtual)(self, *values)
                object.__setattr__(this, "_state", state)
                if isinstance(state, Virtual):
                    state.owner = owner
                return None
            state = object.__getattribute__(this, "_state")
            behaviour = getattr(state, method, None)
            if behaviour is None:
                if isinstance(state, Virtual):
                    raise RuntimeError(f'Tried to call pure virtual function "{owner}::{method}"')
                raise NotImplementedError(f"fake_tensorrt: {owner}.{method} is genuine, but has no behaviour here")
            return behaviour(*values)

        call.__name__ = method
        call.__qualname__ = f"{owner}.{method}"
        return call

    def _refusal(
        self, owner: str, method: str, texts: Sequence[str], this: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str:
        what = "constructor" if method == "__init__" else "function"
        lines = "\n".join(f"    {number}. {text}" for number, text in enumerate(texts, 1))
        given = [repr(a) for a in (args if method == "__init__" else (this, *args))]
        named = "; kwargs: " + ", ".join(f"{k}={v!r}" for k, v in kwargs.items()) if kwargs else ""
        return (
            f"{method}(): incompatible {what} arguments. The following argument types are supported:\n{lines}\n\n"
            f"Invoked with: {', '.join(given)}{named} ({owner} of TensorRT {self.version})"
        )

    def _parameters(self, text: str) -> list[tuple[str, Callable[[Any], Any], Any]]:
        parameters = []
        for part in split(inside(text))[1:]:  # the first is self
            left, equals, default = part.partition(" = ")
            name, _, kind = left.partition(": ")
            value: Any = REQUIRED
            if equals:
                value = self._default(default)
            parameters.append((name, self.converter(kind, name, optional=value is None), value))
        return parameters

    def _default(self, text: str) -> Any:
        found = re.fullmatch(r"<(\w+)\.(\w+): -?\d+>", text)
        if found:
            cls = self.classes.get(found[1]) or self.classes.get(f"ILogger.{found[1]}")
            return cls.__members__[found[2]]
        if text == "None":
            return None
        try:
            return (
                {"True": True, "False": False}.get(text)
                if text in ("True", "False")
                else float(text)
                if "." in text
                else int(text)
            )
        except ValueError:
            return text.strip("'\"")

    def converter(self, kind: str, name: str = "", optional: bool = False) -> Callable[[Any], Any]:
        """Takes a value of the C++ type that pybind11 names ``kind`` or raises Refused."""
        kind = kind.strip()
        if kind.startswith("Optional["):
            return self.converter(inside(kind, "[]"), name, optional=True)
        plain = kind.removeprefix("typing.").removeprefix("collections.abc.").removeprefix("typing_extensions.")
        base = plain.partition("[")[0]
        check: Callable[[Any], Any]
        if base in ("int", "SupportsInt", "SupportsIndex"):
            check = as_unsigned if name in _UNSIGNED else as_int
        elif base in ("float", "SupportsFloat"):
            check = as_float
        elif base == "str":
            check = as_str
        elif base == "bool":
            check = as_bool
        elif base in ("buffer", "Buffer"):
            check = as_buffer
        elif base in ("List", "list", "Sequence"):
            item = self.converter(inside(plain, "[]"), "memory" if name == "bindings" else "") if "[" in plain else None
            check = lambda value: as_list(value, item)  # noqa: E731
        elif base in ("tuple", "Tuple", "dict", "Dict", "Set", "numpy.ndarray"):
            wanted = {"tuple": tuple, "Tuple": tuple, "dict": dict, "Dict": dict, "Set": set}.get(base)
            check = lambda value: _instance(value, wanted) if wanted else value  # noqa: E731
        elif base in ("", "object", "?", "capsule", "CapsuleType", "function", "handle"):
            return lambda value: value
        else:
            return self._of_class(base, optional)
        return (lambda value: None if value is None else check(value)) if optional else check

    def _of_class(self, base: str, optional: bool) -> Callable[[Any], Any]:
        last = base.rpartition("::")[2].rpartition(".")[2]
        last = _ALIASES.get(last, last)
        dotted = base.replace("nvinfer1::", "").replace("::", ".")
        cls = self.classes.get(dotted) or self.classes.get(last) or self.classes.get(f"ILogger.{last}")
        if cls is None:
            return lambda value: value
        optional = optional or last in _OPTIONAL

        def check(value: Any) -> Any:
            if isinstance(value, cls) or (value is None and optional):
                return value
            if last == "Dims" and isinstance(value, list | tuple):
                return cls(as_list(value, as_int))
            raise Refused

        return check

    def _property(self, owner: str, prop: str, kind: str, access: str) -> property:
        converters: list[Callable[[Any], Any]] = []

        def get(this: Any) -> Any:
            state = object.__getattribute__(this, "_state")
            if not hasattr(state, prop):
                raise NotImplementedError(f"fake_tensorrt: {owner}.{prop} is genuine, but has no behaviour here")
            return getattr(state, prop)

        def put(this: Any, value: Any) -> None:
            if not converters:
                converters.append(
                    self.converter(kind, prop, optional="Calibrator" in kind or "::I" in kind or kind[:1] == "I")
                )
            try:
                value = converters[0](value)
            except Refused:
                raise TypeError(
                    f"(): incompatible function arguments. The following argument types are supported:\n"
                    f"    1. (arg0: {owner}, arg1: {kind}) -> None\n\nInvoked with: {this!r}, {value!r}"
                ) from None
            setattr(object.__getattribute__(this, "_state"), prop, value)

        def unreadable(_: Any) -> Any:
            raise AttributeError(f"unreadable attribute {prop!r}")

        return property(unreadable if access == "wo" else get, None if access == "ro" else put)


class Virtual:
    """The state of a class that a user derives from."""

    owner = ""

    def __init__(self, api: Api, *_: Any) -> None:
        self.api = api

    def get_algorithm(self) -> Any:
        members = {
            "IInt8LegacyCalibrator": "LEGACY_CALIBRATION",
            "IInt8EntropyCalibrator": "ENTROPY_CALIBRATION",
            "IInt8EntropyCalibrator2": "ENTROPY_CALIBRATION_2",
            "IInt8MinMaxCalibrator": "MINMAX_CALIBRATION",
        }
        return self.api.enum("CalibrationAlgoType", members[self.owner])


class Dims(Bound):
    """A shape."""

    __slots__ = ()
    MAX_DIMS = 8

    def __init__(self, shape: Any = ()) -> None:
        if isinstance(shape, str | bytes) or shape is None:
            raise TypeError(f"__init__(): incompatible constructor arguments. Invoked with: {shape!r}")
        try:
            object.__setattr__(self, "_state", [as_int(n) for n in shape])
        except (Refused, TypeError):
            raise TypeError(f"__init__(): incompatible constructor arguments. Invoked with: {shape!r}") from None

    def __len__(self) -> int:
        return len(self._state)

    def __getitem__(self, index: Any) -> Any:
        try:
            return tuple(self._state[index]) if isinstance(index, slice) else self._state[index]
        except IndexError:
            raise IndexError("Out of bounds") from None

    def __setitem__(self, index: Any, value: Any) -> None:
        self._state[index] = list(value) if isinstance(index, slice) else as_int(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple):
            raise TypeError(f"__eq__(): incompatible function arguments. Invoked with: {self!r}, {other!r}")
        return list(other) == self._state

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(tuple(self._state))

    __str__ = __repr__


_SPECIAL: dict[str, type] = {"Dims": Dims}
_ITEM_BYTES = {
    "FLOAT": 4, "HALF": 2, "INT8": 1, "INT32": 4, "BOOL": 1, "UINT8": 1, "FP8": 1, "BF16": 2, "INT64": 8, "INT4": 0.5,
    "FP4": 0.5, "E8M0": 1,
}  # fmt: skip


def _enter(this: Any) -> Any:
    return this


def _exit(*_: object) -> None:
    pass


def _no_constructor(name: str) -> Callable[..., None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"tensorrt.tensorrt.{name}: No constructor defined!")

    return refuse


def _instance(value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise Refused
    return value


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
    return str(_instance(value, str))


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
