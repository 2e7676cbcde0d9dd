"""A loaded TensorRT engine: feeds bound to the device, runs timed by events, what the inspector tells."""

# ruff: noqa: ANN401 - no types hold for every version

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from .base import Engine, RuntimeFailure
from .cuda import Graph
from .trt_common import narrowed
from .trt_io import BindingIo, NamedIo, Tensor

if TYPE_CHECKING:
    from .cuda import Buffer, Cuda

__all__ = ["TensorRtEngine"]


class Bound:
    """A feed on the device, with where its outputs go, in a context of its own or the engine's.

    :param shapes: input -> shape.
    """

    def __init__(self, context: Any, stream: Any, profile: int, shapes: dict[str, tuple[int, ...]]) -> None:
        self.context, self.stream, self.profile, self.shapes = context, stream, profile, shapes
        self.inputs: dict[str, Buffer] = {}
        self.host: dict[str, Any] = {}  # values of shape tensors, which TensorRT reads on the host
        self.outputs: dict[str, Buffer] = {}
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self.ready: tuple[tuple[Tensor, int], ...] = ()  # outputs and their addresses, where their shapes are known
        self.graph: Graph | None = None
        self.events: tuple[Any, Any] | None = None  # start and end, of a feed with a context of its own

    def free(self) -> None:
        """Give back what it holds on the device; the GPU's context has to be current."""
        self.forget_graph()
        for buffer in (*self.inputs.values(), *self.outputs.values()):
            buffer.free()
        self.inputs, self.outputs, self.ready, self.events = {}, {}, (), None

    def forget_graph(self) -> None:
        """What was captured holds for the shapes that the context had then, and for no others."""
        if self.graph is not None:
            self.graph.free()
            self.graph = None


class TensorRtEngine(Engine):
    """One execution context, whose profile and shapes follow what is run.

    Feeds are bound to the device when they are kept, with memory for their outputs. ``timed`` gives ``device_ns``,
    between two events around the enqueue, and ``wall_ns``, from before the shapes are set until the stream is idle;
    copies are in neither. The first run after another feed's holds the change of shape and profile, and with CUDA
    graphs an eager run and a new capture: a graph holds for the shapes that it was captured at.

    :param before: the GPU's free bytes before the engine was read.
    """

    def __init__(
        self, trt: Any, cuda: Cuda, runtime: Any, engine: Any, log: Any, before: int, *, cuda_graph: bool
    ) -> None:
        self._trt, self._cuda, self._runtime, self._engine, self._log = trt, cuda, runtime, engine, log
        self._io = NamedIo(trt, engine) if hasattr(engine, "num_io_tensors") else BindingIo(trt, engine)
        self._wants_graph = cuda_graph
        self._before, self._before_context = before, cuda.free_bytes()
        self._context = self._new_context()
        self._after_context = cuda.free_bytes()
        self._stream = cuda.stream()
        self._start, self._end = cuda.event(), cuda.event()
        self._active: Bound | None = None
        self._profile = 0
        super().__init__([_facts(one) for one in self._io.inputs], [_facts(one) for one in self._io.outputs])

    # -- Engine -------------------------------------------------------------------------------------------------

    def adapt_impl(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """int64 where the engine takes int32, as TensorRT 8 and 9 make of every int64 input of an ONNX file."""
        wanted = {one.name: one.dtype for one in self._io.inputs}
        return {name: narrowed(name, array, wanted.get(name, "")) for name, array in feeds.items()}

    def run_impl(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        with self._cuda.current():
            bound = self._bound(feeds, self._context, self._stream)
            try:
                self._activate(bound)
                self._enqueue(bound)
                bound.stream.synchronize()
                return self._fetched(bound)
            finally:
                self._active = None
                bound.free()

    def result_impl(self, kept: Bound) -> dict[str, Any]:
        with self._cuda.current():
            return self._fetched(kept)

    def burst_impl(self, feeds: Mapping[str, Any], warmup: int, repeats: int) -> list[int]:
        kept = self.keep_impl(feeds)
        try:
            return self.timed_impl(kept, warmup, repeats)["device_ns"]
        finally:
            self.let_go_impl(kept)

    def keep_impl(self, feeds: Mapping[str, Any]) -> Bound:
        with self._cuda.current():
            bound = self._ready(self._bound(feeds, self._context, self._stream))
            self._active = None  # so that its first run is one after a change of shape, whichever was kept last
            return bound

    def keep_more_impl(self, feeds: Mapping[str, Any]) -> Bound:
        """A further context, to run at the same time as the others."""
        with self._cuda.current():
            bound = self._bound(feeds, self._new_context(), self._cuda.stream())
            bound.events = (self._cuda.event(), self._cuda.event())
            return self._ready(bound)

    def let_go_impl(self, kept: Bound) -> None:
        with self._cuda.current():
            if self._active is kept:
                self._active = None
            kept.free()

    def timed_impl(self, kept: Bound, warmup: int, repeats: int) -> dict[str, list[int]]:
        device_ns, wall_ns = [], []
        start, end = kept.events or (self._start, self._end)
        with self._cuda.current():
            for _ in range(warmup):
                self._prepare(kept)
                self._launch(kept)
            kept.stream.synchronize()
            for _ in range(repeats):
                began = time.perf_counter_ns()
                self._prepare(kept)
                start.record(kept.stream)
                self._launch(kept)
                end.record(kept.stream)
                end.synchronize()
                wall_ns.append(time.perf_counter_ns() - began)
                device_ns.append(round(start.time_till(end) * 1e6))
        return {"wall_ns": wall_ns, "device_ns": device_ns}

    def coverage_impl(self) -> dict[str, Any] | None:
        from .trt_layers import coverage

        return coverage(self.layers_impl(None))

    def layers_impl(self, kept: Bound | None) -> list[dict[str, Any]]:
        """The inspector's word on every layer; with a kept feed, at its shapes."""
        if not hasattr(self._engine, "create_engine_inspector"):
            return []
        with self._cuda.current():
            inspector = self._engine.create_engine_inspector()
            if kept is not None:
                self._activate(kept)
                inspector.execution_context = kept.context
            text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        from .trt_layers import parsed

        layers = parsed(text).get("Layers", [])
        return [one if isinstance(one, dict) else {"Name": str(one)} for one in layers]

    def layer_times_impl(self, kept: Bound, repeats: int) -> dict[str, list[float]]:
        """Layer -> ms of each run, by the profiler; profiling makes runs slower."""
        times: dict[str, list[float]] = {}

        class Profiler(self._trt.IProfiler):  # type: ignore[name-defined, misc, unused-ignore]
            def __init__(self, trt: Any) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        with self._cuda.current():
            self._activate(kept)
            kept.context.profiler = Profiler(self._trt)
            try:
                for _ in range(repeats):  # never as a graph: its launch reports no layers
                    self._enqueue(kept)
                    kept.stream.synchronize()
            finally:
                kept.context.profiler = None  # or every later run would be profiled, and slower
        return times

    def memory_impl(self) -> dict[str, int]:
        """``context_bytes`` as the engine states it; what the engine and its context took off the free memory."""
        stated = next(
            (int(getattr(self._engine, name)) for name in ("device_memory_size_v2", "device_memory_size")
             if hasattr(self._engine, name)), 0,
        )  # fmt: skip
        return {
            "context_bytes": stated,
            "engine_bytes": max(0, self._before - self._before_context),
            "taken_bytes": self._before_context - self._after_context,
        }

    def profiles_impl(self) -> list[dict[str, list[list[int]]]]:
        with self._cuda.current():
            return [
                {name: [[int(n) for n in shape] for shape in shapes] for name, shapes in profile.items()}
                for profile in self._io.limits()
            ]

    def close_impl(self) -> None:
        with self._cuda.current():
            self._active = None
            self._io.let_go()
            self._context = self._engine = self._runtime = None

    # -- how ----------------------------------------------------------------------------------------------------

    def _new_context(self) -> Any:
        context = self._create_context()
        if context is None:
            raise RuntimeFailure(
                "run",
                "TensorRT makes no execution context",
                todo="is there memory left on the GPU?",
                detail=self._said(),
            )
        return context

    def _create_context(self) -> Any:
        return self._engine.create_execution_context()

    def _bound(self, feeds: Mapping[str, Any], context: Any, stream: Any) -> Bound:
        shapes = {name: tuple(int(n) for n in array.shape) for name, array in feeds.items()}
        bound = Bound(context, stream, self._io.profile_for(shapes), shapes)
        for tensor in self._io.inputs:
            array = np.ascontiguousarray(feeds[tensor.name])
            if tensor.on_host:
                bound.host[tensor.name] = array
            if tensor.on_device:
                bound.inputs[tensor.name] = self._cuda.allocate(array.nbytes)
                self._cuda.to_device(bound.inputs[tensor.name], array)
        return bound

    def _activate(self, bound: Bound) -> None:
        """Set profile, shapes and addresses, unless they are; the outputs' memory is made the first time."""
        own = bound.context is not self._context
        if self._active is bound or (own and bound.ready):
            return
        bound.forget_graph()
        if own:
            self._choose_profile(bound)
        else:
            self._active = None  # until all of it is set: an error on the way leaves half of each
            if bound.profile != self._profile:
                self._profile = -1
                self._choose_profile(bound)
                self._profile = bound.profile
        self._set_inputs(bound)
        if bound.ready:
            for tensor, address in bound.ready:
                self._io.set_output(bound.context, tensor, address)
        else:
            self._address_outputs(bound)
        if not own:
            self._active = bound

    def _choose_profile(self, bound: Bound) -> None:
        if not self._io.choose_profile(bound.context, bound.profile, bound.stream):
            todo = "before TensorRT 9 every context at work needs a profile of its own"
            raise RuntimeFailure("run", f"profile {bound.profile} cannot be chosen", "", todo, self._said())
        bound.stream.synchronize()

    def _set_inputs(self, bound: Bound) -> None:
        for tensor in self._io.inputs:
            host = bound.host.get(tensor.name)
            address = bound.inputs[tensor.name].address if tensor.on_device else bound.host[tensor.name].ctypes.data
            if not self._io.set_input(bound.context, tensor, bound.shapes[tensor.name], address, host):
                shape = list(bound.shapes[tensor.name])
                raise RuntimeFailure("run", f"input {tensor.name!r} cannot have shape {shape}", detail=self._said())

    def _address_outputs(self, bound: Bound) -> None:
        known = []
        for tensor in self._io.outputs:
            shape = self._io.output_shape(bound.context, tensor)
            if min(shape, default=0) < 0:  # known only when it has run
                self._io.set_allocator(bound.context, tensor, self._cuda, bound.outputs, bound.output_shapes)
                continue
            bound.output_shapes[tensor.name] = shape
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
            bound.outputs[tensor.name] = self._cuda.allocate(size)
            known.append((tensor, bound.outputs[tensor.name].address))
            self._io.set_output(bound.context, *known[-1])
        if len(known) == len(self._io.outputs):
            bound.ready = tuple(known)

    def _ready(self, bound: Bound) -> Bound:
        """With memory for its outputs, where their shapes are known before it runs; all of it freed if that fails."""
        with contextlib.ExitStack() as undone:
            undone.callback(bound.free)
            self._activate(bound)
            undone.pop_all()
        return bound

    def _prepare(self, bound: Bound) -> None:
        """Make it the feed that runs next; its graph is captured behind an eager run, as capturing asks for."""
        self._activate(bound)
        if self._wants_graph and bound.graph is None:
            self._enqueue(bound)
            bound.stream.synchronize()
            bound.graph = Graph(bound.stream, lambda: self._io.enqueue(bound.context, bound.stream))

    def _launch(self, bound: Bound) -> None:
        if bound.graph is not None:
            bound.graph.launch(bound.stream)
        else:
            self._enqueue(bound)

    def _enqueue(self, bound: Bound) -> None:
        if not self._io.enqueue(bound.context, bound.stream):
            refused = self._io.refusal()
            if refused is not None:
                raise refused
            raise RuntimeFailure("run", "TensorRT did not run the engine", detail=self._said())

    def _fetched(self, bound: Bound) -> dict[str, Any]:
        outputs = {}
        for tensor in self._io.outputs:
            array = np.empty(bound.output_shapes[tensor.name], tensor.dtype)
            self._cuda.to_host(array, bound.outputs[tensor.name])
            outputs[tensor.name] = array
        return outputs

    def _said(self) -> str:
        return "\n".join(self._log.errors[-5:])


def _facts(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": [None if n < 0 else n for n in tensor.shape]}
