"""Layer tables on a machine that has a GPU and TensorRT, and nothing else of this harness: in three steps.

    python benchmarks/gpu/layers.py prepare JOBS --version 8.6.0 --models rec,text     (here)
    python3.10 benchmarks/gpu/layers.py run JOBS layers.jsonl                           (there: TensorRT, pycuda, numpy)
    harness explain --from layers.jsonl                                                 (here)

The first writes a folder: ONNX files in the form that this TensorRT takes (FP32, which FP16 is built from too, and
Q/DQ), feeds at the lengths, probes of the roofline, and ``jobs.json``. ``--methods auto,mixed`` adds what ``harness
mix`` found, where there was a search. The second builds an engine of each, and appends a JSON line for each length:
what the inspector says at those shapes, what the profiler times, a whole run's time. What fails, ends the process or
outlasts the deadline is a line that says so. A second ``run`` leaves out what its file has already.

For a model that builds slowly: ``prepare --narrow --level 0`` makes one profile from the shortest to the longest length
that is asked for, and ``run --at-once 4 --engines FOLDER`` builds four at a time to that folder before any is timed;
times are then taken one after the other, alone. An engine that is in the folder is not built again.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TACTICS = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
LARGE = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    first = steps.add_parser("prepare")
    first.add_argument("jobs", type=Path)
    first.add_argument("--version", required=True, help="of TensorRT there: 8.5.3.1, 8.6.0")
    first.add_argument("--models", required=True, help="keys of the catalogue")
    first.add_argument("--lengths", default="", help="numbers; each bucket's opt without")
    first.add_argument("--methods", default="auto", help="that choose INT8's ranges; mixed: a plan of harness mix")
    first.add_argument("--routes", default="", help="of INT8: cache, qdq; the version's usual ones without")
    first.add_argument("--level", type=int, default=2, help="builder_optimization_level, from 8.6 on")
    first.add_argument("--tactics", default=",".join(TACTICS), help="tactic sources")
    first.add_argument("--narrow", action="store_true", help="one profile over the lengths alone, opt the longest")
    first.add_argument("--no-probes", action="store_true", help="of the roofline: another folder has them")
    first.set_defaults(step=prepare)
    second = steps.add_parser("run")
    second.add_argument("jobs", type=Path)
    second.add_argument("out", type=Path)
    second.add_argument("--only", default="", help="cases whose id begins so")
    second.add_argument("--repeats", type=int, default=30)
    second.add_argument("--budget", type=float, default=1e9, help="seconds after which no job is begun")
    second.add_argument("--deadline", type=float, default=600, help="seconds that a case may take")
    second.add_argument("--at-once", type=int, default=1, help="builds at a time, before anything is timed")
    second.add_argument("--engines", type=Path, help="where they are kept; a folder that is removed without")
    second.add_argument("--phase", choices=("build", "time"), help="one of them alone; time: what is built")
    second.set_defaults(step=run)
    options = parser.parse_args()
    options.step(options)


# -- here -----------------------------------------------------------------------------------------------------------


def prepare(options: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    from harness.corpus.registry import load_catalogue, pick
    from harness.explain.explained import inputs_at
    from harness.explain.roofline import GPU, probe_entries, probe_runs
    from harness.results.store import Store
    from harness.spec.config import find_config
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Environment, Workers

    name = f"tensorrt-{options.version}"
    environment = Environment(name, sys.executable, "tensorrt", options.version)
    chosen = pick(load_catalogue(find_config()), options.models.split(","))
    entries = {**{one.model.key: one for one in chosen}, **probe_entries(GPU)}
    options.jobs.mkdir(parents=True, exist_ok=True)
    lengths = [int(word) for word in options.lengths.split(",") if word]
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder)).open_run()) as noted:
        bench = Workbench(entries, {name: environment}, Workers(), noted, Matrix(), 0)
        wanted: dict[Any, list[Any]] = {}
        for one in chosen:
            for case in cases_of(bench, one.model.key, environment, options):
                wanted[case] = inputs_at(bench, one.model.key, lengths)
        for case, given in () if options.no_probes else probe_runs(bench, name, GPU):
            wanted.setdefault(case, []).append(given)
        jobs = [job(bench, case, inputs, options) for case, inputs in wanted.items()]
        bench.close()
    (options.jobs / "jobs.json").write_text(json.dumps(jobs, indent=1), "utf-8")
    size = sum(file.stat().st_size for file in options.jobs.iterdir())
    print(f"{len(jobs)} cases, {size / 2**20:.0f} MiB in {options.jobs}")


def cases_of(bench: Any, model: str, environment: Any, options: argparse.Namespace) -> list[Any]:
    """FP32, FP16, and INT8 by each method and route that goes together; mixed only where a search left a plan."""
    from harness.mixed.plan import find
    from harness.spec.calibration import Calibration, Method, Policy, Precision, Route
    from harness.spec.case import Case
    from harness.spec.routes import calibrates, default_routes

    fp32 = Case(model, environment.name, Precision.FP32, None, "single", Route.QDQ)
    found = [fp32]  # what is asked of first is built first
    routes = [Route(word) for word in options.routes.split(",") if word]
    routes = routes or list(default_routes(environment.runtime, environment.version))
    for word in options.methods.split(","):
        calibration = Calibration(Method.parse(word), Policy.RAGGED)
        if word == "mixed" and find(bench.prepared(model), bench.dialect(fp32)) is None:
            print(f"left out, for want of a plan: {model} int8-mixed (harness mix {model} --dialect s8s8)")
            continue
        found += [
            replace(fp32, precision=Precision.INT8, calibration=calibration, route=route)
            for route in routes
            if calibrates(route, calibration)
        ]
    return [*found, replace(fp32, precision=Precision.FP16)]


def job(bench: Any, case: Any, inputs: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """One engine to build and the feeds to run; its files are copied into the folder."""
    (source,) = bench.artefacts(case)
    files = {role: copied(path, options.jobs) for role, path in bench.calibration_files(case)[0].items()}
    build = {**bench.build_options(case, 0, 1), "tactic_sources": options.tactics.split(","), "timing_cache": True}
    if tuple(int(word) for word in options.version.split(".")[:2]) >= (8, 6):
        build["optimization_level"] = options.level
    said = {"level": build.get("optimization_level")}
    if options.narrow:
        from harness.modelfile import profiles_for
        from harness.spec.shapes import Profile

        asked = sorted(given.length for given in inputs)
        one_for_all = Profile(asked[0], asked[-1], asked[-1])
        build["profiles"] = profiles_for(bench.model(case.model), bench.facts(case.model), (one_for_all,))
        said["profile"] = str(one_for_all)
    lengths = []
    for given in sorted(inputs, key=lambda given: -given.length) if options.narrow else inputs:
        shapes = {name: list(value.shape) for name, value in given.feeds.items()}
        types = {name: str(value.dtype) for name, value in given.feeds.items()}
        one: dict[str, Any] = {"length": given.length, "shapes": shapes, "dtypes": types}
        if sum(value.nbytes for value in given.feeds.values()) < LARGE:  # larger ones are drawn there
            one["feeds"] = f"{case.model}-{given.length}.npz"
            np.savez(options.jobs / one["feeds"], **given.feeds)
        lengths.append(one)
    environment = bench.environment(case)
    return {
        "case": case.id, "runtime": environment.runtime, "version": environment.version,
        "onnx": copied(source, options.jobs), "files": files, "build": build, "lengths": lengths,
        "said": said,
    }  # fmt: skip


def copied(path: Path, folder: Path) -> str:
    if not (folder / path.name).exists():
        shutil.copy(path, folder / path.name)
    return path.name


# -- there ----------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> None:
    """Each case in a process that goes on to the next one; where it ends or hangs, another goes on behind that case."""
    jobs = json.loads((options.jobs / "jobs.json").read_text("utf-8"))
    left = [one for one in jobs if one["case"].startswith(options.only) and one["case"] not in finished(options.out)]
    with tempfile.TemporaryDirectory() as cache:
        options.engines = options.engines or Path(cache)
        options.engines.mkdir(parents=True, exist_ok=True)
        if options.phase == "build" or (options.at_once > 1 and not options.phase):
            left = built_at_once(left, options)
        if options.phase == "time":
            left = [one for one in left if kept(one, options)[0].exists()]
        until = time.monotonic() + options.budget
        while left and options.phase != "build":
            case, why = watched(left, options, until)
            if not case:
                sys.exit(why or None)  # before the first case: no TensorRT, say
            at = [one["case"] for one in left].index(case)
            append(options.out, {**about(left[at]), "failed": why})
            left = left[at + 1 :]


def about(one: dict[str, Any]) -> dict[str, Any]:
    return {**{name: one[name] for name in ("case", "runtime", "version")}, **one.get("said", {})}


def built_at_once(left: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Build each in a process of its own, several at a time; those whose engines are there. Others are lines."""
    waiting, running = [one for one in left if not kept(one, options)[0].exists()], {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, options.at_once):
                one = waiting.pop(0)
                child = os.fork()
                if not child:
                    try:
                        build_alone(one, options)
                        os._exit(0)
                    finally:
                        traceback.print_exc()
                        os._exit(1)
                running[child] = one, time.monotonic()
            time.sleep(0.05)
            for child, (one, began) in list(running.items()):
                ended, status = os.waitpid(child, os.WNOHANG)
                why = f"the process ended by itself: status {status}" if ended and status else ""
                if not ended and time.monotonic() - began > options.deadline:
                    why = f"no end within {options.deadline:g} s"
                    stopped(child)
                if ended or why:
                    del running[child]
                if why:
                    append(options.out, {**about(one), "failed": why})
    finally:
        for child in running:
            stopped(child)
    return [one for one in left if kept(one, options)[0].exists()]


def stopped(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def kept(one: dict[str, Any], options: argparse.Namespace) -> tuple[Path, Path]:
    """Where an engine is, and what its build said."""
    return options.engines / f"{one['case']}.engine", options.engines / f"{one['case']}.json"


def build_alone(one: dict[str, Any], options: argparse.Namespace) -> None:
    """A failure is a line of its own, and leaves no engine."""
    sys.path.insert(0, str(ROOT / "harness"))
    from runtimes.serve import make_runtime

    runtime = make_runtime(one["runtime"])
    runtime.cache = str(options.out.absolute().parent)
    try:
        build(runtime, one, options)
        print(f"{one['case']} built", flush=True)
    except Exception as error:  # noqa: BLE001 - the other cases go on, and the file says it
        append(options.out, {**about(one), "failed": words(error)})


def build(runtime: Any, one: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What the build says, of an engine that is in the folder when this returns: whole, or not at all."""
    engine, notes = kept(one, options)
    if engine.exists():
        return dict(json.loads(notes.read_text("utf-8")))
    files = {role: str(options.jobs / name) for role, name in one["files"].items()}
    scratch = engine.with_suffix(f".{os.getpid()}")
    facts = runtime.build(str(options.jobs / one["onnx"]), str(scratch), {**one["build"], "files": files})
    notes.write_text(json.dumps({"seconds": facts["seconds"], "log": facts["log"][-10:]}), "utf-8")
    scratch.replace(engine)
    return dict(facts)


def words(error: Exception) -> str:
    return f"{type(error).__name__}: {error} {getattr(error, 'detail', '')}"[:2000]


def finished(out: Path) -> set[str]:
    if not out.exists():
        return set()
    return {one["case"] for one in map(json.loads, out.read_text("utf-8").splitlines()) if "failed" not in one}


def append(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{line['case']} {line.get('length', '')} {line.get('whole_us', line.get('failed', ''))}", flush=True)


def watched(left: list[dict[str, Any]], options: argparse.Namespace, until: float) -> tuple[str, str]:
    """Run in a child; the case that it did not end, and why. A native build can only be stopped with its process."""
    there, here = os.pipe()
    child = os.fork()  # TensorRT is imported in the child alone
    if not child:
        os.close(there)
        try:
            work(left, options, until, here)
            os._exit(0)
        finally:  # never the parent's way out of here
            traceback.print_exc()
            os._exit(1)
    os.close(here)
    current, why, buffer = "", "", b""
    while True:
        if not select.select([there], [], [], options.deadline)[0]:
            why = f"no end within {options.deadline:g} s"
            os.kill(child, signal.SIGKILL)
            break
        if not (more := os.read(there, 4096)):
            break
        buffer += more
        current = buffer.decode().splitlines()[-1]
    os.close(there)
    status = os.waitpid(child, 0)[1]
    return (current, why or f"the process ended by itself: status {status}") if status else ("", "")


def work(left: list[dict[str, Any]], options: argparse.Namespace, until: float, told: int) -> None:
    sys.path.insert(0, str(ROOT / "harness"))  # the runtimes alone: they want numpy, TensorRT and pycuda
    from runtimes.serve import make_runtime

    runtimes: dict[str, Any] = {}
    for one in left:
        if time.monotonic() > until:
            print(f"left out, for want of time: {one['case']}", flush=True)
            continue
        os.write(told, f"{one['case']}\n".encode())
        runtime = runtimes.setdefault(one["runtime"], make_runtime(one["runtime"]))
        runtime.cache = str(options.out.absolute().parent)  # timings are kept for the next run
        for line in lines(runtime, one, options):
            append(options.out, line)


def lines(runtime: Any, one: dict[str, Any], options: argparse.Namespace) -> Any:
    """A line a length; a failure is one too, and ends its case."""
    said = about(one)
    target = kept(one, options)[0]
    engine = None
    try:
        facts = build(runtime, one, options)
        engine = runtime.load(str(target), {})
        said |= {"size_bytes": target.stat().st_size, "build_s": facts["seconds"], "log": facts["log"][-10:]}
        said["device"] = runtime.describe()["device"]
        # Before any profiler: on an H200 with 8.6.0 runs were slower behind one, though it was taken off again.
        whole = [timed(engine, given, options) for given in one["lengths"]]
        for given, whole_us in zip(one["lengths"], whole, strict=True):
            about_it = {"length": given["length"], "shapes": given["shapes"], "whole_us": whole_us}
            yield {**said, **about_it, **told(engine, given, options)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the other cases go on, and the file says it
        yield {**said, "failed": words(error)}
    finally:
        if engine is not None:
            engine.close()


def timed(engine: Any, given: dict[str, Any], options: argparse.Namespace) -> float:
    """A whole run, us: the median."""
    engine.keep("layers", feeds_of(given, options.jobs))
    durations = engine.timed("layers", 5, options.repeats)
    return float(np.median(durations.get("device_ns") or durations["wall_ns"]) / 1e3)


def told(engine: Any, given: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    engine.keep("layers", feeds_of(given, options.jobs))
    times = engine.layer_times("layers", options.repeats)
    layers = engine.layers("layers")
    short = {name: [round(ms, 6) for ms in runs] for name, runs in times.items()}
    return {"layers": layers, "times_ms": short}


def feeds_of(given: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    if "feeds" in given:
        with np.load(folder / given["feeds"]) as found:
            return {name: found[name] for name in found.files}
    random = np.random.default_rng(0)
    return {
        name: np.resize(random.standard_normal(1 << 16).astype(given["dtypes"][name]), shape)
        for name, shape in given["shapes"].items()
    }


if __name__ == "__main__":
    main()
