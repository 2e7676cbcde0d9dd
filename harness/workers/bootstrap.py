"""The first lines that run in a worker. execnet sends this file's text; nothing of harness is there yet.

CPython 3.10 syntax, standard library only.
"""

# ruff: noqa: ANN401 - the channel is execnet's

import faulthandler
import hashlib
import os
import resource
import signal
import site
import sys
import time
from pathlib import Path
from typing import Any


def redirect_output(log: str) -> None:
    """Standard output and error to the log, before any native library prints: execnet would share the parent's.

    On another host ``log`` is empty: standard error is ssh's there, and ends in a log on the coordinator's side.
    """
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    os.dup2(2, 1)
    faulthandler.enable(file=2, all_threads=False)


def tie_to_parent(parent: int) -> None:
    """Die with the coordinator, also when it is killed while native code here holds the interpreter lock.

    Linux only. Elsewhere the end of the channel ends the worker, but not before Python code runs again.
    """
    if sys.platform.startswith("linux") and parent:
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def own_packages_only() -> None:
    """Leave on the path what belongs to this interpreter.

    It was started isolated (-I), so what is missing is the user's own site-packages, outside virtual environments.
    """
    os.environ.pop("PYTHONPATH", None)
    if sys.prefix == sys.base_prefix and Path(site.getusersitepackages()).is_dir():
        site.addsitedir(site.getusersitepackages())


def wait_for(pid: int, seconds: float = 30.0) -> None:
    """Let the worker before this one go first: one that was killed gives the GPU's memory back when it is gone."""
    until = time.monotonic() + seconds
    while pid and Path("/proc", str(pid)).exists() and time.monotonic() < until:
        time.sleep(0.05)


def cache_folder(said: str) -> str:
    """The cache folder: the one that was said, else ``harness.paths.cache_dir`` as it is on this host.

    :raises OSError: it cannot be made.
    """
    variable, home = os.environ.get("TRT_INT8_HARNESS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    own = variable or str(Path(home or Path.home() / ".cache", "trt-int8-harness"))
    folder = Path(said or own).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder.resolve())


def receive_tree(channel: Any, folder: Path, manifest: dict[str, str]) -> None:
    """Bring ``folder`` to hold the files of the manifest (name to SHA-256), asking only for what it lacks."""
    folder.mkdir(parents=True, exist_ok=True)

    def damaged(name: str) -> bool:
        try:
            return hashlib.sha256((folder / name).read_bytes()).hexdigest() != manifest[name]
        except OSError:
            return True

    channel.send([name for name in manifest if damaged(name)])
    for name, content in channel.receive().items():
        scratch = folder / f"{name}.{os.getpid()}"
        scratch.write_bytes(content)
        scratch.replace(folder / name)


def main(channel: Any) -> None:
    """Set this process up, take the code of ``harness.runtimes``, and serve until the coordinator hangs up.

    Over the channel, in this order: in come the settings: ``log`` (path, empty for standard error), ``parent`` (process
    id, 0 for none), ``after`` (id of the worker before this one, where it may still be ending), ``variables`` (of the
    environment), ``cache`` (folder, empty for this host's own), ``tree`` (digest of the code), ``manifest`` (file name
    -> SHA-256 of it) and ``runtime`` (its name). Out goes ``{pid, python, cache, host}``. Then the files, see
    :func:`receive_tree`.
    Out goes ``""``, or why the code cannot be imported, which ends it. Then calls, see ``serve.serve``.

    :raises OSError: the log or the code cannot be written.
    """
    settings = channel.receive()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's; it ends its workers itself
    redirect_output(settings["log"])
    tie_to_parent(settings["parent"] or int(os.environ.get("HARNESS_GUARD", "0")))
    wait_for(settings["after"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is noticed at once, not after gigabytes of core
    own_packages_only()
    os.environ.update(settings["variables"])
    cache = cache_folder(settings["cache"])
    facts = {"pid": os.getpid(), "python": sys.version.split()[0], "cache": cache, "host": os.uname().nodename}
    channel.send(facts)
    root = Path(cache, "code", settings["tree"])
    receive_tree(channel, root / "harness_runtimes", settings["manifest"])
    sys.path.insert(0, str(root))
    try:
        from harness_runtimes.serve import serve  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        channel.send(str(error))
        return
    channel.send("")
    serve(channel, settings["runtime"], cache)


if __name__ == "__channelexec__":
    main(channel)  # type: ignore[name-defined]  # noqa: F821 - execnet puts it there
