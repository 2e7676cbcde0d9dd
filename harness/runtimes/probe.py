"""Which runtimes this interpreter can import. A program of its own: it runs in a subprocess of any Python >= 3.10.

Prints one JSON object a line, each as soon as it is known: a library that kills the interpreter while it is being
imported loses its own line and those after it, not those before.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import site
import sys
from pathlib import Path
from typing import Any

__all__ = ["ONLY_BUILDS", "gpu_count", "probe"]

# TensorRT comes before anything that may pull in pycuda: the other order fails with CUDA error 400.
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx", "onnxruntime": "onnxruntime"}
ONLY_BUILDS = frozenset({"tensorrt-rtx"})
"""Families whose engines are built here and cannot be loaded yet, GPU or not."""


def gpu_count() -> int:
    """How many GPUs the CUDA driver shows this process; 0 without a driver."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def probe(runtime: str) -> dict[str, Any]:
    """``{runtime, version, providers, can_run}`` of an importable runtime.

    ``{runtime, error}`` of one that is there but cannot be imported, ``{}`` of one that is not there.
    """
    module_name = _MODULES[runtime]
    if importlib.util.find_spec(module_name) is None:
        return {}
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 - native packages raise what they like while being imported
        return {"runtime": runtime, "error": f"{type(error).__name__}: {error}"}
    found: dict[str, Any] = {"runtime": runtime, "version": str(getattr(module, "__version__", "unknown"))}
    providers: list[str] = list(module.get_available_providers()) if runtime == "onnxruntime" else []
    return {**found, "providers": providers, "can_run": runtime not in ONLY_BUILDS}


def _main() -> None:
    # Started isolated (-I) so that neither PYTHONPATH nor the current folder shadows a package; that also hides
    # the user's own site-packages, which do belong to an interpreter that is no virtual environment.
    if sys.prefix == sys.base_prefix and Path(site.getusersitepackages()).is_dir():
        site.addsitedir(site.getusersitepackages())
    print(json.dumps({"python": platform.python_version(), "prefix": sys.prefix}), flush=True)
    for runtime in _MODULES:
        found = probe(runtime)
        if found:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
