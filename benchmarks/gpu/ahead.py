"""What ``harness explain MODEL --best`` wants where builds are dear and time there is short, done ahead of it.

    python benchmarks/gpu/ahead.py files MODEL --version 8.6.0        (there, without TensorRT: a CPU's work)
    python benchmarks/gpu/ahead.py engines MODEL --runtime tensorrt-8.6 --deadline 240

``files`` draws samples, tries methods and makes the files of the first candidates; what was measured is in the search's
journal. ``engines`` builds FP32 and these candidates at the same time, each in a process of its own, into the cache
of engines: the search takes them from there. Builds at once disturb each other's tactic timings, so this is for an
optimization level at which there are none (0), and for times at which nothing else is timed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.spec.case import Case
    from harness.workbench import Workbench
    from harness.workers import Environment

_TESTS = 12
_EACH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    first = steps.add_parser("files")
    first.add_argument("model")
    first.add_argument("--version", required=True, help="of TensorRT there")
    first.set_defaults(step=files)
    second = steps.add_parser("engines")
    second.add_argument("model")
    second.add_argument("--runtime", required=True)
    second.add_argument("--deadline", type=float, default=240, help="seconds that a build may take")
    second.add_argument("--only", type=int, help="the number of one candidate; all at once without")
    second.set_defaults(step=engines)
    options = parser.parse_args()
    options.step(options)


def files(options: argparse.Namespace) -> None:
    from harness.spec.config import find_config
    from harness.workers import Environment

    name = f"tensorrt-{options.version}"
    there = Environment(name, sys.executable, "tensorrt", options.version, options=find_config().options.of(name))
    with bench_of(options.model, there, 60.0) as bench:
        bench.corpus(options.model, "test")
        for case in promising(bench, options.model):
            print(case.id, *bench.artefacts(case), flush=True)


def engines(options: argparse.Namespace) -> None:
    from harness.gate.asked import environment
    from harness.spec.config import find_config

    there = environment(find_config(), options.runtime, "--runtime")
    with bench_of(options.model, there, options.deadline) as bench:
        cases = promising(bench, options.model)
        if options.only is not None:
            began = time.monotonic()
            bench.build(cases[options.only])
            print(f"{cases[options.only].id} {time.monotonic() - began:.1f} s", flush=True)
            return
    again = [sys.executable, __file__, "engines", options.model, "--runtime", options.runtime]
    again += ["--deadline", str(options.deadline)]
    running = [subprocess.Popen([*again, "--only", str(number)]) for number in range(len(cases))]
    sys.exit(max(one.wait() for one in running))


@contextmanager
def bench_of(key: str, there: Environment, deadline_s: float) -> Iterator[Workbench]:
    """A bench as ``--best`` has it."""
    from harness.commands.entry import find_entry
    from harness.results.store import Store
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Workers

    entry = find_entry(key, data=None, axes=(), range_="", length_inputs=(), pads=(), constants=())
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder)).open_run()) as noted:
        matrix = replace(Matrix(), tests=_TESTS)
        bench = Workbench({key: entry}, {there.name: there}, Workers(deadline_s=deadline_s), noted, matrix, 0)
        with closing(bench):
            bench.make_ready(key)
            yield bench


def promising(bench: Workbench, key: str) -> list[Case]:
    """FP32, and what the search judges first."""
    from harness.best.goal import Goal
    from harness.best.halving import Halving, Settings
    from harness.best.journal import Budget, Journal
    from harness.best.looking import Looking
    from harness.best.search import journal_of

    with closing(Looking.made(bench, key, _EACH)) as looking:
        journal = Journal(journal_of(bench, key))
        halving: Any = Halving(bench, looking, Goal(), Budget(1e9), journal, Settings())
        first = [one.case for one in halving.first()]
        for case in first:
            halving.measures.made(case)
    return [halving.fp32.case, *first]


if __name__ == "__main__":
    main()
