"""A real sshd on a free port of 127.0.0.1, with keys made for the test: other hosts, as far as ssh can tell."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["HOSTNAME", "Lacking", "Sshd"]

HOSTNAME = "loopback-gpu"


class Lacking(Exception):
    """There is no sshd here, or it cannot be started."""


class Sshd:
    """A server of its own for the user who runs the tests; ends with :meth:`close`.

    What runs there may use one core alone and, where the tests have the right to that, sees another host name: so that
    facts of that host can be told from those of this one.

    :param folder: for keys, configuration and log; other users must not be able to write to it.
    :param home: what a session there has as ``XDG_CACHE_HOME``: that host's own cache.
    :param number: of the host, from 1: each has a name and, as far as there are so many, a core of its own.
    :raises Lacking: with the reason.
    """

    def __init__(self, folder: Path, home: Path, number: int = 1) -> None:
        program = os.environ.get("HARNESS_SSHD") or shutil.which("sshd") or "/usr/sbin/sshd"
        for needed in (program, "ssh", "ssh-keygen", "taskset"):
            if shutil.which(needed) is None:
                raise Lacking(f"no {Path(needed).name} here; install it with: apt-get install openssh-server")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants that folder when it is root's
        self.folder, self.home = folder, home
        folder.chmod(0o700)
        for name in ("host", "user", "other"):
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name))
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {' '.join(key)}\n")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/sshd.pid\n"
            f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
            f"SetEnv XDG_CACHE_HOME={home}\n"
        )
        cores = sorted(os.sched_getaffinity(0))
        self.core = cores[(number - 1) % len(cores)]
        self._name = f"{HOSTNAME}{number}"
        renamed = ["unshare", "--uts", "sh", "-c", f"hostname {self._name}"]
        self.renames = bool(shutil.which("unshare")) and not subprocess.call(renamed, stderr=subprocess.DEVNULL)
        self._log = (folder / "sshd.log").open("wb")
        self._program = program
        self._process = self._started()
        login = subprocess.run(
            ["ssh", *shlex.split(self.host.removeprefix("ssh=")), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if login.returncode:
            self.close()
            raise Lacking(f"a login is refused: {login.stderr.strip()}; {self._said()}")

    @property
    def host(self) -> str:
        """As ``host`` of an environment."""
        return self.spec()

    @property
    def hostname(self) -> str:
        """What the system there says that it is called."""
        return self._name if self.renames else platform.node()

    @property
    def label(self) -> str:
        return f"127.0.0.1-{self.port}"

    def spec(self, *, key: str = "user", port: int = 0, behind: str = "") -> str:
        """The host, with another key or port, or with more behind it."""
        options = (
            f"-F none -p {port or self.port} -i {self.folder / key} -o IdentitiesOnly=yes "
            f"-o UserKnownHostsFile={self.folder}/known -o GlobalKnownHostsFile=none"
        )
        return f"ssh={options} {getpass.getuser()}@127.0.0.1{behind}"

    def cut(self) -> int:
        """Kill the servers of all connections, as a host that loses its network would; new ones can be made.

        :returns: how many connections there were.
        """
        found = self.sessions()
        _kill(found)
        return len(found)

    def sessions(self) -> list[int]:
        """Process ids of the servers of connections."""
        return [pid for pid in _descendants(self._process.pid) if _name(pid).startswith("sshd")]

    def descendants(self) -> list[int]:
        """Process ids of all that runs in sessions."""
        return _descendants(self._process.pid)

    def stop(self) -> None:
        """The host goes away: nothing listens any more, and all connections are lost."""
        connections = self.sessions()
        self._process.kill()
        self._process.wait()
        _kill(connections)

    @property
    def stopped(self) -> bool:
        """Whether nothing listens."""
        return self._process.poll() is not None

    def start(self) -> None:
        """Listen again."""
        self._process = self._started()

    def close(self) -> None:
        """End it, and the connections."""
        self.stop()
        self._log.close()

    def _started(self) -> subprocess.Popen[bytes]:
        words = [self._program, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if self.renames:
            words = ["unshare", "--uts", "sh", "-c", f'hostname {self._name}; exec "$@"', "sh", *words]
        words = ["taskset", "-c", str(self.core), *words]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        until = time.monotonic() + 10
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return process
            time.sleep(0.05)
        process.kill()
        process.wait()
        raise Lacking(f"sshd does not start: {self._said()}")

    def _said(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace").strip()

    def _run(self, *words: str) -> None:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = [], [root]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
