from __future__ import annotations

from harness.gate.steps import Steps
from harness.report.pace import Pace


class Seen:
    def __init__(self):
        self.lines = []

    def show(self, pace, doing):
        self.lines.append((pace.done, pace.total, doing))

    def close(self):
        pass


def test_pairs_one_after_the_other_and_what_is_asked_again():
    seen = Seen()
    steps = Steps(Pace(["a", "b"]), seen)
    for pair in ("a", "b", "b", "a"):
        for step in ("build", "latency"):
            steps(pair, step)
    assert seen.lines == [
        (0, 2, "a: build"),
        (0, 2, "a: latency"),
        (1, 2, "b: build"),
        (1, 2, "b: latency"),
        (2, 3, "b, asked again: build"),
        (2, 3, "b, asked again: latency"),
        (3, 4, "a, asked again: build"),
        (3, 4, "a, asked again: latency"),
    ]
