from __future__ import annotations

import dataclasses
import math
import re

import pytest

from fixtures.catalogue import ENTRIES
from harness.accuracy import Aggregate
from harness.report.table import render
from harness.results.record import decode, encode, record
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.model import Axis, Model
from harness.spec.shapes import Layout, Profile

WIDTH = 100
NAN = math.nan
CALIBRATIONS = [
    Calibration(Method.parse("percentile99.999"), Policy.PER_PROFILE),
    Calibration(Method.parse("minmax"), Policy.RAGGED),
]


def case_of(key, calibration=CALIBRATIONS[1], precision=Precision.INT8, runtime="onnxruntime-1.32.0-cpu"):
    return Case(key, runtime, precision, calibration, "buckets3")


def accuracy(case, verdict="pass", **buckets):
    """A record as the suites write it, and as it comes back from the disk."""
    values = {
        bucket: {"sqnr_db": sqnr, "cosine": 0.99, "worst": 0.5, "score": score}
        for bucket, (score, sqnr) in buckets.items()
    }
    return decode(encode(record("accuracy", "r1", {"buckets": values}, case=case, seed=3, verdict=verdict)))


def scored(case, verdict="unjudged", **scores):
    values = {"buckets": {bucket: {"score": score} for bucket, score in scores.items()}}
    return decode(encode(record("accuracy", "r1", values, case=case, seed=3, verdict=verdict)))


def everything():
    for key in ENTRIES:
        for calibration in CALIBRATIONS:
            case = case_of(key, calibration)
            yield accuracy(case, short=(0.912, 17.3), middle=(0.92, 48.25), long=(0.9, -10.1))
        yield accuracy(case_of(key, None, Precision.FP16), short=(1.0, 70.2), middle=(1.0, 71.0), long=(1.0, 72.0))


def row(lines, *words):
    (found,) = (line for line in lines if all(word in line for word in words))
    return found


def test_the_six_fixtures_fit_the_width():
    lines = render(list(everything()), ENTRIES, width=WIDTH, seed=3)
    assert max(map(len, lines)) <= WIDTH
    for key, entry in ENTRIES.items():
        (title,) = (line for line in lines if line.startswith(f"{key}: "))
        assert "real data, seed 3" in title
        assert f"score {entry.model.score.partition(':')[2]}" in title
    text = "\n".join(lines)
    assert text.count("short") == text.count("middle") == text.count("long") == len(ENTRIES)
    assert lines[-2].startswith("a cell: ")


def test_what_was_measured_apart_meets_in_one_row():
    case = case_of("vad")
    lines = render(
        [accuracy(case, short=(0.987, 17.26)), accuracy(case, long=(0.5, 3.0))],
        ENTRIES,
    )
    assert "0.987 17.3dB" in row(lines, "minmax")
    assert "0.500 3.0dB" in row(lines, "minmax")


def test_every_number_stands_under_its_bucket():
    lines = render([scored(case_of("rec"), short=1.11, middle=2.22, long=3.33)], ENTRIES)
    heads = next(line for line in lines if "middle" in line)
    line = row(lines, "minmax")
    for name, cell in {"short": "1.110", "middle": "2.220", "long": "3.330"}.items():  # columns end with their heads
        assert line.index(cell) + len(cell) == heads.index(name) + len(name)
    assert line.endswith("unjudged")


def test_nan_is_shown_and_not_left_out():
    record_ = accuracy(case_of("vad"), "below bounds", short=(NAN, NAN))
    assert math.isnan(record_["values"]["buckets"]["short"]["score"])
    line = row(render([record_], ENTRIES), "minmax")
    assert "nan nandB" in line
    assert "below bounds" in line


def test_a_score_that_is_none_is_left_out_and_0_is_shown():
    case = case_of("vad")
    line = row(render([scored(case, long=0.0), accuracy(case, short=(None, 4.0))], ENTRIES), "minmax")
    assert " 4.0dB" in line
    assert "0.000" in line
    assert "None" not in line


def test_latency_has_a_table_of_its_own():
    timed = record("latency", "r1", {"buckets": {"short": {"ratio": 1.5}}}, case=case_of("vad"), verdict="slower")
    assert render([timed], ENTRIES) == []
    assert "slower" not in "\n".join(render([timed, scored(case_of("vad"), short=1.0)], ENTRIES))


def test_a_whole_number_is_a_score_as_well():
    """JSON has one kind of number: 0 errors may come back as an int."""
    assert "0.000" in row(render([accuracy(case_of("rec"), short=(0, 40))], ENTRIES), "minmax")


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (["pass", "below bounds", "pass"], "below bounds"),
        (["pass", "failed", "below bounds"], "failed"),
        (["pass", "unknown"], "unknown"),
        (["pass", "unbounded", "pass"], "unbounded"),
        (["unbounded", "unknown"], "unknown"),
        (["pass", "pass"], "pass"),
        (["something new"], "something new"),
        (["pass", "something new"], "something new"),
        (["something new", "pass"], "something new"),
    ],
)
def test_the_worst_verdict_of_a_row_stands(verdicts, worst):
    records = [accuracy(case_of("vad"), verdict, short=(0.9, 9.0)) for verdict in verdicts]
    assert row(render(records, ENTRIES), "minmax").rstrip("│| ").endswith(worst)


def quick():
    """Labels as the quick matrix makes them: the default in two layouts, what is compared in the first one."""
    words = ["minmax-ragged", "percentile-ragged", "mse-ragged", "mse-pad", "mse-window", "auto-ragged"]
    arms = [Calibration(Method.parse(m), Policy(p)) for m, _, p in (word.partition("-") for word in words)]
    for key in ENTRIES:
        for arm, layout in [*((arm, "single") for arm in arms), (arms[-1], "buckets3")]:
            case = dataclasses.replace(case_of(key, arm), layout=layout)
            yield accuracy(case, "below bounds", short=(0.912, 17.3), middle=(0.92, 48.25), long=(0.9, 10.1))


def test_a_row_of_the_quick_matrix_is_one_line():
    lines = render(list(quick()), ENTRIES, width=WIDTH)
    assert max(map(len, lines)) <= WIDTH
    rows = [line for line in lines if line.count("dB") == 3]
    assert len(rows) == 7 * len(ENTRIES)
    assert len([line for line in rows if re.match(r"auto-ragged (single|buckets3) ", line)]) == 2 * len(ENTRIES)
    wrapped = [line for line in lines if line.strip() in {"single", "buckets3", "ragged", "d", "ed"}]
    assert not wrapped


def test_a_layout_that_all_rows_have_is_in_no_label():
    both = [scored(case_of("vad"), short=1.0), scored(case_of("vad", CALIBRATIONS[0]), short=1.1)]
    assert "buckets3" not in "\n".join(render(both, ENTRIES))
    other = scored(dataclasses.replace(case_of("vad"), layout="single"), short=1.2)
    text = "\n".join(render([*both, other], ENTRIES))
    assert "minmax-ragged buckets3" in text
    assert "minmax-ragged single" in text


def test_why_something_is_unknown_or_left_out_stands_below():
    reasons = {"reasons": ["no test sample in long"]}
    unknown = record("accuracy", "r1", {**reasons, "buckets": {}}, case=case_of("vad"), verdict="unknown")
    arm = case_of("vad", CALIBRATIONS[0])
    left = record("calibration", "r1", {"reasons": ["no sample in 1-2-3"]}, case=arm, verdict="left out")
    lines = render([scored(case_of("vad"), short=1.0), unknown, unknown, left], ENTRIES)
    assert lines.count("vad: unknown: no test sample in long") == 1
    assert "vad: left out: no sample in 1-2-3" in lines
    assert not [line for line in lines if "per_profile" in line]


def test_synthetic_data_is_said_to_be_synthetic():
    drawn = {"vad": dataclasses.replace(ENTRIES["vad"], synthetic=True)}
    (title,) = (line for line in render([scored(case_of("vad"), short=1.0)], drawn) if line.startswith("vad"))
    assert "synthetic data" in title
    assert "real" not in title


def test_models_without_records_have_no_table_and_none_at_all_no_legend():
    lines = render([scored(case_of("rec"), short=1.0)], ENTRIES)
    assert not any(line.startswith("vad") for line in lines)
    assert render([], ENTRIES) == []


def test_a_model_with_other_buckets_shows_them_by_their_ranges():
    layout = Layout("two", (Profile(1, 5, 10), Profile(11, 15, 20)))
    model = Model("mine", (Axis("x", 1),), "frames", 1, 20, 5, buckets=layout)
    entries = {"mine": dataclasses.replace(ENTRIES["vad"], model=model)}
    (found,) = (line for line in render([scored(case_of("mine"), **{"11-15-20": 1.5})], entries) if "minmax" in line)
    assert "1.500" in found


def test_rows_tell_runtimes_precisions_and_calibrations_apart():
    records = [
        scored(case_of("vad"), short=1.01),
        scored(case_of("vad", CALIBRATIONS[0]), short=1.02),
        scored(case_of("vad", None, Precision.FP16), short=1.03),
        scored(case_of("vad", runtime="tensorrt-8.5.3.1"), short=1.04),
        scored(case_of("vad", runtime="onnxruntime-1.32.0-cuda"), short=1.05),
    ]
    text = "\n".join(render(records, ENTRIES))
    assert all(f"1.0{i}0" in text for i in range(1, 6))


def test_an_aggregate_of_the_accuracy_room_is_what_a_cell_reads():
    import numpy as np

    pooled = Aggregate("y")
    pooled.add({"y": np.array([1.0, 2.0], np.float32)}, {"y": np.array([1.0, 2.2], np.float32)})
    made = record(
        "accuracy",
        "r1",
        {"buckets": {"short": dataclasses.asdict(pooled.comparison)}},
        case=case_of("vad"),
        verdict="pass",
    )
    assert "21.0" in row(render([made], ENTRIES), "minmax")
