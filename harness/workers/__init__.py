"""The coordinator's side: find environments, start a worker in one, call it with a deadline, survive its death."""

from __future__ import annotations

from harness.workers.environments import Environment, find_environments, select
from harness.workers.pool import Workers
from harness.workers.remote_engine import RemoteEngine
from harness.workers.worker import Worker

__all__ = ["Environment", "RemoteEngine", "Worker", "Workers", "find_environments", "select"]
