"""Verdicts where the answer is known: ours beside pytest-benchmark's compare-fail, conditions interleaved at random.

Resumable: every session adds a line to a parts file, as often as one likes (``--minutes``); ``--report`` reads all
parts of the current design. Two or three hours in all give 200 A/A sessions and 100 of each effect.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.measure.arms import Design
from harness.measure.host import host
from harness.measure.selftest import (
    CONDITIONS,
    GATE,
    OURS,
    design_digest,
    failed_line,
    gate_line,
    schedule,
    session_line,
    summary,
    supported_margins,
)  # fmt: skip
from harness.measure.sequential_gate import available
from harness.paths import cache_dir
from harness.results.record import now
from harness.stats.verdict import Margins
from harness.workers import find_environments, select

if TYPE_CHECKING:
    from collections.abc import Sequence

CONDITIONS_OF_THE_CLAIM = "aa,aa_noise,plus3,plus5,plus10"
RESULTS = Path(__file__).parent / "results" / "selftest.json"
ALIKE = {
    "1524619e": (
        "judged alike: since then gains have levels of their own, a budget that ends a session between looks spends "
        "what is left, only the judging clock is checked, GPUs are asked between blocks. None of it is on the way of a "
        "session of one input and one build on a CPU; 240 simulated ones came out byte for byte the same"
    ),
    "70eaa23b": (
        "judged alike: since then a simulation may hand in launches, and a design of one look is not ended early; "
        "the self-test's has four; a switch of profiles is told from a change of shape, before anything is timed"
    ),
}
"""Earlier designs whose parts count, and why."""
GOALS = (  # (condition, word, relation, rate)
    ("aa", "regression", "<=", 0.01), ("aa_noise", "regression", "<=", 0.01), ("aa", "pass", ">=", 0.90),
    ("aa_noise", "pass", ">=", 0.90), ("aa", "invalid", "<=", 0.05), ("aa_noise", "invalid", "<=", 0.05),
    ("plus10", "regression", ">=", 0.99), ("plus5", "regression", ">=", 0.90), ("plus5", "pass", "<=", 0.02),
    ("aa", "seconds_median", "<=", 6.0), ("plus5", "seconds_median", "<=", 10.0),
    ("plus10", "seconds_median", "<=", 10.0), ("aa", "overhead_seconds_median", "<=", 10.0),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="collect for so long")
    parser.add_argument("--parts", type=Path, default=None, help="file to add to (default: in the cache folder)")
    parser.add_argument("--report", action="store_true", help="print and write what all parts say")
    parser.add_argument("--design", default="", help="report this design's digest instead of the current one")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--conditions", default=CONDITIONS_OF_THE_CLAIM, help="comma-separated")
    parser.add_argument("--without-gate", action="store_true", help="leave pytest-benchmark out")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    parts = options.parts or cache_dir("benchmarks") / "selftest.jsonl"
    design, margins = Design(), Margins()
    digest = design_digest(design, margins)
    if options.minutes:
        collect(options, parts, design, margins, digest)
    if options.report or not options.minutes:
        counted = {options.design} if options.design else {digest, *ALIKE}
        return report(parts, options.design or digest, counted, design, margins)
    return 0


def collect(options: argparse.Namespace, parts: Path, design: Design, margins: Margins, digest: str) -> None:
    until = time.monotonic() + 60 * options.minutes
    environment = select(find_environments(Path.cwd()), [options.runtime])[0]
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    facts = host()
    common = {
        "design": digest, "environment": str(environment), "revision": facts["commit"],
        "host": {key: facts[key] for key in ("host", "cpu", "cores_usable", "governor", "container", "platform")},
    }  # fmt: skip
    gate = available() and not options.without_gate
    print(f"design {digest}, seed {seed}, {environment}, adding to {parts}", flush=True)
    for condition, one in schedule([CONDITIONS[name] for name in options.conditions.split(",")], seed):
        jobs = [OURS, GATE] if gate else [OURS]
        for who in jobs[:: 1 if one % 2 else -1]:  # the order alternates at random
            began = time.monotonic()
            if began > until:
                return
            try:
                said = (
                    session_line(environment, condition, design, margins, one)
                    if who == OURS else gate_line(condition, one)
                )  # fmt: skip
            except HarnessError as error:  # one failed run is no reason to lose the hours after it
                print(f"{condition.name}: {error}", file=sys.stderr, flush=True)
                if who == GATE:
                    continue
                said = failed_line(condition, one, error, time.monotonic() - began)
            line = {**common, "time": now().isoformat(timespec="seconds"), "load": host()["load"], **said}
            with parts.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{line['who']:<26}{line['condition']:<10}{line['verdict']:<13}{line['seconds']:6.1f} s "
                  f"+{line['overhead_seconds']:5.1f} s  {line.get('why', '')}", flush=True)  # fmt: skip


def report(parts: Path, digest: str, counted: set[str], design: Design, margins: Margins) -> int:
    everything = [json.loads(line) for line in parts.read_text("utf-8").splitlines()] if parts.is_file() else []
    where = next(((one["host"], one["environment"]) for one in reversed(everything) if one["design"] in counted), None)
    lines = [one for one in everything if one["design"] in counted and (one["host"], one["environment"]) == where]
    others = Counter(one["design"] for one in everything if one["design"] not in counted)
    elsewhere = len(everything) - len(lines) - others.total()
    if others or elsewhere:
        print(f"left out, of other designs: {dict(others)}; of other hosts or runtimes than the last: {elsewhere}")
    if not lines:
        print(f"no part of design {digest} in {parts}; run with --minutes first", file=sys.stderr)
        return 2
    found: dict[str, Any] = summary(lines)
    print_table(found)
    for condition, word, relation, goal in GOALS:
        row = found.get(OURS, {}).get(condition)
        if row:
            met = row[word] <= goal if relation == "<=" else row[word] >= goal
            print(f"{'met   ' if met else 'MISSED'} {condition} {word} {relation} {goal:g}: {row[word]:.3g}")
    margin = supported_margins(lines)
    if margin:
        print(f"margins this machine supports: {margin.tolerated:.2%} tolerated, {margin.caught:.2%} caught")
    found |= {
        "design": {"digest": digest, **asdict(design), "margins": asdict(margins)},
        "alike": {one: why for one, why in ALIKE.items() if one in {line["design"] for line in lines} - {digest}},
        "supported_margins": asdict(margin) if margin else None,
        "revisions": dict(Counter(line["revision"] for line in lines)),
        "host": lines[0]["host"], "environment": lines[0]["environment"],
        "from": min(line["time"] for line in lines), "to": max(line["time"] for line in lines),
        "load_median": sorted(line["load"][0] for line in lines)[len(lines) // 2],
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(json.dumps(found))
    return 0


def print_table(found: dict[str, Any]) -> None:
    print(f"{'':<36}{'n':>5}  {'regression % [95 %]':<22}{'pass':>6}{'minor':>7}{'impr.':>7}{'inconcl.':>9}"
          f"{'invalid':>8}{'seconds':>9}{'+start':>8}")  # fmt: skip
    for who in (OURS, GATE):
        for condition, row in found.get(who, {}).items():
            low, high = row["intervals"]["regression"]
            rate = f"{100 * row['regression']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            print(f"{who:<26}{condition:<10}{row['n']:>5}  {rate:<22}"
                  f"{100 * row['pass']:>6.1f}{100 * row['minor']:>7.1f}{100 * row['improved']:>7.1f}"
                  f"{100 * row['inconclusive']:>9.1f}{100 * row['invalid']:>8.1f}"
                  f"{row['seconds_median']:>9.1f}{row['overhead_seconds_median']:>8.1f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
