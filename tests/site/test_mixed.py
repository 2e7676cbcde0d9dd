"""Mixed precision on the dashboard: a case of its own beside plain INT8, and the files of the newest searches."""

from __future__ import annotations

import math

import pytest

from harness.results.query import Results
from harness.results.record import now
from harness.site import draw
from harness.site.build import build_site
from harness.site.mixed import front_figure, newest_searches
from harness.site.model import model_page
from harness.site.nights import all_series
from harness.site.overview import rows_of, sections
from harness.site.pages import render
from harness.site.reading import EVERYTHING, newest_groups, read_searches
from tests.run_records import made, written
from tests.site.records import HOSTILE, accuracy, bucket, case_of, traffic

MIXED = case_of("wave", method="mixed")


def file(kept, db, shortfall, missed=0.0, in_float=3, score=0.97):
    cell = {"sqnr_db": db, "score": score, "score_interval": [score - 0.01, score + 0.01]}
    return {
        "step": "float", "kept": kept, "shortfall": shortfall, "missed": missed, "sqnr_db": db, "in_float": in_float,
        "buckets": {"short": cell, "long": {**cell, "score": None, "score_interval": None}},
    }  # fmt: skip


PLAIN, CHOSEN = file(1.0, 12.0, 0.4, 0.2, 0), file(0.95, 17.0, 0.0)
FRONT = [file(0.6, 21.0, 0.0, in_float=9), file(0.93, 18.0, 0.0), file(0.97, 15.0, 0.1), PLAIN]


def searched(run="r", minute=0, **changes):
    """A record of a search, as `harness mix` writes it."""
    values = {
        "model": "wave", "dialect": "u8s8", "keep": 0.9, "times": "measured", "finished": True,
        "plain": PLAIN, "reached": CHOSEN, "front": FRONT, **changes,
    }  # fmt: skip
    one = made(run, minute, kind="mixed", verdict="", values=values)
    del one["case"], one["fields"]
    return one


def searches(folder):
    with Results(folder) as found:
        return newest_searches(read_searches(found, EVERYTHING, 20))


def rows(folder):
    with Results(folder) as found:
        return rows_of(newest_groups(found), all_series(found, EVERYTHING))


def page_of(folder):
    with Results(folder) as found:
        ((key, groups),) = sections(newest_groups(found)).items()
        found_searches = newest_searches(read_searches(found, EVERYTHING, 20))
        return model_page(key[0], {key[1:]: groups}, [], frozenset(), found_searches.get(key[0], ()))


def text_of(page):
    svgs = {one.name: draw.as_svg(one.spec) for one in page.figures.values()}
    return render(page, svgs, {"menu": [], "made": now()})


def test_mixed_is_a_row_and_a_series_of_its_own(tmp_path):
    plain = case_of("wave")
    written(
        tmp_path, "r", accuracy("r", 0, plain, 12.0), accuracy("r", 0, MIXED, 18.0),
        *(bucket("r", 1, plain, name, 2.0) for name in ("short", "long")),
        *(bucket("r", 1, MIXED, name, 1.8) for name in ("short", "long")),
    )  # fmt: skip
    page = page_of(tmp_path)
    (section,) = page.context["sections"]
    assert {row.label: row.worst_db for row in section["cases"]} == {"auto-ragged": 12.0, "int8 mixed": 18.0}
    drawn = {name: page.figures[figure].spec for name, figure in section["drawn"].items()}
    curves = {one["series"] for one in drawn["latency"]["vconcat"][0]["data"]["values"]}
    assert curves == {"fp16", "int8 auto-ragged", "int8 mixed"}
    for name in ("accuracy", "ways"):
        assert {one["series"] for one in drawn[name]["data"]["values"]} == {"auto-ragged", "int8 mixed"}
    assert [said.partition(":")[0] for said in section["pays"]] == ["auto-ragged", "int8 mixed"]


def test_layout_and_route_still_tell_mixed_cases_apart(tmp_path):
    strong = {**case_of("wave", method="mixed", layout="buckets3")}
    strong["fields"] = {**strong["fields"], "route": "qdq_strong"}
    written(tmp_path, "r", accuracy("r", 0, strong), accuracy("r", 0, MIXED))
    (section,) = page_of(tmp_path).context["sections"]
    assert {row.label for row in section["cases"]} == {"int8 mixed", "int8 mixed-qdq_strong buckets3"}


@pytest.mark.parametrize("timed", [(), ("plain",), ("plain", "mixed")])
def test_mixed_below_its_bounds_counts_whatever_was_timed(tmp_path, timed):
    cases = {"plain": case_of("wave"), "mixed": MIXED}
    written(
        tmp_path, "r", accuracy("r", 0, cases["plain"]), accuracy("r", 0, MIXED, 9.0, "below bounds"),
        *(traffic("r", 1, cases[name], 2.0) for name in timed),
    )  # fmt: skip
    (row,) = rows(tmp_path)
    assert (row.word, row.why) == ("below bounds", "int8 mixed accuracy")


def test_mixed_that_was_timed_hides_nothing_of_plain_int8(tmp_path):
    plain, other = case_of("wave"), case_of("wave", method="minmax")
    low = accuracy("r", 0, plain, 9.0, "below bounds")
    written(tmp_path, "r", low, accuracy("r", 0, MIXED), traffic("r", 1, MIXED, 1.9))
    (row,) = rows(tmp_path)
    assert (row.word, row.label, row.worst_db) == ("below bounds", "int8 mixed", 20.0)
    written(tmp_path, "s", accuracy("s", 9, plain), traffic("s", 10, plain, 1.5),
            accuracy("s", 9, other, 5.0, "below bounds"))  # fmt: skip
    (row,) = rows(tmp_path)
    assert (row.word, row.gain[1]) == ("pass", 1.9), "the fastest; minmax was only compared"


def test_the_files_of_a_search_are_told_and_drawn(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, MIXED), searched())
    page = page_of(tmp_path)
    ((search, name),) = page.context["fronts"]
    assert [(one.role, one.kept, one.bounds) for one in search.files] == [
        ("plain INT8", 1.0, "missed"), ("front", 0.97, "met by score"), ("chosen", 0.95, "met"),
        ("front", 0.93, "met"), ("front", 0.6, "met"),
    ]  # fmt: skip
    spec = page.figures[name].spec
    assert {one["role"] for one in spec["data"]["values"]} == {"plain INT8", "front", "chosen"}
    assert [one.on_front for one in search.files] == [True, True, False, True, True], (
        "a file of the same speed is quieter"
    )
    (chosen,) = (one["said"] for one in spec["data"]["values"] if one["role"] == "chosen")
    assert chosen == "chosen: 0.95 of the speed-up, 17.0 dB, 3 in float, bounds met"
    text = text_of(page)
    for part in ("Mixed precision, u8s8 on gpu1", "Files of the search", "[0.960, 0.980]", "met by score", "17.0 dB"):
        assert part in text
    svg = draw.as_svg(spec)
    assert chosen in svg
    assert "asked for: at least 90%" in svg


def test_plain_int8_that_was_right_is_what_was_chosen(tmp_path):
    right = file(1.0, 20.0, 0.0, in_float=0)
    written(tmp_path, "r", searched(plain=right, reached=right, front=[right]))
    (search,) = searches(tmp_path)["wave"]
    assert [one.role for one in search.files] == ["chosen"]


def test_the_newest_search_of_each_model_and_dialect(tmp_path):
    written(tmp_path, "a", searched("a", 0, keep=0.5), searched("a", 1, dialect="s8s8", times="shares of the products"))
    written(tmp_path, "b", searched("b", 9, keep=0.8, finished=False), searched("b", 9, model="plc"))
    found = searches(tmp_path)
    assert {model: [(one.dialect, one.run) for one in mine] for model, mine in found.items()} == {
        "plc": [("u8s8", "b")], "wave": [("s8s8", "a"), ("u8s8", "b")],
    }  # fmt: skip
    estimated, broken_off = found["wave"]
    assert "Nothing was timed" in front_figure("x", estimated).note
    assert "time was up" in front_figure("x", broken_off).note
    assert (broken_off.keep, broken_off.timed) == (0.8, True)


@pytest.mark.parametrize("changes", [
    {"model": 7}, {"dialect": None}, {"front": "none", "plain": [], "reached": 3},
    {"front": [], "plain": {**PLAIN, "kept": math.nan}, "reached": {**CHOSEN, "sqnr_db": "12"}},
])  # fmt: skip
def test_records_of_odd_types_have_no_picture(tmp_path, changes):
    written(tmp_path, "r", accuracy("r", 0, MIXED), searched(**changes))
    page = page_of(tmp_path)
    assert page.context["fronts"] == []
    assert "Mixed precision" not in text_of(page)


def test_odd_parts_leave_gaps(tmp_path):
    odd = {**CHOSEN, "shortfall": None, "in_float": "many", "buckets": {HOSTILE: {"score": 0.5, "score_interval": [1]}}}
    older = {name: value for name, value in FRONT[2].items() if name != "missed"}
    written(tmp_path, "r", accuracy("r", 0, MIXED), searched(reached=odd, front=[older, 3], keep="x", dialect=HOSTILE))
    page = page_of(tmp_path)
    ((search, _),) = page.context["fronts"]
    assert [(one.role, one.bounds) for one in search.files] == [("plain INT8", "missed"), ("front", ""), ("chosen", "")]
    text = text_of(page)
    assert HOSTILE not in text
    assert "<script>document" not in text


def test_of_the_whole_site(tmp_path):
    results = tmp_path / "results"
    written(results, "r", accuracy("r", 0, MIXED), traffic("r", 1, MIXED, 1.8), searched(minute=2))
    written(results, "s", traffic("s", 9, MIXED, 1.7))
    build_site(results, tmp_path / "out")
    assert "Mixed precision, u8s8" in (tmp_path / "out" / "model-wave.html").read_text()
    assert "int8 mixed" in (tmp_path / "out" / "history.html").read_text()
