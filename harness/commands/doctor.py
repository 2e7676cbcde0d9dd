"""``harness doctor``: every interpreter there is, what it can do here, and for what it cannot, why and what to do."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show, suites_from
from harness.commands.health import Finding, Health
from harness.errors import EnvironmentMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.spec.config import Config, EnvironmentConfig
    from harness.workers.environments import Environment

__all__ = ["Finding", "Health", "doctor", "examine"]

_DEADLINE_S = 60.0
_PRECISIONS = ("fp32", "fp16", "int8")
_DRIVER = Path("/proc/driver/nvidia/version")
_NO_GPU = (
    "run on a machine with an NVIDIA GPU and its driver (nvidia-smi shows it); in a container, start it with --gpus all"
)


@click.command()
@click.option("--python", "pythons", multiple=True, metavar="PATH", help="An interpreter to look at, too.")
@click.option("--report", is_flag=True, help="A block of text to paste into an issue: no variables, no home folder.")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def doctor(pythons: tuple[str, ...], *, report: bool, as_json: bool) -> None:
    """Say what can run here, and what is in the way of the rest.

    Looks at this interpreter, those of .tox and those of the configuration, on other hosts, too, and starts what claims
    to work. Ends with 0 if any runtime can run engines, with 5 if none can.
    """
    from harness.commands.paste import block
    from harness.spec.config import find_config

    health = examine(find_config(), pythons)
    if as_json:
        print(json.dumps(dataclasses.asdict(health), indent=2))
    elif report:
        print(block(health))
    else:
        _tables(health)
    if not health.anything_runs:
        click.get_current_context().exit(EnvironmentMissing.exit_code)


def examine(config: Config, extra: Sequence[str] = ()) -> Health:
    """Look into every interpreter, and start a worker in each environment that claims to work.

    :param extra: interpreters by path or name.
    :raises EnvironmentMissing: one of ``extra`` is not there.
    """
    from harness.workers.absent import not_installed
    from harness.workers.environments import TOX, interpreter, probe, pythons_of

    named = {interpreter(name): "--python" for name in extra}
    here = [one for one in config.environments if not one.host]
    pythons = pythons_of(config.root, list(named), [one.python for one in here])
    configured = {str(Path(found).absolute()): one.name for one in here if (found := shutil.which(one.python))}
    findings: list[Finding] = []
    gpus: list[Mapping[str, str]] = []
    for python, answer in zip(pythons, probe(pythons), strict=True):
        source = named.get(python) or _source(python, config.root, configured)
        findings += [_started(one) for one in _findings(source, python, answer)]
        gpus = gpus or next((line["gpus"] for line in answer if line.get("gpus")), [])
    cards = list(_gpus(gpus))
    for seen, there in _elsewhere(config):
        findings += seen
        cards += there
    findings += _unreachable(config)
    made = {one.source for one in findings}  # also one that cannot be imported
    absent = [a for a in not_installed(map(_environment, findings)) if f".tox/{TOX[a.name]}" not in made]
    return Health(tuple(findings), tuple(cards), shutil.which("trtexec") or "", tuple(absent))


def _source(python: str, root: Path, configured: Mapping[str, str]) -> str:
    if python == sys.executable:
        return "this interpreter"
    if python in configured:
        return f"[environments] {configured[python]}"
    return str(Path(python).parents[1].relative_to(root))


def _unreachable(config: Config) -> Iterator[Finding]:
    """What the configuration names and is not on this machine."""
    from harness.workers.environments import interpreter

    for one in config.environments:
        source = f"[environments] {one.name}"
        if one.host:
            continue
        try:
            interpreter(one.python)
        except EnvironmentMissing as error:
            yield Finding(source, one.python, why=error.what, todo=error.todo)


def _elsewhere(config: Config) -> Iterator[tuple[list[Finding], list[dict[str, Any]]]]:
    """What is on the other hosts of the configuration, and the GPUs of each host that could be asked."""
    from concurrent.futures import ThreadPoolExecutor

    far = [one for one in config.environments if one.host]
    if not far:
        return
    with ThreadPoolExecutor(max_workers=min(16, len(far))) as pool:
        yield from pool.map(_on_host, far)


def _on_host(entry: EnvironmentConfig) -> tuple[list[Finding], list[dict[str, Any]]]:
    from harness.spec.hosts import read_host
    from harness.workers import ssh

    host = read_host(entry.host)
    plain = Finding(f"[environments] {entry.name}", entry.python, host=entry.host)
    try:
        answer = ssh.probe(host, entry.python, _DEADLINE_S)
    except EnvironmentMissing as error:
        return [replace(plain, why=error.what, todo=error.todo)], []
    gpus: list[Mapping[str, str]] = next((line["gpus"] for line in answer if line.get("gpus")), [])
    findings = [_started(replace(one, host=entry.host)) for one in _findings(plain.source, entry.python, answer)]
    told = next((_told_there(one) for one in findings if gpus and (one.can_run or one.can_build)), [])
    return findings, [{**one, "host": host.label} for one in _gpus(gpus, told)]


def _told_there(finding: Finding) -> list[dict[str, Any]]:
    """What NVML says of a host's GPUs, asked in a worker there."""
    from harness.errors import HarnessError
    from harness.workers import Worker

    try:
        with Worker(_environment(finding), deadline_s=_DEADLINE_S) as worker:
            return list(worker.machine()["gpus"])
    except HarnessError:  # it started a moment ago; what is missing is shown as unknown
        return []


def _findings(source: str, python: str, answer: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What ``runtimes/probe.py`` said in one interpreter, a finding a line."""
    from harness.workers.environments import TOX

    if not answer:
        why = "it does not start, or does not answer within a minute"
        return [Finding(source, python, why=why, todo=f"try it: {python} -c 'import tensorrt'")]
    plain = Finding(source, python, str(answer[0].get("python", "")))
    found = [_finding(plain, line) for line in answer if "runtime" in line]
    if found:
        return found
    if source.startswith(".tox/") and Path(source).name not in TOX.values():
        return []  # tox's environments for other purposes have no runtime, and need none
    todo = f"install one there: {python} -m pip install onnxruntime, or see docs/guide/environments.md"
    if source.startswith(".tox/"):
        todo = f"tox did not finish it; again: python -m tox run -e {Path(source).name} --notest"
    return [replace(plain, why="no runtime is installed there", todo=todo)]


def _finding(plain: Finding, line: Mapping[str, Any]) -> Finding:
    from harness.workers.environments import installs

    runtime = line["runtime"]
    if "error" in line:
        why = f"cannot be imported: {line['error']}"
        todo = f"install it anew, with the libraries it names; {installs(runtime)}"
        return replace(plain, runtime=runtime, version="broken", why=why, todo=todo)
    version = line["version"]
    return replace(
        plain,
        runtime=runtime,
        version=version,
        routes=_routes(runtime, version),
        precisions=_precisions(runtime, version),
        can_build=bool(line.get("build")),
        can_run=bool(line.get("can_run")),
        why=str(line.get("why", "")),
        todo="" if line.get("can_run") else _todo(plain.python, line),
    )


def _todo(python: str, line: Mapping[str, Any]) -> str:
    """Against what keeps engines of an importable runtime from running, one sentence each."""
    from harness.runtimes.probe import unsupported

    runtime, version = line["runtime"], line["version"]
    if runtime == "tensorrt-rtx" and not line.get("gpus"):
        return "nothing for builds, which need no GPU (pytest suites/test_build.py); to run its engines, " + _NO_GPU
    todo = []
    if not line.get("gpus"):
        todo.append(_NO_GPU)
    elif unsupported(runtime, version, line["gpus"][0]["compute_capability"]):
        todo.append("take a version that supports this GPU (docs/guide/environments.md), or another GPU")
    if "pycuda" in line["why"]:
        todo.append(
            f"{python} -m pip install pycuda: a source package, it wants a C++ compiler and CUDA's headers "
            "(the packages g++ and cuda-toolkit, or a devel container)"
        )
    return "; ".join(todo)


def _routes(runtime: str, version: str) -> tuple[str, ...]:
    from harness.spec.routes import routes_of

    # Its networks are strongly typed whatever the route is called.
    return ("qdq_strong",) if runtime == "tensorrt-rtx" else tuple(route.value for route in routes_of(runtime, version))


def _precisions(runtime: str, version: str) -> tuple[str, ...]:
    """INT8 in TensorRT-RTX by builds on a CPU: none in 1.4, matrix products from 1.5, convolutions from 1.7."""
    if runtime == "onnxruntime":
        return ("fp32", "fp16 (computed in fp32 on a CPU)", "int8")
    if runtime != "tensorrt-rtx":
        return _PRECISIONS
    from harness.spec.versions import numbers_of

    release = numbers_of(version)[:2]
    if release < (1, 5):
        return ("fp32", "fp16")
    return _PRECISIONS if release >= (1, 7) else ("fp32", "fp16", "int8 (matrix products)")


def _started(finding: Finding) -> Finding:
    """The finding once a worker was asked: importing a library says little about using it."""
    from harness.errors import HarnessError
    from harness.workers import Worker

    if not (finding.can_build or finding.can_run):
        return finding
    try:
        with Worker(_environment(finding), deadline_s=_DEADLINE_S) as worker:
            facts = worker.describe()
    except HarnessError as error:
        todo = error.todo or "see the end of its log: harness doctor --report"
        return replace(finding, can_build=False, can_run=False, why=f"does not start: {error.what}", todo=todo)
    return replace(
        finding,
        can_build=finding.can_build and bool(facts["can_build"]),
        can_run=finding.can_run and bool(facts["can_run"]),
    )


def _environment(finding: Finding) -> Environment:
    from harness.workers.environments import Environment

    return Environment(finding.name, finding.python, finding.runtime, finding.version, host=finding.host)


def _gpus(
    found: Sequence[Mapping[str, str]], there: Sequence[Mapping[str, Any]] | None = None
) -> Iterator[dict[str, Any]]:
    """CUDA's GPUs with what NVML says of them, which has an order of its own: they meet by name.

    :param there: NVML's answer on another host; None asks on this machine.
    """
    from harness.measure.host import gpus

    try:
        text = "" if there is not None else _DRIVER.read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    loaded = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    told = {one["name"]: one for one in (gpus() if there is None else there)}
    for one in found:
        clocks = told.get(one["name"], {})
        yield {
            **one,
            "driver": clocks.get("driver") or (loaded[0] if loaded else None),
            "sm_clock_mhz": clocks.get("sm_clock_mhz"),
            "application_clock_mhz": clocks.get("application_clock_mhz"),
            "throttled_by": clocks.get("throttled_by"),
        }


def _tables(health: Health) -> None:
    from rich.table import Column, Table

    from harness.commands.trtexec_run import WHERE_IT_COMES_FROM

    cards = Table("GPU", "compute capability", "driver", "SM clock", "held down by")
    for gpu in health.gpus:
        clock = "unknown" if gpu["sm_clock_mhz"] is None else f"{gpu['sm_clock_mhz']} MHz"
        held = ", ".join(gpu["throttled_by"] or [])
        name = f"{gpu['name']} @{gpu['host']}" if "host" in gpu else gpu["name"]
        cards.add_row(name, gpu["compute_capability"], gpu["driver"] or "unknown", clock, held)
    show(cards if health.gpus else "no GPU: the CUDA driver shows none to this machine's interpreters")
    table = Table(Column("runtime", no_wrap=True), "can", "routes", "precisions", "Python", "found as")
    for one in health.findings:
        routes, precisions = ", ".join(one.routes), ", ".join(one.precisions)
        table.add_row(one.name, one.can, routes, precisions, one.python_version, one.source)
    show(table)
    for one in health.findings:
        if one.why:
            show(f"{one.name} ({one.source}, {one.python}): {one.why}")
            if one.todo:
                show(f"  -> {one.todo}")
    for missing in health.absent:
        show(missing.reason)
    show(f"trtexec: {health.trtexec or f'not on PATH; {WHERE_IT_COMES_FROM}'}")
    if health.anything_runs:
        suites = suites_from(Path.cwd())
        note(f"next: harness init MODEL.onnx for your own model, or pytest {suites} --models vad for one that is here")
