from __future__ import annotations

import math

import pytest

from harness.results.query import Results
from harness.results.record import now
from harness.site.model import model_page
from harness.site.overview import sections
from harness.site.pages import render
from harness.site.plots import histogram
from harness.site.reading import newest_groups
from tests.run_records import written
from tests.site.records import accuracy, bucket, case_of, traffic


def test_histogram_has_bins_of_equal_ratio_and_loses_nobody():
    bins = histogram([10, 10, 20, 5000, 0, -3])
    assert sum(one["share"] for one in bins) == pytest.approx(1)
    assert bins[0]["share"] == 0.5
    assert bins[0]["low"] == 10
    assert bins[-1]["high"] == pytest.approx(5000)
    assert {round(one["high"] / one["low"], 6) for one in bins} == {round(500 ** (1 / 16), 6)}
    assert histogram([]) == []
    assert histogram([7]) == [{"low": 7, "high": pytest.approx(7.004, abs=0.01), "share": 1.0}]


def page_of(folder, *lines):
    written(folder, "r", *lines)
    with Results(folder) as found:
        ((key, groups),) = sections(newest_groups(found)).items()
        return model_page(key[0], {key[1:]: groups}, [], frozenset())


@pytest.mark.parametrize(("ratios", "said"), [
    ((0.8, 1.5, 2.2), "INT8 pays from 94 samples on"),
    ((1.1, 1.5, 2.2), "INT8 is faster at every length"),
    ((0.8, 0.9, 1.0), "INT8 is faster at no length"),
    ((1.5, 1.2, 0.9), "INT8 pays up to 1,400 samples, not beyond"),
    ((1.5, 1.2, 1.0), "INT8 pays up to 2,900 samples, not beyond"),
    ((0.9, 1.2, 0.9), "INT8 pays from 97 samples up to 1,400 samples, not beyond"),
    ((0.99, 1.02, 1.5), "INT8 pays from 91 samples on"),
])  # fmt: skip
def test_what_pays(tmp_path, ratios, said):
    case = case_of("wave")
    names = ("short", "middle", "long")
    lines = [bucket("r", 0, case, name, ratio) for name, ratio in zip(names, ratios, strict=True)]
    page = page_of(tmp_path, *lines, accuracy("r", 0, case, axis="samples"))
    (section,) = page.context["sections"]
    unclear = "; not proved at 45, 362" if ratios[0] == 0.99 else "; not proved at 2,896" if ratios[2] == 1.0 else ""
    assert section["pays"] == [f"auto-ragged: {said} (measured at 45, 362, 2,896 samples{unclear})"]


def test_each_timed_case_says_from_where_on_it_pays_and_older_records_have_no_unit(tmp_path):
    cases = [case_of("wave"), case_of("wave", layout="buckets3")]
    lines = [bucket("r", 0, case, "short", ratio) for case, ratio in zip(cases, (0.8, 1.2), strict=True)]
    page = page_of(tmp_path, *lines, bucket("r", 0, cases[0], "long", 1.6), accuracy("r", 0, cases[0], axis=["x"]))
    (section,) = page.context["sections"]
    assert section["pays"] == [
        "auto-ragged: INT8 pays from length 170 on (measured at 45, 2,896)",
        "auto-ragged buckets3: INT8 is faster at every length (measured at 45)",
    ]
    latency = page.figures[section["drawn"]["latency"]].spec
    assert "INT8 pays from length 170 on" in str(latency), "the picture says it in words"


def test_the_line_of_one_of_several_cases_says_whose_it_is(tmp_path):
    cases = [case_of("wave"), case_of("wave", layout="buckets3")]
    lines = [bucket("r", 0, case, name, ratio) for case in cases for name, ratio in (("short", 0.8), ("long", 1.6))]
    page = page_of(tmp_path, *lines)
    (section,) = page.context["sections"]
    assert "'auto-ragged: INT8 pays from length" in str(page.figures[section["drawn"]["latency"]].spec)


def test_an_invalid_session_has_times_and_no_gain(tmp_path):
    case = case_of("wave")
    page = page_of(tmp_path, bucket("r", 0, case, "short", 1.5), traffic("r", 1, case, 1.5, "invalid"))
    (section,) = page.context["sections"]
    assert [(point.ratio, point.invalid) for point in section["points"]] == [(None, True)]
    assert (section["pays"], section["drawn"]) == ([], {})
    assert [(row.gain, row.invalid) for row in section["cases"]] == [(None, True)]
    text = render(page, {}, {"menu": [], "made": now()})
    assert text.count("? invalid") == 4, "the reason, the length's gain, the case's word and its gain"


@pytest.mark.parametrize("odd", [math.nan, -math.inf])
def test_a_ratio_that_is_no_number_is_the_worst_of_its_case_and_in_no_picture(tmp_path, odd):
    one = accuracy("r", 0, case_of("wave"))
    one["values"]["buckets"]["middle"]["sqnr_db"] = odd
    page = page_of(tmp_path, one)
    (section,) = page.context["sections"]
    assert str(section["cases"][0].worst_db) == str(odd)
    (figure,) = page.figures.values()
    assert len(figure.spec["data"]["values"]) == 2


def test_figures_and_rows(tmp_path):
    case = case_of("wave")
    page = page_of(
        tmp_path,
        accuracy("r", 0, case), accuracy("r", 0, case_of("wave", method="minmax"), 9.0, "below bounds"),
        bucket("r", 0, case, "short", 1.5),
    )  # fmt: skip
    (section,) = page.context["sections"]
    assert set(section["drawn"]) == {"latency", "accuracy", "ways"}
    assert [row.label for row in section["cases"]] == ["minmax-ragged", "auto-ragged"], "the worst first"
    assert section["cases"][0].worst_db == 9.0
    assert section["reasons"] == [("minmax-ragged accuracy", "below bounds", "sqnr_db 9.0 is below 15")]
    latency = page.figures[section["drawn"]["latency"]].spec
    edges = [layer["data"]["values"] for layer in latency["vconcat"][0]["layer"] if "data" in layer]
    assert [one["at"] for one in edges[0]] == [129, 1025], "where the layout's profiles begin"


def test_shape_policies_and_methods_that_were_only_compared_are_drawn_beside_the_cases(tmp_path):
    case, way = case_of("wave"), case_of("wave", policy="pad")
    compared = [{**accuracy("r", 1, one, db, "compared"), "kind": "calibration"} for one, db in ((way, 12), (case, 9))]
    page = page_of(tmp_path, accuracy("r", 0, case), *compared, bucket("r", 0, case, "short", 1.5))
    (section,) = page.context["sections"]
    ways = page.figures[section["drawn"]["ways"]].spec["data"]["values"]
    assert {(one["series"], one["sqnr_db"]) for one in ways if one["bucket"].startswith("short")} == {
        ("auto-ragged", 20.0), ("auto-pad", 12),
    }, "what was measured as a case counts"  # fmt: skip
    assert {row.label: row.worst_db for row in section["cases"]} == {"auto-ragged": 20.0, "auto-pad": 12}


def test_records_of_odd_types_leave_gaps_and_no_errors(tmp_path):
    case = case_of("wave")
    odd = bucket("r", 0, case, "short", 1.5)
    odd["values"]["buckets"]["short"] = {"length": "45", "ratio": [], "int8": 3, "baseline": {"median_ms": "x"}}
    page = page_of(tmp_path, odd, accuracy("r", 0, case, buckets=["short"], reasons=7, lengths=[], profiles=3))
    (section,) = page.context["sections"]
    assert section["points"] == []
    assert section["drawn"] == {}
