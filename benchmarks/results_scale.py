"""A million records in a thousand runs: how long questions take before and after ``compact``, and what a kill loses.

    python benchmarks/results_scale.py            # 15 minutes, 5 GB in the system's temporary folder, removed after
    python benchmarks/results_scale.py --quick    # 20,000 records, 10 kills

Records are made of the recorded ones under ``results/reference``: builds, accuracy, latency sessions and latency of
single length buckets with all their samples (37 kB a line on average), under new runs, times, hosts, models, versions
and verdicts. Questions are asked of three states of the folder: ``bare``, only the runs' own files, as after kills or
copies without times; ``before`` (compacting), as runs that end leave it, each with its index; ``compacted``. Each
question is a process of its own, timed from its start to its end by the one that starts it; the files have just been
written, so what fits in memory is read from there. ``--out FILE`` keeps the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

REFERENCE = ROOT / "results" / "reference"
SHARES = {"build": 0.45, "accuracy": 0.45, "session": 0.07, "bucket": 0.03}
MODELS = [f"model{number:02}" for number in range(20)]
RUNTIMES = ["tensorrt-8.5.3.1", "tensorrt-8.6.0", "tensorrt-10.13.0.35", "onnxruntime-1.32.0-cpu"]
HOSTS = 4
VERDICTS = ["pass"] * 8 + ["fail", "inconclusive"]
MOST_BYTES = 9_000_000_000
LIMITS = {"bare_s": 10.0, "before_s": 10.0, "compacted_s": 2.0, "rss_mb": 1000.0}
GATE = {"kind": "build", "host": "host1"}


def templates() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SHARES}
    for path in sorted(REFERENCE.glob("*/*.jsonl")):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            if "values" not in one:  # what a GPU's programs wrote down, no record
                continue
            part = (
                "bucket" if "samples_ns" in one["values"] else "session" if "session" in one["values"] else one["kind"]
            )
            if part in found and "fields" in one:
                found[part].append(one)
    return found


def write_runs(folder: Path, runs: int, records: int) -> dict[str, Any]:
    """Writes them without fsync, which is not what is measured here; the case that is asked for later, and sizes."""
    draw = random.Random(0)
    compact = {"separators": (",", ":")}
    found = {
        part: [(one, json.dumps(one["values"], **compact), json.dumps(one["environment"], **compact)) for one in ones]
        for part, ones in templates().items()
    }
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    case, size = "", 0
    for number in range(runs):
        at = begin + timedelta(days=number)
        run = f"{at:%Y%m%dT%H%M%SZ}-{draw.randrange(1 << 24):06x}"
        host = f'"host":"host{number % HOSTS}"'
        with (folder / f"{run}.jsonl").open("w") as file:
            for index, part in enumerate(draw.choices(list(SHARES), list(SHARES.values()), k=records // runs)):
                one, values, environment = draw.choice(found[part])
                fields = {**one["fields"], "model": draw.choice(MODELS), "runtime": draw.choice(RUNTIMES)}
                head = {
                    **{name: one[name] for name in ("schema", "kind")},
                    "run": run,
                    "time": (at + timedelta(seconds=index)).isoformat(timespec="milliseconds"),
                    "harness": "0.1.0",
                    "case": "-".join(str(value) for value in fields.values() if value),
                    "fields": fields,
                    **{name: one[name] for name in ("model", "corpus", "samples", "seed", "synthetic")},
                    "verdict": draw.choice(VERDICTS),
                }
                about = environment.replace('"host":"vm"', host)
                file.write(f'{json.dumps(head, **compact)[:-1]},"values":{values},"environment":{about}}}\n')
                if part == "build" and number % HOSTS == 1:
                    case = head["case"]
        size += (folder / f"{run}.jsonl").stat().st_size
        if size > MOST_BYTES:
            raise SystemExit(f"{size / 1e9:.1f} GB after {number} runs: fewer records, please")
    return {"case": case, "bytes": size}


def ask(question: str, folder: Path, case: str) -> None:
    """One question; run in a process of its own. Prints its peak memory in MB, that of its processes added."""
    from harness.results.query import Where, open_case, open_run, open_verdicts

    if question == "list":
        from harness.cli import main

        assert main(["results", "--results", str(folder), "list"]) == 0
    elif question == "gate_lookup":
        with open_case(folder, case) as found:
            one = found.newest(Where(case=case, **GATE))
            assert one is not None
            assert one.record()["case"] == case
    elif question == "history":
        with open_case(folder, case) as found:
            assert all(
                "int8" in one.values() or "error" in one.values()
                for one in found.history(Where(case=case, kind="build"))
            )
    elif question == "one_run":
        run = max(path.stem for path in folder.glob("*.jsonl"))
        with open_run(folder, run) as found:
            (summary,) = found.runs()
            assert summary.records == len(list(found.of_run(run)))
    elif question == "newest_verdicts":
        with open_verdicts(folder) as found:
            assert found.newest_verdicts()
    elif question == "index":
        from harness.results.index import write_index

        assert all(write_index(path) for path in folder.glob("*.jsonl"))
    else:
        from harness.results.compact import compact

        compact(folder)
    own = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
    # The largest of its processes, for each of them: no less than what they take together.
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * len(os.sched_getaffinity(0))
    print(f"\n{(own + others) / 1024:.0f}")


QUESTIONS = ("list", "gate_lookup", "history", "newest_verdicts", "one_run")


def timed(question: str, folder: Path, case: str) -> tuple[float, float, float]:
    """Seconds from start to end, of processors (which other load hardly changes), and peak memory in MB."""
    command = [sys.executable, __file__, "--ask", question, "--folder", str(folder), "--case", case]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{question} failed:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, processors, float(done.stdout.split()[-1])


def all_timed(state: str, folder: Path, case: str, times: int) -> tuple[dict[str, Any], float]:
    """For each question the median of several times, its processor time, and the load; the highest peak of memory."""
    found = {question: sorted(timed(question, folder, case) for _ in range(times)) for question in QUESTIONS}
    middle = {question: ones[len(ones) // 2] for question, ones in found.items()}
    peak = max(memory for ones in found.values() for *_, memory in ones)
    seconds, processors = ({question: round(one[n], 2) for question, one in middle.items()} for n in (0, 1))
    load = round(os.getloadavg()[0], 1)
    print(f"{state}: {times} times each, load {load}, {peak:.0f} MB of memory at most")
    return {f"{state}_s": seconds, f"{state}_cpu_s": processors, f"{state}_load": load}, peak


def show(answers: dict[str, Any]) -> None:
    states = ("bare", "before", "compacted")
    print(f"{'question':<18}" + "".join(f"{state + ' s':>13}{'processor s':>13}" for state in states))
    for question in QUESTIONS:
        cells = (answers[f"{state}_{unit}"][question] for state in states for unit in ("s", "cpu_s"))
        print(f"{question:<18}" + "".join(f"{cell:>13.2f}" for cell in cells))


WRITER = """
import json, random, sys
from pathlib import Path
from harness.results.store import Store
run = Store(Path(sys.argv[1])).open_run(sys.argv[2])
one, begin, draw = json.loads(sys.argv[3]), int(sys.argv[4]), random.Random(int(sys.argv[4]))
for index in range(begin, 10**9):
    one["values"] = {"index": index, "padding": "x" * draw.choice([100, 2_000, 50_000, 2_000_000])}
    run.append(one)
    print(index, flush=True)
    if draw.random() < 0.1:
        run.close()
        run = Store(Path(sys.argv[1])).open_run(sys.argv[2])
"""


def killed(folder: Path, kills: int) -> tuple[int, int]:
    """Records that a writer had finished and that are not there, and questions that failed."""
    from harness.errors import HarnessError
    from harness.results.compact import compact
    from harness.results.query import Results
    from harness.results.store import read_run

    one = templates()["build"][0]
    draw = random.Random(1)
    finished: dict[str, list[int]] = {}
    failures = torn = 0
    for kill in range(kills):
        run = f"killed{kill % 10}"
        done = finished.setdefault(run, [])
        there = [found["values"]["index"] for found in read_run(folder / f"{run}.jsonl")] if done else []
        begin = max(there, default=-1) + 1
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), run, json.dumps({**one, "run": run}), str(begin)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None
        done.append(int(writer.stdout.readline()))
        time.sleep(draw.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        done += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        writer.wait()
        torn += not (folder / f"{run}.jsonl").read_bytes().endswith(b"\n")
        try:
            if kill % 10 == 9:
                compact(folder)
            with Results(folder) as found:
                assert len(found.runs()) == len(finished)
        except (HarnessError, AssertionError) as error:
            failures += 1
            print(f"a reader failed after kill {kill}: {error}", file=sys.stderr)
    lost = 0
    for run, indices in finished.items():
        there = [found["values"]["index"] for found in read_run(folder / f"{run}.jsonl")]
        lost += len(set(indices) - set(there)) + (there != sorted(set(there)))
    total = sum(map(len, finished.values()))
    print(f"{kills} kills over {total} finished records: {torn} left an unfinished line, {lost} record(s) lost")
    return lost, failures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true")
    options.add_argument("--records", type=int, default=None)
    options.add_argument("--runs", type=int, default=None)
    options.add_argument("--kills", type=int, default=None)
    options.add_argument("--times", type=int, default=3, help="how often each question is asked; the median counts")
    options.add_argument("--out", type=Path, default=None)
    options.add_argument("--ask", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--case", default="", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.ask:
        ask(given.ask, given.folder, given.case)
        return 0
    records = given.records or (20_000 if given.quick else 1_000_000)
    runs = given.runs or (100 if given.quick else 1_000)
    kills = given.kills if given.kills is not None else (10 if given.quick else 100)
    place = Path(tempfile.mkdtemp(prefix="results-scale-"))
    try:
        folder = place / "results"
        folder.mkdir()
        began = time.perf_counter()
        there = write_runs(folder, runs, records)
        took = time.perf_counter() - began
        print(f"{records} records in {runs} runs, {there['bytes'] / 1e9:.2f} GB, written in {took:.0f} s")
        bare, peak = all_timed("bare", folder, there["case"], given.times)
        _, indexing, _ = timed("index", folder, "")
        size = sum(path.stat().st_size for path in (folder / "compacted").rglob("*.parquet"))
        index_ms = 1e3 * indexing / runs
        print(f"indexes: {index_ms:.0f} ms of processor and {size / runs / 1e3:.0f} kB a run")
        before, middle = all_timed("before", folder, there["case"], given.times)
        first, _, memory = timed("compact", folder, "")
        again, *_ = timed("compact", folder, "")
        size = sum(path.stat().st_size for path in (folder / "compacted").glob("*.parquet"))
        print(
            f"compact: {first:.1f} s, {size / 1e6:.0f} MB, {memory:.0f} MB of memory; again, nothing new: {again:.1f} s"
        )
        after, later = all_timed("compacted", folder, there["case"], given.times)
        show(bare | before | after)
        shutil.rmtree(folder)
        lost, failures = killed(place / "killed", kills)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    found = {
        **before, **after, **bare, "index_cpu_ms": round(index_ms, 1), "compact_s": round(first, 1),
        "rss_mb": round(max(peak, middle, later, memory)), "kills": kills, "lost_records": lost,
        "reader_failures": failures, "records": records, "runs": runs, "gigabytes": round(there["bytes"] / 1e9, 2),
        "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip
    for name, limit in LIMITS.items():
        worst = max(found[name].values()) if isinstance(found[name], dict) else found[name]
        print(f"{name}: {worst:g}, {'within' if worst < limit else 'beyond'} {limit:g}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
