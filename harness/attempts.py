"""A test of a case, and the test once more where a host was lost under it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["Attempts"]


class Attempts:
    """One test's attempts, each in its turn on the host that has the case then.

    :param timed: the test takes times, which only like hardware may take in a lost host's place.
    """

    def __init__(self, bench: Workbench, case: Case, *, timed: bool) -> None:
        self._bench, self._case, self._timed = bench, case, timed
        self._before = len(bench.records)
        self._tried: list[str] = []

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within, the test runs."""
        environment = self._bench.environment(self._case)
        self._tried.append(environment.name)
        with self._bench.turns.working(place_of(environment).host):
            yield

    def again(self, run: Callable[[], None], error: HarnessError) -> None:
        """Run the test again as long as it is lost hosts that end it, and there is where to.

        :param error: what the first attempt ended with.
        :raises HarnessError: what the last one did.
        """
        while self._bench.standins.go_on(self._case.runtime, error, self._tried, timed=self._timed):
            try:
                with self._bench.again(self._case, self._before), self.turn():
                    return run()
            except HarnessError as one:
                error = one
        raise error
