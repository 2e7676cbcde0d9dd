"""What a genuine TensorRT says of itself without a GPU, and what our calibrators are against it; prints JSON.

Runs under CPython 3.10 in an environment that has TensorRT and numpy. Its argument is the folder ``harness``: what goes
to a worker is the package ``runtimes`` in it.
"""

import ctypes
import json
import sys

import tensorrt

sys.path.insert(0, sys.argv[1])

import numpy as np
from runtimes.base import RuntimeFailure
from runtimes.tensorrt import _builder, _creation_flags
from runtimes.trt_calibrator import CLASSES, Calibrating, new_calibrator
from runtimes.trt_common import DTYPES, new_log
from runtimes.trt_io import _new_allocator


class Block:
    def __init__(self, size_bytes):
        self.size_bytes, self.freed = size_bytes, False
        self.memory = (ctypes.c_ubyte * size_bytes)()
        self.address = ctypes.addressof(self.memory)

    def free(self):
        self.freed = True


class Host:
    """Memory of the host in the place of a GPU's, which is all that a calibrator asks of CUDA."""

    def __init__(self):
        self.blocks = []

    def allocate(self, size_bytes):
        self.blocks.append(Block(size_bytes))
        return self.blocks[-1]

    def to_device(self, block, array):
        ctypes.memmove(block.address, array.ctypes.data, array.nbytes)


def read(address, count):
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).tolist()


def answer(call):
    """What a call gives, or what it raises: a binding that refuses an object says so by a TypeError."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
        return f"{type(error).__name__}: {error}"


def calibrator(algorithm):
    """A calibrator of the genuine class, asked as TensorRT's C++ asks it, in the order of a calibration."""
    host, first, second = Host(), np.arange(8, dtype=np.float32), np.full(4, 7, np.float32)
    calibrating = Calibrating([{"x": first, "n": second}, {"x": first[:4] + 1, "n": second}], None)
    made = new_calibrator(tensorrt, host, algorithm, calibrating, {"x": 32, "n": 4})
    told = new_calibrator(tensorrt, host, algorithm, Calibrating([], b"TRT-8503-X\n"), {})
    said = {
        "class": isinstance(made, getattr(tensorrt, CLASSES[algorithm])),
        "interface": isinstance(made, tensorrt.IInt8Calibrator),
        "algorithm": answer(lambda: made.get_algorithm().name),
        # the base's own method calls the C++ interface, and that calls ours
        "batch_size": answer(lambda: getattr(tensorrt, CLASSES[algorithm]).get_batch_size(made)),
        "cache": answer(made.read_calibration_cache),
        "told": answer(lambda: told.read_calibration_cache().decode()),
        "batches": [],
    }
    for _ in range(3):
        batch = answer(lambda: made.get_batch(["n", "x"]))
        types = sorted({type(one).__name__ for one in batch}) if isinstance(batch, list) else []
        values = [read(batch[0], 4), read(batch[1], 8)] if types == ["int"] else batch
        said["batches"].append({"types": types, "values": values})
    written = answer(lambda: made.write_calibration_cache(memoryview(b"TRT-1-X\nx: 3c000000\n")))
    calibrating.free()
    facts = calibrating.facts()
    return {**said, "write": written, "facts": facts, "freed": all(block.freed for block in host.blocks)}


def unmade():
    """What the binding says of a class whose constructor leaves the base's out."""

    class Calibrator(tensorrt.IInt8MinMaxCalibrator):
        def __init__(self):
            pass

    return answer(Calibrator)


def allocator():
    """An allocator of outputs, as an execution context asks it; None before it came."""
    if not hasattr(tensorrt, "IOutputAllocator"):
        return None
    host, buffers, shapes = Host(), {}, {}
    made = _new_allocator(tensorrt, host, buffers, shapes)
    addresses = [made.reallocate_output("y", 0, size, 256) for size in (64, 32, 128)]
    made.notify_shape("y", tensorrt.Dims([2, 3]))
    known = [block.address for block in host.blocks]
    return {"class": isinstance(made, tensorrt.IOutputAllocator), "at": [known.index(one) for one in addresses],
            "shapes": shapes}  # fmt: skip


def builder():
    """Without a GPU the binding gives no builder; with one this says so."""
    try:
        made = _builder(tensorrt, new_log(tensorrt))
    except RuntimeFailure as failure:
        return failure.as_data()
    return {"kind": type(made).__name__}


def names():
    """Class -> its public names, with those of its bases; nested classes with a dot, the module without a name."""
    found = {"": sorted(vars(tensorrt))}
    for name, value in vars(tensorrt).items():
        if isinstance(value, type) and value.__module__.startswith("tensorrt"):
            found[name] = [one for one in dir(value) if not one.startswith("_")]
            for inner, nested in vars(value).items():
                if isinstance(nested, type) and not inner.startswith("_"):
                    found[f"{name}.{inner}"] = [one for one in dir(nested) if not one.startswith("_")]
    return found


def enums():
    classes = {name: value for name, value in vars(tensorrt).items() if hasattr(value, "__members__")}
    return {name: {member: int(number) for member, number in cls.__members__.items()} for name, cls in classes.items()}


print(
    json.dumps(
        {
            "version": tensorrt.__version__,
            "python": list(sys.version_info[:2]),
            "names": names(),
            "enums": enums(),
            "calibrators": {algorithm: calibrator(algorithm) for algorithm in CLASSES},
            "unmade": unmade(),
            "allocator": allocator(),
            "itemsize": {
                name: [np.dtype(DTYPES[name]).itemsize, member.itemsize]
                for name, member in tensorrt.DataType.__members__.items()
                if name in DTYPES
            },
            "creation": _creation_flags(tensorrt, strong=False),
            "builder": builder(),
        }
    )
)
