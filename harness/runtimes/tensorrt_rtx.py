"""TensorRT-RTX: builds engines ahead of time, on a CPU as well, and runs them where a GPU is that it supports.

Networks are always strongly typed: FP16 and INT8 come from the types in the model, INT8 as Q/DQ nodes with zero
point 0. Engines hold kernels to be compiled on the GPU; they run by the same API as those of TensorRT 10 and 11.
tensorrt_rtx is imported before pycuda (see :mod:`cuda`).
"""

# ruff: noqa: ANN401 - tensorrt_rtx ships no types that hold for every version

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from .base import Engine, Runtime, RuntimeFailure, read_options
from .cuda import Cuda, lost
from .probe import against_running, gpus, pycuda, unsupported
from .rtx_layers import coverage
from .tensorrt_engine import TensorRtEngine
from .trt_common import add_profile, libraries, new_log, parse_onnx, refused

__all__ = ["TensorRtRtx"]

_DEFAULTS: dict[str, Any] = {
    "profiles": [],
    "compute_capabilities": None,
    "workspace_bytes": 1 << 30,
    "tf32": True,
    "device": 0,
    "cuda_graph": False,
    "specialization": "EAGER",
}
_WITHOUT_GPU = "SM89"
_INT8_SINCE = "if it is INT8: matrix products build from TensorRT-RTX 1.5 on, convolutions from 1.7"


class TensorRtRtx(Runtime):
    """Options of a build.

    ``profiles``: a list of ``{input: (min shape, opt shape, max shape)}``, one an optimization profile, every
    input with a varying axis in each. An input whose values decide a shape (a shape tensor) has its values at min,
    opt and max behind its shapes, six lists; where they decide none, they are not used.
    ``compute_capabilities``: names of ``ComputeCapability``, ``["SM89"]``; None is that of the GPU here, SM89 where
    none is supported. ``workspace_bytes``: 1 GiB. ``tf32``: whether FP32 operators may compute in TF32.

    Options of a load: ``device``; ``cuda_graph`` as for TensorRT; ``specialization``, when kernels for the shapes at
    hand are compiled. ``EAGER``: within the first run with them. ``LAZY``, the library's own default: in the
    background, while slower ones run, so that a measurement would change at an unknown moment. ``NONE``: never.
    """

    name = "tensorrt-rtx"

    def describe_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        import tensorrt_rtx

        version = tensorrt_rtx.__version__
        found = gpus()
        reasons = against_running(self.name, version, found)
        usable = bool(found) and not unsupported(self.name, version, found[0]["compute_capability"])
        return {
            "library": self.name,
            "version": version,
            "device": f"{found[0]['name']} {found[0]['compute_capability']}" if usable else "CPU",
            "gpu": found[0] if found else None,
            "providers": [],
            "precisions": ["fp32", "fp16", "int8"],
            "routes": ["qdq_strong"],
            "can_run": not reasons,
            "can_build": True,
            "why": "; ".join(reasons),
        }

    def tied_to_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Engines are built for compute capabilities, which are options; where none is given, for the GPU here."""
        return {"gpus": gpus(), "libraries": libraries()}

    def lost_impl(self) -> str:
        return lost()

    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        import tensorrt_rtx as trt

        settings = read_options(options, _DEFAULTS, self.name)
        log = new_log(trt)
        start = time.perf_counter()
        builder = trt.Builder(log)
        network = builder.create_network(0)
        parse_onnx(trt, network, source, log)
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings["workspace_bytes"]))
        if not settings["tf32"]:
            config.clear_flag(trt.BuilderFlag.TF32)
        _set_capabilities(trt, config, settings["compute_capabilities"] or [_capability_here(trt)])
        for index, shapes in enumerate(settings["profiles"]):
            add_profile(builder, network, config, index, shapes, log)
        engine = builder.build_serialized_network(network, config)
        if engine is None:  # it never raises, and the reason is nowhere but in the log
            failure = refused("the builder refuses this model", source, [*log.errors, *log.warnings])
            failure.todo = failure.todo or _INT8_SINCE
            raise failure
        content = memoryview(engine)
        Path(target).write_bytes(content)
        return {
            "seconds": time.perf_counter() - start,
            "bytes": content.nbytes,
            "log": log.errors,
            "warnings": log.warnings,
            "coverage": coverage(bytes(content)),  # no inspector: it wants the engine loaded, and that wants a GPU
        }

    def load_impl(self, path: str, options: Mapping[str, Any]) -> Engine:
        import tensorrt_rtx as trt

        settings = read_options(options, _DEFAULTS, self.name)
        strategies = trt.DynamicShapesKernelSpecializationStrategy.__members__
        if settings["specialization"] not in strategies:
            what = f"no specialization {settings['specialization']!r}"
            raise RuntimeFailure("usage", what, self.name, f"one of {', '.join(strategies)}")
        found = gpus()
        if not found or pycuda()[1]:
            reasons = "; ".join(against_running(self.name, trt.__version__, found))
            todo = "run where a supported GPU and pycuda are; builds need neither"
            raise RuntimeFailure("environment", f"engines can be built here, not run: {reasons}", path, todo)
        # Whether it supports the GPU is for the library to say: a newer one may support more than we know of.
        cuda = Cuda(settings["device"])
        with cuda.current():
            log = new_log(trt)
            runtime = trt.Runtime(log)
            before = cuda.free_bytes()
            engine = runtime.deserialize_cuda_engine(Path(path).read_bytes())
            if engine is None:
                raise _not_loaded(trt, path, cuda.describe()["compute_capability"], log)
            strategy = strategies[settings["specialization"]]
            graph = bool(settings["cuda_graph"])
            return _RtxEngine(trt, cuda, runtime, engine, log, before, strategy, cuda_graph=graph)


class _RtxEngine(TensorRtEngine):
    """As TensorRT's, with the library told when to compile kernels."""

    def __init__(
        self, trt: Any, cuda: Cuda, runtime: Any, engine: Any, log: Any, before: int, strategy: Any, *,
        cuda_graph: bool,
    ) -> None:  # fmt: skip
        self._strategy = strategy
        super().__init__(trt, cuda, runtime, engine, log, before, cuda_graph=cuda_graph)

    def _create_context(self) -> Any:
        runtime_config = self._engine.create_runtime_config()
        runtime_config.dynamic_shapes_kernel_specialization_strategy = self._strategy
        return self._engine.create_execution_context(runtime_config)


def _not_loaded(trt: Any, path: str, capability: str, log: Any) -> RuntimeFailure:
    """A GPU that it does not support, or an engine that is not for this version and GPU; by the log, nothing raises."""
    detail = "\n".join(log.errors) or "it gave no reason"
    known = unsupported("tensorrt-rtx", trt.__version__, capability)
    if known:
        return RuntimeFailure("environment", known, path, "run on another GPU; builds need none", detail)
    todo = "engines belong to a version and to compute capabilities: build it again here"
    return RuntimeFailure("build", "TensorRT-RTX cannot load this engine", path, todo, detail)


def _capability_here(trt: Any) -> str:
    """Of the first GPU, as ``ComputeCapability`` calls it; SM89 where there is none that it can build for."""
    found = gpus()
    name = f"SM{found[0]['compute_capability'].replace('.', '')}" if found else ""
    return name if name in trt.ComputeCapability.__members__ else _WITHOUT_GPU


def _set_capabilities(trt: Any, config: Any, names: Sequence[str]) -> None:
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None or not config.set_compute_capability(capability, index):
            known = [n for n in trt.ComputeCapability.__members__ if n != "NONE"]
            raise RuntimeFailure(
                "usage", f"no compute capability {name!r}", "tensorrt-rtx", f"one of {', '.join(known)}"
            )
