"""NVIDIA's ``trtexec``: the command line that builds and times what a case does, by version; and what it measured.

Every setting that matters is written, because defaults differ: from 11.0 on CUDA graphs, spinning and leaving out data
transfers are on unless a flag says otherwise, before they are off. Sources: the help texts in
``samples/common/sampleOptions.cpp`` of NVIDIA/TensorRT at 8.4, 8.6 and 10.x; for 11 NVIDIA's page "Migrating trtexec
Usage from TensorRT 10.x to 11.x" and the headers of v11.0 beside those of v10.16.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import ResultsError, UsageError
from harness.spec.calibration import Precision, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FLAGS", "Invocation", "ProfileShapes", "Shapes", "Times", "command", "program_version", "read_times"]

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""(input, its dimensions), one for each input that varies."""

_Release = tuple[int, ...]

_OLDEST, _STRONG_ONLY = (8, 4), (11, 0)
_JIT_SINCE, _OWN_LIBRARIES_UNTIL = (8, 5), (11, 0)

FLAGS: dict[str, tuple[_Release, _Release | None]] = {
    "--device": ((8, 4), None),
    "--onnx": ((8, 4), None),
    "--saveEngine": ((8, 4), None),
    "--minShapes": ((8, 4), None),
    "--optShapes": ((8, 4), None),
    "--maxShapes": ((8, 4), None),
    "--shapes": ((8, 4), None),
    "--profile": ((9, 0), None),
    "--useProfile": ((9, 0), None),
    "--noTF32": ((8, 4), None),
    "--fp16": ((8, 4), (11, 0)),
    "--int8": ((8, 4), (11, 0)),
    "--calib": ((8, 4), (11, 0)),
    "--stronglyTyped": ((9, 0), (11, 0)),
    "--memPoolSize": ((8, 4), None),
    "--tacticSources": ((8, 4), None),
    "--builderOptimizationLevel": ((8, 6), None),
    "--timingCacheFile": ((8, 4), None),
    "--profilingVerbosity": ((8, 4), None),
    "--buildOnly": ((8, 4), (8, 6)),
    "--skipInference": ((8, 6), None),
    "--streams": ((8, 4), (8, 6)),
    "--infStreams": ((8, 6), None),
    "--useCudaGraph": ((8, 4), (11, 0)),
    "--noCudaGraph": ((11, 0), None),
    "--useSpinWait": ((8, 4), (11, 0)),
    "--noSpinWait": ((11, 0), None),
    "--noDataTransfers": ((8, 4), (11, 0)),
    "--includeDataTransfers": ((11, 0), None),
    "--loadInputs": ((8, 4), None),
    "--warmUp": ((8, 4), None),
    "--duration": ((8, 4), None),
    "--iterations": ((8, 4), None),
    "--exportTimes": ((8, 4), None),
}
"""Flag -> first version that has it among those from 8.4 on, and the version that no longer has it.

``--stronglyTyped`` and the old spellings of the three flipped defaults are still taken by 11.0, and do nothing: they
end there. ``--workspace`` ended with 10.0 and is never written, since ``--memPoolSize`` is there from 8.4 on.
``--buildOnly`` and ``--streams`` were renamed by 8.6. 8.6.1 has no ``--profile``, and 9.x has it.
"""


@dataclass(frozen=True)
class ProfileShapes:
    """An optimization profile's shapes, of every input that varies."""

    minimum: Shapes
    opt: Shapes
    maximum: Shapes


@dataclass(frozen=True)
class Invocation:
    """What ``trtexec`` is to build and time. Defaults are those of the harness's own measurements.

    :param version: of TensorRT, ``8.5.3.1``; at least major and minor.
    :param onnx: the model's file; for ``qdq``, ``qdq_strong`` and everything from 11.0 on, types and Q/DQ are in it.
    :param route: how INT8 ranges get in; for FP32 and FP16 ``qdq_strong`` asks for a strongly typed network.
    :param cache: a calibration cache, for the routes ``cache`` and ``calibrator``.
    :param profiles: none for a model without a varying axis.
    :param shapes: of the timed inferences. :param profile: index of the profile that serves them.
    :param tactic_sources: those to allow, by their names (``CUBLAS``); None is the version's own choice.
    :param optimization_level: 0 to 5. :param cuda_graph, spin_wait, data_transfers: see the module.
    :param save_engine, timing_cache, export_times: files; not used where empty. :param load_inputs: (input, file).
    :param device: index of the GPU.
    :param build_only: do not time anything.
    :param warm_up_ms: before timing; :param duration_s: of timing, at least; :param iterations: at least.
    """

    version: str
    onnx: str
    precision: Precision = Precision.FP32
    route: Route | None = None
    cache: str = ""
    profiles: tuple[ProfileShapes, ...] = ()
    shapes: Shapes = ()
    profile: int = 0
    workspace_bytes: int = 4 << 30
    tactic_sources: tuple[str, ...] | None = None
    optimization_level: int | None = None
    timing_cache: str = ""
    save_engine: str = ""
    cuda_graph: bool = False
    spin_wait: bool = True
    data_transfers: bool = False
    load_inputs: tuple[tuple[str, str], ...] = ()
    device: int = 0
    export_times: str = ""
    build_only: bool = False
    warm_up_ms: int = 200
    duration_s: int = 3
    iterations: int = 10


def command(invocation: Invocation) -> list[str]:
    """The words of the command line, the program's name first.

    :raises UsageError: the version lacks something that was asked for; the message names the flag.
    """
    release = _release(invocation.version)
    flags = [
        ("--onnx", invocation.onnx),
        *_precision(invocation, release),
        *_profiles(invocation),
        *_building(invocation, release),
        *_timing(invocation, release),
    ]
    return ["trtexec", *(_spelled(flag, value, release) for flag, value in flags)]


def _precision(invocation: Invocation, release: _Release) -> Iterator[tuple[str, str]]:
    """As this harness builds: FP32 without TF32, and FP16 beside INT8, unless the types in the model decide."""
    precision, route = invocation.precision, invocation.route
    cached = precision is Precision.INT8 and route in {Route.CACHE, Route.CALIBRATOR}
    if precision is Precision.INT8 and route is None:
        raise UsageError("INT8 without a route", todo=f"name one: {', '.join(Route)}")
    if cached and not invocation.cache:
        raise UsageError(
            f"INT8 by {route} needs a calibration cache",
            where="trtexec",
            todo="give one: without it trtexec invents ranges, and calibrates on noise if the file is missing",
        )
    if route is Route.QDQ_STRONG or (release >= _STRONG_ONLY and precision is not Precision.INT8):
        if release < _STRONG_ONLY:
            yield "--stronglyTyped", ""
        if precision is Precision.FP32:
            yield "--noTF32", ""
        return
    for flag in _BY_FLAGS[precision]:
        yield flag, ""
    if cached:
        yield "--calib", invocation.cache


_BY_FLAGS = {Precision.FP32: ("--noTF32",), Precision.FP16: ("--fp16",), Precision.INT8: ("--int8", "--fp16")}


def _profiles(invocation: Invocation) -> Iterator[tuple[str, str]]:
    several = len(invocation.profiles) > 1
    for index, one in enumerate(invocation.profiles):
        if several:
            yield "--profile", str(index)
        yield "--minShapes", _spec(one.minimum)
        yield "--optShapes", _spec(one.opt)
        yield "--maxShapes", _spec(one.maximum)


def _building(invocation: Invocation, release: _Release) -> Iterator[tuple[str, str]]:
    yield "--memPoolSize", f"workspace:{invocation.workspace_bytes / (1 << 20):g}"  # MiB in every version
    if invocation.tactic_sources is not None:
        yield "--tacticSources", _sources(invocation.tactic_sources, release)
    if invocation.optimization_level is not None:
        yield "--builderOptimizationLevel", str(invocation.optimization_level)
    if invocation.timing_cache:
        yield "--timingCacheFile", invocation.timing_cache
    yield "--profilingVerbosity", "detailed"
    if invocation.device:
        yield "--device", str(invocation.device)
    if invocation.save_engine:
        yield "--saveEngine", invocation.save_engine


def _timing(invocation: Invocation, release: _Release) -> Iterator[tuple[str, str]]:
    renamed = release >= FLAGS["--skipInference"][0]
    if invocation.build_only:
        yield "--skipInference" if renamed else "--buildOnly", ""
        return
    if invocation.shapes:
        yield "--shapes", _spec(invocation.shapes)
    if len(invocation.profiles) > 1:
        yield "--useProfile", str(invocation.profile)
    if invocation.load_inputs:
        yield "--loadInputs", ",".join(f"{_quoted(name)}:{file}" for name, file in invocation.load_inputs)
    switches = (
        (invocation.cuda_graph, "--useCudaGraph", "--noCudaGraph"),
        (invocation.spin_wait, "--useSpinWait", "--noSpinWait"),
        (not invocation.data_transfers, "--noDataTransfers", "--includeDataTransfers"),
    )
    for wanted, before, since in switches:
        if release < _STRONG_ONLY and wanted:
            yield before, ""
        elif release >= _STRONG_ONLY and not wanted:
            yield since, ""
    yield "--infStreams" if renamed else "--streams", "1"
    yield "--warmUp", str(invocation.warm_up_ms)
    yield "--duration", str(invocation.duration_s)
    yield "--iterations", str(invocation.iterations)
    if invocation.export_times:
        yield "--exportTimes", invocation.export_times


def _sources(wanted: tuple[str, ...], release: _Release) -> str:
    """Every source switched on or off: the option changes the version's default, it does not replace it.

    Members of ``TacticSource``: JIT_CONVOLUTIONS from 8.5 on, CUBLAS, CUBLAS_LT and CUDNN up to 10.16.
    """
    known = ["CUBLAS", "CUBLAS_LT", "CUDNN"] if release < _OWN_LIBRARIES_UNTIL else []
    known += ["EDGE_MASK_CONVOLUTIONS"] + (["JIT_CONVOLUTIONS"] if release >= _JIT_SINCE else [])
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"TensorRT {_dotted(release)} has no tactic source {name!r}",
                where="--tacticSources",
                todo=f"one of {', '.join(known)}",
            )
    return ",".join(f"{'+' if name in wanted else '-'}{name}" for name in known)


def _spelled(flag: str, value: str, release: _Release) -> str:
    since, until = FLAGS[flag]
    if release < since or (until is not None and release >= until):
        when = f"came with {_dotted(since)}" if release < since else f"ended with {_dotted(until or ())}"
        raise UsageError(
            f"the trtexec of TensorRT {_dotted(release)} has no {flag}: it {when}",
            where="trtexec",
            todo=_INSTEAD.get(flag, "leave out what asks for it, or name another version"),
        )
    return f"{flag}={value}" if value else flag


_INSTEAD = {
    "--int8": "give the route qdq_strong: from 11.0 on INT8 is Q/DQ nodes in the model",
    "--calib": "give the route qdq_strong: from 11.0 on INT8 is Q/DQ nodes in the model, and caches are not read",
    "--stronglyTyped": "give the route qdq, where flags choose the precisions",
    "--profile": "time one profile at a time: --layout single, or --layout MIN-OPT-MAX",
    "--builderOptimizationLevel": "leave the optimization level out",
}


def _spec(shapes: Shapes) -> str:
    return ",".join(f"{_quoted(name)}:{'x'.join(map(str, dims))}" for name, dims in shapes)


def _quoted(name: str) -> str:
    """The help text: names with a colon are wrapped in single quotes."""
    return f"'{name}'" if ":" in name else name


def _release(version: str) -> _Release:
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        raise UsageError(f"{version!r} is no version of TensorRT", todo="write it as 8.5.3 or 10.16")
    release = (int(match[1]), int(match[2]))
    if release < _OLDEST:
        raise UsageError(f"trtexec before 8.4 is not covered: {version}", todo="name 8.4 or a later version")
    return release


def _dotted(release: _Release) -> str:
    return ".".join(map(str, release))


@dataclass(frozen=True)
class Times:
    """Medians over the timed inferences, in ms.

    :param latency_ms: the sum of the next three. :param compute_ms: of the GPU's work.
    :param h2d_ms, d2h_ms: of the copies, where there were any. :param enqueue_ms: of the host's call.
    """

    count: int
    compute_ms: float
    latency_ms: float | None = None
    h2d_ms: float | None = None
    d2h_ms: float | None = None
    enqueue_ms: float | None = None


def read_times(text: str) -> Times:
    """Medians of what ``--exportTimes`` wrote: an array of one object an inference.

    Fields as ``samples/common/sampleReporting.cpp`` writes them: ``startEnqMs``, ``endEnqMs``, ``h2dMs``,
    ``computeMs``, ``d2hMs``, ``latencyMs``.

    :raises ResultsError: it is no such array, or has no inference in it.
    """
    try:
        rows = json.loads(text)
        computed = [float(row["computeMs"]) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ResultsError(
            f"no times as trtexec exports them: {type(error).__name__}: {error}",
            where="--exportTimes",
            todo="the file is an array of objects with computeMs; was trtexec interrupted?",
        ) from error
    if not computed:
        raise ResultsError("trtexec timed no inference", where="--exportTimes", todo="see what it printed")

    def middle(name: str) -> float | None:
        values = [float(row[name]) for row in rows if name in row]
        return median(values) if values else None

    enqueued = [
        float(row["endEnqMs"]) - float(row["startEnqMs"]) for row in rows if {"startEnqMs", "endEnqMs"} <= row.keys()
    ]
    return Times(
        count=len(rows),
        compute_ms=median(computed),
        latency_ms=middle("latencyMs"),
        h2d_ms=middle("h2dMs"),
        d2h_ms=middle("d2hMs"),
        enqueue_ms=median(enqueued) if enqueued else None,
    )


def program_version(printed: str) -> str:
    """The version that ``trtexec`` prints in its first lines: ``8.5.3`` of ``[TensorRT v8503]``; empty without one.

    Up to 9 it is major, minor and two digits of the patch; from 10 on, two digits of each.
    """
    match = re.search(r"\[TensorRT v(\d{4,6})\]", printed)
    if match is None:
        return ""
    number = int(match[1])
    base = 10_000 if number >= 100_000 else 1_000
    return f"{number // base}.{number % base // 100}.{number % 100}"
