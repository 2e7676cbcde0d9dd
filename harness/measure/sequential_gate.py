"""The gate to compare with: pytest-benchmark, baseline saved and candidate compared, in two real pytest runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from harness.errors import EnvironmentMissing, RunFailed
from harness.measure import workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CRITERION", "Gate", "available", "pytest_benchmark_pair"]

CRITERION = "median:5%"

_MODULE = "test_chain.py"
_TEST = """
import os
import numpy as np
import onnxruntime

def test_chain(benchmark):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(os.environ["CHAIN"], options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.load(os.environ["CHAIN_INPUT"])}
    benchmark(session.run, None, feeds)
"""
_DEADLINE_S = 180.0


@dataclass(frozen=True)
class Gate:
    """What one pair of pytest runs said.

    :param seconds: both tests, from setup to teardown: calibration and rounds.
    :param overhead_seconds: the rest of both processes' time: starting, imports, saving.
    """

    verdict: Literal["pass", "regression"]
    seconds: float
    overhead_seconds: float


def available() -> bool:
    """Whether pytest and pytest-benchmark are importable here."""
    return all(importlib.util.find_spec(name) for name in ("pytest", "pytest_benchmark"))


def pytest_benchmark_pair(baseline: Path, candidate: Path) -> Gate:
    """Save the baseline, then compare the candidate with ``--benchmark-compare-fail=median:5%``; default settings.

    Each is a fresh process of this interpreter with no other plug-in, running onnxruntime as our workers do: one
    thread, no spinning.

    :raises EnvironmentMissing: no pytest-benchmark here. :raises RunFailed: pytest ended otherwise than pass or fail.
    """
    if not available():
        raise EnvironmentMissing(
            "pytest and pytest-benchmark are not installed", where=sys.executable, todo="pip install 'pytest-benchmark'"
        )
    with tempfile.TemporaryDirectory(prefix="gate.") as name:
        import numpy as np

        folder = Path(name)
        (folder / _MODULE).write_text(_TEST, "utf-8")
        np.save(folder / "x.npy", workload.feeds()["x"])
        code, text, first, first_wall = _pytest(folder, baseline, ["--benchmark-save=baseline"])
        if code:
            raise RunFailed(f"pytest ended with {code}", where="the baseline's pytest run", detail=text)
        code, text, second, second_wall = _pytest(
            folder, candidate, ["--benchmark-compare", f"--benchmark-compare-fail={CRITERION}"]
        )
    regressed = "Performance has regressed" in text
    if bool(code) != regressed:
        raise RunFailed(f"pytest ended with {code}", where="the candidate's pytest run", detail=text)
    tests = first + second
    return Gate("regression" if regressed else "pass", tests, first_wall + second_wall - tests)


def _pytest(folder: Path, model: Path, options: Sequence[str]) -> tuple[int, str, float, float]:
    """Exit code, output, seconds of the test, seconds of the process."""
    report = folder / "report.xml"
    began = time.monotonic()
    done = _run(
        [sys.executable, "-m", "pytest", _MODULE, "-p", "pytest_benchmark.plugin", f"--rootdir={folder}",
         f"--benchmark-storage=file://{folder}/stored", f"--junitxml={report}", *options],
        folder,
        {**_unshared(os.environ), "CHAIN": str(model), "CHAIN_INPUT": str(folder / "x.npy"),
             "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    wall = time.monotonic() - began
    case = ET.parse(report).getroot().find(".//testcase") if report.is_file() else None  # noqa: S314 - our own file
    seconds = float(case.get("time", "0")) if case is not None else 0.0
    return done.returncode, done.stdout[-4000:] + done.stderr[-2000:], seconds, wall


def _unshared(variables: Mapping[str, str]) -> dict[str, str]:
    """Without what pytest-xdist leaves there for its own processes, by which pytest-benchmark switches itself off."""
    return {name: value for name, value in variables.items() if not name.startswith("PYTEST_XDIST")}


def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(
            f"pytest did not end within {_DEADLINE_S:g} s", where="pytest-benchmark's run", todo="quiet the host"
        ) from error
