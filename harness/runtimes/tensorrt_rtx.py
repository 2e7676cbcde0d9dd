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
from .probe import ONLY_BUILDS, gpu_count, gpus
from .trt_common import add_profile, libraries, new_log, parse_onnx, refused

__all__ = ["TensorRtRtx"]

_DEFAULTS: dict[str, Any] = {
    "profiles": [],
    "compute_capabilities": ["SM89"],
    "workspace_bytes": 1 << 30,
}


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

    def tied_to_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Engines are built for compute capabilities, which are options; ``CURRENT`` is the GPU that is here."""
        return {"gpus": gpus(), "libraries": libraries()}

    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        import tensorrt_rtx as trt

        settings = read_options(options, _DEFAULTS, self.name)
        log = new_log(trt)
        start = time.perf_counter()
        builder = trt.Builder(log)
        network = builder.create_network(0)
        parse_onnx(trt, network, source, log)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings["workspace_bytes"]))
        _set_capabilities(trt, config, settings["compute_capabilities"])
        for index, shapes in enumerate(settings["profiles"]):
            add_profile(builder, network, config, index, shapes, log)
        engine = builder.build_serialized_network(network, config)
        if engine is None:  # it never raises, and the reason is nowhere but in the log
            raise refused("the builder refuses this model", source, [*log.errors, *log.warnings])
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


def _set_capabilities(trt: Any, config: Any, names: Sequence[str]) -> None:
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None or not config.set_compute_capability(capability, index):
            known = [n for n in trt.ComputeCapability.__members__ if n != "NONE"]
            raise RuntimeFailure(
                "usage", f"no compute capability {name!r}", "tensorrt-rtx", f"one of {', '.join(known)}"
            )
