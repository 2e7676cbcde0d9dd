"""What stands on pages: the first one, a run's, a gate's."""

from __future__ import annotations

import math

import pytest

from harness.results.query import Results
from harness.site.history import Runner, runners
from harness.site.nights import Night, Series, all_series
from harness.site.overview import rows_of
from harness.site.plots import forest
from harness.site.reading import EVERYTHING, newest_groups, read_gates
from harness.site.run import again, run_page
from harness.site.upgrade import gate_of, gate_page
from tests.run_records import made, session, written
from tests.site.records import accuracy, case_of, gate, printed, traffic


def rows(folder):
    with Results(folder) as found:
        return rows_of(newest_groups(found), all_series(found, EVERYTHING))


def test_what_is_wrong_comes_first_and_says_where(tmp_path):
    written(
        tmp_path, "r",
        traffic("r", 5, case_of("good"), 2.0), accuracy("r", 0, case_of("good")),
        traffic("r", 5, case_of("open"), 1.0, "inconclusive"),
        accuracy("r", 0, case_of("bad"), 9.0, "below bounds"),
    )  # fmt: skip
    found = rows(tmp_path)
    assert [(row.model, row.word) for row in found] == [
        ("bad", "below bounds"), ("open", "inconclusive"), ("good", "pass"),
    ]  # fmt: skip
    assert found[0].why == "auto-ragged accuracy"


def test_ways_that_stand_beside_the_default_do_not_make_a_row_red(tmp_path):
    timed, beside = case_of("wave"), case_of("wave", method="minmax")
    written(tmp_path, "a", accuracy("a", 0, timed), accuracy("a", 0, beside, 9.0, "below bounds"))
    (row,) = rows(tmp_path)
    assert row.word == "below bounds", "nothing was timed: any may be the default"
    written(tmp_path, "b", traffic("b", 5, timed, 2.0))
    (row,) = rows(tmp_path)
    assert (row.word, row.worst_db, row.gain, row.label) == ("pass", 20.0, (1.96, 2.0, 2.04), "auto-ragged")


def test_what_changed_is_a_word_or_a_gain_whose_intervals_have_nothing_in_common(tmp_path):
    case = case_of("wave")
    written(tmp_path, "a", traffic("a", 0, case, 2.0), accuracy("a", 0, case))
    written(tmp_path, "b", traffic("b", 5, case, 2.03), accuracy("b", 5, case))
    assert rows(tmp_path)[0].changes == ()
    written(tmp_path, "c", traffic("c", 9, case, 1.5), accuracy("c", 9, case, 9.0, "below bounds"))
    assert rows(tmp_path)[0].changes == (
        "auto-ragged accuracy: pass → below bounds", "auto-ragged: INT8 2.03x → 1.50x faster",
    )  # fmt: skip


def test_trend_has_the_newest_runs_in_order(tmp_path):
    for number in range(30):
        written(tmp_path, f"r{number:02}", traffic(f"r{number:02}", number, case_of("wave"), 1 + number / 100))
    (row,) = rows(tmp_path)
    assert row.trend == tuple(pytest.approx(1 + number / 100) for number in range(6, 30))
    assert len(row.polyline.split()) == 24
    first, last = (float(point.split(",")[1]) for point in (row.polyline.split()[0], row.polyline.split()[-1]))
    assert first > last, "up is faster"


def night(null, word="faster"):
    return Night("r", None, word, (1.0, 1.1, 1.2), null, 0.9, {})


def test_how_often_a_runner_sees_what_is_not_there():
    nights = (night((-0.1, 0.0, 0.1)), night((0.01, 0.02, 0.03)), night((0.0, 0.0, 0.0), "invalid"), night(None))
    (one,) = runners([Series("c", "gpu1", "m", "t", "l", nights)])
    assert (one.host, one.sessions, one.apart, one.invalid) == ("gpu1", 3, 1, 1)
    assert one.expected == pytest.approx(0.3)
    assert one.word == "as expected", "one of three may be chance"


@pytest.mark.parametrize(("apart", "expected", "word"), [
    (0, 0.0, "as expected"), (1, 0.0, "more than chance"), (3, 1.0, "as expected"), (6, 1.0, "more than chance"),
    (60, 50.0, "as expected"), (900, 500.0, "more than chance"),
])  # fmt: skip
def test_a_runner_cries_wolf_where_chance_would_hardly_ever_have_so_many(apart, expected, word):
    assert Runner("gpu1", 1000, apart, expected, 0).word == word


def test_marks_are_where_something_is_another_one(tmp_path):
    about = made()["environment"]
    for number, driver in enumerate(("1", "1", "2")):
        environment = {**about, "gpus": [{"name": "g", "driver": driver}]}
        written(tmp_path, f"r{number}", traffic(f"r{number}", number, case_of("wave"), 2.0, environment=environment))
    with Results(tmp_path) as found:
        (series,) = all_series(found, EVERYTHING).values()
    assert [(str(time), what) for time, what in series.marks] == [("2026-11-20 00:02:00", "driver 2")]


def test_sessions_without_an_estimate_are_no_nights(tmp_path):
    empty = session(values={"baseline": "fp16", "session": {"word": "invalid", "ratio": {}}})
    written(tmp_path, "r", empty)
    with Results(tmp_path) as found:
        assert all_series(found, EVERYTHING) == {}


def test_a_gates_page(tmp_path):
    written(tmp_path, "g", *gate("g", 0))
    with Results(tmp_path) as found:
        ((run, records),) = read_gates(found, EVERYTHING, 5).items()
        one = gate_of(run, records)
    assert (one.baseline, one.candidate, one.word) == ("tensorrt-8.5.3.1", "tensorrt-8.6.0", "regression")
    page = gate_page(one, frozenset())
    assert [row["why"] for row in page.context["builds"]] == ["no longer builds: <b>Conv</b> refused"]
    assert [row["why"] for row in page.context["coverage"]] == ["operators in INT8: 4 before, 6 now"]
    assert page.context["findings"][0]["word"] == "regression"
    (told,) = page.context["sessions"]
    assert told["medians"][("short", "null control")] == [0.041]
    points = page.figures["forest"].spec["data"]["values"]
    assert points[0]["ratio"] == pytest.approx(1.09)
    assert points[0]["low"] == pytest.approx(math.exp(math.log(1.09) - 0.01))


@pytest.mark.parametrize(("word", "level", "shape"), [
    ("pass", "as it should be", "circle"), ("regression", "needs a look", "square"),
    ("inconclusive", "nothing proved", "diamond"),
])  # fmt: skip
def test_what_proves_nothing_looks_neither_good_nor_bad(word, level, shape):
    spec = forest([{"row": "r", "ratio": 1.0, "low": 0.9, "high": 1.1, "word": word}], "ratio", {"same": 1.0})
    assert [one["level"] for one in spec["data"]["values"]] == [level]
    points = spec["layer"][-1]["encoding"]
    assert points["shape"]["scale"] == {"domain": [level], "range": [shape]}
    assert ("legend" in points["shape"]) == (word == "pass"), "a mark that is not the usual one is explained"


def test_a_ratio_that_no_clock_gives_is_not_drawn(tmp_path):
    records = list(gate("g", 0))
    records[0]["values"]["findings"][0]["values"] = {"log_ratio": 1e5, "interval": {"low": 0, "high": 1e6}}
    records[0]["values"]["findings"][1]["values"] = {"log_ratio": "0.1", "interval": [0, 1]}
    written(tmp_path, "g", *records)
    with Results(tmp_path) as found:
        ((run, lines),) = read_gates(found, EVERYTHING, 5).items()
        assert gate_page(gate_of(run, lines), frozenset()).figures == {}


def test_the_gates_own_margins_are_drawn(tmp_path):
    records = list(gate("g", 0))
    records[0]["values"]["margins"] = {"tolerated": 0.03, "caught": 0.1}
    written(tmp_path, "g", *records)
    with Results(tmp_path) as found:
        ((run, lines),) = read_gates(found, EVERYTHING, 5).items()
        page = gate_page(gate_of(run, lines), frozenset())
    assert "(1.03)" in page.figures["forest"].note
    assert "(1.1)" in page.figures["forest"].note


def test_a_runs_page(tmp_path):
    error = "\n".join(f"line {number}" for number in range(100))
    bad = made("r", 2, verdict="failed", values={"error": error})
    written(tmp_path, "r", made("r", 0), made("r", 1, runtime="onnxruntime-1.32.0-cpu", model_name="vad"), bad)
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        page = run_page(summary, list(found.of_run("r")), gate=False)
    about = page.context
    assert (
        about["again"] == "pytest suites/ --models vad,wave --runtime onnxruntime-1.32.0-cpu,tensorrt-8.5.3.1 --seed 0"
    )
    assert about["counts"] == [("failed", 1), ("pass", 2)]
    ((_, word, tail),) = about["logs"]
    assert word == "failed"
    assert tail.splitlines()[0] == "line 60", "the end of it"
    assert ("gpus[0].driver", "580.1") in about["machine"]
    assert about["data"][0]["corpora"] == {"test": {"digest": "bb", "taken": "12 of 24"}}
    assert [name for name, _ in about["workers"]] == ["onnxruntime-1.32.0-cpu", "tensorrt-8.5.3.1"]


def test_what_workers_printed_is_on_the_runs_page_to_its_end_and_is_no_verdict(tmp_path):
    lines = "\n".join(f"line {number}" for number in range(300))
    logs = {"tensorrt-8.5.3.1": lines, "odd": 3, "empty": " ", "long": "x" * 100_000}
    written(tmp_path, "r", made("r", 0), printed("r", 1, logs))
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        about = run_page(summary, list(found.of_run("r")), gate=False).context
    assert [name for name, _ in about["printed"]] == ["tensorrt-8.5.3.1", "long"]
    assert about["printed"][0][1].splitlines()[0] == "line 200"
    assert len(about["printed"][1][1]) == 20_000
    assert about["counts"] == [("pass", 1)]
    assert [one.kind for one in about["records"]] == ["build"]


def test_the_command_that_a_record_says_is_the_one_to_run_again(tmp_path):
    said = "pytest suites/ --models wave --matrix full; <b>"
    about = made()["environment"]
    written(tmp_path, "r", made("r", 0, environment={**about, "command": 3}),
            made("r", 1, environment={**about, "command": said}, runtime="x"))  # fmt: skip
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        context = run_page(summary, list(found.of_run("r")), gate=False).context
    assert context["again"] == said
    assert "command" not in dict(context["machine"])


def test_a_gate_is_asked_again_by_its_two_sides(tmp_path):
    written(tmp_path, "g", *gate("g", 0))
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        page = run_page(summary, list(found.of_run("g")), gate=True)
    assert page.context["again"] == "harness gate tensorrt-8.5.3.1 tensorrt-8.6.0 --models wave --seed 0"


def test_a_command_of_odd_names_is_quoted():
    fields = {"model": "a; rm -rf ~", "runtime": "$(x)"}
    assert again([{"fields": fields, "seed": 3}]) == "pytest suites/ --models 'a; rm -rf ~' --runtime '$(x)' --seed 3"
    assert again([{"kind": "selftest"}]) == ""
