"""Sessions of ONNX Runtime in this process, whose warnings are for nobody who reads the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["quiet_options"]

_ERROR = 3


def quiet_options(severity: int = _ERROR) -> onnxruntime.SessionOptions:
    """Options of a session that only says what is wrong; so do kernels, which warn past their session, in colour.

    :param severity: 3 for errors, 4 for what is fatal: as ONNX Runtime counts them.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(_ERROR)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = severity
    return options
