"""Running ``trtexec``, and its medians beside those of one of our records."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.console import note
from harness.errors import EnvironmentMissing, ResultsError, RunFailed, UsageError
from harness.spec.calibration import Precision
from harness.trtexec import command, program_version, read_times

if TYPE_CHECKING:
    from rich.table import Table

    from harness.trtexec import Invocation, Times

__all__ = ["WHERE_IT_COMES_FROM", "Recorded", "measured", "numbers", "recorded", "table"]

WHERE_IT_COMES_FROM = "it comes with TensorRT's tar, deb and container, not with its wheels: add its bin folder to PATH"
_LINES = 20


@dataclass(frozen=True)
class Recorded:
    """One of our numbers.

    :param label: the case or the baseline that it is of, and its clock. :param median_ms: of a call at that length.
    """

    label: str
    median_ms: float


def measured(invocation: Invocation) -> Times:
    """Run the program and read what it exports.

    :raises EnvironmentMissing: it is not on PATH. :raises RunFailed: it ended with an error; the message has its end.
    :raises UsageError: it is the program of another version, whose flags mean something else.
    """
    program = shutil.which("trtexec")
    if program is None:
        raise EnvironmentMissing(
            "trtexec is not on PATH",
            todo=WHERE_IT_COMES_FROM,
        )
    with tempfile.TemporaryDirectory(prefix="trtexec.") as folder:
        times = Path(folder, "times.json")
        words = command(replace(invocation, export_times=str(times)))
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, errors="replace", check=False)
        printed = done.stdout + done.stderr
        _check_version(program, program_version(printed), invocation.version)
        if done.returncode or not times.is_file():
            raise RunFailed(
                f"trtexec ended with exit code {done.returncode}" + ("" if done.returncode else " and wrote no times"),
                where=program,
                todo="run the command by hand: the same without --run prints it",
                detail="\n".join(printed.splitlines()[-_LINES:]),
            )
        return read_times(times.read_text("utf-8", errors="replace"))


def _check_version(program: str, found: str, wanted: str) -> None:
    if not found:
        note(f"{program} does not say which TensorRT it is of; taken for {wanted}")
        return
    asked = wanted.split(".")[:3]
    if found.split(".")[: len(asked)] != asked:
        raise UsageError(
            f"it is the trtexec of TensorRT {found}, not of {wanted}",
            where=program,
            todo=f"say --trt-version {found}, or put the other one first on PATH",
        )


def recorded(path: Path, case: str, model: str, invocation: Invocation, length: int) -> list[Recorded]:
    """Our medians of the same thing at the same length, out of a run's file.

    :param case: its id; empty takes every case of the model in that version of TensorRT.
    :raises ResultsError: the file cannot be read, or has none.
    """
    from harness.results.store import read_run

    found, lengths = [], set()
    for one in read_run(path):
        fields, values = one.get("fields", {}), one["values"]
        if one["kind"] != "latency" or fields.get("model") != model or "buckets" not in values:
            continue
        role = "int8" if invocation.precision is Precision.INT8 else "baseline"
        if role == "baseline" and values.get("baseline") != invocation.precision.value:
            continue
        if case and one["case"] != case and (role == "int8" or fields["runtime"] not in case):
            continue
        if not case and not f"{fields['runtime']}.".startswith(f"tensorrt-{invocation.version}."):
            continue
        clock = one["environment"].get("settings", {}).get("clock", "unknown clock")
        for cell in values["buckets"].values():
            lengths.add(cell["length"])
            if cell["length"] == length and role in cell:
                label = one["case"] if role == "int8" else f"{values['baseline']}, baseline of {one['case']}"
                found.append(Recorded(f"{label} ({clock})", cell[role]["median_ms"]))
    if not found:
        there = f"it has lengths {', '.join(map(str, sorted(lengths)))}" if lengths else "it has no latency of it"
        raise ResultsError(
            f"no {invocation.precision.value} of {case or model} at length {length}: {there}",
            where=str(path),
            todo="name one of them by --length, or another run",
        )
    return list(dict.fromkeys(found))


def table(times: Times, ours: list[Recorded], length: int) -> Table:
    """Medians of both, in ms. They stand beside each other; two sessions say nothing about 1 %."""
    from rich.table import Table

    rows = Table("median at length " + str(length), "ms", "trtexec / ours")
    compute = "trtexec, GPU compute"
    rows.add_row(f"{compute} ({times.count} inferences)", f"{times.compute_ms:.4f}", "")
    for name, value in (
        ("trtexec, latency", times.latency_ms),
        ("trtexec, copies to the GPU", times.h2d_ms),
        ("trtexec, copies to the host", times.d2h_ms),
        ("trtexec, enqueue (host)", times.enqueue_ms),
    ):
        if value is not None:
            rows.add_row(name, f"{value:.4f}", "")
    for one in ours:
        rows.add_row(one.label, f"{one.median_ms:.4f}", f"{times.compute_ms / one.median_ms:.3f}")
    return rows


def numbers(times: Times, ours: list[Recorded], length: int) -> dict[str, Any]:
    """The same for a program: medians in ms, of trtexec and of ours by what they are of."""
    return {"length": length, "trtexec": asdict(times), "ours_ms": {one.label: one.median_ms for one in ours}}
