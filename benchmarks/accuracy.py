"""Our calibration beside ONNX Runtime's: same operators, same dialect, same frozen corpora.

For each model, calibration corpora 0 to 4 and the three length buckets, SQNR in dB against FP32. Reported is the mean
over corpora and buckets of (ours - ONNX Runtime's best single method for that model).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics

from evaluation import Bench
from rich.console import Console
from rich.table import Table

from harness.spec.calibration import Dialect, Policy
from harness.spec.matrix import DEFAULT_METHOD, DEFAULT_POLICY

OURS = ("auto", "minmax", "percentile99.9", "percentile", "percentile99.999", "entropy", "mse")
THEIRS = ("MinMax", "Entropy", "Percentile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="vad,wave,plc,rec,text")
    parser.add_argument("--corpora", type=int, default=5)
    parser.add_argument("--dialect", default="u8s8", choices=[d.value for d in Dialect])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    dialect = Dialect(options.dialect)
    console, report = Console(width=118), {}
    for key in options.models.split(","):
        bench = Bench(key)
        arms: dict[str, list[dict[str, tuple[float, float | None]]]] = {}
        for seed in range(options.corpora):
            for method in OURS:
                ranges = bench.ours(seed, method, Policy(DEFAULT_POLICY), dialect).ranges[0]
                arms.setdefault(method, []).append(bench.of_ranges(ranges, dialect))
            for method in THEIRS:
                ranges = bench.onnxruntime_ranges(seed, method)
                arms.setdefault(f"ORT {method}", []).append(bench.of_ranges(ranges, dialect))
        means = {arm: _mean(rows) for arm, rows in arms.items()}
        best = max((arm for arm in means if arm.startswith("ORT")), key=lambda arm: means[arm])
        _print(console, key, dialect, arms, means)
        report[key] = {
            "ours_db": round(means[DEFAULT_METHOD], 2),
            "ort_best": best,
            "ort_best_db": round(means[best], 2),
            "ort_minmax_db": round(means["ORT MinMax"], 2),
            "vs_ort_db": round(means[DEFAULT_METHOD] - means[best], 2),
            "all_db": {arm: round(value, 2) for arm, value in means.items()},
            "calibration_digests": [bench.calibration_corpus(s).digest[:16] for s in range(options.corpora)],
            "test_digest": bench.test_corpus.digest[:16],
        }
    vad = report.get("vad", {})
    print(
        json.dumps(
            {
                "benchmark": "accuracy",
                "method": DEFAULT_METHOD,
                "policy": DEFAULT_POLICY,
                "dialect": dialect.value,
                "worst_vs_ort_db": min(row["vs_ort_db"] for row in report.values()),
                "vad_gain_db": round(vad["ours_db"] - vad["ort_minmax_db"], 2) if vad else None,
                "models": report,
            }
        )
    )


def _mean(rows: list[dict[str, tuple[float, float | None]]]) -> float:
    return statistics.fmean(sqnr for row in rows for sqnr, _ in row.values())


def _print(console: Console, key: str, dialect: Dialect, arms: dict, means: dict[str, float]) -> None:
    table = Table(title=f"{key}, {dialect.value}: SQNR dB, median (min..max) over corpora | median task score")
    table.add_column("method")
    for bucket in next(iter(arms.values()))[0]:
        table.add_column(bucket, justify="right")
    table.add_column("mean", justify="right")
    for arm, rows in arms.items():
        cells = []
        for bucket in rows[0]:
            values = [row[bucket][0] for row in rows]
            scores = [row[bucket][1] for row in rows if row[bucket][1] is not None]
            score = f" | {statistics.median(scores):.3f}" if scores else ""
            cells.append(f"{statistics.median(values):.1f} ({min(values):.1f}..{max(values):.1f}){score}")
        mark = " *" if arm == DEFAULT_METHOD else ""
        table.add_row(arm + mark, *cells, f"{means[arm]:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
