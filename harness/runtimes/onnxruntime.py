"""ONNX Runtime: runs the ONNX file itself, on the CPU or on any provider that is installed."""

# ruff: noqa: ANN401 - what comes from a native library or over the channel has no types

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

import numpy as np

from .base import Engine, Runtime, RuntimeFailure, read_options
from .onnxruntime_profile import kernel_times, layers
from .optimized_graph import weighted_operators

__all__ = ["OnnxRuntime", "OnnxRuntimeEngine"]

_DEFAULTS: dict[str, Any] = {
    "provider": "CPUExecutionProvider",
    "provider_options": {},
    # One thread, no spinning: live sessions that spin steal the cores from one another, and then the order in
    # which two engines are measured decides which one is faster.
    "threads": 1,
    "spinning": False,
}
_PROFILE_WARMUP = 3
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxRuntime(Runtime):
    """Options: ``provider``, ``provider_options``, ``threads`` (1), ``spinning`` (False)."""

    name = "onnxruntime"

    def describe_impl(self, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        import onnxruntime

        return {
            "library": self.name,
            "version": onnxruntime.__version__,
            "device": onnxruntime.get_device(),
            "threads": _DEFAULTS["threads"],
            "providers": list(onnxruntime.get_available_providers()),
            "precisions": ["fp32", "fp16", "int8"],
            "routes": ["qdq"],
            "can_run": True,
            "can_build": True,
        }

    def build_impl(self, source: str, target: str, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        start = time.perf_counter()
        engine = self.load_impl(source, options)
        seconds = time.perf_counter() - start
        with contextlib.closing(engine):
            coverage = engine.coverage()
        return {
            "seconds": seconds,
            "bytes": Path(source).stat().st_size,
            "log": [],
            "warnings": [],
            "coverage": coverage,
        }

    def load_impl(self, path: str, options: Mapping[str, Any]) -> "OnnxRuntimeEngine":
        settings = read_options(options, _DEFAULTS, self.name)
        return OnnxRuntimeEngine(path, settings, _session(path, settings))


class _Bound(NamedTuple):
    """A binding, and the inputs that it points into, by name: ONNX Runtime 1.22.1 does not hold them itself."""

    binding: Any
    inputs: dict[str, Any]


class OnnxRuntimeEngine(Engine):
    """A session; inputs and outputs as the file declares them, symbolic axes as None."""

    def __init__(self, path: str, settings: dict[str, Any], session: Any) -> None:
        super().__init__(_signature(session.get_inputs()), _signature(session.get_outputs()))
        self._path, self._settings, self._session = path, settings, session
        self._names = [o["name"] for o in self._outputs]
        self._written: Any = None

    def run_impl(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        with _native("run", "the model failed on this input"):
            return dict(zip(self._names, self._session.run(None, dict(feeds)), strict=True))

    def burst_impl(self, feeds: Mapping[str, Any], warmup: int, repeats: int) -> list[int]:
        return self.timed_impl(self.keep_impl(feeds), warmup, repeats)["wall_ns"]

    def keep_impl(self, feeds: Mapping[str, Any]) -> _Bound:
        import onnxruntime

        # Bound to the device beforehand, so that a GPU provider is not timed while it copies.
        device = (
            "cuda" if self._settings["provider"] in {"CUDAExecutionProvider", "TensorrtExecutionProvider"} else "cpu"
        )
        bound = _Bound(self._session.io_binding(), {})
        with _native("run", "the model failed on this input"):
            for name, array in feeds.items():
                value = onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), device, 0)
                bound.inputs[name] = value
                bound.binding.bind_ortvalue_input(name, value)
            for name in self._names:
                bound.binding.bind_output(name, device)
        return bound

    def result_impl(self, kept: _Bound) -> dict[str, Any]:
        with _native("run", "the outputs cannot be read"):
            return dict(zip(self._names, kept.binding.copy_outputs_to_cpu(), strict=True))

    def timed_impl(self, kept: _Bound, warmup: int, repeats: int) -> dict[str, list[int]]:
        call, wall, cpu = self._session.run_with_iobinding, time.perf_counter_ns, time.process_time_ns
        wall_ns, cpu_ns = [], []
        with _native("run", "the model failed on this input"):
            for _ in range(warmup):
                call(kept.binding)
            for _ in range(repeats):
                cpu_start, start = cpu(), wall()
                call(kept.binding)
                end, cpu_end = wall(), cpu()
                wall_ns.append(end - start)
                cpu_ns.append(cpu_end - cpu_start)
        return {"wall_ns": wall_ns, "cpu_ns": cpu_ns}

    def coverage_impl(self) -> dict[str, Any] | None:
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder, "optimized.onnx")
            try:
                _session(self._path, self._settings, str(optimized))
            except RuntimeFailure:
                return None  # a provider that compiles whole subgraphs cannot write them back as ONNX
            return weighted_operators(optimized.read_bytes())

    def layers_impl(self, kept: "_Bound | None") -> list[dict[str, Any]]:
        """The optimized graph's nodes; with a kept feed their shapes, off the profile of one run."""
        try:
            model = self._optimized_file().read_bytes()
        except RuntimeFailure:
            return []  # a provider that compiles whole subgraphs cannot write them back as ONNX
        dtypes = {one["name"]: one["dtype"] for one in self._inputs}
        fed = kept.inputs if kept else {}
        profile = self._profile(kept, 1) if kept else ""
        return layers(model, profile, {name: (dtypes[name], list(value.shape())) for name, value in fed.items()})

    def layer_times_impl(self, kept: _Bound, repeats: int) -> dict[str, list[float]]:
        """By the profiler, in a session of its own: profiling makes runs slower."""
        if self._settings["provider"] != _DEFAULTS["provider"]:
            return {}  # elsewhere an event lasts as long as the launch, not the kernel
        return kernel_times(self._profile(kept, _PROFILE_WARMUP + repeats), _PROFILE_WARMUP)

    def _profile(self, kept: _Bound, runs: int) -> str:
        """The profiler's JSON of so many runs of the optimized graph, as it was written."""
        with tempfile.TemporaryDirectory() as folder:
            profile = str(Path(folder, "profile"))
            session = _session(str(self._optimized_file()), self._settings, profile=profile, optimize=False)
            with _native("run", "the model failed on this input"):
                binding = session.io_binding()
                for name, value in kept.inputs.items():
                    binding.bind_ortvalue_input(name, value)
                for name in self._names:
                    binding.bind_output(name)
                for _ in range(runs):
                    session.run_with_iobinding(binding)
            return Path(session.end_profiling()).read_text("utf-8")

    def _optimized_file(self) -> Path:
        """Written once: two sessions of one model do not name what they insert alike."""
        if self._written is None:
            self._written = tempfile.TemporaryDirectory()
            _session(self._path, self._settings, str(Path(self._written.name, "optimized.onnx")))
        return Path(self._written.name, "optimized.onnx")

    def close_impl(self) -> None:
        self._session = None
        if self._written is not None:
            self._written.cleanup()


def _session(
    path: str, settings: Mapping[str, Any], optimized: str = "", profile: str = "", *, optimize: bool = True
) -> Any:
    import onnxruntime

    provider, available = settings["provider"], list(onnxruntime.get_available_providers())
    if provider not in available:
        raise RuntimeFailure(
            "environment",
            f"provider {provider} is not in this ONNX Runtime ({onnxruntime.__version__})",
            "onnxruntime",
            f"available here: {', '.join(available)}",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(settings["threads"])
    options.inter_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings["spinning"] else "0")
    if optimized:
        options.optimized_model_filepath = optimized
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    with _native("build", "ONNX Runtime cannot load this model", path):
        session = onnxruntime.InferenceSession(
            path, options, providers=[(provider, dict(settings["provider_options"]))]
        )
    if provider not in session.get_providers():  # it falls back to the CPU with no more than a line in its log
        raise RuntimeFailure(
            "environment",
            f"provider {provider} is installed but did not start",
            "onnxruntime",
            "see the worker's log",
        )
    return session


def _signature(values: Any) -> list[dict[str, Any]]:
    signature = []
    for value in values:
        if value.type not in _DTYPES:
            raise RuntimeFailure("build", f"{value.name!r} is {value.type}; only tensors of numbers can be fed")
        shape = [n if isinstance(n, int) and n >= 0 else None for n in value.shape]
        signature.append({"name": value.name, "dtype": _DTYPES[value.type], "shape": shape})
    return signature


@contextlib.contextmanager
def _native(kind: str, what: str, where: str = "") -> Iterator[None]:
    try:
        yield
    except RuntimeFailure:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise RuntimeFailure(kind, what, where, detail=f"{type(error).__name__}: {error}") from error
