"""Processes on other hosts, over the system's ssh: its configuration, agent and known hosts are the user's own.

execnet has ``ssh=`` for this, and ``popen`` for any command that leads to an interpreter. The latter is used: with the
former what ssh says goes to the terminal, it cannot be stopped before the interpreter has answered, and everything is
compressed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from execnet.gateway_io import popen_bootstrapline

from harness.errors import EnvironmentMissing, HostUnreachable
from harness.runtimes import probe as probe_program
from harness.spec.hosts import read_host
from harness.workers import ending, guard

if TYPE_CHECKING:
    from collections.abc import Sequence

    import execnet

    from harness.spec.hosts import Host
    from harness.workers.environments import Environment

__all__ = ["command", "gateway", "probe", "refused"]

CONNECT_S = 10
"""Unless the entry says otherwise by ``-o ConnectTimeout=``."""
_ALIVE_S, _ALIVE_COUNT = 15, 4
_LOST = 255  # ssh(1): its own exit status when an error occurred
_NOT_THERE = frozenset({126, 127})  # a shell's, for a program that it cannot start or find
_UNPACK = "import sys,zlib,base64;exec(zlib.decompress(base64.urlsafe_b64decode(sys.argv.pop(1))))"


def command(host: Host, python: str, arguments: Sequence[str]) -> list[str]:
    """The words that start an interpreter on a host, under the guard of ``guard.py``.

    No word asks anything of the user: what ssh cannot do without a password or a question fails.

    :param python: as the shell there finds it; ``~/`` at its beginning is the home folder there.
    """
    program = base64.urlsafe_b64encode(zlib.compress(Path(guard.__file__).read_bytes(), 9)).decode()
    order = {"arguments": list(arguments), "variables": dict(host.variables), "beat_s": guard.BEAT_S}
    ordered = base64.urlsafe_b64encode(json.dumps(order).encode()).decode()
    interpreter = f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)
    remote = f"exec {interpreter} -I -c {shlex.quote(_UNPACK)} {program} {ordered}"
    # Of two values for one option ssh takes the first: the entry's own.
    ours = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_S,
        "ServerAliveInterval": _ALIVE_S,
        "ServerAliveCountMax": _ALIVE_COUNT,
    }
    options = [word for name, value in ours.items() for word in ("-o", f"{name}={value}")]
    config = ["-F", host.config] if host.config else []
    return ["ssh", "-T", *config, *host.options, *options, host.destination, remote]


def gateway(environment: Environment, log: Path, group: execnet.Group, deadline_s: float) -> execnet.Gateway:
    """An interpreter on the environment's host that execnet talks to.

    :param log: takes what ssh says, and later the worker: its standard error comes over the connection.
    :raises EnvironmentMissing: the host cannot be reached within the deadline, or its interpreter does not start; the
        message has what ssh said.
    """
    host = read_host(environment.host)
    if shutil.which("ssh") is None:
        raise EnvironmentMissing("there is no ssh program", where=environment.name, todo="install an OpenSSH client")
    words = command(host, environment.python, ["-I", "-u", "-c", popen_bootstrapline])
    number = log.with_suffix(".pid")
    # The shell ignores what execnet appends. It tells ssh's process id, which execnet only knows once Python answers.
    script = f"echo $$ >{shlex.quote(str(number))}; exec {shlex.join(words)} 2>>{shlex.quote(str(log))}"
    # execnet splits its text at "//", which in a file's name is the same as "/".
    spec = re.sub("//+", "/", shlex.join(["sh", "-c", script, "sh"]))
    expired = threading.Event()
    timer = threading.Timer(deadline_s, _expire, (expired, number))
    timer.daemon = True
    timer.start()
    failed = ""
    try:
        made = group.makegateway(f"popen//python={spec}")
    except (OSError, EOFError):
        made = None
    except AssertionError:  # execnet's own, of the first byte
        made = None
        failed = "it answers something else than Python does: does a start-up file of the shell there print something?"
        _expire(threading.Event(), number)
    finally:
        timer.cancel()
        number.unlink(missing_ok=True)
    process: Any = None if made is None else cast("Any", made._io).popen  # noqa: SLF001 - execnet offers no other way
    if made is not None and process.poll() is None and not expired.is_set():
        return made
    code = None if process is None else process.wait()
    if expired.is_set():
        failed = f"no answer within {deadline_s:g} s"
    group.terminate(timeout=0.5)
    raise refused(host, environment.python, code, ending.log_tail(log), failed, where=environment.name)


def _expire(expired: threading.Event, number: Path) -> None:
    expired.set()
    with suppress(OSError, ValueError):
        _kill(int(number.read_text("ascii")))


def _kill(pid: int) -> None:

    os.kill(pid, signal.SIGKILL)


def refused(
    host: Host, python: str, code: int | None, said: str, failed: str = "", *, where: str = ""
) -> EnvironmentMissing:
    """Why nothing started on a host, of what ssh left behind.

    :param code: ssh's exit status. :param said: what it, the shell there and Python said on standard error.
    :param failed: what is known beside that.
    """
    lines = [line for line in said.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    place = f"{where} ({host})" if where else str(host)
    if failed:
        return EnvironmentMissing(failed, where=f"{place}, {python}", todo=f"try it: {host} true", detail=said)
    if code in _NOT_THERE:
        return EnvironmentMissing(
            f"no such interpreter there: {last or python}",
            where=f"{place}, {python}",
            todo="give the path of a python program on that host",
            detail=said,
        )
    if code in (_LOST, None):
        what = f"cannot be reached: {last or 'ssh ended without a word'}"
        todo = f"make this work without a question: {host} true"
        return HostUnreachable(what, where=place, todo=todo, detail=said)
    what = f"the interpreter does not start there: {last or ending.how(ending.of_ssh(code))}"
    return EnvironmentMissing(what, where=f"{place}, {python}", todo=f"try it: {host} {python} -V", detail=said)


def probe(host: Host, python: str, deadline_s: float = 60.0) -> list[dict[str, Any]]:
    """What ``runtimes/probe.py`` prints in an interpreter on a host: asked each time.

    :raises EnvironmentMissing: see :func:`gateway`.
    """
    if shutil.which("ssh") is None:
        raise EnvironmentMissing("there is no ssh program", where=str(host), todo="install an OpenSSH client")
    program = Path(probe_program.__file__).read_bytes()
    words = command(host, python, ["-I", "-"])
    try:
        done = subprocess.run(words, input=program, capture_output=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")
        raise refused(host, python, None, said, f"no answer within {deadline_s:g} s") from None
    answer = []
    for line in done.stdout.decode(errors="replace").splitlines():
        try:
            answer.append(json.loads(line))
        except ValueError:  # a library or a start-up file that prints, or a line cut off by a crash
            continue
    found = [line for line in answer if isinstance(line, dict)]
    if not found:
        raise refused(host, python, done.returncode, done.stderr.decode(errors="replace"))
    return found
