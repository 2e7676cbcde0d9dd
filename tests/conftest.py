"""`pytest suites/` as a process, and a small model of one's own with data."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.loopback import Lacking, Sshd

# Started in the background by a shell, everything below inherits that interrupts are ignored; tests send some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
LENGTHS = [20, 50, 90, 130, 200, 250, 33, 77, 150, 230, 30, 100]


FORKS = """
import json, os, sys
import asyncio, execnet, msgspec, numpy, onnx, onnxruntime, platformdirs, pytest, rich.table, scipy.stats
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environ"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = 99
        try:
            sys.argv = order["argv"]
            code = pytest.console_main()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Runs pytest once for every order, in a process of its own that has the libraries, but nothing of ours, imported."""


class Forks:
    """That program, one for all modules; started when it is first asked."""

    def __init__(self, folder):
        self._process = None
        self._folder = folder

    def run(self, argv, cwd, environ):
        """Exit code, standard output and standard error of pytest with these words."""
        if self._process is None:
            command = [sys.executable, "-c", FORKS]
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        names = {name: str(self._folder / name) for name in ("out", "err")}
        self._process.stdin.write(json.dumps({"argv": argv, "cwd": str(cwd), "environ": environ, **names}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Done(code, *(Path(name).read_text() for name in names.values()))

    def close(self):
        if self._process is not None:
            self._process.communicate(timeout=30)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def text(self):
        return self.out + self.err


class Suites:
    """`python -m pytest <root>/suites` from a folder where no configuration holds, as long as none is put there."""

    def __init__(self, folder, environments, forks):
        self.folder = folder / "here"
        self.results = folder / "results"
        self.cache = folder / "cache"
        self._environments, self._forks = environments, forks
        self.folder.mkdir()
        self.forget()
        self._known = set()
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TRT_INT8_HARNESS_CACHE": str(self.cache),
            "COLUMNS": "200",
        }
        for name in (
            "FORCE_COLOR",
            "PYTHONDONTWRITEBYTECODE",
            "PYTEST_ADDOPTS",
            "PYTEST_XDIST_WORKER",
            "PYTEST_CURRENT_TEST",
            "CI",  # pytest words its summary otherwise there
            "BUILD_NUMBER",
        ):
            self.environ.pop(name, None)

    def quickly(self, *arguments, under="", cwd=None):
        """As a call, without the seconds that importing libraries takes."""
        argv = [str(word) for word in self.command(*arguments, under=under)][1:]
        return self._forks.run(argv, cwd or self.folder, self.environ)

    def forget(self):
        """Begin with an empty cache, but for what interpreters have: ten of tox's take 5 s of CPU to be asked."""
        shutil.rmtree(self.cache, ignore_errors=True)  # of a link, the link alone
        self.cache.mkdir()
        (self.cache / "environments").symlink_to(self._environments)

    def start(self, *arguments, cwd=None, environ=None, before=None):
        def prepare():
            # A suite that runs in the background has interrupts switched off, and what it starts has, too.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if before:
                before()

        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd or self.folder,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - no threads here
        )

    def python(self, *arguments, **options):
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=240)
        return Done(process.returncode, out, err)

    def command(self, *arguments, under=""):
        self._known = set(self.results.glob("*.jsonl"))
        words = ["-m", "pytest", ROOT / "suites" / under, "-p", "no:cacheprovider"]
        return [*words, *arguments] if "--results" in arguments else [*words, "--results", self.results, *arguments]

    def __call__(self, *arguments, under="", **options):
        return self.python(*self.command(*arguments, under=under), **options)

    def new_runs(self):
        """Files of records that were not there before the last call."""
        return sorted(set(self.results.glob("*.jsonl")) - self._known)


@pytest.fixture(scope="session")
def known_interpreters(tmp_path_factory):
    """What is remembered of interpreters, by all processes of this test run together."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "environments"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def suites(tmp_path_factory, known_interpreters, forks):
    return Suites(tmp_path_factory.mktemp("suites"), known_interpreters, forks)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """A host that ssh reaches: see :class:`tests.loopback.Sshd`."""
    server = _sshd(tmp_path_factory, 1)
    yield server
    server.close()


@pytest.fixture(scope="module")
def second_sshd(tmp_path_factory):
    """Another one, with a cache, a name and a port of its own."""
    server = _sshd(tmp_path_factory, 2)
    yield server
    server.close()


def _sshd(tmp_path_factory, number):
    try:
        return Sshd(tmp_path_factory.mktemp("sshd"), tmp_path_factory.mktemp("host"), number)
    except Lacking as error:
        if os.environ.get("HARNESS_REQUIRE_SSH") == "1":
            pytest.fail(f"no ssh to this machine: {error}")
        pytest.skip(f"no ssh to this machine: {error}")


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """Two convolutions over x: float32 [1, 1, T]; 150 kB, so that INT8 makes a smaller file."""
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((64, 1, 9)), "v": random.standard_normal((64, 64, 9)) / 24}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], name="first", pads=[4, 4]),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "v"], ["y"], name="second", pads=[4, 4]),
        ],
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, "T"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64, "T"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Twelve samples of 20 to 250 elements."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(1)
    for index, length in enumerate(LENGTHS):
        np.savez(folder / f"{index:03}.npz", x=random.standard_normal((1, 1, length)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def own(own_model, own_data):
    """Options for the small model; a keyword replaces one, None leaves it out."""

    def options(**changes):
        given = {"model": own_model, "axis": "x:2=length", "range": "16:256", "data": own_data, **changes}
        return [str(word) for name, value in given.items() if value is not None for word in (f"--{name}", value)]

    return options


@pytest.fixture
def full_disk():
    """What a full disk does, without one: a write beyond 5 kB of a file fails. (Python ignores SIGXFSZ.)"""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
