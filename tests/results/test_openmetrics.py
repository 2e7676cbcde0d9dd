from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.results.openmetrics import openmetrics
from harness.results.query import open_verdicts
from tests.run_records import latency, made, session, written

REFERENCE = Path(__file__).parents[2] / "results/reference/h200-2026-11-23"


def exported(folder):
    """Family -> samples, by the parser of Prometheus' makers."""
    with open_verdicts(folder) as found:
        text = openmetrics(found.newest_verdicts())
    assert text.endswith("# EOF\n")
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family.samples for family in families}


def test_every_family_is_read_by_the_parser(tmp_path):
    accuracy = {
        "buckets": {"short": {"sqnr_db": 20.5, "cosine": 0.99}, "long": {"sqnr_db": math.inf, "cosine": math.nan}}
    }
    written(
        tmp_path, "a", made("a", 1), latency(run="a", minute=2), session(run="a", minute=3),
        made("a", 4, kind="accuracy", values=accuracy, verdict="fail"), made("a", 0, verdict="old"),
    )  # fmt: skip
    found = exported(tmp_path)
    verdicts = {
        (one.labels["kind"], one.labels.get("bucket")): one.labels["verdict"] for one in found["harness_verdict"]
    }
    assert verdicts == {
        ("build", None): "pass",
        ("accuracy", None): "fail",
        ("latency", "short"): "faster",
        ("latency", "traffic"): "faster",
    }
    ratios = {one.labels["bucket"]: one.value for one in found["harness_latency_ratio"]}
    assert ratios == {"short": 2.0, "traffic": 1.9}
    medians = {one.labels["arm"]: one.value for one in found["harness_latency_median_seconds"]}
    assert medians == pytest.approx({"fp16": 4.1e-6, "int8": 2e-6})
    decibels = {one.labels["bucket"]: one.value for one in found["harness_accuracy_sqnr_decibels"]}
    assert decibels == {"short": 20.5, "long": math.inf}
    assert any(math.isnan(one.value) for one in found["harness_accuracy_cosine"])
    (size,) = found["harness_engine_size_bytes"]
    assert (size.value, size.labels["profile"], size.labels["host"]) == (920951, "0", "gpu1")
    assert float(size.timestamp) == datetime(2026, 11, 20, 0, 1, tzinfo=UTC).timestamp()


def test_drawn_examples_have_a_verdict_of_their_own_and_no_numbers(tmp_path):
    """They come after the corpus in every run, and used to take its place."""
    values = {"buckets": {"short": {"sqnr_db": 3.0, "cosine": 0.7}}}
    worst = {"length": 5, "sqnr_db": 9.0, "cosine": 0.9}
    written(
        tmp_path, "a", made("a", 1, kind="accuracy", verdict="below bounds", values=values),
        made("a", 2, kind="drawn", values={"examples": 20, "worst": worst}),
    )  # fmt: skip
    found = exported(tmp_path)
    verdicts = {one.labels["kind"]: one.labels["verdict"] for one in found["harness_verdict"]}
    assert verdicts == {"accuracy": "below bounds", "drawn": "pass"}
    assert [one.value for one in found["harness_accuracy_sqnr_decibels"]] == [3.0]


def test_labels_are_escaped_and_what_is_no_number_left_out(tmp_path):
    odd = 'a"b\\c\nd{}é,='
    values = {"int8": ["unknown"], "engine_bytes": None, "build_seconds": [True], "buckets": 5}
    written(
        tmp_path, "a", made("a", case=odd, values=values), latency(run="a", values={"buckets": {"x": {"ratio": "no"}}})
    )
    found = exported(tmp_path)
    assert odd in [one.labels["case"] for one in found["harness_verdict"]]
    assert list(found) == ["harness_verdict"]


def test_recorded_runs(tmp_path):
    found = exported(REFERENCE)
    assert len(found) == 8
    assert all(samples for samples in found.values())


def test_nothing(tmp_path):
    assert openmetrics([]) == "# EOF\n"
    assert exported(tmp_path) == {}
