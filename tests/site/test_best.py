"""Searches for the case to ship on the dashboard: the answer, every candidate, the layouts; whatever a record holds."""

from __future__ import annotations

import math
import random

import pytest

from harness.best.evidence import RUNGS
from harness.explain.finding import Finding
from harness.results.query import Results
from harness.site import best
from harness.site.best import newest_best
from harness.site.reading import EVERYTHING, read_newest
from tests.run_records import written
from tests.site.explained import RUNTIME, found, searched, speed
from tests.site.pages_made import mutated, pages_of, text_of
from tests.site.records import HOSTILE, accuracy, case_of


def newest(folder):
    with Results(folder) as results:
        return newest_best(read_newest(results, "best", EVERYTHING, 3))


def test_rungs_are_the_searchs_own():
    assert best._RUNGS == RUNGS


def test_the_answer_and_every_candidate(tmp_path):
    written(tmp_path, "r", searched())
    (one,) = newest(tmp_path)["wave"]
    assert (one.name, one.word, one.ship) == ("tensorrt-8.6.0 on gpu1", "met", "int8-auto-ragged-single")
    assert one.goal == ("speedup=3", "long:latency_ms=8")
    assert [(row.name, row.more, row.rung, row.why) for row in one.tried] == [
        ("fp32-single", 0, "session", "what all are held against"),
        ("int8-auto-ragged-single", 0, "session", "the case to ship"),
        ("int8-entropy-ragged-single", 0, "short runs", "no faster"),
        ("int8-mse-ragged-single", 0, "more samples", "place 2 of 2"),
        ("fp16-single", 0, "static", "nothing to gain"),
        ("int8-minmax-ragged-single", 1, "static", "6 dB behind"),
    ]
    assert one.cases == 7
    _, ship, short, broken, *_ = one.tried
    assert (ship.search_db, ship.test_db, ship.interval) == (21.0, 49.5, (2.9, 3.1, 3.3)), "at most 80 dB a bucket"
    assert (short.speed, short.interval) == (3.0, None), "one launch has no interval"
    assert math.isnan(broken.search_db), "NaN is not left out"
    assert [(part.name, part.speed, part.ms, part.score, part.sqnr_db) for part in one.parts] == [
        ("traffic", 3.1, 2.5, None, None), ("long", 3.1, None, 0.95, math.inf), ("short", None, None, 0.95, 19.0),
    ]  # fmt: skip


def test_layouts_and_findings(tmp_path):
    written(tmp_path, "r", searched())
    (one,) = newest(tmp_path)["wave"]
    assert [(plan.layout, plan.run_us, plan.saved, plan.changes, plan.advised) for plan in one.layouts.plans] == [
        ("16-1024-8192 (as given)", 66.8, None, 0.0, False), ("16-1024-8192", 66.8, 0.0, 0.0, True),
        ("16-199-541,542-4830-8192", 71.9, -0.134, 0.5, False),
    ]  # fmt: skip
    assert one.layouts.traffic == {"5 %": 20.0, "95 %": 4000.0}
    assert one.layouts.apart == "16-199-541,542-4830-8192"
    assert [(limit.kind, limit.where) for limit in one.findings] == [("float-fallback", "/a, /b, /c and 1 more")]


def test_on_the_models_page(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, case_of("wave")), searched())
    said = text_of(pages_of(tmp_path), "model")
    for part in (
        "Ship int8-auto-ragged-single", "Goal: speedup=3, long:latency_ms=8", "3.10x [2.90, 3.30]", "7 candidates",
        "<small>and 1 more</small>", 'data-sort="-1e301">NaN', "-13.4 %", "float-fallback", "no plan of mixed",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"word": "not met", "why": "2x asked"}, "The goal is not met; nearest: int8-auto-ragged-single."),
    ({"word": "open", "unfinished": "short runs"}, "Not proved; nearest: int8-auto-ragged-single."),
    ({"word": "open", "ship": None, "layouts": None, "findings": []}, "Nothing to ship."),
])  # fmt: skip
def test_what_is_not_met_or_open(tmp_path, changes, sentence):
    written(tmp_path, "r", searched(answer=found(**changes)))
    said = text_of(pages_of(tmp_path), "model")
    assert sentence in said
    assert ("Not finished: short runs." in said) == ("unfinished" in changes)


def test_a_session_that_is_invalid_shows_no_speed(tmp_path):
    answer = found(word="open")
    answer.ship.session = speed(2.9, 3.1, 3.3, "invalid")
    written(tmp_path, "r", searched(answer=answer))
    (one,) = newest(tmp_path)["wave"]
    assert one.invalid
    assert [row.name for row in one.tried if row.invalid] == [one.ship]
    assert "3.10x" not in text_of(pages_of(tmp_path), "model")


def test_the_newest_of_each_runtime_and_host(tmp_path):
    other = {**searched("b", 5), "fields": {"model": "wave", "runtime": "onnxruntime-1.32.0-cpu"}}
    written(tmp_path, "a", searched("a", 0), searched("a", 1, found(word="open")))
    written(tmp_path, "b", other, {**searched("b", 2), "environment": {"host": "gpu2"}})
    assert [(one.runtime, one.host, one.word, one.run) for one in newest(tmp_path)["wave"]] == [
        ("onnxruntime-1.32.0-cpu", "gpu1", "met", "b"), (RUNTIME, "gpu2", "met", "b"), (RUNTIME, "gpu1", "open", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize("candidates", [None, 7, [], [None], [{"case": 3}], {"case": "x"}])
def test_a_record_without_candidates_leaves_the_one_before_it(tmp_path, candidates):
    written(tmp_path, "a", searched("a", 0))
    written(tmp_path, "b", searched("b", 5, candidates=candidates))
    assert [one.run for one in newest(tmp_path)["wave"]] == ["a"]


def test_an_older_record_has_gaps(tmp_path):
    one = searched()
    written(tmp_path, "r", {**one, "values": {"candidates": [{"case": one["values"]["candidates"][0]["case"]}]}})
    (only,) = newest(tmp_path)["wave"]
    assert (only.goal, only.ship, only.layouts, only.findings) == ((), "", None, ())
    assert "as fast as can be" in text_of(pages_of(tmp_path), "model")


@pytest.mark.parametrize("seed", range(12))
def test_any_type_anywhere(tmp_path, seed):
    draw = random.Random(seed)
    lines = [searched(minute=number) for number in range(3)]
    share = draw.choice([0.02, 0.1, 0.3])
    written(tmp_path, "r", *({**one, "values": mutated(one["values"], draw, share)} for one in lines))
    assert pages_of(tmp_path)


def test_hostile_text_is_text(tmp_path):
    answer = found(why=HOSTILE, notes=[HOSTILE], unfinished=HOSTILE)
    answer.candidates[1].reject(HOSTILE, HOSTILE)
    answer.findings[0] = Finding(HOSTILE, "slow", HOSTILE, (HOSTILE,), HOSTILE)
    written(tmp_path, "r", searched(answer=answer))
    said = text_of(pages_of(tmp_path), "model")
    assert HOSTILE not in said
    assert said.count("&lt;script&gt;document") >= 8
