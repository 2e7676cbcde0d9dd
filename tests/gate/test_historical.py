"""A gate against a record: the suites record one stand-in of TensorRT, another version is compared with that."""

from __future__ import annotations

import json

import pytest

from harness.cli import main
from harness.errors import HostLost
from harness.results.record import encode
from harness.results.store import read_run
from harness.workbench import Workbench
from tests.gate.yard import FP32, INT8, OLD, SIDES, Yard, checked

RUN = "20261101T000000Z-000000"
"""The record's id, so that no later run is newer or older by chance."""

TESTED = ("short", "middle")
"""Length buckets that the test samples fall into."""


@pytest.fixture(scope="module")
def recorded(suites):
    """A folder with a run of the suites over the baseline; its records."""
    yard = Yard(suites.folder)
    options = ["--runtime", OLD, "--python", yard.old / "bin" / "python", "--results", yard.folder / "results"]
    done = suites.quickly(*options, "-k", "test_build or test_corpus or test_latency")
    assert "passed" in done.out, done.text
    run = yard.run_file()
    records = [one for one in read_run(run) if one["kind"] in {"build", "accuracy", "latency"}]
    assert {one["fields"]["runtime"] for one in records} == {OLD}
    run.unlink()
    yard.cache = suites.environ["TRT_INT8_HARNESS_CACHE"]
    return yard, records


@pytest.fixture
def gate(recorded, monkeypatch, tmp_path, capsys):
    """Gate the new version against the record, each record of it changed first; what came out."""
    yard, records = recorded
    monkeypatch.chdir(yard.folder)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", yard.cache)
    results = tmp_path / "results"
    results.mkdir()

    def gate(change=lambda one: one, words=("record:newest", SIDES[1]), kinds=("build", "accuracy"), **planted):
        yard.plant(**planted)
        if planted:  # an engine that was built is not built again
            monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
        changed = [change(json.loads(encode(one))) for one in records if one["kind"] in kinds]
        (results / f"{RUN}.jsonl").write_bytes(b"".join(encode(one) for one in changed if one))
        file = tmp_path / "report.json"
        code = main(["gate", *words, "--results", str(results), "--report", str(file)])
        said = capsys.readouterr()
        if not file.exists():
            return code, None, said.out + said.err
        report = checked(json.loads(file.read_text()))
        assert code in {report["exit_code"], 5}
        return code, report, said.out + said.err

    return gate


def words(report, *aspects):
    return {
        (one["case"], one["aspect"], one["where"]): one["word"]
        for one in report["findings"]
        if one["aspect"] in aspects
    }


def left_out(report):
    return {(one["case"], one["aspect"]): one["why"] for one in report["not_compared"]}


@pytest.mark.parametrize("name", ["newest", f"{RUN}:tensorrt-8.5"])
def test_another_version_against_what_was_recorded(gate, name):
    code, report, said = gate(words=(f"record:{name}", SIDES[1]))
    assert (code, report["verdict"], report["historical"]) == (0, "pass", True)
    assert report["cases"] == [FP32, INT8]
    assert (report["baseline"]["name"], report["baseline"]["version"]) == (OLD, "8.5.3.1")
    assert (report["baseline"]["record"], report["candidate"]["record"]) == (RUN, None)
    assert set(words(report, "builds", "coverage").values()) == {"pass"}
    assert words(report, "accuracy") == {(INT8, "accuracy", bucket): "pass" for bucket in TESTED}
    assert {(FP32, "accuracy"), (FP32, "latency"), (INT8, "latency")} <= set(left_out(report))
    assert "historical: nothing that blocks was found, as far as a record tells" in said
    assert f"not compared latency ({FP32}, {INT8}): the record has none" in said


def int8_of(kind, **values):
    def change(one):
        if one["kind"] == kind and one["fields"]["precision"] == "int8":
            one["values"] |= values
        return one

    return change


def test_coverage_that_was_better_blocks_and_is_confirmed_by_other_builds(gate):
    code, report, _ = gate(int8_of("build", int8=[9], float=["unknown"]))
    assert code == 1
    (blocked,) = [one for one in report["findings"] if one["word"] == "regression"]
    assert (blocked["case"], blocked["aspect"], blocked["stage"]) == (INT8, "coverage", 2)
    assert "9 before" in blocked["why"]


def test_accuracy_that_was_better_blocks_and_one_that_was_worse_is_an_improvement(gate):
    for decibels, word, code in ((90.0, "regression", 1), (-20.0, "improved", 0)):

        def change(one, decibels=decibels):
            if one["kind"] == "accuracy" and "buckets" in one["values"]:
                for cell in one["values"]["buckets"].values():
                    cell["sqnr_db"] = decibels
            return one

        found, report, _ = gate(change)
        assert found == code
        assert set(words(report, "accuracy").values()) == {word}


def test_nan_where_the_record_has_none_blocks(gate, monkeypatch):
    from harness.accuracy import Aggregate

    whole = Aggregate.comparison.fget
    spoiled = property(lambda self: type(whole(self))(**{**vars(whole(self)), "spoiled": ("y",)}))
    monkeypatch.setattr(Aggregate, "comparison", spoiled)
    code, report, _ = gate()
    assert code == 1
    assert {one["why"].partition("NaN")[1] for one in report["findings"] if one["aspect"] == "accuracy"} == {"NaN"}


@pytest.mark.parametrize("step", ["accuracy", "side"])
def test_a_host_that_is_lost_is_no_regression(gate, monkeypatch, step):
    def lost(*_):
        raise HostLost("the connection to gpu1 was lost")

    monkeypatch.setattr(Workbench, step, lost)
    code, report, said = gate(kinds=("build", "accuracy", "latency"))
    assert (code, report["verdict"]) == (5, "invalid"), "what is in the report was cut short, and 5 is no answer"
    assert "the connection to gpu1 was lost" in said


def test_what_was_built_and_no_longer_builds_blocks(gate):
    code, report, _ = gate(crash="build", victim="conv")
    assert code == 1
    assert words(report, "builds", "accuracy") == {(name, "builds", ""): "regression" for name in (FP32, INT8)}


@pytest.mark.parametrize(("factor", "word", "code"), [(1e-3, "inconclusive", 3), (1e3, "minor", 0)])
def test_latency_is_historical_and_proves_nothing_either_way(gate, factor, word, code):
    """Whether it looks a thousand times slower or faster."""

    def timed(one):
        for cell in (one["values"].get("buckets") or {}).values():
            if one["kind"] == "latency":
                cell["int8"]["median_ms"] *= factor
        return one

    found, report, _ = gate(timed, kinds=("build", "accuracy", "latency"))
    assert found == code
    assert words(report, "latency") == {(INT8, "latency", bucket): word for bucket in ("short", "middle", "long")}
    assert all(one["why"].startswith("historical: ") for one in report["findings"] if one["aspect"] == "latency")
    assert (FP32, "latency") in left_out(report)


def test_latency_of_another_host_is_not_compared(gate):
    def elsewhere(one):
        one["environment"]["cpu"] = "another"
        return one

    code, report, _ = gate(elsewhere, kinds=("build", "accuracy", "latency"))
    assert code == 0
    assert not words(report, "latency")
    assert "cpu: another against" in left_out(report)[INT8, "latency"]


def test_sizes_are_compared_and_times_of_another_host_are_not(gate):
    def elsewhere(one):
        one["environment"]["host"] = "another"
        if one["kind"] == "build":
            one["values"]["engine_bytes"] = [10 * size for size in one["values"]["engine_bytes"]]
            one["values"]["rebuilt"] = []
        return one

    code, report, _ = gate(elsewhere)
    assert code == 0
    assert set(words(report, "size").values()) == {"improved"}
    assert not words(report, "build time")
    assert "measured elsewhere: host: another against" in left_out(report)[INT8, "build time"]


def test_other_samples_are_not_compared_and_leave_it_open(gate):
    def drawn_otherwise(one):
        one["corpus"]["test"], one["seed"] = "00", 3
        return one

    code, report, _ = gate(drawn_otherwise)
    assert (code, report["verdict"]) == (3, "inconclusive")
    (finding,) = [one for one in report["findings"] if one["aspect"] == "accuracy"]
    assert "other test samples" in finding["why"]
    assert "of seed 3, here" in finding["why"]


def test_other_buckets_leave_it_open(gate):
    def fewer(one):
        if one["kind"] == "accuracy":
            one["values"].get("buckets", {}).pop("short", None)
        return one

    code, report, _ = gate(fewer)
    assert code == 3
    assert words(report, "accuracy") == {(INT8, "accuracy", ""): "inconclusive"}


def test_another_model_leaves_it_open(gate):
    def another(one):
        one["model"]["fp32"] = "00"
        return one

    code, report, _ = gate(another)
    assert code == 3
    assert set(words(report, "builds").values()) == {"inconclusive"}


def test_a_gate_that_compared_nothing_has_not_passed(gate):
    def silent(one):
        if one["kind"] == "build":
            one["values"] = {"test": "test_build", "error": "HostLost: gone"}
            return one
        return None

    code, report, _ = gate(silent)
    assert code == 3
    assert all("nothing could be compared" in one["why"] for one in report["findings"])


def test_what_did_not_build_then_is_an_improvement_now(gate):
    def refused(one):
        if one["kind"] == "build":
            one["values"] = {"test": "test_build", "error": "BuildFailed: the builder refuses this model"}
        return one

    code, report, _ = gate(refused)
    assert code == 0
    assert set(words(report, "builds").values()) == {"improved"}
