"""Builds that are ended in the middle, in a real worker process."""

from __future__ import annotations

import os
import signal
import threading
import time


def building(worker, cache, deadline_s=20.0):
    """The folder in which a build of this worker is half done."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = [path for path in (cache / "scratch").glob("worker.*/*") if path.is_dir()]
        if found:
            return found[0]
        time.sleep(0.005)
    raise AssertionError("no build has begun")


def kill_in_the_middle(worker, cache, number=signal.SIGKILL):
    def kill():
        (building(worker, cache) / "engine").write_bytes(b"half an engine")
        os.kill(worker.pid, number)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread
