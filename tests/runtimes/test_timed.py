"""Kept feeds and timed bursts: by every clock, without sending the feed again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.runtimes.base import RuntimeFailure
from harness.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture
def engine(conv):
    engine = OnnxRuntime().load(str(conv), {})
    yield engine
    engine.close()


def test_every_clock_times_every_run(engine):
    engine.keep("short", {"x": np.ones((1, 4, 16), np.float32)})
    timed = engine.timed("short", 1, 5)
    assert set(timed) == {"wall_ns", "cpu_ns"}
    assert all(len(values) == 5 and min(values) > 0 for values in timed.values())


def test_a_feed_that_does_not_fit_is_refused_when_it_is_kept(engine):
    with pytest.raises(RuntimeFailure, match="shape"):
        engine.keep("bad", {"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize(("label", "warmup", "repeats"), [("unknown", 0, 1), ("kept", -1, 1), ("kept", 0, 0)])
def test_what_cannot_be_timed_is_said(engine, label, warmup, repeats):
    engine.keep("kept", {"x": np.ones((1, 4, 16), np.float32)})
    with pytest.raises(RuntimeFailure):
        engine.timed(label, warmup, repeats)


def test_nothing_is_kept_after_close(engine):
    engine.keep("kept", {"x": np.ones((1, 4, 16), np.float32)})
    engine.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        engine.timed("kept", 0, 1)


def test_several_contexts_run_a_round_together(engine):
    feed = {"x": np.ones((1, 4, 16), np.float32)}
    engine.keep("two", feed, contexts=2)
    timed = engine.timed("two", 1, 4)
    assert set(timed) == {"wall_ns"}
    assert len(timed["wall_ns"]) == 4
    assert min(timed["wall_ns"]) > 0
    with pytest.raises(RuntimeFailure, match="0 contexts"):
        engine.keep("none", feed, contexts=0)


def test_a_context_that_fails_is_told_and_nobody_waits_for_it(engine, monkeypatch):
    engine.keep("three", {"x": np.ones((1, 4, 16), np.float32)}, contexts=3)
    genuine, calls = engine.timed_impl, itertools.count()

    def failing(kept, warmup, repeats):
        if next(calls) == 4:  # in the second round
            raise RuntimeFailure("run", "out of memory")
        return genuine(kept, warmup, repeats)

    monkeypatch.setattr(engine, "timed_impl", failing)
    with pytest.raises(RuntimeFailure, match="out of memory"):
        engine.timed("three", 1, 5)


def test_a_kept_feed_is_what_is_timed(engine):
    feeds = {f"{value}": {"x": np.full((1, 4, 16), value, np.float32)} for value in (1, 2, 3)}
    for label, feed in feeds.items():
        engine.keep(label, feed)
        engine.timed(label, 0, 1)
    for label, feed in feeds.items():
        for name, values in engine.run(feed).items():
            np.testing.assert_array_equal(engine.result(label)[name], values)
