"""Benchmark and regression harness for INT8 models with variable-length inputs."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("trt-int8-harness")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
