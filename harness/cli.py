"""The command line: what each command is called, and how an error ends."""

from __future__ import annotations

import errno
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.commands.calibrate import calibrate
from harness.commands.console import complain
from harness.commands.doctor import doctor
from harness.commands.environments import environments
from harness.commands.examples import FIRST_HOUR, teach
from harness.commands.explain import explain
from harness.commands.fetch import fetch
from harness.commands.gate import gate
from harness.commands.init import init
from harness.commands.lint import lint
from harness.commands.mix import mix
from harness.commands.models import models
from harness.commands.report import report
from harness.commands.results import results
from harness.commands.selftest import selftest
from harness.commands.trtexec import trtexec
from harness.errors import HarnessError, WriteFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

_INTERRUPTED = 130
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class _Group(click.Group):
    """A group that ends an interrupted command itself: click would print an empty line and exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=FIRST_HOUR)
@click.version_option(__version__, prog_name="harness", message="%(prog)s %(version)s")
def cli() -> None:
    """INT8 for ONNX models whose input length varies: calibrate from ragged data, check and measure."""


for _command in (
    init, lint, calibrate, mix, fetch, models, environments, doctor, trtexec, explain, gate, selftest, results, report,
):  # fmt: skip
    cli.add_command(_command)
teach(cli)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A :class:`HarnessError` ends as its message, on stderr.

    :param arguments: without the program's name; ``sys.argv``'s where None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(words, "harness", standalone_mode=False, obj=shlex.join(["harness", *words]))
    except HarnessError as error:
        complain(str(error))
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        complain(error.format_message() + _advice(error))
        return error.exit_code
    except click.Abort:
        complain("interrupted")
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        failed = WriteFailed(
            f"cannot write: {error.strerror}",
            where=str(error.filename2 or error.filename or ""),
            todo="free some space, or set TRT_INT8_HARNESS_CACHE to a folder with room",
        )
        complain(str(failed))
        return failed.exit_code
    return result if isinstance(result, int) else 0


def _advice(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"\n  -> see {context.command_path} --help" if context else ""
