"""Latency against length on a GPU: FP32, FP16, INT8 by each route, one TensorRT against another, and the crossover.

    python benchmarks/gpu/lengths.py --python TRT85/python --python TRT86/python --models conv1d --out lengths.json

reads ``harness.toml`` of the working folder. Each comparison is one session (``docs/measurement.md``) whose inputs are
a geometric grid of lengths: FP16 against FP32, INT8 by cache and by Q/DQ against FP16, and each of these by the second
interpreter against the first. The last line is JSON; a ratio is how many times faster the candidate is, its interval
is the session's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.corpus.content import Draw, make
from harness.corpus.registry import load_catalogue, pick
from harness.errors import HarnessError
from harness.latency import margins_of, weights_of
from harness.measure.arms import Design, Input, Question
from harness.measure.session import run_session
from harness.results.store import Store
from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
from harness.spec.case import Case
from harness.spec.config import find_config
from harness.spec.latency import LatencySettings
from harness.spec.matrix import Matrix
from harness.spec.routes import default_routes
from harness.spec.shapes import bucket_names, length_buckets
from harness.workbench import Workbench
from harness.workers import Worker, Workers
from harness.workers.environments import find_environments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.measure.arms import Arm
    from harness.measure.session import Outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", required=True, help="has TensorRT; the first is old")
    parser.add_argument("--models", default="")
    parser.add_argument("--layout", default="single")
    parser.add_argument("--method", default="auto", help="that chooses INT8's ranges")
    parser.add_argument("--grid", type=int, default=7, help="lengths, spaced geometrically over the model's range")
    parser.add_argument("--builds", type=int, default=3, help="of each engine; they are the unit of inference")
    parser.add_argument("--launches", type=int, default=6)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--budget", type=float, default=40, help="seconds after which a session begins no launch")
    parser.add_argument("--only", choices=("precisions", "versions"), help="one half of the comparisons")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = workbench(options, Path(folder))
        try:
            for old, new in comparisons(bench, options):
                row = compared(bench, old, new, options)
                rows.append(row)
                show(row)
                if options.out:
                    options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        finally:
            bench.close()
    print(json.dumps({"comparisons": rows}))


def workbench(options: argparse.Namespace, folder: Path) -> Workbench:
    config = find_config()
    entries = {one.model.key: one for one in pick(load_catalogue(config), [m for m in options.models.split(",") if m])}
    wanted = {str(Path(python).absolute()) for python in options.python}
    found = [one for one in find_environments(Path.cwd(), options.python) if one.runtime == "tensorrt"]
    environments = {
        one.name: replace(one, options={**one.options, **config.options.of(one.name)})
        for one in found
        if one.python in wanted
    }
    matrix = Matrix(layouts=(options.layout,), builds=options.builds)
    workers = Workers(deadline_s=config.deadline_s)
    return Workbench(entries, environments, workers, Store(folder).open_run(), matrix, 0, config.latency)


def comparisons(bench: Workbench, options: argparse.Namespace) -> Iterator[tuple[Case, Case]]:
    """(baseline, candidate) pairs."""
    for model in bench.entries:
        cases = {name: cases_of(bench, model, name, options) for name in bench.environments}
        if options.only != "versions":
            for fp32, fp16, *int8 in cases.values():
                yield fp32, fp16
                yield from ((fp16, one) for one in int8)
        if options.only != "precisions":
            for old, new in itertools.pairwise(cases.values()):
                by_route = {(one.precision, one.route): one for one in new}
                yield from ((one, by_route[one.precision, one.route]) for one in old
                            if (one.precision, one.route) in by_route)  # fmt: skip


def cases_of(bench: Workbench, model: str, runtime: str, options: argparse.Namespace) -> list[Case]:
    """FP32, FP16, and INT8 by each usual route of the version."""
    environment = bench.environments[runtime]
    ragged = Calibration(Method.parse(options.method), Policy.RAGGED)
    base = Case(model, runtime, Precision.FP32, None, options.layout, Route.QDQ)
    routes = default_routes(environment.runtime, environment.version)
    int8 = [replace(base, precision=Precision.INT8, calibration=ragged, route=route) for route in routes]
    return [base, replace(base, precision=Precision.FP16), *int8]


def compared(bench: Workbench, old: Case, new: Case, options: argparse.Namespace) -> dict[str, Any]:
    settings = bench.latency.settings(old.model, old.runtime)
    row: dict[str, Any] = {"model": old.model, "baseline": old.id, "candidate": new.id}
    try:
        question = Question(
            named(bench.side(old), old), named(bench.side(new), new), grid(bench, old.model, options.grid)
        )
        early = tuple(n for n in (options.builds, 4, 6) if 2 <= n < options.launches)
        design = Design(
            looks=(*sorted(set(early)), options.launches),
            blocks=options.blocks,
            burst_least=2,
            budget_s=options.budget,
        )
        outcome = run_session(
            question, design, margins_of(settings or LatencySettings()), 0,
            start=lambda arm: Worker(arm.environment, deadline_s=bench.workers.deadline_s),
        )  # fmt: skip
    except HarnessError as error:
        return {**row, "failed": str(error)[:2000]}
    return {**row, **told(question, outcome)}


def named(side: Arm, case: Case) -> Arm:
    return replace(side, label=case.id)


def grid(bench: Workbench, key: str, count: int) -> tuple[Input, ...]:
    """Lengths spaced geometrically; a length weighs as its bucket does in the traffic, shared among the bucket's."""
    entry, model = bench.entries[key], bench.model(key)
    lengths = sorted({round(n) for n in np.geomspace(model.minimum, model.maximum, count)})
    corpus = None if entry.synthetic else bench.corpus(key, "test")
    names, buckets = bucket_names(model), length_buckets(model)
    weights = weights_of(model, bench.corpus(key, "calibration").lengths)
    of = [names[buckets.dispatch(length)] for length in lengths]
    return tuple(
        Input(str(length), length, make(Draw(length), entry, corpus), max(weights[name] / of.count(name), 1e-6))
        for length, name in zip(lengths, of, strict=True)
    )


def told(question: Question, outcome: Outcome) -> dict[str, Any]:
    """The session as plain values: a row a length, verdict, cold start, crossover."""
    lengths = []
    for one in question.inputs:
        estimate = outcome.per_input.get(one.label)
        if estimate is None:
            continue
        lengths.append({
            "length": one.length,
            "ratio": math.exp(-estimate.point),
            "low": math.exp(-estimate.interval.high),
            "high": math.exp(min(-estimate.interval.low, 700.0)),
            **{f"{role}_us": median_us(outcome, arm.label, one.label)
               for role, arm in (("baseline", question.baseline), ("candidate", question.candidate))},
        })  # fmt: skip
    return {
        "verdict": outcome.verdict.word,
        "why": outcome.verdict.why,
        "clock": outcome.clock,
        "launches": len(outcome.launches),
        "builds": question.baseline.builds,
        "lengths": lengths,
        "cold": {role: cold(outcome, arm.label)
                 for role, arm in (("baseline", question.baseline), ("candidate", question.candidate))},
        **crossover(lengths),
    }  # fmt: skip


def median_us(outcome: Outcome, label: str, length: str) -> float:
    """Of all runs by the clock that judged."""
    bursts = itertools.chain.from_iterable(launch.samples[label][length] for launch in outcome.launches)
    return float(np.median([ns for burst in bursts for ns in burst[outcome.clock]])) / 1e3


def cold(outcome: Outcome, label: str) -> dict[str, float]:
    """Medians over launches."""
    costs = [launch.cold[label] for launch in outcome.launches]
    changes = [ns for one in costs for ns in one.shape_change_ns.values() if ns is not None]
    return {
        "load_s": float(np.median([one.load_s for one in costs])),
        "first_run_ms": float(np.median([one.first_run_ns for one in costs])) / 1e6,
        "shape_change_ms": float(np.median(changes)) / 1e6 if changes else math.nan,
    }


def crossover(lengths: list[dict[str, Any]]) -> dict[str, Any]:
    """``faster_at`` and ``slower_at``: the lengths where the whole interval lies beyond 1."""
    return {
        "faster_at": [one["length"] for one in lengths if one["low"] > 1],
        "slower_at": [one["length"] for one in lengths if one["high"] < 1],
    }


def show(row: dict[str, Any]) -> None:
    print(
        f"\n{row['candidate']}\n  against {row['baseline']}: {row.get('verdict', 'failed: ' + row.get('failed', ''))}"
    )
    for one in row.get("lengths", []):
        print(f"  {one['length']:>8}  {one['baseline_us']:9.1f} us  {one['candidate_us']:9.1f} us  "
              f"{one['ratio']:.3f}x [{one['low']:.3f}, {one['high']:.4g}]", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
