"""Interpreters that have a runtime: this one, tox environments, and any that are named by their path."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentMissing
from harness.paths import cache_dir
from harness.runtimes import probe as probe_program
from harness.runtimes.serve import RUNTIMES
from harness.spec.hosts import read_host
from harness.spec.patterns import fits
from harness.workers import ssh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.spec.config import EnvironmentConfig

__all__ = [
    "INSTALL",
    "TOX",
    "Environment",
    "configured",
    "find_environments",
    "installs",
    "interpreter",
    "of_interpreter",
    "probe",
    "pythons_of",
    "select",
]

INSTALL = "python -m tox run -e rtx17 --notest"
TOX = {
    "tensorrt-8.4.1.5": "trt84",
    "tensorrt-8.5.3.1": "trt85",
    "tensorrt-8.6.0": "trt86",
    "tensorrt-10.0.1": "trt100",
    "tensorrt-10.3.0": "trt103",
    "tensorrt-10.7.0": "trt107",
    "tensorrt-10.13.0.35": "trt1013",
    "tensorrt-10.16.1.11": "trt1016",
    "tensorrt-11.0.0.114": "trt110",
    "tensorrt-11.4.0.106": "trt114",
    "tensorrt-rtx-1.4.0.76": "rtx14",
    "tensorrt-rtx-1.5.0.114": "rtx15",
    "tensorrt-rtx-1.6.1.120": "rtx16",
    "tensorrt-rtx-1.7.1.116": "rtx17",
    "onnxruntime-1.22.1-cpu": "ort122",
    "onnxruntime-1.32.0-cpu": "ort132",
}
"""What each of the runtimes' tox environments brings, by the name that it then has."""

_PROBE_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Environment:
    """An interpreter and the one runtime that is used in it.

    :param name: ``onnxruntime-1.32.0-cpu``, ``tensorrt-rtx-1.7.1.116``, ``tensorrt-8.6.0@gpu1``; what ``--runtime``
        selects by.
    :param python: the interpreter's path, symbolic links kept: they are how a virtual environment knows itself.
    :param runtime: ``onnxruntime``, ``tensorrt-rtx``: the family, see ``harness/runtimes``.
    :param options: laid under the options of every build and load.
    :param host: as the configuration has it (:func:`harness.spec.hosts.read_host`); empty is this machine.
    :param can_run: whether engines run here, or are only built.
    :param can_build: whether engines can be built here; TensorRT builds where its GPU is.
    :param why: what is in the way of running them; empty if nothing.
    """

    name: str
    python: str
    runtime: str
    version: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    host: str = ""
    can_run: bool = True
    can_build: bool = True
    why: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def tells_builds_apart(self) -> bool:
        """Whether another number is another build: elsewhere a second one is the first."""
        return self.runtime == "tensorrt"


def find_environments(root: Path, extra: Sequence[str] = (), optional: Sequence[str] = ()) -> list[Environment]:
    """Environments of the running interpreter, of those in ``extra`` and ``optional``, and of ``<root>/.tox/*``.

    Where two have the same runtime at the same version, the first in that order stands for both. A tox
    environment without a runtime is passed over, and so is an interpreter in ``optional`` that is not there or has
    none.

    :param extra: interpreters by path or by name, as :func:`interpreter` takes them.
    :raises EnvironmentMissing: an interpreter in ``extra`` is not there, or has no runtime that can be imported.
    """
    extra = [interpreter(name) for name in extra]
    pythons = pythons_of(root, extra, optional)
    found: dict[str, Environment] = {}
    for python, answer in zip(pythons, probe(pythons), strict=True):
        for environment in _strictly(python, answer) if python in extra else _environments(python, answer):
            found.setdefault(environment.name, environment)
    return list(found.values())


def pythons_of(root: Path, extra: Sequence[str] = (), optional: Sequence[str] = ()) -> list[str]:
    """The interpreters that :func:`find_environments` looks into, in its order: this one, then those named, then tox's.

    :param extra: absolute paths. :param optional: paths or names; those that are not there are left out.
    """
    there = [str(Path(path).absolute()) for name in optional if (path := shutil.which(name))]
    tox = sorted(str(path) for path in root.glob(".tox/*/bin/python") if os.access(path, os.X_OK))
    return list(dict.fromkeys([sys.executable, *extra, *there, *tox]))


def configured(entry: EnvironmentConfig, file: Path | None = None) -> list[Environment]:
    """The environments of one entry of ``[environments]``, all that its interpreter has.

    :param file: the configuration, for messages.
    :raises EnvironmentMissing: its interpreter is not there or has no runtime, or its host cannot be reached.
    """
    where = f"[environments] {entry.name}" + (f" in {file}" if file else "")
    try:
        if entry.host:
            host = read_host(entry.host)
            return _strictly(entry.python, ssh.probe(host, entry.python, _PROBE_DEADLINE_S), entry.host)
        return of_interpreter(entry.python)
    except EnvironmentMissing as error:
        raise EnvironmentMissing(
            error.what, where=f"{where}: {error.where}", todo=error.todo, detail=error.detail
        ) from error


def of_interpreter(name: str) -> list[Environment]:
    """All environments of one interpreter, also where another has the same runtimes.

    :param name: as :func:`interpreter` takes it.
    :raises EnvironmentMissing: it is not there, or has no runtime that can be imported.
    """
    python = interpreter(name)
    return _strictly(python, probe([python])[0])


def select(
    environments: Sequence[Environment],
    patterns: Sequence[str],
    where: str = "--runtime",
    aliases: Mapping[str, Callable[[], list[Environment]]] | None = None,
    by_path: str = "--python PATH",
) -> list[Environment]:
    """The environments that any pattern names; without patterns, all.

    A pattern is a family (``onnxruntime``), the start of a name up to a dot or a dash (``tensorrt-rtx-1.7``), or a
    shell pattern (``*-cpu``). Behind an ``@`` may stand a host, or a shell pattern of hosts (``tensorrt-8@gpu*``);
    without one all of them are meant, and this machine. What can neither run nor build is chosen beside others that
    can, and not alone.

    :param where: what the patterns were given to, for the message.
    :param aliases: names that a configuration gives, each with what finds its environments.
    :param by_path: how an interpreter that has the runtime already is named, for the message.
    :raises EnvironmentMissing: a pattern names none, or only what can do nothing here, or an alias what is not there;
        the message says how to install it, or what is in the way.
    """
    aliases = aliases or {}
    if not patterns:
        return list(environments)
    chosen: dict[str, Environment] = {}
    for pattern in patterns:
        matching = aliases[pattern]() if pattern in aliases else [e for e in environments if fits(e.name, pattern)]
        if not matching:
            raise EnvironmentMissing(
                f"no runtime matches {pattern!r}",
                where=where,
                todo=f"there are: {', '.join([*(e.name for e in environments), *aliases])}; {installs(pattern)}; "
                f"an interpreter somewhere else that has it is named by {by_path}",
            )
        if not any(e.can_run or e.can_build for e in matching):
            first = matching[0]
            raise EnvironmentMissing(
                f"{first.name} is there and can neither run nor build engines: {first.why}",
                where=f"{where} {pattern} ({first.python})",
                todo="see harness doctor",
            )
        chosen.update((e.name, e) for e in matching)
    return list(chosen.values())


def installs(pattern: str) -> str:
    """What to say to somebody who asked :func:`select` for a runtime that is not there: the command that installs it.

    Another release of a version that tox has (``tensorrt-8.5.1``) is answered with that version's own environment.
    """
    wanted = {name: tox for name, tox in TOX.items() if fits(name, pattern) or _is_version(name, pattern)}
    if not wanted and (version := re.match(r"(.+-\d+\.\d+)\.", pattern)):
        wanted = {name: tox for name, tox in TOX.items() if name.startswith(version[1] + ".")}
    if len(wanted) == 1:
        ((name, tox),) = wanted.items()
        return f"{name} comes with: python -m tox run -e {tox} --notest"
    if wanted:
        several = ", ".join(f"{tox} ({name})" for name, tox in wanted.items())
        return f"python -m tox run -e ONE --notest, ONE of {several}"
    own = "any other goes into an interpreter of its own, named under [environments] in harness.toml"
    family = max((one for one in RUNTIMES if pattern.startswith(f"{one}-")), key=len, default="")
    if not family:
        return f"known are {', '.join(RUNTIMES)}; harness doctor lists versions and the command for each; {own}"
    known = ", ".join(
        f"{name.removeprefix(family + '-').removesuffix('-cpu')} ({tox})"
        for name, tox in TOX.items()
        if re.match(rf"{family}-\d", name)
    )
    return f"tox has {family} {known}: python -m tox run -e ONE --notest; {own}"


def _is_version(name: str, text: str) -> bool:
    """Whether a text is the version alone of a name, or its beginning: ``1.22`` of ``onnxruntime-1.22.1-cpu``."""
    version = re.search(r"-(\d[\d.]*)", name)
    return bool(re.fullmatch(r"\d+(\.\d+)*", text) and version and f"{version[1]}.".startswith(f"{text}."))


def probe(pythons: Sequence[str]) -> list[list[dict[str, Any]]]:
    """What ``runtimes/probe.py`` prints in each interpreter; remembered until its packages change.

    An interpreter that does not answer within a minute, or does not start, answers an empty list.
    """
    memory = {python: cache_dir("environments") / _memory_name(python) for python in pythons}
    running: dict[str, subprocess.Popen[str]] = {}
    program = str(Path(probe_program.__file__))
    try:
        for python, file in memory.items():
            if _remembered(file) is None:
                # Isolated: PYTHONPATH is off the path, and so is the folder of the program, whose onnxruntime.py
                # is not the library.
                command = [python, "-I", program]
                running[python] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
        deadline = time.monotonic() + _PROBE_DEADLINE_S
        fresh = {python: _answer(process, deadline) for python, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    for python, lines in fresh.items():
        if lines and running[python].returncode == 0:
            _write(memory[python], json.dumps(lines))
    return [fresh[p] if p in fresh else _remembered(memory[p]) or [] for p in pythons]


def interpreter(name: str) -> str:
    """The absolute path of an interpreter that is named by its path or as a shell finds it.

    :raises EnvironmentMissing: there is none.
    """
    found = shutil.which(name)
    if found is None:
        raise EnvironmentMissing("no such interpreter", where=name, todo="give the path of a python program")
    return str(Path(found).absolute())  # not resolved: the link is how a virtual environment knows itself


def _remembered(file: Path) -> list[dict[str, Any]] | None:
    """What was written there; None if nothing was, or if it is damaged."""
    try:
        lines = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return lines if isinstance(lines, list) else None


def _answer(process: subprocess.Popen[str], deadline: float) -> list[dict[str, Any]]:
    try:
        output, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    answer = []
    for line in output.splitlines():
        try:
            answer.append(json.loads(line))
        except ValueError:  # a library that prints while it is imported, or a line cut off by a crash
            continue
    return answer


def _strictly(python: str, answer: Sequence[Mapping[str, Any]], host: str = "") -> list[Environment]:
    environments = _environments(python, answer, host)
    if not environments:
        said = "\n".join(f"{line['runtime']}: {line['error']}" for line in answer if "error" in line)
        raise EnvironmentMissing(
            "no runtime can be imported there",
            where=f"{read_host(host)}, {python}" if host else python,
            todo="install one there" if host else f"install one: {INSTALL}",
            detail=said,
        )
    return environments


def _environments(python: str, answer: Sequence[Mapping[str, Any]], host: str = "") -> list[Environment]:
    at = f"@{read_host(host).name}" if host else ""
    environments = []
    for line in answer:
        if "version" not in line or line["runtime"] not in RUNTIMES:
            continue
        runtime, version = line["runtime"], line["version"]
        if runtime != "onnxruntime":
            can = bool(line.get("can_run", True)), bool(line.get("build", True)), str(line.get("why", ""))
            environments.append(Environment(f"{runtime}-{version}{at}", python, runtime, version, {}, host, *can))
            continue
        environments.append(Environment(f"{runtime}-{version}-cpu{at}", python, runtime, version, host=host))
        has_gpu = bool(line.get("gpus")) if host else _has_gpu()
        if "CUDAExecutionProvider" in line["providers"] and has_gpu:
            options = {"provider": "CUDAExecutionProvider"}
            environments.append(Environment(f"{runtime}-{version}-cuda{at}", python, runtime, version, options, host))
    return environments


def _has_gpu() -> bool:
    # Asked of the file system each time: a driver comes and goes without a change in any site-packages, and
    # loading libcuda is a worker's business.
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _devices() -> str:
    """Changes when a GPU or its driver comes, goes or is hidden, without a change in any site-packages."""
    try:
        driver = Path("/proc/driver/nvidia/version").read_text("utf-8", errors="replace")
    except OSError:
        driver = ""
    nodes = [*sorted(str(path) for path in Path("/dev").glob("nvidia*")), str(Path("/dev/dxg").exists())]
    return repr((driver, nodes, os.environ.get("CUDA_VISIBLE_DEVICES")))


def _memory_name(python: str) -> str:
    prefix = Path(python).parent.parent
    packages = sorted(prefix.glob("lib*/python3*/site-packages"))
    stamp = [(str(folder), folder.stat().st_mtime_ns) for folder in packages]
    program = Path(probe_program.__file__).read_text("utf-8")
    # Without a site-packages beside it (a launcher script, say), what it has can change unseen.
    unseen = "" if stamp else os.urandom(8).hex()
    return hashlib.sha256(repr((python, stamp, program, _devices(), unseen)).encode()).hexdigest()[:24] + ".json"


def _write(path: Path, text: str) -> None:
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)
