"""``harness explain MODEL --best``: which case to ship for a goal, within a budget."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from harness.commands.console import note, show, steps
from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.best.found import Found
    from harness.workbench import Workbench

__all__ = ["EXIT_CODES", "Asked", "find_best", "only_with_best"]

EXIT_CODES = {"met": 0, "open": 3, "not met": 6}
"""By what the search came to; 1, 2 and 5 are errors, as everywhere."""

_TESTS = 12


@dataclass(frozen=True)
class Asked:
    """The options of ``--best`` and those that it shares with the rest of the command."""

    model: str
    runtime: str
    goals: tuple[str, ...]
    bounds: tuple[str, ...]
    budget_s: float
    traffic: Path | None
    switch_us: float | None
    axes: tuple[str, ...]
    range_: str
    length_inputs: tuple[str, ...]
    data: str | None
    seed: int
    results: Path | None
    as_json: bool

    def described(self) -> list[str]:
        """The options that describe a file of one's own, as other commands take them."""
        words = [word for axis in self.axes for word in ("--axis", axis)]
        words += [word for one in self.length_inputs for word in ("--length-input", one)]
        words += ["--range", self.range_] if self.range_ else []
        return words + (["--data", self.data] if self.data else [])


def only_with_best(given: dict[str, Any]) -> None:
    """Refuse options that mean nothing without ``--best``.

    :raises UsageError: one was given.
    """
    for option, value in given.items():
        if value is not None and value != ():
            raise UsageError(
                f"{option} goes with --best", where="harness explain", todo=f"add --best, or leave {option} out"
            )


def find_best(asked: Asked) -> int:
    """Search, show, record; returns the exit code (:data:`EXIT_CODES`)."""
    from harness.best.goal import goal_of
    from harness.best.layout_advice import read_traffic
    from harness.best.search import Asked as Search
    from harness.best.search import search
    from harness.commands.entry import find_entry
    from harness.gate.asked import environment
    from harness.results.store import Store
    from harness.spec.bounds import bounded, check_bounds, read_bounds
    from harness.spec.config import find_config
    from harness.spec.matrix import Matrix
    from harness.workbench import Workbench
    from harness.workers import Workers

    if not asked.model:
        raise UsageError("which model?", where="CASE", todo="a key of harness models, or an ONNX file")
    config = find_config()
    entry = find_entry(
        asked.model, data=asked.data, axes=asked.axes, range_=asked.range_, length_inputs=asked.length_inputs,
        pads=(), constants=(),
    )  # fmt: skip
    if given := read_bounds(asked.bounds):
        if any(bounds.speedup is not None for _, bounds in given):
            raise UsageError("a speed-up is a goal here", where="--bound", todo="--goal speedup=1.5")
        entry = bounded(entry, given, of=1)
        check_bounds(entry.model)
    goal, model = goal_of(asked.goals, entry.model)
    entry = replace(entry, model=model)
    traffic = read_traffic(asked.traffic, model) if asked.traffic else None
    there = environment(config, asked.runtime, "--runtime")
    with closing(Store(asked.results or config.results).open_run()) as run:
        command = str(click.get_current_context().obj or "")
        bench = Workbench(
            {model.key: entry}, {there.name: there}, Workers(deadline_s=config.deadline_s), run,
            replace(Matrix(), tests=_TESTS), asked.seed, config.latency, command=command,
        )  # fmt: skip
        with closing(bench), steps(f"best of {model.key}") as told:
            found = search(
                bench, Search(model.key, goal, asked.budget_s, traffic=traffic, switch_us=asked.switch_us), told
            )
            made = _commands(bench, found, asked)
            files = [] if found.ship is None else list(dict.fromkeys(map(str, bench.artefacts(found.ship.case))))
    if asked.as_json:
        from harness.results.record import encode

        show(json.dumps({**json.loads(encode(found.as_data())), "commands": made, "files": files, "record": run.id}))
    else:
        _tell(found, made, files)
    return EXIT_CODES[found.word]


def _commands(bench: Workbench, found: Found, asked: Asked) -> list[str]:
    from harness.best.shown import commands

    return commands(bench, found.ship, asked.model, asked.described(), asked.bounds) if found.ship else []


def _tell(found: Found, made: list[str], files: list[str]) -> None:
    from harness.best.shown import candidates_table, verdict_lines

    show(candidates_table(found))
    show("")
    for line in verdict_lines(found):
        show(line)
    for line in made:
        show(f"  {line}")
    for path in files:
        show(f"  the file that was judged: {path}")
    if found.word == "not met" and not found.findings:
        show("limits: no rule finds anything wrong or slow in it")
    for one in found.findings:
        show(f"limits: {one.severity}: {one.kind}: {one.what}")
        show(f"  -> {one.todo}")
    _tell_layouts(found)
    for line in found.notes:
        show(f"note: {line}")
    if found.unfinished:
        note(f"the budget ended on rung {found.unfinished!r}; the same command goes on from there")
    note(f"{found.seconds:.0f} s; {found.measured} values measured, {found.kept} known from before")


def _tell_layouts(found: Found) -> None:
    from harness.best.shown import layouts_lines, layouts_table

    if found.layouts is None:
        return
    table = layouts_table(found.layouts)
    if table is not None:
        show("")
        show(table)
    for line in layouts_lines(found.layouts):
        show(line)
