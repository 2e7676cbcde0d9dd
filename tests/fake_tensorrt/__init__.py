"""A TensorRT of any version for tests, without a GPU: genuine names and signatures, behaviour on a CPU.

``install`` writes a folder with the packages ``tensorrt`` and ``pycuda`` that works in any CPython >= 3.10 which has
numpy, onnx and onnxruntime; with ``tensorrt_rtx`` for a version ``rtx-...``. ``loaded`` imports it into this process
for a while, ``interpreter`` makes a virtual environment of it, for workers. It is for tests alone and is never shown to
a user as a runtime.

What is genuine, by ``tests/data/trt-api``: classes, methods, properties, enum members with their values, signatures,
what pybind11 refuses. What was measured or documented, and is imitated: pointer contract of calibration, cache headers,
profiles, refusals of the parser, a failed build's None with the reason in the log, import order of pycuda in 8.5.

What is only a stand-in:

- Scales: MinMax is max|x| / 127 over all that was read, as measured; Entropy, Entropy2 and Legacy are the largest
  0.9999, 0.9999 and 0.99999 quantile of any batch / 127 (with them INT8 of the fixture models is about as good as by
  MinMax, or better). Every float tensor gets one.
- An INT8 engine by calibrator or cache runs in float with Q/DQ at every activation input of Conv, ConvTranspose,
  MatMul and Gemm, and weights rounded per output channel. The FP16 flag rounds weights alone. Q/DQ models run as given.
- A build takes as much workspace as its largest tensor at max has bytes; a context as many as all of them.
- Every layer is one ONNX node: nothing is fused. Layer times are equal shares of the whole.
- A timing cache saves no time. Streams and events are synchronous.
- TensorRT-RTX: an engine is for the compute capabilities that it was built for, nothing is compiled when it is loaded,
  and the file holds no program. What it says of a GPU that it does not support is real (1.7.1 on an H200).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import shutil
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GPU", "install", "interpreter", "loaded", "resettle", "versions", "violations"]

GPU = "Fake H200"
_PACKAGE = Path(__file__).parent / "package"

versions = facts.versions


def install(
    version: str,
    folder: Path,
    gpu: str = GPU,
    compute_capability: tuple[int, int] = (9, 0),
    memory_bytes: int = 8 << 30,
    build_seconds: float = 0.0,
    crash: str = "",
    victim: str = "",
    driver: int = 13000,
) -> Path:
    """Write ``tensorrt``, ``pycuda`` and what they share into a folder; it is returned, to be put on a path.

    :param version: a version of :func:`versions`, or the start of one: ``8.6``, ``10.13``, ``rtx-1.7``.
    :param gpu: an engine built on one GPU does not load on another; empty for a machine without one.
    :param memory_bytes: the device's; an allocation beyond it fails.
    :param build_seconds: how long each build takes, so that it can be interrupted.
    :param crash: ``build`` ends the process by a segmentation fault within a build; ``run`` makes an illegal memory
        access of a run, after which the process's CUDA context is lost; ``""`` neither.
    :param victim: the name of the graph that ``build_seconds`` and ``crash`` are for; without one, all are.
    :param driver: what the CUDA driver says of its version.
    :raises KeyError: there is no such version.
    """
    known = facts.facts(facts.matching(version))
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_PACKAGE, folder, dirs_exist_ok=True, ignore=ignored)
    package = folder / _module(version)
    if package.name != "tensorrt":
        shutil.rmtree(package, ignore_errors=True)
        (folder / "tensorrt").rename(package)
    (package / "api.json").write_text(json.dumps(known), "utf-8")
    settings: dict[str, Any] = {
        "gpu": gpu,
        "compute_capability": list(compute_capability),
        "memory_bytes": memory_bytes,
        "build_seconds": build_seconds,
        "crash": crash,
        "victim": victim,
        "driver": driver,
    }
    (folder / "fake_tensorrt.json").write_text(json.dumps(settings), "utf-8")
    return folder


def _module(version: str) -> str:
    return "tensorrt_rtx" if version.startswith("rtx-") else "tensorrt"


def resettle(folder: Path, **settings: Any) -> None:
    """Change what :func:`install` was told; it counts for processes that start afterwards.

    :param folder: as given to :func:`install` or to :func:`interpreter`.
    """
    file = _packages(folder) / "fake_tensorrt.json"
    known = json.loads(file.read_text("utf-8"))
    unknown = set(settings) - set(known)
    assert not unknown, unknown
    file.write_text(json.dumps({**known, **settings}), "utf-8")


def violations(folder: Path) -> list[str]:
    """Every read or write outside an allocation so far, by any process that used this folder.

    :param folder: as given to :func:`install` or to :func:`interpreter`.
    """
    file = _packages(folder) / "violations.txt"
    return file.read_text("utf-8").splitlines() if file.is_file() else []


def _packages(folder: Path) -> Path:
    return next(iter(folder.glob("lib/python3*/site-packages")), folder)


@contextlib.contextmanager
def loaded(version: str, folder: Path, **settings: Any) -> Iterator[Any]:
    """``tensorrt`` or ``tensorrt_rtx``, importable in this process until the block ends, and ``pycuda.driver`` with it.

    :param settings: as :func:`install` takes them.
    """
    ours = ("tensorrt", "tensorrt_rtx", "pycuda", "fake_cuda")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ours}
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(install(version, folder, **settings)))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(_module(version))
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
            del sys.modules[name]
        sys.modules.update(before)


def interpreter(version: str, folder: Path, **settings: Any) -> Path:
    """A virtual environment whose python has the stand-in beside this interpreter's numpy, onnx and onnxruntime.

    :param settings: as :func:`install` takes them.
    :returns: the path of its ``python``.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python3*/site-packages")
    install(version, packages, **settings)
    found = [importlib.util.find_spec(name) for name in ("numpy", "onnx", "onnxruntime")]
    beside = {str(Path(spec.origin).parents[1]) for spec in found if spec is not None and spec.origin is not None}
    (packages / "beside.pth").write_text("\n".join([*sorted(beside), "import fake_driver"]) + "\n", "utf-8")
    python = folder / "bin" / "python"
    assert python.is_file(), sys.platform
    return python
