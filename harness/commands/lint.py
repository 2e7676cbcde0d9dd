"""``harness lint``: what of a model will be slow or wrong in INT8, read off its file; nothing is run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show
from harness.errors import HarnessError, ModelRefused, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from harness.explain.finding import Finding
    from harness.explain.rules import Subject
    from harness.spec.model import Model

__all__ = ["lint"]

_FAILED, _UNREADABLE = 1, 2
_SEVERITIES = ("wrong", "slow", "note")
_WIDTH = 5

_HELP = """\
Say what of a model will be slow or wrong in INT8, from its file alone: nothing is run.

MODEL is an ONNX file, FP32 or with Q/DQ, or a key of `harness models`. Of an FP32 file it says what will matter once it
is quantized. With --axis and --range (a catalogue's model has them) it knows the lengths that come.

Ends with 0, or with 1 where a finding is as bad as --fail-on says, or with 2 where there is nothing to look at: wrong
options, no such file, not ONNX.
"""


@click.command("lint", no_args_is_help=True, help=_HELP)
@click.argument("model")
@click.option(
    "--dialect",
    type=click.Choice(["s8s8", "u8s8", "auto"]),
    default="auto",
    help="What runs it: TensorRT (s8s8) or x86 kernels (u8s8).  [default: as the file's types say]",
)
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies. Repeatable.")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths to serve.")
@click.option("--length-input", "length_inputs", multiple=True, metavar="INPUT=NAME", help="Holds the valid length.")
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
@click.option(
    "--fail-on",
    type=click.Choice([*_SEVERITIES, "never"]),
    default="wrong",
    show_default=True,
    help="The least severity that ends with 1.",
)
def lint(
    model: str,
    dialect: str,
    axes: tuple[str, ...],
    range_: str,
    length_inputs: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - an option, as click gives it
    fail_on: str,
) -> None:
    """Read, look, print."""
    from harness.explain.rules import Graph, Subject, findings_of
    from harness.onnx_facts import inlined
    from harness.spec.calibration import Dialect

    try:
        path, spec = _described(model, axes, range_, length_inputs)
        model_proto = inlined(_loaded(path), str(path))
        subject = Subject(graph=Graph(model_proto), asked=None if dialect == "auto" else Dialect(dialect), spec=spec)
        found = findings_of(subject)
    except HarnessError as error:
        error.exit_code = max(error.exit_code, _UNREADABLE)  # 1 is an answer
        raise
    _print_json(path, subject, found) if as_json else _print(subject, found)
    limit = _SEVERITIES.index(fail_on) if fail_on in _SEVERITIES else -1
    if any(_SEVERITIES.index(one.severity) <= limit for one in found):
        click.get_current_context().exit(_FAILED)


def _described(
    model: str, axes: tuple[str, ...], range_: str, length_inputs: tuple[str, ...]
) -> tuple[Path, Model | None]:
    """The file, and what varies in it where that is known."""
    from harness.commands.entry import find_entry, is_path
    from harness.corpus.own import own_model
    from harness.onnx_facts import read_facts, varying_axes

    if not is_path(model):
        entry = find_entry(
            model, data=None, axes=axes, range_=range_, length_inputs=length_inputs, pads=(), constants=()
        )
        return entry.onnx(), entry.model
    facts = read_facts(model)
    if range_:
        return facts.path, own_model(facts, axes=axes, range_=range_, length_inputs=length_inputs)
    if axes or length_inputs:
        raise UsageError("which lengths? no range was given", where=model, todo="--range MIN:MAX, e.g. 16:2000")
    if varying_axes(facts):
        names = ", ".join(f"{tensor.name}:{dim}" for tensor, dim in varying_axes(facts))
        note(f"no --range: findings that depend on the length are left out; what varies: {names}")
    return facts.path, None


def _loaded(path: Path) -> ModelProto:
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's, onnx's checker's and the operating system's share no class
        raise ModelRefused(
            "the file cannot be read with its external data", where=str(path), todo="export it again", detail=str(error)
        ) from error


def _print(subject: Subject, found: list[Finding]) -> None:
    for one in found:
        show(f"{one.severity:{_WIDTH}}  {one.kind}: {one.what}{_cost(one)}")
        count = one.evidence.get("count", 0)
        more = int(count) - len(one.where) if isinstance(count, int) else 0
        if one.where:
            show(f"{'':{_WIDTH}}  in {', '.join(one.where)}" + (f" and {more} more" if more > 0 else ""))
        show(f"{'':{_WIDTH}}  -> {one.todo}")
    show(_summed(subject, found))


def _summed(subject: Subject, found: list[Finding]) -> str:
    of = {severity: sum(one.severity == severity for one in found) for severity in _SEVERITIES}
    counts = ", ".join(f"{count} {severity}" for severity, count in of.items() if count) or "none"
    quantized = sum(one.quantized for one in subject.weighted)
    total = len(subject.weighted)
    dialect = f", {subject.dialect.value}" if subject.dialect is not None else ""
    form = f"Q/DQ{dialect}, {quantized} of {total} operators with weights in INT8" if subject.is_qdq else "no Q/DQ"
    return f"findings: {counts} ({form})" + ("" if subject.is_qdq else f"; {total} operators with weights")


def _cost(one: Finding) -> str:
    costs = [f"{one.cost_us:.1f} us" if one.cost_us else "", f"{one.cost_db:.1f} dB" if one.cost_db else ""]
    return f" [{', '.join(filter(None, costs))}]" if any(costs) else ""


def _print_json(path: Path, subject: Subject, found: list[Finding]) -> None:
    from harness.explain.rules import silent

    told: dict[str, Any] = {
        "model": str(path),
        "qdq": subject.is_qdq,
        "dialect": subject.dialect.value if subject.dialect is not None else None,
        "operators_with_weights": len(subject.weighted),
        "in_int8": sum(one.quantized for one in subject.weighted),
        "findings": [asdict(one) for one in found],
        "silent_rules": silent(subject),
    }
    click.echo(json.dumps(told, indent=2, allow_nan=False))
