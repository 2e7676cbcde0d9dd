"""What stands on pages: the first one, a run's, a gate's."""

from __future__ import annotations

import html
import math
import re

import pytest

from harness.results.query import Results
from harness.results.record import now
from harness.site.build import build_site
from harness.site.history import Runner, history_page, runners
from harness.site.markdown import markdown
from harness.site.nights import Control, Series, all_series
from harness.site.overview import gains_figure, overview, rows_of
from harness.site.pages import file_name, render
from harness.site.plots import forest
from harness.site.reading import EVERYTHING, newest_groups, read_gates
from harness.site.run import again, run_page
from harness.site.upgrade import gate_of, gate_page
from harness.site.vanished import comings_and_goings
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


@pytest.mark.parametrize(("word", "counts"), [("unjudged", False), ("below bounds", True), ("failed", True)])
def test_drawn_examples_count_where_they_were_judged(tmp_path, word, counts):
    wave = case_of("wave")
    written(tmp_path, "a", accuracy("a", 0, wave), made("a", 1, kind="drawn", verdict=word, **wave))
    (row,) = rows(tmp_path)
    assert row.word == (word if counts else "pass")


@pytest.mark.parametrize(("beside", "word", "kind", "counts"), [
    ({"method": "minmax"}, "failed", "build", True),
    ({"method": "minmax"}, "failed", "calibration", True),
    ({"policy": "pad"}, "below bounds", "accuracy", False),
    ({"policy": "pad"}, "compared", "accuracy", False),
    ({"policy": "pad"}, "left out", "calibration", False),
    ({"layout": "buckets3"}, "below bounds", "accuracy", True),
    ({"layout": "buckets3"}, "failed", "build", True),
    ({"precision": "fp16"}, "below bounds", "accuracy", True),
])  # fmt: skip
def test_what_counts_beside_the_case_that_was_timed(tmp_path, beside, word, kind, counts):
    timed = case_of("wave")
    other = made("r", 1, kind=kind, verdict=word, values={}, **case_of("wave", **beside))
    written(tmp_path, "r", traffic("r", 0, timed, 2.0, "pass"), accuracy("r", 0, timed), other)
    (row,) = rows(tmp_path)
    assert row.word == (word if counts else "pass")


@pytest.mark.parametrize(("odd", "said"), [(math.nan, "NaN dB"), (-math.inf, "-inf dB")])
def test_a_ratio_that_is_no_number_is_the_worst_and_is_said(tmp_path, odd, said):
    case = case_of("wave")
    one = accuracy("r", 0, case)
    one["values"]["buckets"]["middle"]["sqnr_db"] = odd
    written(tmp_path, "r", one)
    (row,) = rows(tmp_path)
    assert row.bucket == "middle"
    assert str(row.worst_db) == str(odd)
    page = render(overview([row], [], [], frozenset()), {}, {"menu": [], "made": now()})
    assert f"{said} <small>middle</small>" in page
    assert f"{said} middle" in markdown([row], [], [], "")


def sessions(folder, *words, **changes):
    for number, word in enumerate(words):
        one = traffic(f"r{number}", number, case_of("wave"), 2.0 + number, word)
        one["values"]["session"] |= changes
        written(folder, f"r{number}", one)
    with Results(folder) as found:
        return all_series(found, EVERYTHING)


def test_an_invalid_session_counts_for_its_control_alone(tmp_path):
    found = sessions(tmp_path, "faster", "faster", "invalid")
    (series,) = found.values()
    assert [night.ratio[1] for night in series.nights] == [2.0, 3.0]
    (runner,) = runners(found.values())
    assert (runner.sessions, runner.invalid) == (3, 1)
    (row,) = rows(tmp_path)
    assert (row.word, row.gain, row.invalid, row.trend) == ("invalid", None, True, (2.0, 3.0))
    assert row.changes == ("auto-ragged latency traffic: faster → invalid",), "and no gain that fell or rose"
    assert gains_figure([row]) is None
    assert "| invalid |" in markdown([row], [], [], "")
    page = history_page(list(found.values()), [], frozenset())
    (figure,) = page.figures.values()
    assert len(figure.spec["data"]["values"]) == 2
    assert "Without 1 that was invalid" in figure.note


def test_a_session_may_be_invalid_and_its_record_another_word(tmp_path):
    """A speed-up that was asked for is not proved, then."""
    (series,) = sessions(tmp_path, "not proved", verdict="invalid", word="invalid").values()
    assert (series.nights, series.ends_invalid) == ((), True)
    (row,) = rows(tmp_path)
    assert (row.gain, row.trend) == (None, ())


def test_a_gain_that_is_older_than_its_row_says_of_when_it_is(tmp_path):
    case = case_of("wave")
    written(tmp_path, "a", traffic("a", 0, case, 2.0), accuracy("a", 0, case))
    (row,) = rows(tmp_path)
    assert row.gain_of is None
    written(tmp_path, "b", accuracy("b", 5, case, 9.0, "below bounds"))
    (row,) = rows(tmp_path)
    assert f"{row.gain_of:%H:%M}" == "00:00"
    assert "] of 2026-11-20 00:00 |" in markdown([row], [], [], "").replace("&#93;", "]")
    assert "of 2026-11-20 00:00" in render(
        overview([row], [], [], frozenset()), {"gains": ""}, {"menu": [], "made": now()}
    )


def changes(folder):
    return {row.model: row.changes for row in rows(folder)}


def test_cases_and_rows_that_are_new_or_gone_are_changes(tmp_path):
    cases = {name: case_of("wave", layout=name) for name in ("single", "buckets3", "buckets5")}
    written(tmp_path, "a", accuracy("a", 0, cases["single"]), accuracy("a", 0, cases["buckets3"]),
            accuracy("a", 0, case_of("plc")))  # fmt: skip
    assert changes(tmp_path) == {"wave": (), "plc": ()}, "of a first run everything would be new"
    written(tmp_path, "b", accuracy("b", 5, cases["single"]), accuracy("b", 5, cases["buckets5"]),
            accuracy("b", 5, case_of("rec")))  # fmt: skip
    assert changes(tmp_path) == {
        "wave": ("auto-ragged buckets3: not in the newest run", "auto-ragged buckets5: new"),
        "plc": ("not in the newest run",), "rec": ("new",),
    }  # fmt: skip
    written(tmp_path, "c", accuracy("c", 9, cases["single"]), accuracy("c", 9, cases["buckets5"]),
            accuracy("c", 9, case_of("rec")))  # fmt: skip
    assert set(changes(tmp_path).values()) == {()}, "it is news once"


def test_a_run_of_another_kind_runtime_or_host_makes_nothing_new_or_gone(tmp_path):
    case = case_of("wave")
    written(tmp_path, "a", accuracy("a", 0, case))
    written(tmp_path, "b", traffic("b", 1, case, 2.0))
    written(tmp_path, "c", accuracy("c", 2, case_of("wave", "tensorrt-8.6.0")), accuracy("c", 2, case, host="gpu2"))
    with Results(tmp_path) as found:
        assert comings_and_goings(newest_groups(found)) == {}


def test_markdown_tells_hosts_apart_where_there_are_several(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, case_of("wave")))
    assert "host" not in markdown(rows(tmp_path), [], [], "")
    written(tmp_path, "s", accuracy("s", 0, case_of("wave"), host="gpu2"))
    text = markdown(rows(tmp_path), [], [], "")
    assert "| | model | runtime | host |" in text.replace("|  |", "| |")
    assert "| wave | tensorrt-8.5.3.1 | gpu2 |" in text


def test_markdown_of_names_has_nothing_that_a_forge_makes_a_link_of(tmp_path):
    name = "http://a.b www.c.d #12 @name !3 ~~old~~ $x$ %4 e@f.g"
    written(tmp_path, "r", accuracy("r", 0, case_of(name)))
    text = markdown(rows(tmp_path), [], [], "")
    (cell,) = re.findall(r"bounds \| (.*?) \||✓ pass \| (.*?) \|", text)[0][1:]
    parts = re.split(r"<span>.*?</span>", cell)
    assert parts == ["http", "//a.b www", "c.d ", "12 ", "name ", "3 ", "", "old", "", " ", "x", " ", "4 e", "f.g"]
    assert html.unescape(re.sub(r"</?span>", "", cell)) == name


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


def control(null, *, invalid=False):
    return Control(None, invalid, null, 0.9)


def test_how_often_a_runner_sees_what_is_not_there():
    controls = (
        control((-0.1, 0.0, 0.1)), control((0.01, 0.02, 0.03)), control((0.0, 0.0, 0.0), invalid=True), control(None),
    )  # fmt: skip
    (one,) = runners([Series("c", "gpu1", "m", "t", "l", (), controls)])
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
    empty = session(values={"baseline": "fp16", "session": {"word": "inconclusive", "ratio": {}}})
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


def test_what_would_settle_a_gate_stands_on_its_page(tmp_path):
    records = list(gate("g", 0))
    written(tmp_path / "open", "g", *records)
    del records[-1]["values"]["advice"]  # of a gate of an older harness
    written(tmp_path / "old", "g", *records)
    texts = [
        (build_site(tmp_path / name, tmp_path / f"out-{name}").first.parent / file_name("gate", "g")).read_text("utf-8")
        for name in ("open", "old")
    ]
    assert "<h2>What is open</h2><ul><li>--budget 6m &lt;b&gt;would&lt;/b&gt; settle 1 of 1</li></ul>" in texts[0]
    assert "What is open" not in texts[1]


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
        page = run_page(summary, list(found.of_run("r")), frozenset(), gate=False)
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
        about = run_page(summary, list(found.of_run("r")), frozenset(), gate=False).context
    assert [name for name, _ in about["printed"]] == ["tensorrt-8.5.3.1", "long"]
    assert about["printed"][0][1].splitlines()[0] == "line 200"
    assert len(about["printed"][1][1]) == 20_000
    assert about["counts"] == [("pass", 1)]
    assert [one.kind for one in about["records"]] == ["build"]


def test_workers_of_two_hosts_are_told_apart(tmp_path):
    def of(host, version):
        about = made(host=host)["environment"]
        return made("r", 0, environment={**about, "worker": {"version": version}})

    logs = [printed("r", 1, {"tensorrt-8.5.3.1": host}) for host in ("gpu1", "gpu2")]
    logs[1]["environment"]["host"] = "gpu2"
    written(tmp_path, "r", of("gpu1", "1"), of("gpu2", "2"), *logs)
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        about = run_page(summary, list(found.of_run("r")), frozenset(), gate=False).context
    names = ["tensorrt-8.5.3.1 on gpu1", "tensorrt-8.5.3.1 on gpu2"]
    assert [(name, dict(pairs)["version"]) for name, pairs in about["workers"] if name in names] == [
        (names[0], "1"), (names[1], "2"),
    ]  # fmt: skip
    assert about["printed"] == [(names[0], "gpu1"), (names[1], "gpu2")]


def test_the_command_that_a_record_says_is_the_one_to_run_again(tmp_path):
    said = "pytest suites/ --models wave --matrix full; <b>"
    about = made()["environment"]
    written(tmp_path, "r", made("r", 0, environment={**about, "command": 3}),
            made("r", 1, environment={**about, "command": said}, runtime="x"))  # fmt: skip
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        context = run_page(summary, list(found.of_run("r")), frozenset(), gate=False).context
    assert context["again"] == said
    assert "command" not in dict(context["machine"])


def test_a_gate_is_asked_again_by_its_two_sides(tmp_path):
    written(tmp_path, "g", *gate("g", 0))
    with Results(tmp_path) as found:
        (summary,) = found.runs()
        page = run_page(summary, list(found.of_run("g")), frozenset(), gate=True)
    assert page.context["again"] == "harness gate tensorrt-8.5.3.1 tensorrt-8.6.0 --models wave --seed 0"


def test_a_command_of_odd_names_is_quoted():
    fields = {"model": "a; rm -rf ~", "runtime": "$(x)"}
    assert again([{"fields": fields, "seed": 3}]) == "pytest suites/ --models 'a; rm -rf ~' --runtime '$(x)' --seed 3"
    assert again([{"kind": "selftest"}]) == ""
