"""The pages of a folder without its pictures, which take the time; and records spoiled at random."""

from __future__ import annotations

import collections
import json

from harness.results.query import Results
from harness.results.record import now
from harness.site.build import _pages
from harness.site.pages import render
from harness.site.reading import EVERYTHING
from tests.site.records import HOSTILE

ODD = [
    None, HOSTILE, -1, 0, 1e308, -1e308, 10**30, 1e-320, True, "NaN", "-Infinity", [], {}, [None], ["a", {}], [[1]],
    {"a": {"b": []}},
]  # fmt: skip


def pages_of(folder):
    """All of them, rendered; none has hostile text as it stands in records."""
    with Results(folder) as found:
        pages, _, _ = _pages(found, EVERYTHING)
    for page in pages:
        assert HOSTILE not in rendered(page)
        for figure in page.figures.values():
            json.dumps(figure.spec, allow_nan=False)
    return pages


def rendered(page):
    return render(page, collections.defaultdict(str), {"menu": [], "made": now()})


def text_of(pages, template):
    """The only page of a kind as HTML."""
    (page,) = (page for page in pages if page.template == template)
    return rendered(page)


def mutated(value, draw, share):
    if draw.random() < share:
        return draw.choice(ODD)
    if isinstance(value, dict):
        return {name: mutated(one, draw, share) for name, one in value.items()}
    return [mutated(one, draw, share) for one in value] if isinstance(value, list) else value
