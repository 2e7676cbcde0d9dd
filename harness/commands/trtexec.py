"""``harness trtexec``: what NVIDIA's program would be told to build and time what a case does; and running it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show
from harness.errors import UsageError
from harness.spec.calibration import Policy, Precision, Route
from harness.spec.case import read_case
from harness.spec.routes import ALGORITHMS, cache_version, default_routes, routes_of
from harness.trtexec import Invocation, ProfileShapes, command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.corpus.catalogue import Entry
    from harness.modelfile import ModelFacts
    from harness.spec.case import Case
    from harness.spec.model import Model
    from harness.spec.shapes import Layout, Profile
    from harness.trtexec import Shapes

__all__ = ["trtexec"]

_TENSORRT = re.compile(r"tensorrt-(\d[\w.]*)(?:@.*)?")  # on any host
_PRECISIONS = [precision.value for precision in Precision]
_ROUTES = [route.value for route in Route]

_HELP = """\
Print the trtexec command line that does what a case does, every flag that matters written out.

CASE_OR_MODEL is a case's id, as pytest shows it in brackets; a key of `harness models`; or an ONNX file with --axis and
--range. Options say otherwise than the case's id and the configuration's [options] do.
"""


@click.command("trtexec", no_args_is_help=True, help=_HELP)
@click.argument("case_or_model")
@click.option("--trt-version", metavar="X.Y.Z", help="Whose trtexec.  [default: that of the case's runtime]")
@click.option("--precision", type=click.Choice(_PRECISIONS), help="[default: the case's, else fp32]")
@click.option("--route", type=click.Choice(_ROUTES), help="How INT8 gets in.  [default: the case's, else usual there]")
@click.option("--layout", metavar="LAYOUT", help="single, buckets3, geometricN, or MIN-OPT-MAX,MIN-OPT-MAX.")
@click.option("--length", type=click.IntRange(min=1), help="Of the timed input.  [default: the model's opt]")
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies. Repeatable.")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths to serve.")
@click.option("--length-input", "length_inputs", multiple=True, metavar="INPUT=NAME", help="Holds the valid length.")
@click.option("--onnx", metavar="FILE", help="Build from this one instead.")
@click.option("--calib", metavar="FILE", help="The calibration cache, for the routes cache and calibrator.")
@click.option("--load-input", "load_inputs", multiple=True, metavar="INPUT=FILE", help="Raw values; random without.")
@click.option(
    "--workspace", type=click.IntRange(min=1), metavar="MIB", help="[default: the configuration's, else 4096]"
)
@click.option("--tactic-sources", metavar="NAMES", help="The only ones to allow: CUDNN,JIT_CONVOLUTIONS.")
@click.option("--optimization-level", type=click.IntRange(0, 5), help="From 8.6 on.")
@click.option("--timing-cache", metavar="FILE", help="Kept between builds.")
@click.option("--save-engine", metavar="FILE", help="Where the engine goes.")
@click.option("--cuda-graph", is_flag=True, help="Launch a captured graph.")
@click.option("--blocking-wait", is_flag=True, help="Sleep while the GPU works, instead of spinning.")
@click.option("--data-transfers", is_flag=True, help="Time the copies to and from the GPU, too.")
@click.option("--build-only", is_flag=True, help="Time nothing.")
@click.option("--run", "run_it", is_flag=True, help="Run it, and print the medians of what it measured.")
@click.option("--record", type=click.Path(path_type=Path), help="A run's .jsonl file, to hold its numbers beside.")
@click.option("--json", "as_json", is_flag=True, help="Print the command, or with --run the medians, as JSON.")
def trtexec(case_or_model: str, **options: Any) -> None:  # noqa: ANN401 - click's options, of every type
    """Check what was asked for; print the command, or run it."""
    from harness.commands.trtexec_run import measured, numbers, recorded, table

    asked = Asked(case_or_model, **options)
    case = read_case(case_or_model)
    if asked.record is not None and not asked.run_it:
        raise UsageError("it holds a run's numbers beside trtexec's", where="--record", todo="add --run")
    if asked.run_it and asked.build_only:
        raise UsageError("it takes no times, and --run shows some", where="--build-only", todo="leave one of them out")
    version = _release(asked.trt_version) if asked.trt_version else _version(case)
    entry = _entry(asked, case)
    model = entry.model
    length = asked.length or model.opt
    invocation, made_by = _invocation(asked, case, entry, version, length)
    words = command(invocation)
    unfed = [name for name in model.length_inputs if name not in dict(invocation.load_inputs)]
    if unfed and not asked.build_only:
        note(f"trtexec fills inputs at random, also {', '.join(unfed)}: --load-input {unfed[0]}=FILE gives raw values")
    if not asked.run_it and asked.as_json:
        show(json.dumps({"command": words, "make_first": made_by or None}))
        return
    if not asked.run_it:
        show(" \\\n  ".join(shlex.quote(word) for word in words))
        if made_by:
            note(f"make {invocation.cache or invocation.onnx} first: {made_by}")
        return
    if made_by:
        raise UsageError("no such file", where=invocation.cache or invocation.onnx, todo=f"make it: {made_by}")
    name = case.id if case else ""
    ours = recorded(asked.record, name, model.key, invocation, length) if asked.record else []
    times = measured(invocation)
    show(json.dumps(numbers(times, ours, length)) if asked.as_json else table(times, ours, length))


@dataclass(frozen=True)
class Asked:
    """The command's options as click reads them; None or empty where nothing was said."""

    case_or_model: str
    trt_version: str | None
    precision: str | None
    route: str | None
    layout: str | None
    length: int | None
    axes: tuple[str, ...]
    range_: str
    length_inputs: tuple[str, ...]
    onnx: str | None
    calib: str | None
    load_inputs: tuple[str, ...]
    workspace: int | None
    tactic_sources: str | None
    optimization_level: int | None
    timing_cache: str | None
    save_engine: str | None
    cuda_graph: bool
    blocking_wait: bool
    data_transfers: bool
    build_only: bool
    run_it: bool
    record: Path | None
    as_json: bool


def _version(case: Case | None) -> str:
    found = _TENSORRT.fullmatch(case.runtime) if case else None
    if found is None:
        of = "a model alone does not say"
        if case:
            rtx = "; TensorRT-RTX's own program is not covered" if case.runtime.startswith("tensorrt-rtx") else ""
            of = f"{case.runtime} has none{rtx}"
        raise UsageError(f"whose trtexec? {of}", where="--trt-version", todo="name it: --trt-version 8.5.3 or 10.16.1")
    return found[1]


def _release(version: str) -> str:
    """The release that tox has of a version said in short: 8.5.3.1 of 8.5; a cache's header names a release."""
    from harness.workers.environments import TOX

    if version.upper().startswith("RTX"):
        raise UsageError(
            "TensorRT-RTX's own program is not covered", where=f"--trt-version {version}", todo="8.4 to 11.4"
        )
    if len(version.split(".")) == len(("major", "minor")):
        known = (name.removeprefix("tensorrt-") for name in TOX if name.startswith(f"tensorrt-{version}."))
        return next(known, version)
    return version


def _entry(asked: Asked, case: Case | None) -> Entry:
    from harness.commands.entry import find_entry

    return find_entry(
        case.model if case else asked.case_or_model,
        data=None,
        axes=asked.axes,
        range_=asked.range_,
        length_inputs=asked.length_inputs,
        pads=(),
        constants=(),
    )


def _invocation(asked: Asked, case: Case | None, entry: Entry, version: str, length: int) -> tuple[Invocation, str]:
    """What to run; and the command that makes its file, empty where that is there."""
    from harness.modelfile import prepare, read_facts
    from harness.spec.config import find_config
    from harness.spec.shapes import Profile, layout_from_text
    from harness.trt_forms import for_parser

    model = entry.model
    asks_int8 = asked.route in {Route.CACHE, Route.CALIBRATOR, Route.QDQ} or bool(asked.calib)
    unsaid = Precision.INT8 if asks_int8 else Precision.FP32
    precision = Precision(asked.precision or (case.precision if case else unsaid))
    route = _route(asked, case, precision, version, entry)
    layout = layout_from_text(asked.layout or (case.layout if case else "single"), model)
    index = layout.dispatch(length)
    prepared = prepare(entry.onnx(), model)
    # what the suites build, too; a file of one's own says nothing of its inputs here, and is taken for a prepared one
    formed = prepared if asked.onnx else for_parser(prepared, "tensorrt", version, model, read_facts(prepared))
    facts = read_facts(formed)
    onnx, cache, made_by = str(asked.onnx or formed), "", ""
    if precision is Precision.INT8 and entry.ready is not None and not asked.onnx:
        onnx = str(_as_it_is(entry, version, route))
    elif precision is Precision.INT8:
        cached = route in {Route.CACHE, Route.CALIBRATOR}
        target = (asked.calib if cached else asked.onnx) or f"{model.key}{'.cache' if cached else '.int8.onnx'}"
        onnx, cache = (onnx, target) if cached else (target, "")
        if not Path(target).is_file():
            qdq = "qdq-s8s8-fp16" if _types_in_the_model(route, version) else "qdq-s8s8"
            made_by = _calibrate(asked, case, layout, cache_version(version), target, "trt-cache" if cached else qdq)
    elif precision is Precision.FP16 and not asked.onnx and _types_in_the_model(route, version):
        from harness.calibration.artefacts import fp16

        onnx = str(fp16(formed))
    options = find_config().options.of(case.runtime if case else f"tensorrt-{version}")
    sources = options.get("tactic_sources") if asked.tactic_sources is None else asked.tactic_sources.split(",")
    level = options.get("optimization_level") if asked.optimization_level is None else asked.optimization_level
    invocation = Invocation(
        version=version,
        onnx=onnx,
        precision=precision,
        route=route,
        cache=cache,
        profiles=tuple(_shapes(model, facts, profile) for profile in layout.profiles),
        shapes=_shapes(model, facts, Profile(length, length, length)).opt,
        profile=index,
        workspace_bytes=asked.workspace << 20 if asked.workspace else options.get("workspace_bytes", 4 << 30),
        tactic_sources=None if sources is None else tuple(name for name in sources if name),
        optimization_level=level,
        timing_cache=asked.timing_cache or "",
        save_engine=asked.save_engine or "",
        cuda_graph=asked.cuda_graph or bool(options.get("cuda_graph")),
        spin_wait=not asked.blocking_wait,
        data_transfers=asked.data_transfers,
        load_inputs=tuple(_loaded(asked, facts)),
        device=options.get("device", 0),
        build_only=asked.build_only,
    )
    return invocation, made_by


def _as_it_is(entry: Entry, version: str, route: Route | None) -> Path:
    """The file of a model that brings its own Q/DQ."""
    from harness.calibration.ready import check_family
    from harness.ready import checked, for_runtime

    path = entry.ready() if entry.ready else entry.onnx()
    if route in {Route.CACHE, Route.CALIBRATOR}:
        todo = "leave --route out: what is in the file needs no calibration"
        raise UsageError(f"the model has Q/DQ of its own, and no route {route}", where=str(path), todo=todo)
    check_family(checked(path), "tensorrt", str(path))
    return for_runtime(path, "tensorrt", version, entry.model)


def _route(asked: Asked, case: Case | None, precision: Precision, version: str, entry: Entry) -> Route | None:
    if asked.route:
        return Route(asked.route)
    if precision is not Precision.INT8:
        return None
    if entry.ready is not None and case is None:
        return _qdq(version)
    if case is not None and (case.calibration is not None or case.ready) and _TENSORRT.fullmatch(case.runtime):
        # From 11.0 on the id of a case may leave its only route out.
        return case.route if case.route is not Route.QDQ else _qdq(version)
    return default_routes("tensorrt", version)[0]


def _qdq(version: str) -> Route:
    return Route.QDQ if Route.QDQ in routes_of("tensorrt", version) else Route.QDQ_STRONG


def _types_in_the_model(route: Route | None, version: str) -> bool:
    return route is Route.QDQ_STRONG or _qdq(version) is Route.QDQ_STRONG


def _shapes(model: Model, facts: ModelFacts, profile: Profile) -> ProfileShapes:
    """Of the inputs that vary."""
    from harness.modelfile import profiles_for

    (given,) = profiles_for(model, facts, [profile])
    varying = [one.name for one in facts.inputs if not all(isinstance(size, int) for size in one.dims)]

    def at(index: int) -> Shapes:
        return tuple((name, tuple(given[name][index])) for name in varying)

    return ProfileShapes(at(0), at(1), at(2))


def _loaded(asked: Asked, facts: ModelFacts) -> Iterator[tuple[str, str]]:
    known = [one.name for one in facts.inputs]
    for text in asked.load_inputs:
        name, _, file = text.rpartition("=")
        if name not in known:
            todo = f"write it as INPUT=FILE; inputs are {', '.join(known)}"
            raise UsageError(f"no input is called {name!r}", where=f"--load-input {text}", todo=todo)
        yield name, file


def _calibrate(asked: Asked, case: Case | None, layout: Layout, version: str, target: str, emit: str) -> str:
    """The ``harness calibrate`` that makes an INT8 artefact.

    :param version: as a cache's header has it. :param emit: what it writes.
    """
    calibration = case.calibration if case else None
    several = len(layout.profiles) > 1
    if calibration is not None and calibration.policy is Policy.PER_PROFILE and several:
        raise UsageError(
            "this case has an engine a profile, and trtexec builds one",
            where=asked.case_or_model,
            todo="name one profile: --layout MIN-OPT-MAX",
        )
    words = ["harness", "calibrate", case.model if case else asked.case_or_model]
    for option, values in (("--axis", asked.axes), ("--length-input", asked.length_inputs)):
        for value in values:
            words += [option, value]
    if asked.range_:
        words += ["--range", asked.range_, "--data", "SAMPLES"]
    if calibration is not None:
        words += ["--method", str(calibration.method), "--policy", calibration.policy.value]
    if several:
        words += ["--layout", asked.layout or (case.layout if case else "")]
    words += ["--emit", emit, "--trt-version", version]
    if emit == "trt-cache" and case is not None and case.route is Route.CALIBRATOR and case.calibration is not None:
        words += ["--trt-algorithm", ALGORITHMS[case.calibration.method.name]]
    return shlex.join([*words, "-o", target])
