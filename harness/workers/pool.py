"""Workers that are kept between cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from harness.workers.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from harness.workers.environments import Environment

__all__ = ["Workers"]


class Workers:
    """One worker an environment, kept between cases; one that died is replaced by a new one."""

    def __init__(self, log_dir: Path | None = None, deadline_s: float = 60.0) -> None:
        self._log_dir, self.deadline_s = log_dir, deadline_s
        self._workers: dict[str, Worker] = {}

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

    def close(self) -> None:
        """End all of them."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
