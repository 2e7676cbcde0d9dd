"""Workers that are kept between cases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from harness.errors import HostLost, WorkerDied, WorkerHung
from harness.workers.ending import log_tail
from harness.workers.engines import key_of
from harness.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from harness.workers.environments import Environment

__all__ = ["Workers"]

_TAIL_LINES = 100
_LOGS = 5


class Workers:
    """One worker an environment, kept between cases; one that died is replaced by a new one."""

    def __init__(self, log_dir: Path | None = None, deadline_s: float = 60.0) -> None:
        self._log_dir, self.deadline_s = log_dir, deadline_s
        self._workers: dict[str, Worker] = {}
        self._fatal: dict[str, Callable[[], WorkerDied | WorkerHung]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, environment: Environment) -> Worker:
        """A living worker of that environment.

        :raises EnvironmentMissing: as :class:`Worker`.
        """
        worker = self._workers.get(environment.name)
        if worker is None:
            worker = self._workers[environment.name] = Worker(environment, self._log_dir, self.deadline_s)
        elif not worker.alive:
            worker.restart()
        return worker

    def build(
        self,
        environment: Environment,
        source: Path,
        options: Mapping[str, Any] | None = None,
        *,
        files: Mapping[str, Path] | None = None,
        deadline_s: float | None = None,
    ) -> tuple[dict[str, Any], Path]:
        """:meth:`Worker.build` in a living worker; a build that ended its worker is not tried again.

        Several tests ask for the same engine. One whose build hangs would cost the deadline each time. A host that was
        lost meanwhile says nothing of the build, which is tried again when it is asked for again.

        :param deadline_s: as :meth:`Worker.build` takes it; never more than what all calls have.

        :raises WorkerDied, WorkerHung: it ended the worker, now or earlier. :raises HostLost: as :meth:`Worker.call`.
        :raises HarnessError: as :meth:`Worker.build`.
        """
        beside = {role: str(path) for role, path in (files or {}).items()}
        options = dict(options or {})
        key = key_of(environment.name, environment.python, dict(environment.options), str(source), options, beside)
        if key in self._fatal:
            earlier = self._fatal[key]()
            raise earlier
        try:
            limit_s = None if deadline_s is None else min(deadline_s, self.deadline_s)
            return self.get(environment).build(source, options, limit_s, files=files)
        except HostLost:
            raise
        except (WorkerDied, WorkerHung) as error:
            todo = f"it was not tried again in this run; {error.todo}"
            self._fatal[key] = partial(type(error), error.what, where=error.where, todo=todo, detail=error.detail)
            raise

    def tails(self) -> dict[str, str]:
        """Environment -> the end of what its workers' libraries printed; without those that printed nothing.

        At most 100 lines each. Read before :meth:`close`: the log of a worker that ends well goes with it.
        """
        found = {}
        for name, worker in self._workers.items():
            said = [tail for log in worker.logs[-_LOGS:] if (tail := log_tail(log, _TAIL_LINES))]
            if said:
                found[name] = "\n".join("\n".join(said).splitlines()[-_TAIL_LINES:])
        return found

    def close(self) -> None:
        """End all of them."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
