"""Quantization-aware training beside calibration: the same net, trained for INT8, or calibrated after training.

Lines of digits by other hands than those of training and calibration, the same number from each length bucket. Arms:
the FP32 reader; the one that was trained with fake quantization, as its file is; and what ``auto`` on ragged samples
makes of the FP32 reader in both dialects. All run in ONNX Runtime. An arm's digit error rate is against what is
written; differences are paired line by line, their intervals (95 %) by bootstrap over lines, pooled over digits.
"""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from evaluation import Bench
from rich.console import Console
from rich.table import Table

from fixtures import digit_reader, digits
from fixtures.scores import edits, read_digits
from harness.calibration.artefacts import int8
from harness.sessions import quiet_options
from harness.spec.calibration import Dialect, Policy
from harness.spec.matrix import DEFAULT_METHOD
from harness.spec.shapes import bucket_names, length_buckets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Lines = list[tuple[str, str, NDArray[np.float32]]]
    """(bucket, what is written, image)"""

_SEED = 1_000
_RESAMPLED = 2_000
_PAIRS = (("qat", "fp32"), ("ptq-s8s8", "fp32"), ("ptq-u8s8", "fp32"), ("qat", "ptq-s8s8"), ("qat", "ptq-u8s8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=150, help="of each length bucket")
    options = parser.parse_args()
    digit_reader.digits()
    bench = Bench("digits")
    arms: dict[str, Path] = {"fp32": bench.prepared, "qat": digit_reader.digits_qat()}
    for dialect in Dialect:
        found = bench.ours(0, DEFAULT_METHOD, Policy.RAGGED, dialect)
        arms[f"ptq-{dialect.value}"] = int8(bench.prepared, found.ranges[0], dialect)
    written = _lines(options.lines)
    read = {arm: _read(path, written) for arm, path in arms.items()}
    report: dict[str, Any] = {"benchmark": "qat", "lines": options.lines}
    names = bucket_names(bench.entry.model)
    table = Table(title=f"digit error rate against what is written, {options.lines} lines a bucket")
    for column in ("", *names, "all"):
        table.add_column(column, justify="right" if column else "left")
    for arm, errors in read.items():
        rates = [_rate(errors, written, name) for name in (*names, "")]
        report[arm] = dict(zip((*names, "all"), rates, strict=True))
        table.add_row(arm, *(f"{rate:.4f}" for rate in rates))
    for arm, other in _PAIRS:
        cells = [_difference(read[arm] - read[other], written, name) for name in (*names, "")]
        report[f"{arm} - {other}"] = dict(zip((*names, "all"), cells, strict=True))
        table.add_row(f"{arm} - {other}", *(f"{d:+.4f} ({low:+.4f}..{high:+.4f})" for d, low, high in cells))
    Console(width=140).print(table)
    print(json.dumps(report))


def _lines(count: int) -> Lines:
    """The same number from each bucket."""
    model = Bench("digits").entry.model
    names, buckets = bucket_names(model), length_buckets(model)
    found: dict[str, Lines] = {name: [] for name in names}
    for text, image in itertools.islice(digits.lines("test", _SEED), 100 * count):
        name = names[buckets.dispatch(image.shape[3])]
        if len(found[name]) < count:
            found[name].append((name, text, image))
        elif all(len(one) == count for one in found.values()):
            break
    return list(itertools.chain.from_iterable(found.values()))


def _read(path: Path, written: Lines) -> NDArray[np.float64]:
    """Edits between what is written and what is read, line by line."""
    session = onnxruntime.InferenceSession(str(path), quiet_options(), providers=["CPUExecutionProvider"])
    outputs = (session.run(["probs"], {"x": image})[0] for _, _, image in written)
    return np.array([edits(text, read_digits(out)) for (_, text, _), out in zip(written, outputs, strict=True)], float)


def _of(written: Lines, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    return np.array([not name or one[0] == name for one in written]), np.array([len(one[1]) for one in written], float)


def _rate(errors: NDArray[np.float64], written: Lines, name: str) -> float:
    chosen, weights = _of(written, name)
    return round(float(errors[chosen].sum() / weights[chosen].sum()), 5)


def _difference(errors: NDArray[np.float64], written: Lines, name: str) -> tuple[float, float, float]:
    chosen, weights = _of(written, name)
    errors, weights = errors[chosen], weights[chosen]
    draws = np.random.default_rng(_SEED).integers(len(errors), size=(_RESAMPLED, len(errors)))
    low, high = np.percentile(errors[draws].sum(axis=1) / weights[draws].sum(axis=1), [2.5, 97.5])
    return round(float(errors.sum() / weights.sum()), 5), round(float(low), 5), round(float(high), 5)


if __name__ == "__main__":
    main()
