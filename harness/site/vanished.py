"""Cases that are new since the run before, and those that are gone: what changed, too, and no record says it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from harness.site.reading import Group

__all__ = ["comings_and_goings"]

_GONE, _NEW = "not in the newest run", "new"


def comings_and_goings(groups: Sequence[Group]) -> dict[tuple[str, str, str], list[str]]:
    """Model, runtime and host -> what is new there or gone, in words.

    Compared are the two newest runs that have records of a kind on a runtime and a host: one that only timed says
    nothing of accuracy, and one of another runtime nothing at all. What is gone for longer is no longer news.
    """
    newest = _newest_two(groups)
    said: defaultdict[tuple[str, str, str], dict[tuple[str, str], str]] = defaultdict(dict)
    for group in groups:
        now, before = newest[group.runtime, group.host, group.kind]
        if before and group.run in {now, before}:
            is_new = group.run == now and group.previous_run is None
            word = _GONE if group.run == before else _NEW if is_new else ""
            said[group.model, group.runtime, group.host].setdefault((group.label, group.kind), word)
    return {key: found for key, words in said.items() if (found := _sentences(words))}


def _newest_two(groups: Iterable[Group]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Runtime, host and kind -> the newest run and the one before; an empty id where there is none."""
    times: defaultdict[tuple[str, str, str], dict[str, datetime]] = defaultdict(dict)
    for group in groups:
        mine = times[group.runtime, group.host, group.kind]
        for run, time in ((group.run, group.time), (group.previous_run, group.previous_time)):
            if run and time:
                mine[run] = max(time, mine.get(run, time))
    found = {}
    for key, mine in times.items():
        now, before, *_ = [*sorted(mine, key=mine.__getitem__, reverse=True), ""]
        found[key] = (now, before)
    return found


def _sentences(words: Mapping[tuple[str, str], str]) -> list[str]:
    """Said once where all of a row, or all kinds of a case, did the same.

    :param words: by case's label and kind; empty where nothing changed.
    """
    if len(set(words.values())) == 1:
        return [word for word in set(words.values()) if word]
    found = []
    for label in dict.fromkeys(label for label, _ in words):
        kinds = {kind: word for (one, kind), word in words.items() if one == label}
        if len(set(kinds.values())) == 1:
            found += [f"{label}: {word}" for word in set(kinds.values()) if word]
        else:
            found += [f"{label} {kind}: {word}" for kind, word in kinds.items() if word]
    return found
