"""What mkdocs builds beside the pages of docs/: pages from code, pages from outside, and a look at what came out."""

from __future__ import annotations

import logging
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # the harness of this checkout, and the modules beside this one
sys.dont_write_bytecode = True  # docs/ is no place for it

import commands  # noqa: E402
import configuration  # noqa: E402
import records  # noqa: E402

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_LOG = logging.getLogger("mkdocs.harness")  # a warning of mkdocs is an error with --strict

OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "reference/records.md",
    "harness/gate/report.schema.json": "reference/report.schema.json",
    "results/reference/h200-2026-11-23/gate-8.5.3.1-8.6.0.md": "reference/gate-8.5.3.1-8.6.0.md",
}
"""Where the repository has it -> where the site has it."""

MADE = {
    "reference/commands.md": commands.command_line,
    "reference/pytest.md": commands.pytest_options,
    "reference/configuration.md": configuration.page,
    "reference/records.md": lambda: _moved("results/README.md") + records.seen(),
    "reference/gate-report.md": records.gate_report,
}

_LINK = re.compile(r"(?P<head>\]\()(?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel\s*=\s*["']?(?:stylesheet|preload|preconnect|icon|dns-prefetch))[^>]*href\s*=\s*["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+|url\(["']?(?:https?:)?//[^"')\s]+""",
    re.IGNORECASE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and what lies outside of docs/."""
    pages = {target: (lambda source=source: _moved(source)) for source, target in OUTSIDE.items()}
    for target, make in {**pages, **MADE}.items():
        files.append(File.generated(config, target, content=make()))
    return files


def _moved(source: str) -> str:
    """A file from outside of docs/, its links as they are right where it goes."""
    text = (ROOT / source).read_text("utf-8")
    text = text.replace("<details>", '<details markdown="1">')  # else a table in it stays text
    return _relinked(text, source, OUTSIDE[source]) if source.endswith(".md") else text


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links that leave docs/ lead to where the site has their targets."""
    source = page.file.src_uri
    if source in {*OUTSIDE.values(), *MADE}:
        return markdown
    return _relinked(markdown, f"docs/{source}", source)


def _relinked(markdown: str, source: str, target: str) -> str:
    """:param source: the page in the repository; :param target: the same page below docs/."""

    def link(match: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        inside = OUTSIDE.get(there) or (there.removeprefix("docs/") if there.startswith("docs/") else None)
        if inside is None:
            _LOG.warning("%s links to %s, which the site does not have", source, there)
            return match[0]
        to = posixpath.relpath(inside, posixpath.dirname(target) or ".")
        return f"{match['head']}{to}{match['anchor'] or ''})"

    return _LINK.sub(link, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Whatever a browser would fetch from elsewhere is a warning."""
    for file in Path(config.site_dir).rglob("*"):
        if file.suffix in {".html", ".css"}:
            for found in _FETCHED.findall(file.read_text("utf-8")):
                _LOG.warning("%s would be fetched from elsewhere: %s", file.relative_to(config.site_dir), found)
