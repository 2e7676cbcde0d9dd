"""``harness calibrate``: ranges from samples of any length, as a Q/DQ graph, a TensorRT cache or JSON."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, suites_from
from harness.errors import HarnessError, UsageError
from harness.spec.calibration import Calibration, Dialect, Method, Policy
from harness.spec.matrix import DEFAULT_METHOD, DEFAULT_POLICY
from harness.spec.routes import cache_version

if TYPE_CHECKING:
    from harness.commands.emit import Form

__all__ = ["calibrate"]

_EMITS = ("qdq-s8s8", "qdq-s8s8-fp16", "qdq-u8s8", "trt-cache", "json")
_POLICIES = [policy.value for policy in Policy if policy is not Policy.REINTERPRET]
_DIALECTS = [dialect.value for dialect in Dialect]
_TRT_ALGORITHM = "MinMaxCalibration"


_HELP = """\
Find INT8 ranges for MODEL from samples of any length, and write them as a file.

MODEL is a key of `harness models`, or an FP32 ONNX file with --axis, --range and --data. All samples of your own
data are used, one at a time. With --policy per_profile and several profiles there is one file a profile.
"""


class _Policy(click.Choice[str]):
    """The policies that make a file worth having."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        if value == Policy.REINTERPRET.value:
            raise UsageError(
                "reads samples as TensorRT misreads them, and its ranges are wrong: no file is written with it",
                where="--policy reinterpret",
                todo=f"choose another policy ({', '.join(self.choices)}); to see what it does, run "
                "pytest suites/test_calibration.py -k reinterpret, or read docs/guide/shape-policies.md",
            )
        return super().convert(value, param, ctx)


@click.command(no_args_is_help=True, help=_HELP)
@click.argument("model")
@click.option("--data", metavar="DIR|LOADER.py", help=".npz files, one a sample, or a script with load_data().")
@click.option("--axis", "axes", multiple=True, metavar="INPUT:DIM=NAME", help="What varies. Repeatable.")
@click.option("--range", "range_", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="The lengths to serve.")
@click.option("--length-input", "length_inputs", multiple=True, metavar="INPUT=NAME", help="Holds the valid length.")
@click.option("--pad", "pads", multiple=True, metavar="INPUT=VALUE", help="What a padded sample ends with (else 0).")
@click.option("--constant", "constants", multiple=True, metavar="INPUT=VALUE|FILE.npy", help="Never varies.")
@click.option(
    "--method", default=DEFAULT_METHOD, show_default=True, help="auto, minmax, percentile[99.9], entropy, mse."
)
@click.option("--policy", type=_Policy(_POLICIES), default=DEFAULT_POLICY.value, show_default=True,
              help="What is seen of a sample that is not as long as opt.")  # fmt: skip
@click.option("--layout", "layout_text", default="single", show_default=True, metavar="LAYOUT",
              help="single, buckets3, geometricN, or MIN-OPT-MAX,MIN-OPT-MAX.")  # fmt: skip
@click.option("--samples", "count", type=click.IntRange(min=1), metavar="N",
              help="Samples to take: all of your own data, else 64.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws a catalogue's data.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the FP32 model.")
@click.option("--emit", type=click.Choice(_EMITS), default="qdq-s8s8", show_default=True,
              help="Q/DQ ONNX for TensorRT (s8s8; its rest in FP16 for strongly typed networks) or x86 (u8s8), "
                   "a calibration cache, or the ranges.")  # fmt: skip
@click.option("--dialect", type=click.Choice(_DIALECTS), help="Of json's ranges.  [default: s8s8]")
@click.option("--trt-version", metavar="VERSION",
              help="8.5.3, or 8503 as a cache's header has it; the model gets the form for its parser.")  # fmt: skip
@click.option("--trt-algorithm", metavar="NAME", help=f"In the cache's header.  [default: {_TRT_ALGORITHM}]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print what was seen, all ranges and the files as one JSON object."
)
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, help="The file to write.")
def calibrate(
    model: str,
    data: str | None,
    axes: tuple[str, ...],
    range_: str,
    length_inputs: tuple[str, ...],
    pads: tuple[str, ...],
    constants: tuple[str, ...],
    method: str,
    policy: str,
    layout_text: str,
    count: int | None,
    seed: int,
    threads: int,
    emit: str,
    dialect: str | None,
    trt_version: str | None,
    trt_algorithm: str | None,
    as_json: bool,  # noqa: FBT001
    out: Path,
) -> None:
    """Check what was asked for and run it."""
    from harness.commands.calibration import Request, run, tell, tell_json
    from harness.commands.emit import check_target
    from harness.commands.entry import find_entry

    calibration = Calibration(Method.parse(method), Policy(policy))
    form = _form(emit, dialect, trt_version, trt_algorithm)
    check_target(out)
    entry = find_entry(
        model, data=data, axes=axes, range_=range_, length_inputs=length_inputs, pads=pads, constants=constants
    )
    run(Request(entry, calibration, layout_text, form, out, count, seed, threads), tell_json if as_json else tell)
    note(f"next: {_next(model, data, entry.model.key)}")


def _next(model: str, data: str | None, key: str) -> str:
    """The command that says whether the ranges are any good.

    :param key: of a file that is not configured: its name.
    """
    if known := model if not model.endswith(".onnx") else _configured(Path(model), key):
        return f"pytest {suites_from(Path.cwd())} --models {known}"
    given = ["--data", data] if data else []
    return (
        shlex.join(["harness", "init", model, *given]) + f", and pytest {suites_from(Path.cwd())} checks and times it"
    )


def _configured(model: Path, key: str) -> str:
    """The key of a file that the configuration has; empty where it does not."""
    from harness.spec.config import find_config

    try:
        models = find_config().models
    except HarnessError:  # the file was calibrated without it; whoever reads it next says what is wrong with it
        return ""
    return next((one.key or key for one in models if one.path.resolve() == model.resolve()), "")


def _form(emit: str, dialect: str | None, trt_version: str | None, trt_algorithm: str | None) -> Form:
    from harness.commands.emit import QDQ, Json, TrtCache

    for option, value, belongs in (
        ("--dialect", dialect, ("json",)),
        ("--trt-version", trt_version, ("trt-cache", "qdq-s8s8", "qdq-s8s8-fp16")),
        ("--trt-algorithm", trt_algorithm, ("trt-cache",)),
    ):
        if value is not None and emit not in belongs:
            raise UsageError(f"goes with --emit {' or '.join(belongs)}, not {emit}", where=option, todo="leave it out")
    if trt_version is not None and "." in trt_version:
        trt_version = cache_version(trt_version)
    if emit == "trt-cache":
        if trt_version is None:
            raise UsageError(
                "whose cache? its header holds your TensorRT's version",
                where="--emit trt-cache",
                todo="name it: --trt-version 8503 for 8.5.3, 8601 for 8.6.1, 101600 for 10.16.0",
            )
        return TrtCache(trt_version, trt_algorithm or _TRT_ALGORITHM)
    if emit == "json":
        return Json(Dialect(dialect or Dialect.S8S8))
    if emit == "qdq-s8s8-fp16":
        return QDQ(Dialect.S8S8, trt_version or "", "fp16")
    return QDQ(Dialect(emit.removeprefix("qdq-")), trt_version or "")
