"""How tensors of an engine are named, shaped and addressed: the two APIs of TensorRT behind one set of methods."""

# ruff: noqa: ANN401 - no types hold for every version

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from .base import RuntimeFailure
from .trt_common import dtype_name

__all__ = ["BindingIo", "NamedIo", "Tensor"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    :param shape: -1 where it varies.
    :param on_host: its values are read on the host, because they decide shapes.
    :param on_device: they are read on the device; up to 8.4 an input may be both.
    :param index: of its binding in profile 0; unused with named tensors.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    on_host: bool = False
    on_device: bool = True
    index: int = 0


class NamedIo:
    """From 8.5: tensors by name."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self._trt, self._engine = trt, engine
        self._allocators: dict[str, Any] = {}  # of an output, for as long as the context may call it
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            on_host = engine.get_tensor_location(name) == trt.TensorLocation.HOST
            tensor = Tensor(
                name,
                dtype_name(engine.get_tensor_dtype(name)),
                tuple(engine.get_tensor_shape(name)),
                on_host,
                not on_host,
            )
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self.inputs if is_input else self.outputs).append(tensor)

    def profile_for(self, shapes: Shapes) -> int:
        """The first profile that admits the shapes.

        :raises RuntimeFailure: ``length``, none does.
        """
        return _admitting(self.limits(), shapes)

    def limits(self) -> list[dict[str, Sequence[Any]]]:
        """Profile by profile, input -> (min, opt, max) shape."""
        return [
            {t.name: self._engine.get_tensor_profile_shape(t.name, k) for t in self.inputs if not t.on_host}
            for k in range(self._engine.num_optimization_profiles)
        ]

    def choose_profile(self, context: Any, profile: int, stream: Any) -> bool:
        """False where TensorRT refuses: another context has the profile."""
        return bool(context.set_optimization_profile_async(profile, stream.handle))

    def set_input(self, context: Any, tensor: Tensor, shape: Sequence[int], address: int, _host: Any) -> bool:
        """False where TensorRT refuses the shape; it says why in its log."""
        if not context.set_tensor_address(tensor.name, address):
            return False
        return bool(context.set_input_shape(tensor.name, tuple(shape)))

    def output_shape(self, context: Any, tensor: Tensor) -> tuple[int, ...]:
        return tuple(context.get_tensor_shape(tensor.name))

    def set_output(self, context: Any, tensor: Tensor, address: int) -> None:
        context.set_tensor_address(tensor.name, address)

    def set_allocator(
        self, context: Any, tensor: Tensor, cuda: Any, buffers: dict[str, Any], shapes: dict[str, tuple[int, ...]]
    ) -> None:
        """Let TensorRT ask for the output's memory, and say its shape, while it runs."""
        self._allocators[tensor.name] = _new_allocator(self._trt, cuda, buffers, shapes)
        context.set_output_allocator(tensor.name, self._allocators[tensor.name])

    def let_go(self) -> None:
        """Forget the engine, which is freed with its last holder."""
        self._engine = None

    def refusal(self) -> RuntimeFailure | None:
        """Why an allocator gave no memory in the last run, told once: TensorRT itself only says that it got none."""
        for allocator in self._allocators.values():
            failure, allocator.failure = allocator.failure, None
            if failure is not None:
                return failure  # type: ignore[no-any-return, unused-ignore]
        return None

    def enqueue(self, context: Any, stream: Any) -> bool:
        return bool(context.execute_async_v3(stream.handle))


class BindingIo:
    """Up to 8.4: bindings by number, one set for each profile."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self._trt, self._engine = trt, engine
        self._each = engine.num_bindings // engine.num_optimization_profiles
        self._offset = 0
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        for i in range(self._each):
            tensor = Tensor(
                engine.get_binding_name(i),
                dtype_name(engine.get_binding_dtype(i)),
                tuple(engine.get_binding_shape(i)),
                bool(engine.is_shape_binding(i)),
                bool(engine.is_execution_binding(i)),
                i,
            )
            (self.inputs if engine.binding_is_input(i) else self.outputs).append(tensor)
        self._addresses = [0] * engine.num_bindings

    def profile_for(self, shapes: Shapes) -> int:
        """As :meth:`NamedIo.profile_for`."""
        return _admitting(self.limits(), shapes)

    def limits(self) -> list[dict[str, Sequence[Any]]]:
        """As :meth:`NamedIo.limits`."""
        return [
            {t.name: self._engine.get_profile_shape(k, k * self._each + t.index) for t in self.inputs if not t.on_host}
            for k in range(self._engine.num_optimization_profiles)
        ]

    def choose_profile(self, context: Any, profile: int, stream: Any) -> bool:
        """As :meth:`NamedIo.choose_profile`."""
        if not context.set_optimization_profile_async(profile, stream.handle):
            return False
        self._offset = profile * self._each
        return True

    def set_input(self, context: Any, tensor: Tensor, shape: Sequence[int], address: int, host: Any) -> bool:
        index = self._offset + tensor.index
        self._addresses[index] = address
        if tensor.on_host:
            return bool(context.set_shape_input(index, [int(value) for value in np.ravel(host)]))
        return bool(context.set_binding_shape(index, tuple(shape)))

    def output_shape(self, context: Any, tensor: Tensor) -> tuple[int, ...]:
        return tuple(context.get_binding_shape(self._offset + tensor.index))

    def set_output(self, _context: Any, tensor: Tensor, address: int) -> None:
        self._addresses[self._offset + tensor.index] = address

    def set_allocator(self, _context: Any, tensor: Tensor, *_: Any) -> None:
        raise RuntimeFailure(
            "run",
            f"the shape of output {tensor.name!r} depends on the data",
            f"tensorrt {self._trt.__version__}",
            "such outputs can be read from TensorRT 8.5 on",
        )

    def let_go(self) -> None:
        """As :meth:`NamedIo.let_go`."""
        self._engine = None

    def refusal(self) -> RuntimeFailure | None:
        """As :meth:`NamedIo.refusal`; nothing is allocated while it runs."""
        return None

    def enqueue(self, context: Any, stream: Any) -> bool:
        return bool(context.execute_async_v2(self._addresses, stream.handle))


def _admitting(limits: Sequence[Mapping[str, Sequence[Any]]], shapes: Shapes) -> int:
    for index, profile in enumerate(limits):
        if all(_within(shapes[name], low, high) for name, (low, _, high) in profile.items()):
            return index
    shown = "; ".join(
        f"profile {k}: " + ", ".join(f"{name} {list(low)} to {list(high)}" for name, (low, _, high) in profile.items())
        for k, profile in enumerate(limits)
    )
    given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    raise RuntimeFailure("length", f"no optimization profile admits {given}", todo=shown)


def _within(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    return len(shape) == len(tuple(low)) and all(a <= n <= b for n, a, b in zip(shape, low, high, strict=True))


def _new_allocator(trt: Any, cuda: Any, buffers: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Any:
    """Memory for outputs whose size is known only while they are computed; it grows and is kept."""

    class Allocator(trt.IOutputAllocator):  # type: ignore[name-defined, misc, unused-ignore]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.failure: RuntimeFailure | None = None

        def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:  # noqa: ARG002
            known = buffers.get(tensor_name)
            if known is None or known.size_bytes < size:
                try:
                    buffers[tensor_name] = cuda.allocate(size)
                except RuntimeFailure as failure:  # C++ above swallows it
                    self.failure = self.failure or failure
                    return 0
                if known is not None:
                    known.free()
            return int(buffers[tensor_name].address)

        def reallocate_output_async(
            self,
            tensor_name: str,
            memory: int,
            size: int,
            alignment: int,
            stream: int,  # noqa: ARG002
        ) -> int:
            return self.reallocate_output(tensor_name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            shapes[tensor_name] = tuple(shape)

    return Allocator()
