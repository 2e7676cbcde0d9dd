"""The reference of commands, from what click and pytest are told."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import click

from harness.cli import cli
from harness.commands.examples import EXAMPLES
from harness.plugin_options import add_options

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = "| option | meaning |\n|---|---|"


def command_line() -> str:
    """Every command and its options."""
    parts = ["# Commands", "", "What `harness --help` and the help of each command say.", ""]
    for name, command in _every(cli):
        context = click.Context(command, info_name=f"harness {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts += [
            f"{'##' if ' ' not in name else '###'} harness {name}",
            "",
            f"```text\n{' '.join(usage.split())}\n```",
            "",
        ]
        parts += [_prose(command.help or ""), ""]
        rows = [row for parameter in command.params if (row := _row(parameter, context))]
        if rows:
            parts += [_HEAD, *rows, ""]
        if name in EXAMPLES:
            parts += _examples(name)
    return "\n".join(parts)


def _every(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _every(command, f"{before}{name} ")


def _prose(text: str) -> str:
    return _escaped(inspect.cleandoc(text).replace("\b\n", ""))


def _row(parameter: click.Parameter, context: click.Context) -> str | None:
    record = parameter.get_help_record(context)
    if not record or not record[1]:  # an argument: the text says what it is
        return None
    return f"| `{record[0]}` | {_cell(_escaped(' '.join(record[1].split())))} |"


def _examples(name: str) -> list[str]:
    lines = [f"{command}{f'   # {what}' if what else ''}" for command, what in EXAMPLES[name]]
    return ["```sh", *lines, "```", ""]


def _cell(text: str) -> str:
    """Prose for a table; in code a bar needs no backslash, and would show one."""
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    """What Markdown would take for its own; code stays as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts)


class _Group:
    """Stands in for pytest's: keeps what it is told."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[str] = []

    def addoption(self, *names: str, **about: Any) -> None:  # noqa: ANN401 - pytest's own signature
        metavar = about.get("metavar") or ("N" if about.get("type") is int else "")
        metavar = metavar or ("" if about.get("action") == "store_true" else "VALUE")
        repeat = "; may be given several times" if about.get("action") == "append" else ""
        option = f"{', '.join(names)} {metavar}".strip()
        self.rows.append(f"| `{option}` | {_cell(_escaped(about.get('help') or ''))}{repeat} |")


class _Parser:
    def __init__(self) -> None:
        self.groups: list[_Group] = []

    def getgroup(self, name: str, description: str = "") -> _Group:
        self.groups.append(_Group(description or name))
        return self.groups[-1]


def pytest_options() -> str:
    """What the plugin adds to pytest."""
    parser = _Parser()
    add_options(parser)  # type: ignore[arg-type]
    parts = ["# Options of pytest", "", "What `pytest suites/ --help` says of this project's own options.", ""]
    for group in parser.groups:
        parts += [f"## {_escaped(group.title.removeprefix('harness: ').capitalize())}", "", _HEAD, *group.rows, ""]
    return "\n".join(parts)
