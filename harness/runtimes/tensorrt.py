"""TensorRT 8.4 to 11: builds engines of ONNX files and runs them on a GPU.

Differences between versions are asked by ``hasattr``, never by number. TensorRT is imported before pycuda (see
:mod:`cuda`).
"""

# ruff: noqa: ANN401 - no types hold for every version

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Mapping

from .base import Engine, Runtime, RuntimeFailure, read_options
from .cuda import Cuda, lost
from .tensorrt_engine import TensorRtEngine
from .trt_calibrator import Calibrating, load_batches, new_calibrator
from .trt_common import (
    DTYPES,
    add_profile,
    libraries,
    new_log,
    not_loaded,
    parse_onnx,
    profile_of,
    refused,
)

__all__ = ["TensorRt"]

_DEFAULTS: dict[str, Any] = {
    "profiles": [],
    "flags": [],
    "strong": False,
    "workspace_bytes": 4 << 30,
    "tactic_sources": None,
    "optimization_level": None,
    "timing_cache": True,
    "build": 0,
    "algorithm": "",
    "calibration_profile": None,
    "files": {},
    "device": 0,
    "cuda_graph": False,
}
_OPT = 1


class TensorRt(Runtime):
    """Options of a build.

    ``profiles``: as :class:`harness.runtimes.tensorrt_rtx.TensorRtRtx`. ``flags``: names of ``BuilderFlag`` to set
    (``FP16``, ``INT8``); ``-TF32`` clears one. ``strong``: a strongly typed network, where types come from the model
    alone. ``workspace_bytes``: 4 GiB. ``tactic_sources``: names of ``TacticSource``; None is the library's choice.
    ``optimization_level``: 0 to 5, from 8.6. ``timing_cache``: keep kernel timings between builds, by version and
    GPU. ``build``: another number is another build of the same engine; its timings are its own.

    ``algorithm``: INT8 by a calibrator of that kind (``EntropyCalibration2``, ``MinMaxCalibration``), with
    ``files["batches"]`` (an ``.npz``, see :func:`harness.runtimes.trt_calibrator.load_batches`) or ``files["cache"]``.
    ``calibration_profile``: shapes as of a profile, whose opt calibrates; the first profile where None.

    Options of a load: ``device``, ``cuda_graph`` (steady-state runs are captured once and launched).
    """

    name = "tensorrt"

    def describe_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:
        trt = _imported()
        cuda = Cuda(int(options.get("device", _DEFAULTS["device"])))
        gpu = cuda.describe()
        flags, creation = trt.BuilderFlag, getattr(trt, "NetworkDefinitionCreationFlag", None)
        routes = []
        if hasattr(trt, "IInt8EntropyCalibrator2"):
            routes += ["calibrator", "cache"]
        if hasattr(flags, "INT8"):
            routes.append("qdq")
        if hasattr(creation, "STRONGLY_TYPED"):
            routes.append("qdq_strong")
        return {
            "library": self.name,
            "version": trt.__version__,
            "device": gpu["name"],
            "gpu": gpu,
            "providers": [],
            "precisions": ["fp32", "fp16", "int8"],
            "routes": routes,
            "can_run": True,
            "can_build": True,
        }

    def tied_to_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The GPU that the options name, which need not be the first one, the driver, and the libraries beside."""
        trt, cuda = _imported(), Cuda(int(options.get("device", _DEFAULTS["device"])))
        driver = cuda.driver_version()
        return {"version": trt.__version__, "gpu": cuda.describe(), "driver": driver, "libraries": libraries()}

    def lost_impl(self) -> str:
        return lost()

    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
        trt = _imported()
        settings = read_options(options, _DEFAULTS, self.name)
        cuda = Cuda(settings["device"])
        with cuda.current():
            return self._built(trt, cuda, source, target, settings)

    def load_impl(self, path: str, options: Mapping[str, Any]) -> Engine:
        trt = _imported()
        settings = read_options(options, _DEFAULTS, self.name)
        cuda = Cuda(settings["device"])
        with cuda.current():
            log = new_log(trt)
            runtime = trt.Runtime(log)
            before = cuda.free_bytes()
            engine = runtime.deserialize_cuda_engine(Path(path).read_bytes())
            if engine is None:
                raise not_loaded(path, f"TensorRT {trt.__version__}, {cuda.describe()['name']}", log.errors)
            return TensorRtEngine(trt, cuda, runtime, engine, log, before, cuda_graph=bool(settings["cuda_graph"]))

    def _built(self, trt: Any, cuda: Cuda, source: str, target: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        log = new_log(trt)
        start = time.perf_counter()
        builder = _builder(trt, log)
        network = builder.create_network(_creation_flags(trt, strong=settings["strong"]))
        parse_onnx(trt, network, source, log)
        config = builder.create_builder_config()
        _set_workspace(trt, config, int(settings["workspace_bytes"]))
        _set_flags(trt, config, settings["flags"])
        _set_tactics(trt, config, settings)
        if hasattr(trt, "ProfilingVerbosity") and hasattr(config, "profiling_verbosity"):
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        for index, shapes in enumerate(settings["profiles"]):
            add_profile(builder, network, config, index, shapes, log)
        timings = self._timing_cache(config, settings)
        calibrating, calibrator = _calibration(trt, cuda, builder, network, config, settings)
        try:
            engine = builder.build_serialized_network(network, config)
        finally:
            if calibrating is not None:
                calibrating.free()
        if calibrating is not None and calibrating.playback.error is not None:
            calibrating.check(source)
        if engine is None:  # it never raises, and the reason is nowhere but in the log
            raise refused("the builder refuses this model", source, [*log.errors, *log.warnings])
        if calibrating is not None:
            calibrating.check(source)
        content = memoryview(engine)
        Path(target).write_bytes(content)
        seconds = time.perf_counter() - start
        if timings is not None:
            _store_timings(config, timings)
        del calibrator
        return {
            "seconds": seconds,
            "bytes": content.nbytes,
            "log": [*log.errors, *log.lines],
            "warnings": log.warnings,
            "coverage": None,  # of the loaded engine: an inspector wants one
            "flags": sorted(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)),
            "calibration": calibrating.facts() if calibrating else None,
        }

    def _timing_cache(self, config: Any, settings: Mapping[str, Any]) -> Path | None:
        """Lay what earlier builds have measured under this one; the file to keep it in."""
        if not settings["timing_cache"] or self.cache is None:
            return None
        parts = {**self.tied_to_impl(settings), "build": settings["build"]}
        path = Path(self.cache, "timing", hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24])
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_bytes() if path.is_file() else b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):  # damaged, or of another version after all
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return path


def _imported() -> Any:
    import tensorrt  # type: ignore[import-not-found, unused-ignore]

    return tensorrt


def _builder(trt: Any, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # the factory of the binding returned no object: there is no usable GPU
        raise RuntimeFailure(
            "environment",
            f"TensorRT {trt.__version__} makes no builder here",
            todo="it needs a GPU that it supports, and a driver: see nvidia-smi",
            detail="\n".join([*log.errors, str(error)]),
        ) from error


def _creation_flags(trt: Any, *, strong: bool) -> int:
    """Enum values move between versions, so they are asked for by name."""
    creation = getattr(trt, "NetworkDefinitionCreationFlag", None)
    wanted = ["STRONGLY_TYPED"] if strong else []
    wanted.append("EXPLICIT_BATCH")
    if strong and not hasattr(creation, "STRONGLY_TYPED"):
        raise RuntimeFailure(
            "usage",
            f"TensorRT {trt.__version__} knows no strongly typed networks",
            todo="they came with 9.x; use the route qdq",
        )
    bits = 0
    for name in wanted:
        if hasattr(creation, name):
            bits |= 1 << int(getattr(creation, name))
    return bits


def _set_workspace(trt: Any, config: Any, size_bytes: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size_bytes)
    else:
        config.max_workspace_size = size_bytes


def _set_flags(trt: Any, config: Any, names: list[str]) -> None:
    for name in names:
        flag = getattr(trt.BuilderFlag, name.lstrip("-"), None)
        if flag is None:
            raise RuntimeFailure(
                "usage",
                f"TensorRT {trt.__version__} has no builder flag {name.lstrip('-')!r}",
                todo="from 11 on precisions come from the model: route qdq_strong"
                if name in {"FP16", "INT8"}
                else f"there are {', '.join(trt.BuilderFlag.__members__)}",
            )
        (config.clear_flag if name.startswith("-") else config.set_flag)(flag)


def _set_tactics(trt: Any, config: Any, settings: Mapping[str, Any]) -> None:
    names = settings["tactic_sources"]
    if names is not None:
        known = trt.TacticSource.__members__
        unknown = [name for name in names if name not in known]
        if unknown:
            raise RuntimeFailure("usage", f"no tactic source {unknown[0]!r}", todo=f"there are {', '.join(known)}")
        config.set_tactic_sources(sum(1 << int(known[name]) for name in names))
    level = settings["optimization_level"]
    if level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise RuntimeFailure(
                "usage", f"TensorRT {trt.__version__} has no optimization levels", todo="they came with 8.6"
            )
        config.builder_optimization_level = int(level)


def _calibration(
    trt: Any, cuda: Cuda, builder: Any, network: Any, config: Any, settings: Mapping[str, Any]
) -> tuple[Calibrating | None, Any]:
    """What calibrates, and the object that has to live until the build has returned."""
    algorithm, files = settings["algorithm"], settings["files"]
    if not algorithm:
        return None, None
    cache = Path(files["cache"]).read_bytes() if "cache" in files else None
    batches = load_batches(files["batches"]) if "batches" in files else []
    if cache is None and not batches:
        raise RuntimeFailure("usage", "a calibrator without batches and without a cache", todo="give one of them")
    shapes = settings["calibration_profile"] or (settings["profiles"] or [{}])[0]
    opt = {name: lists[_OPT] for name, lists in shapes.items()}
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    dtypes = {tensor.name: DTYPES[tensor.dtype.name] for tensor in inputs}
    least = {one.name: _volume_bytes(opt.get(one.name, one.shape), dtypes[one.name]) for one in inputs}
    calibrating = Calibrating(batches, cache)
    calibrator = new_calibrator(trt, cuda, algorithm, calibrating, least, dtypes)
    if shapes:  # never left to the default: it is the first profile here, and the last one in Polygraphy
        at_opt = {name: [lists[_OPT]] * 3 + [lists[3 + _OPT]] * 3 if len(lists) > 3 else [lists[_OPT]] * 3
                  for name, lists in shapes.items()}  # fmt: skip
        config.set_calibration_profile(profile_of(builder, network, 0, at_opt))
    config.int8_calibrator = calibrator
    return calibrating, calibrator


def _volume_bytes(shape: Any, dtype: str) -> int:
    import numpy as np

    volume = 1
    for size in shape:
        volume *= max(1, int(size))
    return volume * np.dtype(dtype).itemsize


def _store_timings(config: Any, path: Path) -> None:
    """Whole or not at all; of two builds at once the later one wins."""
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(memoryview(config.get_timing_cache().serialize()))
    scratch.replace(path)
