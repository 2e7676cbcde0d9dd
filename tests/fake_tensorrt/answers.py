"""What a TensorRT module answers to questions that need no GPU: a program, so that the genuine one can be asked too.

``python answers.py MODULE MODELS`` prints ``{question: answer}`` as JSON; MODELS is a folder of ONNX files.
"""

# ruff: noqa: TC003 - it runs in interpreters of its own
from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def ask(trt: Any, models: Path) -> dict[str, str]:
    """Each answer is a value's text, or the name of the exception."""
    log = logger(trt)
    builder = trt.Builder(log)
    config = builder.create_builder_config()

    def profiled(*shapes: Any) -> Any:
        profile = builder.create_optimization_profile()
        profile.set_shape("x", *shapes)
        return profile

    def parsed(name: str) -> Any:
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log)
        done = parser.parse((models / f"{name}.onnx").read_bytes())
        said = [parser.get_error(i).desc().partition(":")[0] for i in range(parser.num_errors)]
        ends = [network.get_input(i) for i in range(network.num_inputs)] if done else []
        return done, said, [(e.name, e.dtype.name, tuple(e.shape), e.is_shape_tensor) for e in ends]

    dims = trt.Dims
    workspace = trt.MemoryPoolType.WORKSPACE
    questions: dict[str, Callable[[], Any]] = {
        "dims equal a tuple": lambda: dims((1, 2)) == (1, 2),
        "dims equal a list": lambda: dims((1, 2)) == [1, 2],
        "dims equal dims": lambda: dims((1, 2)) == dims((1, 2)),
        "repr of dims": lambda: repr(dims((1, -1))),
        "dims from dims": lambda: tuple(dims(dims((1, 2)))),
        "slice of dims": lambda: dims((1, 2, 3))[1:],
        "last of dims": lambda: dims((1, 2, 3))[-1],
        "beyond dims": lambda: dims((1,))[5],
        "dims of floats": lambda: dims([1.0]),
        "dims of None": lambda: dims(None),
        "dims of text": lambda: dims("ab"),
        "hash of dims": lambda: hash(dims(())),
        "enum equals its number": lambda: trt.DataType.FLOAT == 0,
        "enum equals itself": lambda: trt.float32 == trt.DataType.FLOAT,
        "repr of an enum": lambda: repr(trt.DataType.HALF),
        "text of an enum": lambda: str(trt.DataType.HALF),
        "enum by number": lambda: trt.DataType(1),
        "enum by wrong number": lambda: trt.DataType(99),
        "shift by an enum": lambda: 1 << trt.DataType.HALF,
        "hash of an enum": lambda: hash(trt.DataType.HALF),
        "order of enums": lambda: trt.DataType.FLOAT < trt.DataType.HALF,
        "members": lambda: list(trt.LayerInformationFormat.__members__),
        "item size": lambda: trt.DataType.HALF.itemsize,
        "severities": lambda: trt.Logger.Severity is trt.ILogger.Severity,
        "severity": lambda: str(trt.ILogger.INFO),
        "volume": lambda: trt.volume((2, 3)),
        "type of numpy": lambda: trt.nptype(trt.int8).__name__,
        "host memory": trt.IHostMemory,
        "engine": trt.ICudaEngine,
        "builder without logger": lambda: trt.Builder(None),
        "logger of text": lambda: trt.Logger("a"),
        "unknown name": lambda: trt.NoSuchThing,
        "unknown member": lambda: config.nonsense,
        "setting an unknown member": lambda: setattr(config, "nonsense", 1),
        "lazy logger": lambda: lazy(trt),
        "network of a float": lambda: builder.create_network(1.5),
        "network of None": lambda: builder.create_network(None),
        "network of -1": lambda: builder.create_network(-1),
        "build without configuration": lambda: builder.build_serialized_network(builder.create_network(0)),
        "an empty network": lambda: builder.build_serialized_network(builder.create_network(0), config),
        "inputs of an empty network": lambda: builder.create_network(0).num_inputs,
        "input that is not there": lambda: builder.create_network(0).get_input(3),
        "flag by number": lambda: config.set_flag(1),
        "negative limit": lambda: config.set_memory_pool_limit(workspace, -1),
        "limit of a float": lambda: config.set_memory_pool_limit(workspace, 1.5),
        "limit by name": lambda: config.set_memory_pool_limit("WORKSPACE", 1),
        "verbosity": lambda: str(config.profiling_verbosity),
        "verbosity by number": lambda: setattr(config, "profiling_verbosity", 1),
        "level": lambda: config.builder_optimization_level,
        "level 9": lambda: (setattr(config, "builder_optimization_level", 9), config.builder_optimization_level)[1],
        "progress monitor": lambda: config.progress_monitor,
        "profiles": lambda: config.num_optimization_profiles,
        "disordered profile": lambda: bool(profiled((1, 9), (1, 8), (1, 16))),
        "ranks that differ": lambda: bool(profiled((1, 2), (1, 2, 3), (1, 2))),
        "adding a disordered profile": lambda: config.add_optimization_profile(profiled((9,), (8,), (16,))),
        "negative dimension": lambda: profiled((-1,), (1,), (1,)),
        "two shapes": lambda: profiled((1,), (1,)),
        "numbers for shapes": lambda: profiled(1, 1, 1),
        "shapes as lists": lambda: [tuple(s) for s in profiled([1], dims((2,)), (3,)).get_shape("x")],
        "shapes of nobody": lambda: profiled((1,), (1,), (1,)).get_shape("nobody"),
        "parser without logger": lambda: trt.OnnxParser(builder.create_network(0), None),
        "error that is not there": lambda: trt.OnnxParser(builder.create_network(0), log).get_error(4),
        "runtime of bytes": lambda: trt.Runtime(log).deserialize_cuda_engine("text"),
        **{f"model {path.stem}": lambda name=path.stem: parsed(name) for path in sorted(models.glob("*.onnx"))},
    }
    return {question: answered(question_asked) for question, question_asked in questions.items()}


def answered(question: Callable[[], Any]) -> str:
    try:
        return str(question())
    except (TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
        return type(error).__name__


def logger(trt: Any) -> Any:
    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            pass

    return Log()


def lazy(trt: Any) -> Any:
    class Lazy(trt.ILogger):
        def __init__(self) -> None:
            pass

    return Lazy()


if __name__ == "__main__":
    print(json.dumps(ask(importlib.import_module(sys.argv[1]), Path(sys.argv[2]))))
