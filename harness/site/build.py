"""The site: records read once, pages made of them, pictures drawn, files written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ResultsError, UsageError
from harness.results.query import Results, trouble
from harness.results.record import now
from harness.site import draw
from harness.site.best import newest_best
from harness.site.extra import NEEDED, library
from harness.site.history import history_page, self_tests
from harness.site.layers import newest_layers
from harness.site.markdown import markdown, pictures_that_matter, prefix
from harness.site.mixed import newest_searches
from harness.site.model import model_page
from harness.site.nights import all_series
from harness.site.overview import overview, rows_of, sections
from harness.site.pages import render, write_bytes, write_text
from harness.site.reading import EVERYTHING, newest_groups, read_gates, read_newest, read_searches
from harness.site.run import run_page
from harness.site.upgrade import gate_of, gate_page, samples_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from harness.results.query import Where
    from harness.site.overview import Row
    from harness.site.pages import Figure, Page
    from harness.site.reading import Group
    from harness.site.upgrade import Gate

__all__ = ["Format", "Site", "Summary", "build_site"]

Format = Literal["png", "svg"]

_RUNS = 40
_GATES = 20
_SEARCHES = 200
_BEST, _LAYERS = 3, 12
"""Records of each model, runtime and host that are looked at."""
_MARK = ".harness-report"
"""In a folder that a report was written to: what stands there may be written over."""


@dataclass(frozen=True)
class Site:
    """What was written.

    :param first: the page to open. :param pages: how many. :param pictures: files of their own, in ``plots/``.
    :param trouble: of files with lines that are no records.
    """

    first: Path
    pages: int
    pictures: tuple[Path, ...]
    trouble: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The Markdown that is asked for.

    :param file: written over. :param url: where the site will be served; without one, what it names is found by the
        way from the file to the site's folder.
    """

    file: Path
    url: str = ""


def build_site(
    folder: Path,
    out: Path,
    where: Where = EVERYTHING,
    formats: Collection[Format] = (),
    summary: Summary | None = None,
) -> Site:
    """Write the site of a folder of runs.

    :param out: made where it is not there. One that holds something else than a report is refused.
    :param where: which records count; ``Where(since=...)``.
    :param formats: of pictures beside the pages, in ``plots/``. :param summary: Markdown for a pull request; its two
        pictures are written as PNG in any case.
    :raises ResultsError: there is no such folder, or a run cannot be read; or ``out`` is no folder for this.
    :raises WriteFailed: there is no room or no permission.
    :raises EnvironmentMissing: what draws or writes pages is not installed.
    """
    if not folder.is_dir():
        raise ResultsError("no such folder of results", where=str(folder), todo="run the suites, or give --results DIR")
    for name in NEEDED:
        library(name)
    _check_target(out)
    with Results(folder) as results:
        pages, rows, gates = _pages(results, where)
        bad = tuple(trouble(list(results.states.values())))
    figures = {one.name: one for page in pages for one in page.figures.values()}
    svgs = dict(zip(figures, draw.in_page([one.spec for one in figures.values()]), strict=True))
    menu = [("index.html", "Overview"), ("history.html", "History")]
    common = {"menu": menu, "made": now()}
    _clear(out)
    for page in pages:
        write_text(out / page.path, render(page, svgs, common))
    for gate in gates:
        if gate.pairs:
            write_text(out / samples_file(gate.run), json.dumps(_samples(gate), separators=(",", ":")))
    two = pictures_that_matter(gates, figures) if summary else []
    wanted: list[tuple[Figure, Collection[Format]]] = [(one, formats) for one in figures.values()]
    wanted += [(one, ["png"]) for one in two if "png" not in formats]
    pictures = tuple(_pictures(wanted, out / "plots"))
    if summary:
        write_text(summary.file, markdown(rows, gates, two, prefix(summary.file, out, summary.url)))
    return Site(out / "index.html", len(pages), pictures, bad)


def _pages(results: Results, where: Where) -> tuple[list[Page], list[Row], list[Gate]]:
    groups = newest_groups(results, where)
    series = all_series(results, where)
    rows = rows_of(groups, series)
    runs = sorted(results.runs(where), key=lambda one: (one.begun or datetime.min, one.run), reverse=True)  # noqa: DTZ901
    found = read_gates(results, where, _GATES)
    gates = [gate_of(run, records) for run, records in found.items()]
    paged = [one for number, one in enumerate(runs) if number < _RUNS or one.run in found]
    shown = frozenset(one.run for one in paged)
    pages = [overview(rows, gates, runs, shown), history_page(list(series.values()), self_tests(results, where), shown)]
    searches = newest_searches(read_searches(results, where, _SEARCHES))
    by_model: dict[str, dict[tuple[str, str], list[Group]]] = {}
    for (model, runtime, host), mine in sections(groups).items():
        by_model.setdefault(model, {})[runtime, host] = mine
    best = newest_best(read_newest(results, "best", where, _BEST))
    layers = newest_layers(read_newest(results, "layers", where, _LAYERS))
    for model in (*best, *layers):  # those that nothing was judged of have a page all the same
        by_model.setdefault(model, {})
    pages += [
        model_page(
            model, parts, [row for row in rows if row.model == model], shown,
            searches.get(model, ()), best.get(model, ()), layers.get(model, ()),
        )
        for model, parts in by_model.items()
    ]  # fmt: skip
    pages += [gate_page(gate, shown) for gate in gates]
    models = frozenset(by_model)
    pages += [run_page(one, list(results.of_run(one.run)), models, gate=one.run in found) for one in paged]
    return pages, rows, gates


def _samples(gate: Gate) -> list[dict[str, Any]]:
    """Every session as it was recorded, samples in ns of the clock that judged."""
    return [
        {"pair": pair.get("pair"), "session": session}
        for pair in gate.pairs
        for session in (pair["sessions"] if isinstance(pair.get("sessions"), list) else [])
    ]


def _pictures(figures: Iterable[tuple[Figure, Collection[Format]]], place: Path) -> Iterator[Path]:
    for one, formats in figures:
        if "svg" in formats:
            write_text(place / f"{one.name}.svg", draw.as_svg(one.spec))
            yield place / f"{one.name}.svg"
        if "png" in formats:
            write_bytes(place / f"{one.name}.png", draw.as_png(one.spec))
            yield place / f"{one.name}.png"


def _check_target(out: Path) -> None:
    """A folder that holds something else is not ours to write into."""
    if (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir()) and not (out / _MARK).exists()):
        raise UsageError(
            "there is something else", where=str(out), todo="name a new or empty folder by --out, or remove this one"
        )


def _clear(out: Path) -> None:
    """Pages of models and runs that are no more would stay."""
    write_text(out / _MARK, "written by harness report; what is here may be written over\n")
    for path in (*out.glob("*.html"), *out.glob("*-samples.json"), *out.glob("plots/*.svg"), *out.glob("plots/*.png")):
        path.unlink(missing_ok=True)
