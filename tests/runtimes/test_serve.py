from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.runtimes.base import RuntimeFailure
from harness.runtimes.serve import Blobs, make_runtime, serve
from harness.runtimes.wire import pack_all, unpack_all


class Conversation:
    """The channel, as serve() sees it: what the coordinator sent, then its hanging up."""

    def __init__(self, *calls) -> None:
        self._calls, self.answers = list(enumerate(calls)), []

    def receive(self):
        if not self._calls:
            raise EOFError
        number, (method, *arguments) = self._calls.pop(0)
        return number, method, arguments

    def send(self, answer) -> None:
        self.answers.append(answer)


def _serve(tmp_path, *calls):
    conversation = Conversation(*calls)
    serve(conversation, "onnxruntime", str(tmp_path / "cache"))
    assert [number for number, _, _ in conversation.answers] == list(range(len(calls)))
    return [(fine, value) for _, fine, value in conversation.answers]


def test_a_file_is_received_loaded_and_run_until_the_coordinator_hangs_up(tmp_path, conv):
    content, feed = conv.read_bytes(), {"x": np.ones((1, 4, 5), np.float32)}
    digest = hashlib.sha256(content).hexdigest()
    answers = _serve(
        tmp_path,
        ("has", digest),
        ("receive", digest, content[:100], False),
        ("receive", digest, content[100:], True),
        ("has", digest),
        ("load", digest, {}),
        ("run", 1, pack_all(feed)),
        ("close", 1),
        ("run", 1, pack_all(feed)),
        ("fetch", digest, 100, 1 << 20),
    )
    assert [fine for fine, _ in answers] == [True] * 7 + [False, True]
    assert [answers[0][1], answers[3][1]] == [False, True]
    assert unpack_all(answers[5][1])["y"].shape == (1, 8, 5)
    assert answers[7][1]["kind"] == "usage"
    assert answers[8][1] == content[100:]


def test_every_exception_is_answered_as_plain_strings(tmp_path):
    answers = _serve(tmp_path, ("no_such_method",), ("load", "0" * 64, {}), ("describe",))
    assert [fine for fine, _ in answers] == [False, False, True]
    internal, missing = answers[0][1], answers[1][1]
    assert internal["kind"] == "internal"
    assert "Traceback" in internal["detail"]
    assert missing["kind"] == "build"
    assert all(isinstance(text, str) for data in (internal, missing) for text in data.values())


def test_a_file_damaged_on_its_way_is_not_kept(tmp_path):
    blobs = Blobs(str(tmp_path))
    with pytest.raises(RuntimeFailure, match="damaged"):
        blobs.receive("0" * 64, b"something else", last=True)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_an_unknown_runtime_is_named():
    with pytest.raises(RuntimeFailure, match="'tensorflow'"):
        make_runtime("tensorflow")
