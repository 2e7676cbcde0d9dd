"""What pybind11 makes: enums, objects that cannot be made or changed at will, shapes, buffers."""

from __future__ import annotations

from typing import Any, ClassVar

from ._arguments import Refused, as_int


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


class Virtual:
    """The state of a class that a user derives from."""

    owner = ""

    def __init__(self, api: Any, *_: Any) -> None:
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


SPECIAL: dict[str, type] = {"Dims": Dims}


ITEM_BYTES = {
    "FLOAT": 4, "HALF": 2, "INT8": 1, "INT32": 4, "BOOL": 1, "UINT8": 1, "FP8": 1, "BF16": 2, "INT64": 8, "INT4": 0.5,
    "FP4": 0.5, "E8M0": 1,
}  # fmt: skip
