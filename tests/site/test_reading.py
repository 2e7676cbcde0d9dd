from __future__ import annotations

import math
from datetime import datetime

import pytest

from harness.results.query import Results, Where
from harness.site.reading import as_number, as_triple, interval_of, labelled, newest_groups, read_gates, read_traffic
from tests.run_records import latency, made, session, written
from tests.site.records import gate


def opened(folder, *runs):
    for run, *lines in runs:
        written(folder, run, *lines)
    return Results(folder)


def test_newest_run_of_each_case_with_all_its_records_and_the_word_before(tmp_path):
    accuracy = {"kind": "accuracy"}
    with opened(
        tmp_path,
        ("a", made("a", 0, verdict="pass", **accuracy)),
        ("b", made("b", 5, verdict="below bounds", **accuracy), made("b", 6, verdict="pass", **accuracy)),
        ("c", made("c", 9, kind="build", verdict="built")),
    ) as found:
        build, both = sorted(newest_groups(found), key=lambda one: one.kind, reverse=True)
    assert (both.word, both.previous, [one.line for one in both.records]) == ("below bounds", "pass", [1, 2])
    assert both.time == datetime(2026, 11, 20, 0, 6)  # noqa: DTZ001 - UTC without a zone
    assert (build.word, build.previous, build.values[0]["engine_bytes"]) == ("built", None, [920951])


def test_hosts_and_buckets_are_told_apart_and_since_counts(tmp_path):
    lines = [latency("short"), latency("long"), latency("short", host="gpu2", minute=90), session()]
    with opened(tmp_path, ("a", *lines)) as found:
        assert len(newest_groups(found)) == 4
        (late,) = newest_groups(found, Where(since=datetime(2026, 11, 20, 1)))  # noqa: DTZ001
    assert (late.host, late.bucket) == ("gpu2", "short")


def test_traffic_is_the_newest_so_many_of_each_case_and_host(tmp_path):
    runs = [(f"r{number}", session(run=f"r{number}", minute=number)) for number in range(5)]
    with opened(tmp_path, *runs, ("x", session(run="x", minute=1, host="gpu2"), latency())) as found:
        series = read_traffic(found, Where(), 3)
    assert [one.run for one, _ in series] == ["x", "r2", "r3", "r4"]
    assert series[0][1]["driver"] == "580.1"


def test_gates_are_newest_first_and_no_cases(tmp_path):
    with opened(tmp_path, ("a", *gate("a", 1)), ("b", *gate("b", 5)), ("c", *gate("c", 3))) as found:
        gates = read_gates(found, Where(), 2)
        assert newest_groups(found) == []
    assert list(gates) == ["b", "c"]
    assert [one.case is None for one in gates["b"]] == [False, False, True]


def test_labels():
    fields = {"precision": "int8", "method": "minmax", "policy": "pad", "route": "calibrator", "layout": "buckets3"}
    assert labelled(fields) == "minmax-pad-calibrator buckets3"
    assert labelled({**fields, "route": "qdq", "layout": "single"}) == "minmax-pad"
    assert labelled({"precision": "fp16", "layout": "single"}) == "fp16"


@pytest.mark.parametrize("odd", [None, "1", True, math.nan, math.inf, 1e300, 10**400, [1], {}])
def test_what_is_no_number(odd):
    assert as_number(odd) is None
    assert as_triple([odd, 1.0, 2.0]) is None


def test_intervals():
    assert as_triple([1, 2, 3]) == (1.0, 2.0, 3.0)
    assert as_triple([1, 2]) is None
    assert as_triple([3, 2, 1]) is None
    assert interval_of({"ratio_low": 0.9, "ratio": 1.0, "ratio_high": 1.1}) == (0.9, 1.0, 1.1)
    assert interval_of({"ratio_low": -1, "ratio": 1.0, "ratio_high": 1.1}) is None
