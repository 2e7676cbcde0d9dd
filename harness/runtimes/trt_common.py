"""What TensorRT and TensorRT-RTX have in common: log, dtypes, parsing, optimization profiles."""

# ruff: noqa: ANN401 - neither library ships types that hold for every version

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from .base import RuntimeFailure

__all__ = [
    "DTYPES",
    "add_profile",
    "dtype_name",
    "libraries",
    "narrowed",
    "new_log",
    "not_loaded",
    "parse_onnx",
    "profile_of",
    "refused",
]

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""Member of ``DataType`` -> numpy's name. 8.x's own ``nptype`` fails with newer numpy, which has no ``np.bool``."""

_TRIPLE = 3
_KEPT_LINES = 2_000
_NOTHING_SAID = "it gave no reason"


def dtype_name(datatype: Any) -> str:
    """Numpy's name of a ``DataType``.

    :raises RuntimeFailure: ``usage``, for one that numpy has no name for (bfloat16, fp8, int4).
    """
    name = datatype.name
    if name not in DTYPES:
        raise RuntimeFailure("usage", f"tensors of type {name} cannot be fed or read", "tensorrt")
    return DTYPES[name]


def new_log(trt: Any) -> Any:
    """A logger that keeps what the library says: ``errors``, ``warnings``, and ``lines`` of everything else."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        """A failed build has no other explanation."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.errors.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)
            elif severity == trt.ILogger.Severity.INFO and len(self.lines) < _KEPT_LINES:
                self.lines.append(message)

    return Log()


def parse_onnx(trt: Any, network: Any, source: str, log: Any) -> None:
    """Read an ONNX file into a network.

    :raises RuntimeFailure: ``build``, with every error of the parser and what the log says.
    """
    parser = trt.OnnxParser(network, log)
    if not parser.parse(Path(source).read_bytes()):
        said = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise refused("the parser refuses this model", source, [*said, *log.errors])


def _parser_error(error: Any) -> str:
    """Where in the graph, and what; a description of 8.x may be nothing but ``false``."""
    node = error.node()
    return f"{error.desc()} (node {node})" if isinstance(node, int) and node >= 0 else str(error.desc())


def add_profile(
    builder: Any, network: Any, config: Any, index: int, shapes: Mapping[str, Sequence[Sequence[int]]], log: Any
) -> None:
    """Add an optimization profile: input -> shapes at min, opt, max, and for a shape tensor its values at these.

    :raises RuntimeFailure: ``usage``, for what the library would take in silence or refuse late: an unknown input, a
        missing one, a shape tensor without values, min, opt and max out of order.
    """
    profile = profile_of(builder, network, index, shapes)
    if config.add_optimization_profile(profile) < 0:
        detail = "\n".join(log.errors)
        where = f"profile {index}"
        raise RuntimeFailure("usage", "min, opt and max do not follow one another", where, detail=detail)


def profile_of(builder: Any, network: Any, index: int, shapes: Mapping[str, Sequence[Sequence[int]]]) -> Any:
    """The profile itself, see :func:`add_profile`."""
    where = f"profile {index}"
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
    return profile


def refused(what: str, source: str, said: Sequence[str]) -> RuntimeFailure:
    """A failed build with everything that was said, once each."""
    return RuntimeFailure("build", what, source, detail="\n".join(dict.fromkeys(said)) or _NOTHING_SAID)


_REASONS = (
    (
        ("outofmemory", "out of memory"),
        "run",
        "there is too little memory on the GPU for it",
        "see nvidia-smi for who else is there; narrower profiles want less",
    ),
    (
        ("incompatible device", "different device", "generated on"),
        "build",
        "it was built on another GPU",
        "build it again on this one",
    ),
    (
        ("version of tensorrt", "library version", "version tag"),
        "build",
        "it was built by another version",
        "build it again with this one",
    ),
    (
        ("magic", "checksum"),
        "build",
        "it is damaged, no engine at all, or of a version far from this one",
        "build it again",
    ),
)
"""Words of the log, in lower case -> kind of failure, reason, what to do. The first that fits."""


def not_loaded(path: str, here: str, said: Sequence[str]) -> RuntimeFailure:
    """An engine that was not deserialized, with the reason that the log lets one suspect, and what it said.

    :param here: version and GPU, for the message.
    """
    text = "\n".join(said).lower()
    for words, kind, reason, todo in _REASONS:
        if any(word in text for word in words):
            return RuntimeFailure(kind, f"TensorRT cannot load this engine: {reason}", path, f"{todo} ({here})",
                                  "\n".join(said))  # fmt: skip
    todo = f"engines belong to the TensorRT version and the GPU that built them: build it again here ({here})"
    return RuntimeFailure("build", "TensorRT cannot load this engine", path, todo, "\n".join(said) or _NOTHING_SAID)


@lru_cache(maxsize=1)
def libraries() -> tuple[str, ...]:
    """``name==version`` of the packages that an engine is made with: TensorRT's, and NVIDIA's libraries below it.

    TensorRT takes other kernels where cuBLAS is another one, or missing. What is no Python package is not seen.
    """
    found = {(str(one.name).lower(), one.version) for one in distributions()}
    return tuple(sorted(f"{name}=={version}" for name, version in found if name.startswith(("nvidia-", "tensorrt"))))


def narrowed(name: str, array: Any, wanted: str) -> Any:
    """int64 as int32 where the engine takes that, as TensorRT 8 and 9 make of every int64 input of an ONNX file.

    :raises RuntimeFailure: ``run``: a value does not fit.
    """
    if wanted != "int32" or getattr(array, "dtype", None) != np.int64:
        return array
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise RuntimeFailure("run", f"input {name!r} holds values beyond int32, which this engine takes")
    return array.astype(np.int32)
