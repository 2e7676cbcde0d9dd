"""Layer tables on the dashboard: lengths, roles, the longest layers; whatever a record holds."""

from __future__ import annotations

import random

import pytest

from harness.explain.data import table_data
from harness.explain.layer import ROLES
from harness.results.query import Results
from harness.site import layers
from harness.site.layers import newest_layers
from harness.site.reading import EVERYTHING, read_newest
from tests.run_records import written
from tests.site.explained import CASE, ROOF, table, told
from tests.site.pages_made import mutated, pages_of, text_of
from tests.site.records import HOSTILE, accuracy


def newest(folder):
    with Results(folder) as results:
        return newest_layers(read_newest(results, "layers", EVERYTHING, 12))


def test_roles_are_explains_own():
    assert layers.ROLES == ROLES


def test_lengths_roles_and_the_longest_layers(tmp_path):
    written(tmp_path, "r", told(100), told(1000, scale=10.0))
    (one,) = newest(tmp_path)["wave"]
    assert (one.name, one.beside) == ("tensorrt-8.5.3.1-int8-auto-ragged-single", "tensorrt-8.5.3.1-fp32-single")
    short, long = one.tables
    assert [(at.length, at.whole_us, at.beside_us, at.faster) for at in one.tables] == [
        (100, 150.0, 450.0, 3.0), (1000, 1500.0, 4500.0, 3.0),
    ]  # fmt: skip
    assert sum(short.roles.values()) == pytest.approx(1)
    assert short.roles["compute"] > 0.5
    assert (len(long.layers), long.count) == (10, 30)
    first = long.layers[0]
    assert (first.name, first.operations, first.bound) == ("/conv.0", 1e6, "operations")
    assert first.share == pytest.approx(0.5)
    assert first.roof == pytest.approx(10 / 1000), "1e6 operations take 10 us at 1e11 a second"


def test_on_the_models_page(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, CASE), told(100), told(1000, scale=10.0))
    said = text_of(pages_of(tmp_path), "model")
    for part in (
        "Where the time goes", "At length 1,000: 10 of 30 layers", "3.00x", "50 %",
        "1 % <small>operations</small>", "beside it tensorrt-8.5.3.1-fp32-single",
    ):  # fmt: skip
        assert part in said
    assert said.index("At length 1,000") < said.index("At length 100:"), "the longest is open"


def test_a_runtime_that_only_builds_has_no_times(tmp_path):
    written(tmp_path, "r", told(timed=False, beside=False))
    (one,) = newest(tmp_path)["wave"]
    assert not one.timed
    assert one.tables[0].layers[0].name == "/conv.11", "by operations"
    said = text_of(pages_of(tmp_path), "model")
    assert "no times" in said
    assert "Times faster" not in said


def test_of_each_case_and_host_those_of_the_newest_run(tmp_path):
    written(tmp_path, "a", told(100, "a", 0), told(200, "a", 0), told(100, "a", 0, host="gpu2"))
    written(tmp_path, "b", told(300, "b", 5), told(300, "b", 6, scale=2.0))
    found = [(one.host, one.run, [(at.length, at.whole_us) for at in one.tables]) for one in newest(tmp_path)["wave"]]
    assert found == [("gpu1", "b", [(300, 300.0)]), ("gpu2", "a", [(100, 150.0)])], "a length told twice: the last one"


@pytest.mark.parametrize("changes", [{"length": "100"}, {"layers": 7}, {"layers": []}, {"layers": [None, {"name": 3}]}])
def test_a_record_without_layers_leaves_the_run_before_it(tmp_path, changes):
    written(tmp_path, "a", told(100, "a", 0))
    written(tmp_path, "b", told(100, "b", 5, **changes))
    assert [one.run for one in newest(tmp_path)["wave"]] == ["a"]


def test_an_older_record_has_gaps(tmp_path):
    one = told()
    written(tmp_path, "r", {**one, "values": {"length": 5, "layers": [{"name": "/conv", "time_us": 3.0}]}})
    ((at,),) = (one.tables for one in newest(tmp_path)["wave"])
    assert (at.whole_us, at.roles, at.count, at.layers[0].roof) == (None, {}, 1, None)
    assert "At length 5: 1 of 1 layers" in text_of(pages_of(tmp_path), "model")


@pytest.mark.parametrize("seed", range(12))
def test_any_type_anywhere(tmp_path, seed):
    draw = random.Random(seed)
    share = draw.choice([0.02, 0.1, 0.3])
    lines = [told(100 * number) for number in range(1, 4)]
    written(tmp_path, "r", *({**one, "values": mutated(one["values"], draw, share)} for one in lines))
    assert pages_of(tmp_path)


def test_hostile_text_is_text(tmp_path):
    odd = {**table_data(table(7), ROOF)["layers"][0], "name": HOSTILE, "operator": HOSTILE, "precision": HOSTILE}
    written(tmp_path, "r", told(layers=[{**odd, "role": HOSTILE}], against={"case": HOSTILE, "whole_us": 1.0}))
    said = text_of(pages_of(tmp_path), "model")
    assert HOSTILE not in said
    assert said.count("&lt;script&gt;document") >= 5
