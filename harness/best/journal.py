"""What a search has measured, as JSON Lines: kept over a crash, so that the same command goes on; and its budget."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from harness.results.record import encode, restored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Budget", "Journal", "Over", "Sample"]

Sample = dict[str, Any]
T = TypeVar("T")


class Over(Exception):
    """The budget does not reach for the next step."""


@dataclass
class Budget:
    """Seconds that a search may take.

    A step is begun where what such a step took last time still fits; the first one of its kind where anything is left.

    :param seconds: from now on.
    """

    seconds: float
    now: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _took: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._began = self.now()

    @property
    def spent(self) -> float:
        return self.now() - self._began

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    def step(self, kind: str, work: Callable[[], T], share: float = 1.0) -> T:
        """Do a step and remember what it took.

        :param kind: steps of one kind take about the same time.
        :param share: how much of the budget may be spent when it ends, 0 to 1.
        :raises Over: it does not fit.
        """
        if self.spent + self._took.get(kind, 0.0) > share * self.seconds or self.left <= 0:
            raise Over(kind)
        began = self.now()
        try:
            return work()
        finally:
            self._took[kind] = max(self.now() - began, 0.5 * self._took.get(kind, 0.0))

    def took(self, kind: str) -> float:
        """What the last step of a kind took, 0 where there was none."""
        return self._took.get(kind, 0.0)


class Journal:
    """Measured values by what they are of.

    :param path: the file; lines that are not whole are passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen, self._whole = _read(path)
        self.made = self.found = 0

    def value(
        self,
        rung: str,
        case: str,
        of: tuple[object, ...],
        measure: Callable[[], Sample],
        whole: Callable[[Sample], bool] = lambda _: True,
    ) -> Sample:
        """What was measured before, else what ``measure`` gives, written down before it is returned.

        :param of: everything else that the value depends on (digests, host, design).
        :param whole: says of what was measured whether it is kept; what a budget cut short is measured again.
        """
        key = self._key(rung, case, of)
        if key in self._seen:
            self.found += 1
            return self._seen[key]
        value = measure()
        self.made += 1
        if not whole(value):
            return value
        line = encode({"key": key, "rung": rung, "case": case, "value": value})
        with self.path.open("ab") as file:
            file.write(line if self._whole else b"\n" + line)
        self._whole = True
        self._seen[key] = restored(json.loads(line)["value"])
        return self._seen[key]

    def _key(self, rung: str, case: str, of: tuple[object, ...]) -> str:
        return hashlib.sha256(json.dumps([rung, case, *map(str, of)]).encode()).hexdigest()[:32]


def _read(path: Path) -> tuple[dict[str, Sample], bool]:
    """What was measured; and whether the last line is whole. A crash may have cut it short, or another search of the
    same model is writing it: the file is never written anew.
    """
    seen: dict[str, Sample] = {}
    read = path.read_bytes() if path.exists() else b""
    for line in read.splitlines():
        try:
            one = json.loads(line)
            seen[str(one["key"])] = restored(dict(one["value"]))
        except (ValueError, KeyError, TypeError):
            continue
    return seen, not read or read.endswith(b"\n")
