"""Every model by its key: the catalogue's and the user's own."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from harness.corpus.catalogue import Entry
from harness.corpus.own import own_entry
from harness.errors import ConfigError, UsageError, close_to, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import ModuleType

    from harness.spec.config import Config, OwnModel

__all__ = ["catalogue_fetcher", "configured_entry", "load_catalogue", "pick"]


def load_catalogue(config: Config) -> dict[str, Entry]:
    """The catalogue module's ``ENTRIES`` and the configured own models, by key, in that order.

    Nothing is fetched or read before an entry is used, except what a configured model says about itself.

    :raises ConfigError: the catalogue cannot be imported or has no ``ENTRIES``; two models have one key.
    :raises UsageError, ModelRefused, DataError: see :func:`harness.corpus.own.own_entry`.
    """
    entries = dict(_module_entries(config.catalogue)) if config.catalogue else {}
    for own in config.models:
        entry = configured_entry(own)
        if entry.model.key in entries:
            raise ConfigError(
                f"two models have the key {entry.model.key!r}",
                where=str(config.file),
                todo=f'give {own.path.name} another one: key = "..."',
            )
        entries[entry.model.key] = entry
    return entries


def catalogue_fetcher(config: Config) -> Callable[[], object] | None:
    """The catalogue module's ``fetch_all``, which brings everything offline use and tests need, if it has one.

    :raises ConfigError: as :func:`load_catalogue`.
    """
    return getattr(_module(config.catalogue), "fetch_all", None) if config.catalogue else None


def configured_entry(own: OwnModel) -> Entry:
    """The entry of one ``[[models]]`` table; raises as :func:`harness.corpus.own.own_entry`."""
    return own_entry(
        own.path,
        axes=own.axes,
        range_=own.range,
        data=own.data,
        float_=own.float_,
        length_inputs=own.length_inputs,
        pads=own.pads,
        constants=own.constants,
        score=own.score,
        output=own.output,
        key=own.key,
        bounds=own.bounds,
        gains=own.gains,
    )


def pick(entries: Mapping[str, Entry], keys: Iterable[str], where: str = "--models") -> list[Entry]:
    """The entries of these keys, in this order; all of them where no key is given.

    :param where: what the keys were given to, for the message.
    :raises UsageError: a key that no model has; close ones are named.
    """
    wanted = list(keys) or list(entries)
    for key in wanted:
        if key not in entries:
            close = close_to(key, entries)
            raise UsageError(
                f"no model {key!r}",
                where=where,
                todo=f"did you mean {close[0]!r}?" if close else f"the models are {', '.join(entries) or 'none'}",
            )
    return [entries[key] for key in wanted]


def _module_entries(file: Path) -> Mapping[str, Entry]:
    entries = getattr(_module(file), "ENTRIES", None)
    if not isinstance(entries, dict) or not all(isinstance(entry, Entry) for entry in entries.values()):
        raise ConfigError("the catalogue has no ENTRIES", where=str(file), todo="ENTRIES: dict[str, Entry] = {...}")
    return entries


def _module(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError("no such catalogue", where=str(file), todo="set catalogue to a Python file with ENTRIES")
    package = (file.parent / "__init__.py").exists()
    above = str(file.parent.parent if package else file.parent)
    name = f"{file.parent.name}.{file.stem}" if package else file.stem
    if above not in sys.path:
        sys.path.insert(0, above)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the catalogue cannot be imported: {error}",
            where=str(file),
            todo="pip install -e '.[suites]' brings what the fixture models need",
            detail=last_lines(error),
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ConfigError(
            f"importing the catalogue fails: {type(error).__name__}: {error}",
            where=str(file),
            todo="repair it; it can be imported alone",
            detail=last_lines(error),
        ) from error
    if (module.__file__ or "") != str(file):
        raise ConfigError(
            f"{name} is another file here: {module.__file__}",
            where=str(file),
            todo="rename the catalogue or its folder",
        )
    return module
