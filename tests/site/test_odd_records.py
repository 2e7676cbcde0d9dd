"""Records whose fields are of any type and size: pages have gaps there, and are made all the same."""

from __future__ import annotations

import json
import random

import pytest

from harness.site.plots import histogram
from tests.run_records import made, written
from tests.site.pages_made import mutated, pages_of, rendered
from tests.site.records import HOSTILE, accuracy, case_of, gate, nights, traffic

PARTS = ("values", "environment", "model", "corpus", "samples", "seed", "synthetic", "fields")


@pytest.mark.parametrize("seed", range(10))
def test_any_type_anywhere(tmp_path, seed):
    draw = random.Random(seed)
    for path in nights(tmp_path, 2).glob("*.jsonl"):
        lines = []
        for line in path.read_text().splitlines():
            one = json.loads(line)
            share = draw.choice([0.01, 0.03, 0.1])
            lines.append(json.dumps(one | {name: mutated(one[name], draw, share) for name in PARTS if name in one}))
        path.write_text("\n".join(lines) + "\n")
    assert pages_of(tmp_path)


def test_a_case_without_fields(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, {**case_of("wave"), "fields": {}}), made("r", 0, fields={}))
    assert [page.path for page in pages_of(tmp_path) if page.template == "model"]


def test_lengths_that_nothing_has():
    assert histogram([1e-320, 1e-9, 4.0, 1e14])[0]["low"] == 4.0


@pytest.mark.parametrize(("kind", "word"), [
    ("finding", "found"), ("finding", HOSTILE), ("layers", ""), ("mixed", "faster"), ("best", "unknown"),
])  # fmt: skip
def test_kinds_of_a_newer_harness_are_no_verdicts_and_stand_on_their_runs_page(tmp_path, kind, word):
    wave, alone = case_of("wave"), case_of("alone")
    newer = {"kind": kind, "verdict": word, "values": {"rows": [HOSTILE], "error": 7}}
    written(tmp_path, "a", accuracy("a", 0, wave), made("a", 0, **newer, **wave))
    written(tmp_path, "b", accuracy("b", 9, wave), traffic("b", 9, wave, 1.5), made("b", 9, **newer, **alone))
    overview, *_, run, _ = pages = pages_of(tmp_path)
    (row,) = overview.context["rows"]
    assert (row.model, row.word, row.changes) == ("wave", "pass", ())
    assert [page.title for page in pages if page.template == "model"] == ["wave"]
    assert [one.kind for one in run.context["records"] if one.case == alone["case"]] == [kind]


def test_what_failed_counts_whatever_its_kind(tmp_path):
    written(tmp_path, "r", accuracy("r", 0, case_of("wave")), made("r", 1, kind="surprise", verdict="failed",
            values={"error": "WorkerDied: surprise"}, **case_of("wave")))  # fmt: skip
    overview, _, model, _ = pages_of(tmp_path)
    assert overview.context["rows"][0].word == "failed"
    (case,) = model.context["sections"][0]["cases"]
    assert (case.word, case.words) == ("failed", {"accuracy": "pass", "surprise": "failed"})


def test_a_run_of_drawn_examples_alone(tmp_path):
    written(tmp_path, "r", made("r", 0, kind="drawn", verdict="pass", **case_of("wave")))
    _, _, model, _ = pages_of(tmp_path)
    assert model.context["sections"][0]["cases"][0].words == {"drawn": "pass"}


def test_a_gate_alone_has_no_pages_of_models_and_no_links_to_them(tmp_path):
    written(tmp_path, "g", *gate("g", 0))
    run = next(page for page in pages_of(tmp_path) if page.template == "run")
    assert "model-wave.html" not in rendered(run)
