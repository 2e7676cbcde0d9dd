"""Records whose fields are of any type and size: pages have gaps there, and are made all the same."""

from __future__ import annotations

import collections
import json
import random

import pytest

from harness.results.query import Results
from harness.results.record import now
from harness.site.build import _pages
from harness.site.pages import render
from harness.site.plots import histogram
from harness.site.reading import EVERYTHING
from tests.run_records import made, written
from tests.site.records import HOSTILE, accuracy, case_of, nights

ODD = [
    None, HOSTILE, -1, 0, 1e308, -1e308, 10**30, 1e-320, True, "NaN", "-Infinity", [], {}, [None], ["a", {}], [[1]],
    {"a": {"b": []}},
]  # fmt: skip
PARTS = ("values", "environment", "model", "corpus", "samples", "seed", "synthetic", "fields")


def mutated(value, draw, share):
    if draw.random() < share:
        return draw.choice(ODD)
    if isinstance(value, dict):
        return {name: mutated(one, draw, share) for name, one in value.items()}
    return [mutated(one, draw, share) for one in value] if isinstance(value, list) else value


def pages_of(folder):
    with Results(folder) as found:
        pages, _, _ = _pages(found, EVERYTHING)
    for page in pages:
        text = render(page, collections.defaultdict(str), {"menu": [], "made": now()})
        assert HOSTILE not in text
        for figure in page.figures.values():
            json.dumps(figure.spec, allow_nan=False)
    return pages


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
