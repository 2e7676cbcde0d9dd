"""``harness explain``: where a case's time goes, layer by layer, and why INT8 is not faster."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show
from harness.errors import UsageError
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case, read_case
from harness.spec.matrix import DEFAULT_METHOD, DEFAULT_POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.corpus.catalogue import Entry
    from harness.explain.explained import Explained
    from harness.workbench import Workbench
    from harness.workers import Environment

__all__ = ["explain"]

_HELP = """\
Show where the time of a case goes: every layer of what really runs, in which precision, what it takes and moves, and
how near it comes to what this machine can do. An INT8 case stands beside FP32, what got slower first.

CASE is a case's id, as pytest shows it in brackets; a key of `harness models`; or an ONNX file with --axis and --range.
For a key or a file it is INT8 in this interpreter's ONNX Runtime, unless --runtime and --precision say otherwise. A
file with Q/DQ of its own runs as it is.
"""
_FINDINGS_SHOWN = 20
_PRECISIONS = [precision.value for precision in Precision]


@click.command(no_args_is_help=True, help=_HELP)
@click.argument("case", required=False, default="")
@click.option("--runtime", metavar="NAME", help="Its name or the start of one.  [default: the case's, else this one's]")
@click.option(
    "--precision", type=click.Choice([one.value for one in Precision]), help="[default: the case's, else int8]"
)
@click.option(
    "--method", default=DEFAULT_METHOD, show_default=True, help="That chooses INT8's ranges, where CASE does not."
)
@click.option("--layout", default="single", show_default=True, metavar="LAYOUT", help="Profiles, where CASE says none.")
@click.option("--length", "lengths", type=click.IntRange(min=1), multiple=True,
              help="Repeatable.  [default: each bucket's opt]")  # fmt: skip
@click.option("--against", default="", metavar="fp32|fp16|CASE|none", help="[default: fp32 beside INT8 and FP16]")
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies. Repeatable.")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths to serve.")
@click.option("--length-input", "length_inputs", multiple=True, metavar="INPUT=NAME", help="Holds the valid length.")
@click.option("--data", metavar="DIR|LOADER.py", help=".npz files, one a sample, or a script with load_data().")
@click.option("--from", "dumps", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="Read what benchmarks/gpu/layers.py wrote on another machine; runs nothing.")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=15, show_default=True, help="Layers shown.")
@click.option("--best", is_flag=True, help="Search for the case to ship; CASE is a key or a file.")
@click.option("--goal", "goals", multiple=True, metavar="[BUCKET:]speedup=N|latency_ms=N",
              help="With --best: how fast.  [default: the model's own, else the fastest]")  # fmt: skip
@click.option("--bound", "bounds", multiple=True, metavar="[BUCKET:]NAME=NUMBER",
              help="With --best: how right.  [default: the model's own bounds]")  # fmt: skip
@click.option("--budget", "budget_s", type=click.FloatRange(min=1), metavar="SECONDS",
              help="With --best.  [default: 600]")  # fmt: skip
@click.option("--traffic", type=click.Path(path_type=Path), metavar="FILE",
              help="With --best: lengths, one a line, for the layout.  [default: the data's]")  # fmt: skip
@click.option("--switch-us", type=click.FloatRange(min=0), metavar="US",
              help="What a change of profile costs here.  [default: unknown; with --best, as on an H200]")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws samples.")
@click.option("--results", type=click.Path(path_type=Path), metavar="DIR",
              help="Where records go.  [default: the configuration's, results/]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def explain(*, best: bool, **options: Any) -> int:  # noqa: ANN401 - click's options, of every type
    """Build, run and profile; show and record. Or search for the best case (:mod:`harness.commands.best`)."""
    from harness.commands.best import only_with_best

    searching = {name: options.pop(name) for name in ("goals", "bounds", "budget_s", "traffic", "switch_us")}
    asked = Asked(**options)
    if best:
        return _best(asked, searching)
    named = {
        "goals": "--goal",
        "bounds": "--bound",
        "budget_s": "--budget",
        "traffic": "--traffic",
    }
    switch_us = searching.pop("switch_us")
    only_with_best({named[name]: value for name, value in searching.items()})
    if asked.dumps:
        from harness.explain.dump import read_dumps

        _tell(read_dumps(asked.dumps, asked.case), asked)
        return 0
    if not asked.case:
        raise UsageError("which case?", where="CASE", todo="an id as pytest shows it, a model's key, or an ONNX file")
    from harness.explain.explained import explained, record

    with _opened(asked) as (bench, case, other):
        found = explained(bench, case, other, asked.lengths, note, switch_us)
        record(bench, case, found)
    _tell([found], asked)
    return 0


def _best(asked: Asked, searching: dict[str, Any]) -> int:
    from harness.commands import best

    for option, value in {
        "--precision": asked.precision,
        "--length": asked.lengths,
        "--against": asked.against,
        "--from": asked.dumps,
    }.items():
        if value:
            raise UsageError(
                f"{option} does not go with --best, which tries all", where="harness explain", todo="leave it out"
            )
    if read_case(asked.case) is not None:
        raise UsageError(
            "--best wants a model, and this is a case",
            where=asked.case,
            todo="a key of harness models, or an ONNX file",
        )
    return best.find_best(best.Asked(
        asked.case, asked.runtime or _of_this_interpreter(),
        **{**searching, "budget_s": searching["budget_s"] or 600.0},
        axes=asked.axes, range_=asked.range_, length_inputs=asked.length_inputs, data=asked.data, seed=asked.seed,
        results=asked.results, as_json=asked.as_json,
    ))  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The command's options as click reads them; None or empty where nothing was said."""

    case: str
    runtime: str | None
    precision: str | None
    method: str
    layout: str
    lengths: tuple[int, ...]
    against: str
    axes: tuple[str, ...]
    range_: str
    length_inputs: tuple[str, ...]
    data: str | None
    dumps: tuple[Path, ...]
    top: int
    seed: int
    results: Path | None
    as_json: bool


@contextmanager
def _opened(asked: Asked) -> Iterator[tuple[Workbench, Case, Case | None]]:
    """A workbench of a run of its own; the case, and what it stands beside."""
    from harness.commands.entry import find_entry
    from harness.gate.asked import environment
    from harness.results.store import Store
    from harness.spec.config import find_config
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Workers
    from harness.workers.places import check_one_place

    config = find_config()
    case, other = read_case(asked.case), read_case(asked.against)
    if case is None:
        entry = find_entry(
            asked.case, data=asked.data, axes=asked.axes, range_=asked.range_, length_inputs=asked.length_inputs,
            pads=(), constants=(),
        )  # fmt: skip
    else:
        entry = _catalogued(case)
    there = environment(config, asked.runtime or (case.runtime if case else _of_this_interpreter()), "--runtime")
    case = _case(asked, case, entry, there)
    environments = {there.name: there}
    if other is not None:
        if other.model != case.model:
            raise UsageError(f"a case of another model: {other.model}", where="--against", todo=f"one of {case.model}")
        beside = environment(config, other.runtime, "--against")
        check_one_place(beside, there, "--against")
        environments[beside.name] = beside
        other = replace(other, runtime=beside.name)
    else:
        other = _against(asked, case)
    with closing(Store(asked.results or config.results).open_run()) as run:
        command = str(click.get_current_context().obj or "")
        workers = Workers(deadline_s=config.deadline_s)
        bench = Workbench(
            {entry.model.key: entry}, environments, workers, run, Matrix(), asked.seed, config.latency, command=command
        )
        with closing(bench):
            yield bench, case, other


def _of_this_interpreter() -> str:
    import onnxruntime

    return f"onnxruntime-{onnxruntime.__version__}"


def _catalogued(case: Case) -> Entry:
    from harness.commands.entry import find_entry

    return find_entry(case.model, data=None, axes=(), range_="", length_inputs=(), pads=(), constants=())


def _case(asked: Asked, case: Case | None, entry: Entry, there: Environment) -> Case:
    asked_ready = case is not None and case.ready
    if case is None:
        case = Case(entry.model.key, there.name, Precision(asked.precision or Precision.INT8), None, asked.layout)
    elif asked.precision:
        case = replace(case, precision=Precision(asked.precision))
    case = replace(case, runtime=there.name)
    if case.precision is not Precision.INT8:
        return replace(case, calibration=None)
    if entry.ready is not None and case.calibration is None:
        from harness.spec.routes import ready_routes

        return case if asked_ready else replace(case, route=ready_routes(there.runtime, there.version)[0])
    if asked_ready:
        raise UsageError(
            f"{entry.model.key} has no Q/DQ of its own", where=asked.case, todo="name a method, or give the key alone"
        )
    if case.calibration is None:
        from harness.spec.routes import default_routes

        policy = Policy(DEFAULT_POLICY)
        route = default_routes(there.runtime, there.version)[0]
        case = replace(case, calibration=Calibration(Method.parse(asked.method), policy), route=route)
    return case


def _against(asked: Asked, case: Case) -> Case | None:
    if asked.against == "none" or (not asked.against and case.precision is Precision.FP32):
        return None
    word = asked.against or Precision.FP32.value
    if word not in {Precision.FP32.value, Precision.FP16.value}:
        raise UsageError(f"--against {word!r} is no case", todo="fp32, fp16, none, or a case's id as pytest shows it")
    return replace(case, precision=Precision(word), calibration=None)


def _tell(explained: Sequence[Explained], asked: Asked) -> None:
    from harness.explain.explained import as_data

    if asked.as_json:
        show(json.dumps({"cases": [as_data(one) for one in explained]}))
        return
    for one in explained:
        _show(one, asked.top)


def _show(one: Explained, top: int) -> None:
    from harness.explain.beside import beside
    from harness.explain.shown import beside_table, heading, layer_table, roofline_line, sums_table

    for index, table in enumerate(one.tables):
        show(heading(table, one.unit))
        show("")
        show(layer_table(table, one.roofline, top))
        left = len(table.layers) - top
        if left > 0:
            show(f"{left} more; --top {len(table.layers)} shows them, --json everything")
        show("")
        if not one.baseline:
            if table.profiled_us is not None:
                show(sums_table([table]))
                show("")
            for line in table.log:
                show(f"builder: {line}")
            continue
        other = one.baseline[index]
        if table.profiled_us is not None and other.profiled_us is not None:
            show(f"beside {heading(other, one.unit)}; what got slower first")
            show("")
            show(beside_table(beside(other, table), top))
            show("")
            show(sums_table([other, table]))
            show("")
        else:
            show(f"beside {heading(other, one.unit)}")
    if one.roofline is not None:
        show(roofline_line(one.roofline))
    for found in one.findings[:_FINDINGS_SHOWN]:
        show(f"{found.severity}: {found.kind}: {found.what}")
        show(f"  -> {found.todo}")
    if len(one.findings) > _FINDINGS_SHOWN:
        note(f"{len(one.findings) - _FINDINGS_SHOWN} more findings; --json has them all")
