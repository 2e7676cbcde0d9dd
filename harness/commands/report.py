"""``harness report``: the dashboard of a folder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.commands.console import note, show
from harness.commands.when import since_time
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.site.build import Format

__all__ = ["report"]

_SHOWN_TROUBLE = 5


@click.command()
@click.option("--since", default=None, metavar="WHEN", help="A date (2026-11-23), a time, or an age: 12h, 30d, 8w.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report"), show_default=True, metavar="DIR",
              help="Where pages go: a new folder, an empty one, or an older report.")  # fmt: skip
@click.option("--results", "folder", type=click.Path(path_type=Path), default=None, metavar="DIR",
              help="The folder of runs; the configuration's (results/) without it.")  # fmt: skip
@click.option("--png", is_flag=True, help="Each picture as a PNG file, too, in DIR/plots.")
@click.option("--svg", is_flag=True, help="Each picture as an SVG file, too, in DIR/plots.")
@click.option("--markdown", "summary", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
              help="For a pull request: a table and the two pictures that matter, PNG in DIR/plots.")  # fmt: skip
@click.option("--url", default="", metavar="URL",
              help="Where DIR will be served: what the Markdown names is there, as comments need.")  # fmt: skip
def report(since: str | None, out: Path, folder: Path | None, summary: Path | None, url: str, **asked: bool) -> None:
    """Write what was measured as pages: what is wrong first, models, gates, history, runs.

    The pages open from disk and from any web server, and fetch nothing.
    """
    from harness.results.query import Where
    from harness.site.build import Summary, build_site
    from harness.spec.config import find_config

    if url and summary is None:
        raise UsageError("--url is for the Markdown", todo="give --markdown FILE, too, or leave --url out")
    formats: list[Format] = [name for name in ("png", "svg") if asked[name]]
    where = Where(since=since_time(since) if since else None)
    site = build_site(
        folder or Path(find_config().results), out, where, formats, Summary(summary, url) if summary else None
    )
    for line in site.trouble[:_SHOWN_TROUBLE]:
        note(line)
    if len(site.trouble) > _SHOWN_TROUBLE:
        note(f"and {len(site.trouble) - _SHOWN_TROUBLE} more file(s) with lines that are no records")
    note(f"{site.pages} pages" + (f", {len(site.pictures)} pictures in {out / 'plots'}" if site.pictures else ""))
    show(str(site.first))
