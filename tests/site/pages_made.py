"""The pages of a folder without its pictures, which take the time."""

from __future__ import annotations

import collections
import json

from harness.results.query import Results
from harness.results.record import now
from harness.site.build import _pages
from harness.site.pages import render
from harness.site.reading import EVERYTHING
from tests.site.records import HOSTILE


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
