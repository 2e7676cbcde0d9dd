"""Does the gate find what is wrong, and leave alone what is not? Faults planted one at a time, and gates of equals.

Real gates over ONNX Runtime on this CPU: 5 cases of one small model, the candidate in a process and under a name of
its own. With a fault planted in it, the gate must block (or tell, where the fault is none that blocks); without one
(A/A) it must not. Thousands of gates more are simulated: launches drawn from those of the real A/A gates, arms
exchanged at random, judged by the same code.

Resumable: every gate adds a line to a parts file, as often as one likes (``--minutes``); ``--report`` reads all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from planted import FAULTS, LENGTHS, Planted, model, write_samples

from harness.corpus.own import own_entry
from harness.errors import HarnessError
from harness.gate.gate import Gate, Settings
from harness.gate.latency import design_at, findings_of
from harness.gate.stages import flagged, settled
from harness.latency import margins_of
from harness.measure.arms import NULL, Arm, Input, Question
from harness.measure.host import host
from harness.measure.launch import Cold, Launch
from harness.measure.selftest import interval
from harness.measure.session import run_session
from harness.paths import cache_dir
from harness.results.record import now
from harness.results.store import Store
from harness.spec.latency import LatencySettings
from harness.spec.matrix import Matrix
from harness.workers import Workers, find_environments, select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.gate.findings import Finding
    from harness.gate.pairs import Pair
    from harness.measure.session import Outcome
    from harness.workers import Environment

MATRIX = Matrix(
    precisions=("fp32", "int8"), methods=("minmax", "percentile", "mse", "entropy"), layouts=("single",), compared=(),
    samples=12, tests=6, launches=8, blocks=16,
)  # fmt: skip
SETTINGS = Settings(budget_s=300.0)
AA = "A/A"
AA_SHARE = 2
"""A/A gates of each round of faults are so many times the faults: 60 of them with two rounds of 15 faults."""
RESULTS = Path(__file__).parent / "results" / "gate.json"
SIMULATED, _SHARE = 2000, 100


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="collect for so long")
    parser.add_argument("--parts", type=Path, default=None, help="file to add to (default: in the cache folder)")
    parser.add_argument("--only", default="", help=f"comma-separated: {AA}, {', '.join(FAULTS)}")
    parser.add_argument("--simulated", type=int, default=SIMULATED, help="simulated gates")
    parser.add_argument("--report", action="store_true", help="print and write what all parts say")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    parts = options.parts or cache_dir("benchmarks") / "gate.jsonl"
    if options.minutes:
        collect(parts, options.minutes, [one for one in options.only.split(",") if one], options.seed)
    if options.report or not options.minutes:
        return report(parts, options.simulated, 0 if options.seed is None else options.seed)
    return 0


# -- real gates -----------------------------------------------------------------------------------------------


def collect(parts: Path, minutes: float, only: Sequence[str], seed: int | None) -> None:
    until = time.monotonic() + 60 * minutes
    environment = _environment()
    sides = (environment, replace(environment, name=f"{environment.name}@candidate"))
    facts = host()
    common = {"environment": environment.name, "host": facts["host"], "cpu": facts["cpu"], "revision": facts["commit"]}
    random = np.random.default_rng(secrets.randbelow(2**31) if seed is None else seed)
    with tempfile.TemporaryDirectory(prefix="gate.") as folder, Workers(deadline_s=60) as workers:
        lab = _Lab(Path(folder), sides, workers)
        for name in _turns(random, lambda: [one["gate"] for one in _judged(_read(parts))], only):
            if time.monotonic() > until:
                return
            line = {
                **common,
                "time": now().isoformat(timespec="seconds"),
                **lab.gate(name, int(random.integers(2**31))),
            }
            with parts.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name:<28}{line['verdict']:<14}{line['seconds']:6.1f} s  {line['said'][:150]}", flush=True)


@cache
def _environment() -> Environment:
    return select(find_environments(Path.cwd()), ["onnxruntime"])[0]


def _turns(random: np.random.Generator, seen: Callable[[], Sequence[str]], only: Sequence[str]) -> Iterator[str]:
    """In random order without end, round by round; what has been seen least comes first.

    :param seen: names of the gates so far that came to a verdict: one that failed is owed again.
    :param only: names; all where empty.
    """
    while True:
        done = seen()
        counts = {name: done.count(name) for name in FAULTS if not only or name in only}
        least = min(counts.values(), default=0)
        owed = AA_SHARE * (least + 1) * len(FAULTS) - done.count(AA) if not only or AA in only else 0
        # A/A alone may be asked for as long as one likes.
        turn = [*(name for name, count in counts.items() if count == least), *[AA] * owed] or [AA]
        yield from (turn[place] for place in random.permutation(len(turn)))


class _Lab:
    """The model, its data and the two sides."""

    def __init__(self, folder: Path, sides: tuple[Environment, Environment], workers: Workers) -> None:
        (folder / "data").mkdir()
        (folder / "net.onnx").write_bytes(model())
        write_samples(folder / "data")
        self.entry = own_entry(
            folder / "net.onnx", axes=["x:1=n"], range_=":".join(map(str, LENGTHS)), data=folder / "data"
        )
        self.sides, self.workers, self.store = sides, workers, Store(folder / "results")

    def gate(self, name: str, seed: int) -> dict[str, Any]:
        """One gate as a line."""
        old, new = self.sides
        fault, began = FAULTS.get(name), time.monotonic()
        run = self.store.open_run()

        def bench(offset: int) -> Planted:
            environments = {one.name: one for one in self.sides}
            given = ({"net": self.entry}, environments, self.workers, run, MATRIX, seed + offset)
            return Planted(*given, fault=fault, candidate=new.name)

        first = bench(0)
        try:
            judged = Gate(first, lambda: bench(1), old, new, SETTINGS)
            outcome = judged.run()
        except HarnessError as error:  # one failed gate is no reason to lose the hours after it
            return {"gate": name, "seed": seed, "verdict": "error", "said": str(error), "found": False,
                    "seconds": time.monotonic() - began}  # fmt: skip
        finally:
            run.close()
        blocked = [one for one in outcome.findings if one.blocks]
        told = [one for one in outcome.findings if one.word == "minor"]
        counted = blocked if fault is None or fault.blocks else told
        hits = [one for one in counted if fault and one.case == fault.case and one.aspect in fault.aspects]
        line = {
            "gate": name, "seed": seed, "verdict": outcome.word, "seconds": outcome.seconds, "load": host()["load"][0],
            "found": bool(hits), "blocked": [_told(one) for one in blocked],
            "beside": sorted({one.case for one in blocked} - {fault.case if fault else ""}),
            "said": "; ".join(_told(one) for one in (hits or blocked)),
            "stage1": sorted({_told(one) for one in outcome.first}),
            "open": [_told(one) for one in outcome.findings if one.word in {"inconclusive", "invalid"}],
        }  # fmt: skip
        if fault is not None:
            return line
        sessions = [_packed(pair, *one) for pair in judged.pairs.both for one in judged.sessions[pair.name]]
        return {**line, "sessions": sessions}


def _told(one: Finding) -> str:
    return f"{one.case} {one.aspect} {one.where}: {one.why}"[:300]


# -- simulated gates ------------------------------------------------------------------------------------------


def _packed(pair: Pair, stage: int, session: Outcome) -> dict[str, Any]:
    """What a session's verdict rests on: input -> launches -> arms -> blocks, the value of each burst in ns."""
    arms = (pair.baseline.runtime, NULL, pair.candidate.runtime)
    clock = session.clock
    return {
        "pair": pair.name, "stage": stage, "clock": clock, "verdict": session.verdict.word,
        "inputs": {
            label: [
                [[min(burst[clock]) for burst in launch.samples[arm][label]] for arm in arms]
                for launch in session.launches
            ]
            for label in session.per_input
        },
    }  # fmt: skip


def simulated(lines: Sequence[Mapping[str, Any]], count: int, seed: int) -> Iterator[bool]:
    """Whether a gate blocks, over gates made of recorded A/A launches.

    A case's launches are drawn with replacement from all of that case's; in each the three arms, which ran the same
    file, change places at random.
    """
    pools: dict[str, list[dict[str, list[list[int]]]]] = {}
    for line in lines:
        for session in line.get("sessions", ()):
            inputs = session["inputs"]
            for number in range(min(len(launches) for launches in inputs.values())):
                launch = {label: launches[number] for label, launches in inputs.items()}
                pools.setdefault(session["pair"], []).append(launch)
    random = np.random.default_rng(seed)
    settings = LatencySettings()
    margins = margins_of(settings)
    pairs = {name: _pair(name) for name in pools}
    for _ in range(count):

        def asked(name: str, stage: int) -> list[Finding]:
            question = _question(pairs[name], pools[name][0])
            session = run_session(
                question,
                design_at(stage, MATRIX, settings),
                margins,
                int(random.integers(2**31)),
                measure=_drawn(question, pools[name], random),
            )
            return findings_of(pairs[name], session, margins, stage)

        first = [finding for name in pools for finding in asked(name, 1)]
        again = [finding for name in dict.fromkeys(one.case for one in flagged(first)) for finding in asked(name, 2)]
        yield any(one.blocks for one in settled(first, again, SETTINGS.alpha))


def _simulated_share(lines: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[bool]:
    return list(simulated(lines, count, seed))


def _pair(name: str) -> Pair:
    from harness.gate.pairs import Pair
    from harness.spec.calibration import Precision
    from harness.spec.case import Case

    sides = [Case(name, runtime, Precision.FP32, None, "single") for runtime in ("old", "new")]
    return Pair(*sides)


def _question(pair: Pair, launch: Mapping[str, Any]) -> Question:
    arms = [Arm(case.runtime, _environment(), Path("net.onnx")) for case in (pair.baseline, pair.candidate)]
    return Question(*arms, tuple(Input(label, 1, {}) for label in launch))


def _drawn(
    question: Question, pool: Sequence[Mapping[str, list[list[int]]]], random: np.random.Generator
) -> Callable[..., Launch]:
    labels = (question.baseline.label, NULL, question.candidate.label)
    orders = list(permutations(range(len(labels))))

    def measure(*_: object, **__: object) -> Launch:
        launch = pool[int(random.integers(len(pool)))]
        order = orders[int(random.integers(len(orders)))]
        samples = {
            label: {
                name: [{"cpu_ns": [value], "wall_ns": [value]} for value in arms[place]]
                for name, arms in launch.items()
            }
            for label, place in zip(labels, order, strict=True)
        }
        cold = {label: Cold(0.0, 1, {}) for label in labels}
        seconds = dict.fromkeys(("starting", "warming", "measuring"), 0.0)
        return Launch(samples, cold, seconds, core=None, seed=0, clock="cpu_ns")

    return measure


# -- what came of it ------------------------------------------------------------------------------------------


def _read(parts: Path) -> list[dict[str, Any]]:
    if not parts.is_file():
        return []
    opened = gzip.open if parts.suffix == ".gz" else open
    with opened(parts, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _judged(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without the gates that failed: one that came to no verdict has neither blocked nor passed anything."""
    return [dict(one) for one in lines if one["verdict"] != "error"]


def report(parts: Path, count: int, seed: int) -> int:
    every = _read(parts)
    lines, failed = _judged(every), [one for one in every if one["verdict"] == "error"]
    for one in failed:
        print(f"no verdict: {one['gate']}, seed {one['seed']}: {one['said'][:150]}", file=sys.stderr)
    equal = [one for one in lines if one["gate"] == AA]
    if not equal:
        print(f"no A/A gate in {parts}; run with --minutes first", file=sys.stderr)
        return 2
    rows = {name: [one for one in lines if one["gate"] == name] for name in FAULTS}
    print(f"{'fault':<30}{'gates':>6}{'found':>7}  what the last one said")
    for name, gates in rows.items():
        said = gates[-1]["said"] if gates else ""
        print(f"{name:<30}{len(gates):>6}{sum(one['found'] for one in gates):>7}  {said[:150]}")
    blocked = [one for one in equal if one["verdict"] == "regression"]
    began = time.monotonic()
    with ProcessPoolExecutor() as pool:
        shares = [min(_SHARE, count - begun) for begun in range(0, count, _SHARE)]
        jobs = [pool.submit(_simulated_share, equal, share, seed + i) for i, share in enumerate(shares)]
        found = [blocked for job in jobs for blocked in job.result()]
    print(f"simulated {count} gates in {time.monotonic() - began:.0f} s")
    verdicts = [one["verdict"] for one in equal]
    out = {
        "faults_planted": len(FAULTS),
        "faults_found": sum(bool(gates) and all(one["found"] for one in gates) for gates in rows.values()),
        "aa_gates": len(equal),
        "aa_blocked": len(blocked) / len(equal),
        "simulated_gates": len(found),
        "simulated_blocked": sum(found) / len(found) if found else None,
        "seconds_per_gate": float(np.median([one["seconds"] for one in equal])),
        "aa_blocked_interval": list(interval(len(blocked), len(equal))),
        "simulated_blocked_interval": list(interval(sum(found), len(found))) if found else None,
        "aa_verdicts": {word: verdicts.count(word) for word in sorted(set(verdicts))},
        "gates_with_faults": {name: [len(gates), sum(one["found"] for one in gates)] for name, gates in rows.items()},
        "errors": dict(Counter(one["gate"] for one in failed)),
        "beside": sum(bool(one.get("beside")) for gates in rows.values() for one in gates),
        "launches": sum(len(next(iter(s["inputs"].values()))) for one in equal for s in one.get("sessions", ())),
        "load_median": float(np.median([one["load"] for one in lines if "load" in one])),
        "environment": lines[-1]["environment"], "cpu": lines[-1]["cpu"],
        "from": min(one["time"] for one in lines), "to": max(one["time"] for one in lines),
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(out, indent=2) + "\n", "utf-8")
    print(json.dumps(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
