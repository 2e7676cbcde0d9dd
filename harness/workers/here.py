"""Processes on this machine: an environment's interpreter, started by execnet."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from harness.errors import EnvironmentMissing

if TYPE_CHECKING:
    import execnet

    from harness.workers.environments import Environment

__all__ = ["gateway"]


def gateway(environment: Environment, group: execnet.Group) -> execnet.Gateway:
    """The environment's interpreter, started, and execnet's channel to it.

    :raises EnvironmentMissing: it does not start, or answers something else than Python does.
    """
    # -I: neither PYTHONPATH nor the current folder is on the worker's path. execnet splits its text at "//".
    python = shlex.quote(re.sub("//+", "/", environment.python))
    try:
        return group.makegateway(f"popen//python={python} -I")
    except (OSError, EOFError, AssertionError) as error:  # execnet asserts that the first byte is its own
        said = str(error) or "it answers something else than Python does"
        raise EnvironmentMissing(
            f"the interpreter does not start: {said}",
            where=f"{environment.name} ({environment.python})",
        ) from error
