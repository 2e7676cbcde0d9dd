from __future__ import annotations

import gc

import numpy as np
import pytest

from harness.runtimes.base import BatchPlayback, Engine, RuntimeFailure, machine_facts, read_options


class Doubler(Engine):
    """x float32 [1, ?] -> y, twice x."""

    def __init__(self) -> None:
        signature = {"dtype": "float32", "shape": [1, None]}
        super().__init__([{"name": "x", **signature}], [{"name": "y", **signature}])
        self.freed = 0
        self.collecting: list[bool] = []

    def run_impl(self, feeds):
        return {"y": feeds["x"] * 2}

    def burst_impl(self, feeds, warmup, repeats):  # noqa: ARG002
        self.collecting.append(gc.isenabled())
        return [1] * repeats

    def close_impl(self):
        self.freed += 1


X = np.ones((1, 3), np.float32)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"z": X}, "no input is called 'z'"),
        ({}, "'x' is missing"),
        ({"x": X.tolist()}, "is a list"),
        ({"x": X.astype(np.float64)}, "is float64, the engine takes float32"),
        ({"x": X.astype(">f4")}, "takes float32"),
        ({"x": X[0]}, r"has shape \[3\], the engine takes \[1, \?\]"),
        ({"x": np.ones((2, 3), np.float32)}, r"has shape \[2, 3\]"),
    ],
)
def test_a_feed_that_does_not_fit_never_reaches_the_runtime(feeds, said):
    engine = Doubler()
    for call in (engine.run, lambda f: engine.burst(f, 0, 1)):
        with pytest.raises(RuntimeFailure, match=said) as caught:
            call(feeds)
        assert caught.value.kind == "run"
    assert engine.collecting == []


def test_a_closed_engine_refuses_calls_and_is_freed_once():
    engine = Doubler()
    np.testing.assert_array_equal(engine.run({"x": X})["y"], 2 * X)
    engine.close()
    engine.close()
    assert engine.freed == 1
    for call in (lambda: engine.run({"x": X}), lambda: engine.burst({"x": X}, 0, 1), engine.coverage):
        with pytest.raises(RuntimeFailure, match="closed") as caught:
            call()
        assert caught.value.kind == "usage"


def test_nothing_is_collected_during_a_burst():
    engine = Doubler()
    assert engine.burst({"x": X}, 0, 4) == [1] * 4
    assert engine.collecting == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(("warmup", "repeats"), [(-1, 1), (0, 0)])
def test_a_burst_has_at_least_one_timed_call(warmup, repeats):
    with pytest.raises(RuntimeFailure, match="burst"):
        Doubler().burst({"x": X}, warmup, repeats)


def test_batches_are_played_in_order_and_counted():
    playback = BatchPlayback([{"x": X * i} for i in range(3)])
    seen = [playback.next(lambda batch: float(batch["x"][0, 0])) for _ in range(4)]
    assert seen == [0.0, 1.0, 2.0, None]
    assert (playback.consumed, playback.supplied) == (3, 3)
    playback.check()


def test_batches_left_over_are_a_failure():
    playback = BatchPlayback([{"x": X}, {"x": X}])
    playback.next(len)
    with pytest.raises(RuntimeFailure, match="1 of 2 calibration batches") as caught:
        playback.check()
    assert caught.value.kind == "calibration"


def test_the_first_exception_in_a_callback_ends_the_data_and_surfaces():
    playback = BatchPlayback([{"x": X}] * 3)

    def upload(batch):
        raise MemoryError("no room on the device")

    assert playback.next(len) == 1
    assert playback.next(upload) is None
    assert playback.next(len) is None
    with pytest.raises(RuntimeFailure, match=r"batch 1 of 3 failed.*no room on the device"):
        playback.check()


def test_an_unknown_option_is_refused_by_name():
    assert read_options({"threads": 2}, {"threads": 1, "spinning": False}, "here") == {
        "threads": 2,
        "spinning": False,
    }
    with pytest.raises(RuntimeFailure, match="'thraeds'") as caught:
        read_options({"thraeds": 2}, {"threads": 1}, "here")
    assert "threads" in caught.value.todo


def test_machine_facts_are_plain_data():
    facts = machine_facts()
    assert facts["numpy"] == np.__version__
    assert facts["cpus"] >= 1
    assert facts["cpu"]
