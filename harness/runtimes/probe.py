"""Which runtimes this interpreter can import, and what they can do here.

A program of its own: it runs in a subprocess of any Python >= 3.10. Prints one JSON object a line, each as soon as it
is known: a library that kills the interpreter while it is being imported loses its own line and those after it, not
those before.
"""

# ruff: noqa: ANN401 - a native library has no types

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import site
import sys
from pathlib import Path
from typing import Any

__all__ = ["against_running", "gpu_count", "gpus", "probe", "pycuda", "unsupported"]

# TensorRT comes before anything that may pull in pycuda: with a context of pycuda's there first, the Builder of
# TensorRT 8.5.3.1 ends in a segmentation fault.
_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx", "onnxruntime": "onnxruntime"}

_MAJOR, _MINOR = 75, 76  # cuda.h, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 100
# Members of its ComputeCapability, and the release that has them.
_RTX_RUNS_ON = {(7, 5): (1, 4), (8, 0): (1, 4), (8, 6): (1, 4), (8, 9): (1, 4), (12, 0): (1, 4), (12, 1): (1, 5)}
_NO_PYCUDA = (
    "pycuda is not installed: pip install pycuda; it is a source package and wants a C++ compiler and CUDA's headers"
)


def gpu_count() -> int:
    """How many GPUs the CUDA driver shows this process; 0 without a driver."""
    driver = _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def gpus() -> list[dict[str, str]]:
    """``{name, compute_capability}`` (``NVIDIA H200``, ``9.0``) of every GPU that the driver shows this process."""
    driver = _driver()
    found = []
    for index in range(gpu_count()):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(_NAME_BYTES)
        if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        driver.cuDeviceGetName(name, _NAME_BYTES, device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        capability = f"{major.value}.{minor.value}"
        found.append({"name": name.value.decode(errors="replace"), "compute_capability": capability})
    return found


def unsupported(runtime: str, version: str, capability: str) -> str:
    """Why this version does not run on a GPU of that compute capability; empty where nothing is known against it.

    TensorRT: Hopper (9.0) from 8.5 on; Blackwell (10.0 and above) from 10.8 on; below 7.0 not from 10.0 on, Volta (7.0,
    7.2) not from 10.5 on, by the release notes and support matrices. TensorRT-RTX: the compute capabilities that it has
    names for; 1.7.1 was seen to refuse 9.0.

    :param version: ``8.5.3.1``. :param capability: ``9.0``.
    """
    gpu, release = _numbers(capability), _numbers(version)
    if runtime == "tensorrt-rtx":
        known = [one for one, since in _RTX_RUNS_ON.items() if release >= since]
        named = ", ".join(map(_dotted, known))
        where = f"TensorRT-RTX {version} does not run on compute capability {capability}; it does on {named}"
        return "" if gpu in known else where
    if runtime != "tensorrt":
        return ""
    bounds = (((10, 0), (10, 8)), ((9, 0), (8, 5)))
    needed = next((since for low, since in bounds if gpu >= low), (0,))
    if release < needed:
        return f"compute capability {capability} needs TensorRT {_dotted(needed)} or newer; this is {version}"
    ends = (((7, 0), (10, 0)), ((7, 5), (10, 5)))
    ended = next((until for below, until in ends if gpu < below), None)
    if ended is not None and release >= ended:
        return f"compute capability {capability} was dropped by TensorRT {_dotted(ended)}; this is {version}"
    return ""


def pycuda() -> tuple[str, str]:
    """Version of pycuda and an empty text; or an empty text and why it cannot be used.

    Imports it: only after TensorRT.
    """
    if importlib.util.find_spec("pycuda") is None:
        return "", _NO_PYCUDA
    try:
        importlib.import_module("pycuda.driver")
        return importlib.metadata.version("pycuda"), ""
    except importlib.metadata.PackageNotFoundError:
        return "unknown", ""
    except Exception as error:  # noqa: BLE001 - native packages raise what they like while being imported
        return "", f"pycuda cannot be imported: {type(error).__name__}: {error}"


def probe(runtime: str) -> dict[str, Any]:
    """What this interpreter has of a runtime.

    ``{runtime, version, providers, gpus, pycuda, can_run, build, why}`` of one that can be imported: ``gpus`` as
    :func:`gpus` has them, ``pycuda`` its version or why it is missing (empty for a runtime that does not need it),
    ``build`` whether engines can be built here, ``why`` what is in the way of running them (empty if nothing).
    ``{runtime, error}`` of one that is there but cannot be imported, ``{}`` of one that is not there.
    """
    module_name = _MODULES[runtime]
    if importlib.util.find_spec(module_name) is None:
        return {}
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # noqa: BLE001 - native packages raise what they like while being imported
        return {"runtime": runtime, "error": f"{type(error).__name__}: {error}"}
    version = str(getattr(module, "__version__", "unknown"))
    found: dict[str, Any] = {"runtime": runtime, "version": version, "providers": [], "gpus": gpus(), "pycuda": ""}
    if runtime == "onnxruntime":
        providers = list(module.get_available_providers())
        return {**found, "providers": providers, "can_run": True, "build": True, "why": ""}
    installed, missing = pycuda()
    against = against_running(runtime, version, found["gpus"])
    return {
        **found,
        "pycuda": installed or missing,
        "can_run": not against,
        "build": runtime == "tensorrt-rtx" or not against,  # TensorRT makes no Builder without a GPU
        "why": "; ".join(against),
    }


def against_running(runtime: str, version: str, found: list[dict[str, str]]) -> list[str]:
    """What keeps engines of TensorRT or TensorRT-RTX from running here; nothing if nothing does.

    Imports pycuda: only after the runtime's library.

    :param found: as :func:`gpus` gives them.
    """
    return [reason for reason in (_no_gpu(runtime, version, found), pycuda()[1]) if reason]


def _no_gpu(runtime: str, version: str, found: list[dict[str, str]]) -> str:
    """Why the GPU that would be used, the first one, cannot be."""
    if not found:
        return "no GPU: the CUDA driver is missing or shows none (see nvidia-smi)"
    return unsupported(runtime, version, found[0]["compute_capability"])


def _driver() -> Any:
    """libcuda, initialized; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


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
