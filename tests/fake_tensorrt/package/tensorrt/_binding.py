"""Classes as a dump of the genuine bindings lists them, which refuse what pybind11 refuses.

A method's behaviour is the method of the same name of the object that the wrapper holds (its state). A name that the
dump lacks is not there at all; one that it has and that no state has raises NotImplementedError.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Sequence

from ._arguments import (
    REQUIRED,
    UNSIGNED,
    Refused,
    as_bool,
    as_buffer,
    as_float,
    as_int,
    as_list,
    as_str,
    as_unsigned,
    bind,
    inside,
    instance,
    split,
)
from ._objects import ITEM_BYTES, SPECIAL, Bound, Enum, HostMemory, Meta, Virtual

_ALIASES = {"IEngineInspector": "EngineInspector", "IParserError": "ParserError", "IRefitter": "Refitter"}
# Given as a pointer, so that None is a value: what a user implements and takes away again.
_OPTIONAL = frozenset({"IOutputAllocator", "IProfiler", "IErrorRecorder", "IGpuAllocator", "IProgressMonitor"})


class Api:
    """The module's classes and functions, by a dump and by behaviours.

    :param facts: ``version``, ``classes``, ``functions``, ``constants`` of a dump.
    :param behaviours: class name -> class of its state; constructed as ``Behaviour(api, *arguments)``.
    """

    def __init__(self, facts: Mapping[str, Any], behaviours: Mapping[str, type]) -> None:
        self.facts, self.behaviours = facts, behaviours
        self.version: str = facts["version"]
        numbers = [int(n) for n in self.version.split(".")]
        self.rtx = facts["module"].startswith("tensorrt_rtx")
        # What a release behaves like: 1.4 has the API of TensorRT 10, and from 1.5 on it is that of 11.
        self.release = tuple([*numbers, 0, 0][:3]) if not self.rtx else (10, 16, 0) if numbers < [1, 5] else (11, 0, 0)
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
        special = SPECIAL.get(short)
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
        for member, value in sorted(entry["enum_members"].items(), key=lambda item: int(item[1])):
            cls.__members__[member] = cls(value)
            setattr(cls, member, cls.__members__[member])
        if "itemsize" in entry.get("properties", {}):
            cls.itemsize = property(lambda this: ITEM_BYTES[this.name])
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
            check = as_unsigned if name in UNSIGNED else as_int
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
            check = lambda value: instance(value, wanted) if wanted else value  # noqa: E731
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


def _enter(this: Any) -> Any:
    return this


def _exit(*_: object) -> None:
    pass


def _no_constructor(name: str) -> Callable[..., None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError(f"tensorrt.tensorrt.{name}: No constructor defined!")

    return refuse
