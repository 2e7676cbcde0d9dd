"""``harness mix``: which operators to leave in float, so that INT8 is right at every length and stays fast."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show, steps, suites_from
from harness.errors import UsageError
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from harness.materials import Materials
    from harness.mixed.plan import Plan
    from harness.mixed.run import Searched

__all__ = ["mix"]

_HELP = """\
Search for MODEL's mixed precision: the operators to leave in float, ranges by tensor, rows to quantize in parts of
their own largest value, and what reads or writes floating point beside INT8, so that every length bucket meets its
accuracy bounds at the least time.

MODEL is a key of `harness models`, or an FP32 ONNX file with --axis, --range and --data. What is found is kept:
pytest suites/ --precision fp32,int8,int8-mixed runs it. No test sample is looked at. A search that is broken off
goes on where it was.
"""
_SAMPLES = 64


@click.command(no_args_is_help=True, help=_HELP)
@click.argument("model")
@click.option("--dialect", type=click.Choice([one.value for one in Dialect]), default=Dialect.U8S8.value,
              show_default=True, help="u8s8 for x86, timed here; s8s8 for TensorRT.")  # fmt: skip
@click.option("--bound", "bounds", multiple=True, metavar="[BUCKET:]NAME=NUMBER",
              help="What is right: score=0.97, short:sqnr_db=20.  [default: the model's own bounds]")  # fmt: skip
@click.option("--keep", type=click.FloatRange(0, 1), default=0.9, show_default=True,
              help="The least share of plain INT8's speed-up, as long as bounds can be met with it.")  # fmt: skip
@click.option("--budget", "budget_s", type=click.FloatRange(min=1), default=240.0, show_default=True,
              metavar="SECONDS", help="No file is begun after so long.")  # fmt: skip
@click.option("--each", type=click.IntRange(min=2), default=32, show_default=True, metavar="N",
              help="Samples of the middle length bucket that files are judged by.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=_SAMPLES, show_default=True, metavar="N",
              help="Calibration samples.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws samples and orders.")
@click.option("--data", metavar="DIR|LOADER.py", help=".npz files, one a sample, or a script with load_data().")
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies. Repeatable.")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths to serve.")
@click.option("--length-input", "length_inputs", multiple=True, metavar="INPUT=NAME", help="Holds the valid length.")
@click.option("--results", type=click.Path(path_type=Path), metavar="DIR",
              help="Where the record goes.  [default: the configuration's, results/]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the plan and its evidence as one JSON object.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the Q/DQ ONNX file here, too.")
def mix(model: str, **options: Any) -> None:  # noqa: ANN401 - click's options, of every type
    """Search, keep the plan, write the file."""
    from harness.commands.emit import check_target
    from harness.commands.entry import find_entry
    from harness.corpus.registry import load_catalogue
    from harness.materials import Materials
    from harness.mixed.plan import file_of, find, is_better, keep
    from harness.mixed.run import Asked, bounds_of, search_model
    from harness.spec.bounds import bounded, check_bounds, read_bounds
    from harness.spec.config import find_config
    from harness.spec.matrix import Matrix

    out = options["out"]
    if out is not None:
        check_target(out)
    described = {name: options[name] for name in ("data", "axes", "range_", "length_inputs")}
    entry = find_entry(model, **described, pads=(), constants=())
    if entry.ready is not None:
        raise UsageError(
            "it has Q/DQ of its own, and mixed precision is searched from an FP32 model",
            where=model,
            todo="give the FP32 model that it was made from; the file itself runs as it is: harness explain, pytest",
        )
    if given := read_bounds(options["bounds"]):
        entry = bounded(entry, given, of=1)
        check_bounds(entry.model)
    key, dialect = entry.model.key, Dialect(options["dialect"])
    materials = Materials({key: entry}, replace(Matrix(), samples=options["samples"]), options["seed"])
    with ExitStack() as stack:
        stack.callback(materials.close)
        asked = Asked(
            key, dialect, bounds_of(materials, key), options["keep"], options["each"], options["budget_s"],
            options["seed"],
        )  # fmt: skip
        on_step = stack.enter_context(steps(f"mixed precision of {key}"))
        searched = search_model(materials, asked, on_step)
        old = find(materials.prepared(key), dialect)
        stays = is_better(old, searched.plan)
        kept = None if stays else keep(searched.plan)
        _record(materials, searched.plan, options["results"], entry.synthetic)
        file = file_of(searched.plan, materials.prepared(key))
        if out is not None:
            shutil.copyfile(file, out)
    if options["as_json"]:
        from harness.results.record import encode

        said = {"plan": searched.plan.as_data(), "kept": kept, "file": out or file}
        show(encode(said).decode().rstrip())
        return
    _tell(searched)
    if stays:
        note("an earlier search met these bounds better: its plan stays what int8-mixed is built from")
    if out is not None:
        show(f"wrote {out}")
    if model in load_catalogue(find_config()):
        runtime = "onnxruntime" if dialect is Dialect.U8S8 else "'tensorrt*'"
        command = f"pytest {suites_from(Path.cwd())} --models {key} --precision fp32,int8,int8-mixed"
        note(f"next: {command} --runtime {runtime}")


def _record(materials: Materials, plan: Plan, results: Path | None, synthetic: bool) -> None:  # noqa: FBT001
    """What the search saw and reached, without what can be read off the plan."""
    from harness.results.record import record
    from harness.results.store import Store
    from harness.spec.config import find_config

    values = {name: value for name, value in plan.evidence.items() if name != "plain_ranges"}
    values |= {"model": plan.model, "dialect": plan.dialect.value}
    digests, samples = materials.corpora_of(plan.model)
    with closing(Store(results or find_config().results).open_run()) as run:
        run.append(
            record("mixed", run.id, values, corpus=digests, samples=samples, seed=materials.seed, synthetic=synthetic)
        )


def _tell(searched: Searched) -> None:
    from harness.mixed.shown import front_table, sentences

    show(front_table(searched.found))
    for line in sentences(searched):
        show(line)
