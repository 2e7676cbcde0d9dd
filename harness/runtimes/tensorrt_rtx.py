"""TensorRT-RTX: builds engines ahead of time, on a CPU as well; they run where a supported GPU is.

Networks are always strongly typed: FP16 and INT8 come from the types in the model, INT8 as Q/DQ nodes with zero
point 0.
"""

# ruff: noqa: ANN401 - tensorrt_rtx ships no types that hold for every version

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from .base import Engine, Runtime, RuntimeFailure, read_options
from .probe import ONLY_BUILDS, gpu_count

__all__ = ["TensorRtRtx"]

_DEFAULTS: dict[str, Any] = {
    "profiles": [],
    "compute_capabilities": ["SM89"],
    "workspace_bytes": 1 << 30,
}
_TRIPLE = 3


class TensorRtRtx(Runtime):
    """Options of a build.

    ``profiles``: a list of ``{input: (min shape, opt shape, max shape)}``, one an optimization profile, every
    input with a varying axis in each. An input whose values decide a shape (a shape tensor) has its values at min,
    opt and max behind its shapes, six lists; where they decide none, they are not used.
    ``compute_capabilities``: names of ``ComputeCapability``, ``["SM89"]``. ``workspace_bytes``: 1 GiB.
    """

    name = "tensorrt-rtx"

    def describe_impl(self) -> dict[str, Any]:
        import tensorrt_rtx

        gpus = gpu_count()
        return {
            "library": self.name,
            "version": tensorrt_rtx.__version__,
            "device": "GPU" if gpus else "CPU",
            "providers": [],
            "precisions": ["fp32", "fp16", "int8"],
            "routes": ["qdq_strong"],
            "can_run": self.name not in ONLY_BUILDS,
            "can_build": True,
        }

    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        import tensorrt_rtx as trt

        settings = read_options(options, _DEFAULTS, self.name)
        log = _new_log(trt)
        start = time.perf_counter()
        builder = trt.Builder(log)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log)
        if not parser.parse(Path(source).read_bytes()):
            said = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise _refused("the parser refuses this model", source, [*said, *log.errors])
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings["workspace_bytes"]))
        _set_capabilities(trt, config, settings["compute_capabilities"])
        for index, shapes in enumerate(settings["profiles"]):
            _add_profile(builder, network, config, index, shapes, log)
        engine = builder.build_serialized_network(network, config)
        if engine is None:  # it never raises, and the reason is nowhere but in the log
            raise _refused("the builder refuses this model", source, [*log.errors, *log.warnings])
        content = memoryview(engine)
        Path(target).write_bytes(content)
        return {
            "seconds": time.perf_counter() - start,
            "bytes": content.nbytes,
            "log": log.errors,
            "warnings": log.warnings,
            # Nothing shows it without a GPU, and the engine's size, dominated by kernel code, does not tell.
            "coverage": None,
        }

    def load_impl(self, path: str, options: Mapping[str, Any]) -> Engine:  # noqa: ARG002
        raise RuntimeFailure(
            "environment",
            "TensorRT-RTX engines can be built here, not run",
            path,
            "it runs where a GPU of its compute capability is; driving it there is not supported yet",
        )


def _new_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps what the library says; a failed build has no other explanation."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)

    return Log()


def _set_capabilities(trt: Any, config: Any, names: Sequence[str]) -> None:
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None or not config.set_compute_capability(capability, index):
            known = [n for n in trt.ComputeCapability.__members__ if n != "NONE"]
            raise RuntimeFailure(
                "usage", f"no compute capability {name!r}", "tensorrt-rtx", f"one of {', '.join(known)}"
            )


def _add_profile(
    builder: Any, network: Any, config: Any, index: int, shapes: Mapping[str, Sequence[Sequence[int]]], log: Any
) -> None:
    where = f"tensorrt-rtx, profile {index}"
    inputs = {tensor.name: tuple(tensor.shape) for tensor in map(network.get_input, range(network.num_inputs))}
    varying = [name for name, shape in inputs.items() if -1 in shape]
    unknown = sorted(set(shapes) - set(inputs))
    if unknown:  # TensorRT takes it in silence
        raise RuntimeFailure("usage", f"no input is called {unknown[0]!r}", where, f"inputs are {', '.join(inputs)}")
    missing = [name for name in varying if name not in shapes]
    if missing:
        raise RuntimeFailure("usage", f"no shapes for input {missing[0]!r}", where, f"give {', '.join(varying)}")
    deciding = [tensor.name for tensor in map(network.get_input, range(network.num_inputs)) if tensor.is_shape_tensor]
    unvalued = [name for name in deciding if len(shapes.get(name, ())) <= _TRIPLE]
    if unvalued:  # TensorRT says so too, but not what to do
        raise RuntimeFailure(
            "usage",
            f"the values of input {unvalued[0]!r} decide a shape, and the profile has none for it",
            where,
            f"if it holds the valid length, name it: --length-input {unvalued[0]}=NAME",
        )
    profile = builder.create_optimization_profile()
    for name, lists in shapes.items():
        low, opt, high = lists[:_TRIPLE]
        try:
            profile.set_shape(name, tuple(low), tuple(opt), tuple(high))
            if name in deciding:
                profile.set_shape_input(name, *(tuple(values) for values in lists[_TRIPLE:]))
        except (RuntimeError, ValueError) as error:
            raise RuntimeFailure("usage", f"{name}: {' '.join(map(str, lists))}: {error}", where) from error
    if config.add_optimization_profile(profile) < 0:
        detail = "\n".join(log.errors)
        raise RuntimeFailure("usage", "min, opt and max do not follow one another", where, detail=detail)


def _refused(what: str, source: str, said: Sequence[str]) -> RuntimeFailure:
    return RuntimeFailure("build", what, source, detail="\n".join(dict.fromkeys(said)) or "it gave no reason")
