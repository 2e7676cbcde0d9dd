"""Libraries that only the dashboard needs: the extra ``report``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from harness.errors import EnvironmentMissing

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["NEEDED", "library"]

NEEDED = ("jinja2", "ruptures", "vl_convert")


def library(name: str) -> ModuleType:
    """One of :data:`NEEDED`.

    :raises EnvironmentMissing: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EnvironmentMissing(
            f"{name} is not installed",
            where="harness report",
            todo="pip install 'trt-int8-harness[report]', or -e '.[report]' in a checkout",
        ) from error
