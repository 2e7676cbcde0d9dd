"""The coordinator's side: find environments, start a worker in one, call it with a deadline, survive its death."""

from __future__ import annotations

from harness.workers.environments import Environment, find_environments, select
from harness.workers.worker import RemoteEngine, Worker, Workers

__all__ = ["Environment", "RemoteEngine", "Worker", "Workers", "find_environments", "select"]
