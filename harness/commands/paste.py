"""What ``harness doctor --report`` prints: a block of text for an issue, without what is nobody's business."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.paths import cache_dir
from harness.results.record import fingerprint
from harness.spec.hosts import read_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.commands.doctor import Health

__all__ = ["block", "scrubbed"]

_LOGS, _LINES = 3, 20
_SECRET = re.compile(r"(?i)([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|credential)[\w-]*\s*[=:]\s*)\S+")
_AUTHORIZATION = re.compile(r"(?i)(authorization\s*[=:]\s*).+")
_LOGIN = re.compile(r"(://)[^/\s@]+@")
_SHOWN = ("harness", "commit", "python", "platform", "cpu", "cores_usable", "memory_bytes")


def block(health: Health) -> str:
    """Versions, GPUs, every interpreter, and the last lines of the latest workers' logs, fenced for Markdown.

    The environment's variables and the host's name are left out, and other hosts are numbered; what else is hidden, see
    :func:`scrubbed`.
    """
    return "\n".join(["```text", scrubbed(_numbered("\n".join(_lines(health)), health)), "```"])


def _numbered(text: str, health: Health) -> str:
    """Other hosts by number: who may log in where is nobody's business."""
    hosts = dict.fromkeys(one.host for one in health.findings if one.host)
    for number, host in enumerate(map(read_host, hosts), 1):
        user, _, name = host.destination.rpartition("@")
        for known in sorted({str(host), host.text, host.destination, host.label, name}, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(known)}(?![\w.])", f"host{number}", text)
        if user:
            text = re.sub(rf"(?<!\w){re.escape(user)}@", "***@", text)
    return text


def scrubbed(text: str, home: Path | None = None) -> str:
    """The text with ``~`` for the home folder, and stars for logins in addresses and for what is called a secret.

    :param home: the user's own where None.
    """
    folders = {str(folder) for base in [home or Path.home()] for folder in (base, base.resolve())}
    for folder in sorted(folders - {"/"}, key=len, reverse=True):
        text = re.sub(re.escape(folder) + r"(?![\w.-])", "~", text)
    text = _AUTHORIZATION.sub(r"\1***", _SECRET.sub(r"\1***", text))
    return _LOGIN.sub(r"\1***@", text).replace("```", "'''")


def _lines(health: Health) -> Iterator[str]:
    facts = fingerprint()
    yield from (f"{name}: {facts[name]}" for name in _SHOWN)
    yield "libraries: " + ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    yield f"trtexec: {health.trtexec or 'not on PATH'}"
    for gpu in health.gpus:
        yield "GPU: " + ", ".join(f"{name} {value}" for name, value in gpu.items() if value is not None)
    if not health.gpus:
        yield "GPU: none"
    for one in health.findings:
        yield f"{one.name}: can {one.can}; Python {one.python_version or '?'}; {one.source}; {one.python}"
        if one.routes:
            yield f"  routes {', '.join(one.routes)}; precisions {', '.join(one.precisions)}"
        if one.why:
            yield f"  {one.why}"
    for log in _latest():
        yield f"log {log.name}:"
        yield from (f"  {line}" for line in _tail(log))


def _latest() -> list[Path]:
    """The latest logs that say anything; a worker that ended well has taken its own away."""
    written = {}
    for path in cache_dir("logs").glob("*.log"):
        with suppress(OSError):  # it was taken away in this moment
            status = path.stat()
            if status.st_size:
                written[path] = status.st_mtime
    return sorted(written, key=written.__getitem__)[-_LOGS:]


def _tail(log: Path) -> list[str]:
    try:
        return log.read_text("utf-8", errors="replace").splitlines()[-_LINES:]
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
