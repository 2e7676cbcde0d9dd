from __future__ import annotations

import dataclasses
import math

import pytest

from fixtures.catalogue import ENTRIES
from harness.report.speed import render_speed
from harness.results.record import decode, encode, record
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.model import Axis, Model
from harness.spec.shapes import Layout, Profile

AUTO = Calibration(Method.parse("auto"), Policy.RAGGED)


def case_of(key, calibration=AUTO, runtime="onnxruntime-1.32.0-cpu", layout="single"):
    return Case(key, runtime, Precision.INT8, calibration, layout)


def ratio(value, half=0.02):
    return {"ratio": value, "ratio_low": value * (1 - half), "ratio_high": value * (1 + half)}


def bucket(case, name, value, median_ms=1.5, verdict="faster", **changes):
    cell = {**ratio(value), "int8": {"median_ms": median_ms}, **changes}
    values = {"buckets": {name: cell}, "baseline": "fp32"}
    return decode(encode(record("latency", "r1", values, case=case, seed=3, verdict=verdict)))


def session(case, value=1.5, word="faster", why="", advice="", p_slower=1.0, verdict=""):
    values = {"word": word, "ratio": ratio(value), "why": why, "advice": advice, "p_slower": p_slower}
    both = {"session": values, "baseline": "fp32"}
    return decode(encode(record("latency", "r1", both, case=case, seed=3, verdict=verdict or word)))


def row(lines, start):
    (found,) = (line for line in lines if line.startswith(start))
    return found


def test_a_row_has_a_cell_for_each_bucket_and_the_traffic():
    case = case_of("vad")
    lines = render_speed(
        [bucket(case, "short", 3.73, 0.1621), bucket(case, "middle", 4.9, 12.34), bucket(case, "long", 1.0, 1234.5),
         session(case, 4.7)], ENTRIES,
    )  # fmt: skip
    assert lines[1].startswith("speed: INT8 against FP32")
    line = row(lines, "vad ")
    cells = ["0.162ms 3.73x ±2%", "12.3ms 4.90x ±2%", "1234ms 1.00x ±2%", "4.70x ±2%", "faster"]
    assert [line.index(cell) for cell in cells] == sorted(line.index(cell) for cell in cells)


def test_the_six_fixtures_fit_the_width():
    names = ("short", "middle", "long")
    found = [bucket(case_of(key), name, 12.34, 123.4) for key in ENTRIES for name in names]
    lines = render_speed([*found, *(session(case_of(key), word="not slower") for key in ENTRIES)], ENTRIES, width=100)
    assert max(map(len, lines)) <= 100
    assert all(row(lines, f"{key} ").endswith("not slower") for key in ENTRIES)


def test_an_open_interval_is_shown_as_open():
    case = case_of("vad")
    assert "1.50x ±?" in row(render_speed([bucket(case, "short", 1.5, ratio_high=math.inf)], ENTRIES), "vad")
    assert "1.50x ±?" in row(render_speed([bucket(case, "short", 1.5, ratio_high=90.0)], ENTRIES), "vad")


@pytest.mark.parametrize("verdict", ["failed", "below bounds", "not proved"])
def test_what_failed_in_any_bucket_is_the_verdict(verdict):
    case = case_of("vad")
    assert row(render_speed([bucket(case, "short", 1.5, verdict=verdict), session(case)], ENTRIES), "vad").endswith(
        verdict
    )


@pytest.mark.parametrize("word", ["inconclusive", "invalid"])
def test_a_session_that_says_nothing_says_why(word):
    lines = render_speed([session(case_of("vad"), word=word, why="too wide", advice="run 3 more")], ENTRIES)
    assert f"vad: {word}: too wide; run 3 more" in lines


def test_what_was_asked_for_and_is_there_is_said():
    case = case_of("vad")
    held = session(case)
    assert any("no speed-up was asked for" in line for line in render_speed([held], ENTRIES))
    held["values"]["session"]["gains"] = {"short": {"verdict": "pass", "why": ""}}
    lines = render_speed([held], ENTRIES)
    assert row(lines, "vad").endswith("faster, as asked")
    assert not any("no speed-up was asked for" in line for line in lines)


def test_random_numbers_are_said_to_be_such():
    drawn = {**session(case_of("vad")), "synthetic": True}
    assert row(render_speed([drawn], ENTRIES), "vad (synthetic) ")


def test_rows_tell_apart_what_is_not_the_same_everywhere():
    cases = [
        case_of("vad"),
        case_of("vad", layout="buckets3"),
        case_of("vad", Calibration(Method.parse("mse"), Policy.PAD)),
        case_of("vad", runtime="tensorrt-8.5.3.1"),
    ]
    lines = render_speed([session(case) for case in cases], ENTRIES, width=200)
    assert row(lines, "vad onnxruntime-1.32.0-cpu auto-ragged buckets3")
    assert row(lines, "vad onnxruntime-1.32.0-cpu mse-pad single")
    assert row(lines, "vad tensorrt-8.5.3.1 auto-ragged single")


def test_slow_cases_are_named_at_a_family_wise_level():
    slow, fast = session(case_of("vad"), p_slower=0.01), session(case_of("rec"), p_slower=0.9)
    assert any("2 cases at a family-wise 5 % (Holm): vad-" in line for line in render_speed([slow, fast], ENTRIES))
    mild = session(case_of("vad"), p_slower=0.04)  # Holm asks for 0.025 of the smallest of two
    assert any(line.endswith("(Holm): none") for line in render_speed([mild, fast], ENTRIES))
    assert not any("Holm" in line for line in render_speed([slow], ENTRIES))


def test_buckets_of_other_names_stand_in_order():
    layout = Layout("two", (Profile(1, 5, 10), Profile(11, 15, 20)))
    model = Model("mine", (Axis("x", 1),), "frames", 1, 20, 5, buckets=layout)
    entries = {"mine": dataclasses.replace(ENTRIES["vad"], model=model)}
    lines = render_speed([bucket(case_of("mine"), "11-15-20", 1.5), bucket(case_of("mine"), "1-5-10", 2.5)], entries)
    line = row(lines, "mine")
    assert line.index("2.50x") < line.index("1.50x")


def test_a_failure_without_numbers_has_a_row_and_no_latency_no_table():
    failed = record("latency", "r1", {"error": "died"}, case=case_of("vad"), verdict="failed")
    assert row(render_speed([failed], ENTRIES), "vad").endswith("failed")
    assert render_speed([], ENTRIES) == []
    assert render_speed([{**failed, "kind": "accuracy"}], ENTRIES) == []
