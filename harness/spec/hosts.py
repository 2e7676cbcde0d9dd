"""Other hosts: what ``host = "ssh=..."`` of an environment says, read without connecting to anything."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from harness.errors import UsageError

__all__ = ["Host", "read_host"]

# Those of ssh(1) that are followed by a value. Of the others several may stand in one word.
_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")


@dataclass(frozen=True)
class Host:
    """A machine that ssh reaches.

    :param text: as it was written: ``ssh=me@gpu1``, ``ssh=-p 2222 -i ~/.ssh/ci me@gpu1//env:CUDA_VISIBLE_DEVICES=1``.
    :param options: words for ssh before its destination.
    :param destination: ``me@gpu1``, or a name in ``~/.ssh/config``.
    :param config: a file in place of ``~/.ssh/config``; empty for that one.
    :param variables: (name, value) pairs of the environment that a worker starts with there.
    """

    text: str
    options: tuple[str, ...]
    destination: str
    config: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Which machine it is: ``gpu1``, with ``-p 2222`` ``gpu1-2222``.

        Two entries of one label are one host; who calls one machine by two names has two.
        """
        name = self.destination.removeprefix("ssh://").rpartition("@")[2]
        port = self._port
        return re.sub(r"[^\w.]+", "-", f"{name}-{port}" if port else name).strip("-")

    @property
    def name(self) -> str:
        """What stands behind the ``@`` of an environment's name: the label, and which GPUs where that was said.

        ``gpu1``, ``gpu1-cuda1``, ``gpu1-cuda2-3``.
        """
        return f"{self.label}-cuda{re.sub(r'[^0-9A-Za-z]+', '-', self.gpus)}" if self.gpus else self.label

    @property
    def gpus(self) -> str:
        """Which of its GPUs a worker sees, as ``CUDA_VISIBLE_DEVICES`` has them; empty for all."""
        return dict(self.variables).get("CUDA_VISIBLE_DEVICES", "")

    def __str__(self) -> str:
        return " ".join(["ssh", *self.options, self.destination])

    @property
    def _port(self) -> str:
        for word, value in pairwise((*self.options, "")):
            if word == "-p":
                return value
            if re.fullmatch(r"-p\d+", word):
                return word[2:]
            if word == "-o" and (found := re.fullmatch(r"(?i)port[ =](\d+)", value)):
                return found[1]
            if found := re.fullmatch(r"(?i)-oport=(\d+)", word):
                return found[1]
        return ""


@cache
def read_host(text: str) -> Host:
    """A host as execnet writes it: keys between ``//``, of which ``ssh``, ``ssh_config`` and ``env:NAME`` are known.

    :raises UsageError: it is written otherwise; what is wrong is said, and how it is written.
    """
    todo = 'write host = "ssh=user@host", options of ssh before it, "//ssh_config=FILE" or "//env:NAME=VALUE" behind'
    fields: dict[str, str] = {}
    for part in text.split("//"):
        key, equals, value = part.partition("=")
        if not equals or not value or not (key in {"ssh", "ssh_config"} or re.fullmatch(r"env:\w+", key)):
            raise UsageError(f"{part!r} in host {text!r} is not understood", todo=todo)
        if key in fields:
            raise UsageError(f"{key} stands twice in host {text!r}", todo=todo)
        fields[key] = value
    try:
        words = shlex.split(fields.pop("ssh", ""))
    except ValueError as error:
        raise UsageError(f"host {text!r}: {error}", todo=todo) from None
    if not words or words[-1].startswith("-") or _takes_value(words[-2:-1]):
        raise UsageError(f"host {text!r} names no machine", todo=todo)
    config = fields.pop("ssh_config", "")
    variables = tuple((key.removeprefix("env:"), value) for key, value in fields.items())
    return Host(text, tuple(words[:-1]), words[-1], config, variables)


def _takes_value(before: list[str]) -> bool:
    """Whether the word before the last one is an option whose value the last one is: ``-p 2222``."""
    return any(re.fullmatch(r"-\w*", word) and word[-1] in _WITH_VALUE and len(word) == 2 for word in before)
