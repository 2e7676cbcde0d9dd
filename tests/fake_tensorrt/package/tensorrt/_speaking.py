"""What the library says, by the logger that it was given."""

from __future__ import annotations

import sys
from typing import Any


def say(api: Any, logger: Any, severity: str, message: str) -> None:
    """Call ``logger.log``; what it raises does not get out, as it would not out of C++."""
    try:
        logger.log(api.enum("ILogger.Severity", severity), message)
    except Exception as error:
        print(f"[ERROR] Exception caught in log(): {error}", file=sys.stderr)


class Logger:
    """``trt.Logger``: to stderr, from a severity up."""

    def __init__(self, api: Any, min_severity: Any) -> None:
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self.min_severity):
            print(f"[TRT] [{'FEWIV'[int(severity)]}] {msg}", file=sys.stderr)
