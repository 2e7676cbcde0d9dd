"""Regressions that are accepted, each with a reason and a date after which it is not."""

from __future__ import annotations

import datetime as dt  # noqa: TC003 - msgspec reads the annotations
import tomllib
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from harness.errors import ConfigError, UsageError
from harness.gate.findings import Blocking

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.gate.findings import Finding

__all__ = ["Allowance", "apply", "not_found", "parse", "read"]


_Allowed = Literal["", Blocking]


@dataclass(frozen=True)
class Allowance:
    """A regression that does not block.

    :param case: a pair's name, or a shell pattern. :param aspect: of one kind alone; all where empty.
    :param until: the last day on which it holds.
    """

    case: str
    reason: str
    until: dt.date
    aspect: _Allowed = ""

    def covers(self, finding: Finding, today: dt.date) -> bool:
        """Whether it is about this finding and still holds."""
        named = fnmatchcase(finding.case, self.case) and self.aspect in {"", finding.aspect}
        return named and today <= self.until

    def __str__(self) -> str:
        """``vad-* latency until 2027-01-31: a known spike``."""
        return f"{self.case}{' ' * bool(self.aspect)}{self.aspect} until {self.until}: {self.reason}"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    case: str
    reason: str
    until: dt.date
    aspect: _Allowed = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    allow: list[_Entry] = []


def read(file: Path) -> list[Allowance]:
    """``[[allow]]`` tables with ``case``, ``reason``, ``until`` (a date) and, if it is about one kind, ``aspect``.

    :raises ConfigError: the file is none, or an entry lacks a reason or a date, or its ``aspect`` is none that blocks.
    """
    try:
        entries = msgspec.convert(tomllib.loads(file.read_text("utf-8")), _File).allow
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        todo = '[[allow]] with case = "...", reason = "...", until = 2027-01-31'
        todo += f"; aspect, if there is one: {', '.join(get_args(Blocking))}"
        raise ConfigError(str(error), where=str(file), todo=todo) from error
    for entry in entries:
        if not entry.reason.strip():
            raise ConfigError(f"{entry.case} is allowed without a reason", where=str(file), todo="say why")
    return [Allowance(entry.case, entry.reason, entry.until, entry.aspect) for entry in entries]


def parse(text: str, today: dt.date) -> Allowance:
    """``CASE=reason`` as ``--allow`` takes it: for this day alone, so that nobody forgets it.

    :raises UsageError: no reason is given.
    """
    case, equals, reason = text.partition("=")
    if not equals or not case or not reason.strip():
        todo = 'write CASE="why"; what is to last belongs into the file, with a date'
        raise UsageError(f"{text!r} is not CASE=reason", where="--allow", todo=todo)
    return Allowance(case, reason, today)


def apply(findings: Iterable[Finding], allowances: Sequence[Allowance], today: dt.date) -> list[Finding]:
    """The findings, with what is allowed marked so, and why; an allowance that has run out is named where it would."""
    changed = []
    for finding in findings:
        if not finding.blocks:
            changed.append(finding)
            continue
        held = next((one for one in allowances if one.covers(finding, today)), None)
        past = next((one for one in allowances if one.covers(finding, one.until)), None)
        if held is not None:
            why = f"{finding.why}; allowed until {held.until}: {held.reason}"
            changed.append(replace(finding, word="allowed", why=why))
        elif past is not None:
            changed.append(replace(finding, why=f"{finding.why}; it was allowed until {past.until}: {past.reason}"))
        else:
            changed.append(finding)
    return changed


def not_found(findings: Iterable[Finding], allowances: Iterable[Allowance]) -> list[Allowance]:
    """Allowances that are about nothing that was found: mended meanwhile, or a name that was mistyped.

    One that has run out, or that another one stands before, is about a finding as well.

    :param findings: final ones, before or after :func:`apply`, of all pairs: those of pairs that were not judged are
        not found, either.
    """
    about = [finding for finding in findings if finding.blocks or finding.word == "allowed"]
    return [one for one in allowances if not any(one.covers(finding, one.until) for finding in about)]
