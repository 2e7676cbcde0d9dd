"""Shape policies, per model, length bucket and dialect, with the spread over 5 calibration corpora.

One method throughout (``--method``), so that only what calibration saw differs. A difference is worth a look where it
is larger than the draw-to-draw spread beside it; ``real`` marks the buckets where a policy's range over corpora and
that of ``ragged`` do not overlap.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics

from evaluation import Bench
from rich.console import Console
from rich.table import Table

from harness.errors import CalibrationFailed
from harness.spec.calibration import Dialect, Policy
from harness.spec.shapes import buckets3

Row = dict[str, tuple[float, float | None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="vad,wave,plc,rec,text")
    parser.add_argument("--policies", default=",".join(Policy))
    parser.add_argument("--method", default="mse")
    parser.add_argument("--corpora", type=int, default=5)
    parser.add_argument("--dialects", default="u8s8,s8s8")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    console, report = Console(width=118), {}
    for key in options.models.split(","):
        bench = Bench(key, tests=8)
        for dialect in map(Dialect, options.dialects.split(",")):
            rows = {
                word: [
                    row
                    for seed in range(options.corpora)
                    if (row := _row(bench, seed, options.method, Policy(word), dialect))
                ]
                for word in options.policies.split(",")
            }
            _print(console, f"{key}, {dialect.value}, {options.method}", rows)
            report.setdefault(key, {})[dialect.value] = {word: _summary(found) for word, found in rows.items()}
        report[key]["calibration_digests"] = [
            bench.calibration_corpus(seed).digest[:16] for seed in range(options.corpora)
        ]
        report[key]["test_digest"] = bench.test_corpus.digest[:16]
    print(json.dumps({"benchmark": "policies", "method": options.method, "models": report}))


def _row(bench: Bench, seed: int, method: str, policy: Policy, dialect: Dialect) -> Row:
    """Bucket -> (SQNR dB, score); nothing where the policy finds no batch in this corpus."""
    layout = buckets3(bench.entry.model) if policy is Policy.PER_PROFILE else bench.layout
    try:
        found = bench.ours(seed, method, policy, dialect, layout)
    except CalibrationFailed:
        return {}
    if policy is not Policy.PER_PROFILE:
        return bench.of_ranges(found.ranges[0], dialect)
    measured = [bench.of_ranges(ranges, dialect) for ranges in found.ranges]  # each bucket by its own profile's file
    return {
        name: measured[index][name] for index, name in enumerate(("short", "middle", "long")) if name in measured[index]
    }


def _summary(rows: list[Row]) -> dict[str, dict[str, float | int | bool | None]]:
    out: dict[str, dict[str, float | int | bool | None]] = {}
    for bucket in rows[0] if rows else ():
        values = [row[bucket][0] for row in rows if bucket in row]
        scores = [row[bucket][1] for row in rows if bucket in row and row[bucket][1] is not None]
        out[bucket] = {
            "median_db": round(statistics.median(values), 1),
            "min_db": round(min(values), 1),
            "max_db": round(max(values), 1),
            "score": round(statistics.median(scores), 4) if scores else None,
            "corpora": len(values),
        }
    return out


def _print(console: Console, title: str, rows: dict[str, list[Row]]) -> None:
    table = Table(title=f"{title}: SQNR dB median (min..max) over corpora, median task score")
    summaries = {word: _summary(found) for word, found in rows.items()}
    base = summaries.get("ragged", {})
    table.add_column("policy")
    for bucket in ("short", "middle", "long"):
        table.add_column(bucket, justify="right")
    for word, summary in summaries.items():
        cells = []
        for bucket in ("short", "middle", "long"):
            cell, ragged = summary.get(bucket), base.get(bucket)
            if not cell:
                cells.append("no batch")
                continue
            apart = ragged and (cell["max_db"] < ragged["min_db"] or cell["min_db"] > ragged["max_db"])
            score = f", {cell['score']:.3f}" if cell["score"] is not None else ""
            mark = " real" if apart else ""
            cells.append(f"{cell['median_db']} ({cell['min_db']}..{cell['max_db']}){score}{mark}")
        table.add_row(word, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
