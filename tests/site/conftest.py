"""One site for all tests of pages, and Debian's Chromium to look at it."""

from __future__ import annotations

import os
import shutil

import pytest

from harness.results.query import Where
from harness.site.build import Summary, build_site
from tests.site.records import nights

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Without those about the background, Chromium looks up hosts of its maker's at every start."""


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    summary = Summary(folder / "comment.md")
    return build_site(nights(folder / "results"), folder / "out", Where(), ("png", "svg"), summary)


@pytest.fixture(scope="module")
def browser():
    # No longer than a module: while it runs, this thread has an event loop, which other tests may want for their own.
    needed = bool(os.environ.get("HARNESS_REQUIRE_BROWSER"))
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        sync_playwright = None
    if program is None or sync_playwright is None:
        missing = "chromium" if program is None else "playwright"
        if needed:
            pytest.fail(f"HARNESS_REQUIRE_BROWSER is set, and there is no {missing}", pytrace=False)
        pytest.skip(f"no {missing}: install Debian's chromium and PyPI's playwright")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()
