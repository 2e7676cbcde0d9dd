"""One launch over fake workers: order, warm-up, what is recorded, and what makes it unusable."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import EnvironmentMissing, WorkerDied
from harness.measure.arms import NULL, Design, Input, null_of
from harness.measure.launch import LaunchLost, run_launch

from .conftest import FakeWorker, arm

FEED = {"x": np.zeros(1, np.float32)}
ARMS = (arm("baseline"), arm(NULL), arm("candidate", 0.1))
INPUTS = (Input("8", 8, FEED), Input("32", 32, FEED, 3.0))
FEW = Design(blocks=6, warm_ms=0.0)


def launched(lab, seed=0, design=FEW, inputs=INPUTS):
    return run_launch(ARMS, inputs, design, seed, start=lab.start)


def test_every_arm_and_input_once_a_block(lab):
    launch = launched(lab)
    size = len(ARMS) * len(INPUTS)
    done = lab.in_block()
    assert len(done) == 6 * size
    for start in range(0, len(done), size):
        block = done[start : start + size]
        assert len(set(block)) == size
        halves = [{label for _, label in block[:3]}, {label for _, label in block[3:]}]
        assert sorted(map(len, halves)) == [1, 1]  # an input's arms run one after the other
    assert {arm: {label: len(bursts) for label, bursts in of.items()} for arm, of in launch.samples.items()} == {
        one.label: {"8": 6, "32": 6} for one in ARMS
    }


def test_the_order_comes_from_the_seed_and_is_recorded(lab):
    def order(seed):
        before = len(lab.calls)
        launch = launched(lab, seed)
        assert launch.seed == seed
        return [(arm, label) for arm, label, warmup, _ in lab.calls[before:] if warmup]

    assert order(1) == order(1) != order(2)


def test_the_order_changes_from_block_to_block(lab):
    launched(lab, design=Design(blocks=40, warm_ms=0.0))
    done = lab.in_block()
    blocks = [tuple(done[start : start + 6]) for start in range(0, len(done), 6)]
    assert len(set(blocks)) > 20
    assert {block[0][1] for block in blocks} == {"8", "32"}
    assert any(one != other for one, other in itertools.pairwise(blocks))


def test_all_clocks_are_recorded(lab):
    lab.clocks = ("wall_ns", "cpu_ns", "device_ns")
    burst = launched(lab).samples["candidate"]["8"][0]
    assert sorted(burst) == ["cpu_ns", "device_ns", "wall_ns"]
    assert all(len(values) == 8 for values in burst.values())  # 8 ms of 1 ms runs


def test_short_runs_get_longer_bursts_and_the_same_for_all_arms(lab):
    lab.times = {"8": 0.01, "32": 100.0}
    launched(lab, design=Design(blocks=1, warm_ms=0.0, burst_ms=8, burst_least=3, burst_most=30))
    repeats = {label: {n for _, of, warmup, n in lab.calls if warmup and of == label} for label in ("8", "32")}
    assert repeats == {"8": {30}, "32": {3}}


def test_cold_start_is_recorded_apart(lab):
    launch = launched(lab)
    assert set(launch.cold) == {one.label for one in ARMS}
    for cold in launch.cold.values():
        assert cold.load_s >= 0
        assert cold.first_run_ns > 0
        assert set(cold.shape_change_ns) == {"8", "32"}
    first = [call[1:] for call in lab.calls if call[0] == "candidate"][:3]
    assert first == [("8", 0, 1), ("32", 0, 1), ("8", 0, 1)]  # first run, then changes of shape, before any warming up
    assert launched(lab, inputs=INPUTS[:1]).cold["candidate"].shape_change_ns == {}


def test_a_switch_of_profiles_is_no_change_of_shape(lab):
    feeds = {n: {"x": np.zeros((1, n), np.float32)} for n in (8, 16, 32)}
    inputs = tuple(Input(str(n), n, feed) for n, feed in feeds.items())
    lab.profiles = [{"x": [[1, 1], [1, 8], [1, 16]]}, {"x": [[1, 17], [1, 32], [1, 64]]}]
    for cold in launched(lab, inputs=inputs).cold.values():
        assert set(cold.shape_change_ns) == {"16"}
        assert set(cold.profile_switch_ns) == {"32", "8"}
    lab.profiles = [{"x": [[1, 1], [1, 8], [1, 64]]}]
    for cold in launched(lab, inputs=inputs).cold.values():
        assert set(cold.shape_change_ns) == {"8", "16", "32"}
        assert cold.profile_switch_ns == {}


def test_what_it_cost_is_recorded(lab):
    launch = launched(lab)
    assert set(launch.seconds) == {"starting", "warming", "measuring"}
    assert len(launch.load) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([0] * 8, "a duration of 0 ns"),
        ([1000, -3], "a duration of -3 ns"),
        ([math.nan], "a duration of nan ns"),
        ([], "a burst without durations"),
        ([1000, 10**9], "the clock jumped"),
    ],
)
@pytest.mark.parametrize("clock", ["wall_ns", "cpu_ns", "device_ns"])
def test_a_clock_that_misbehaves_is_named_with_arm_input_and_block(lab, wrong, said, clock):
    lab.clocks = ("wall_ns", clock)  # the second one judges
    lab.gives(wrong, arm="candidate", at=5, clock=clock)
    with pytest.raises(LaunchLost) as raised:
        launched(lab)
    text = str(raised.value)
    assert said in text
    assert "arm 'candidate', input '" in text
    assert f"block 2, {clock}" in text
    assert lab.open == 0


@pytest.mark.parametrize("wrong", [0, math.nan, -1])
def test_a_broken_clock_is_found_while_warming_up(lab, wrong):
    def broken(arm, label, warmup, clocks):
        return {**clocks, "wall_ns": [wrong]}

    lab.trouble = broken
    with pytest.raises(LaunchLost, match="warming up"):
        launched(lab)
    assert lab.open == 0


def test_what_did_not_settle_is_said(lab):
    steps = itertools.count()

    def swinging(arm, label, warmup, clocks):
        if arm != "candidate" or label != "32" or warmup:
            return clocks
        duration = 10**6 * (1 + next(steps) % 2)
        return {name: [duration] for name in clocks}

    lab.trouble = swinging
    assert launched(lab, design=Design(blocks=1, warm_ms=0.0)).unsettled == ("candidate, 32",)
    lab.trouble = lambda *call: call[-1]
    assert launched(lab).unsettled == ()


def test_a_process_is_no_ones_label(lab):
    """A candidate whose process has the baseline's label for a name does not run in the baseline's."""
    run_launch((ARMS[0], ARMS[1], replace(ARMS[2], process="baseline")), INPUTS, FEW, 0, start=lab.start)
    assert sorted(lab.started) == ["baseline", "candidate", NULL]


def test_a_worker_that_dies(lab):
    lab.dies(arm=NULL, at=4)
    with pytest.raises(LaunchLost, match="SIGKILL"):
        launched(lab)
    assert lab.open == 0


def test_a_worker_that_dies_before_it_is_pinned(lab, monkeypatch):
    def gone(self, core):
        raise WorkerDied("it was gone before it was pinned")

    monkeypatch.setattr(FakeWorker, "pin", gone)
    with pytest.raises(LaunchLost, match="gone before it was pinned"):
        launched(lab)
    assert lab.open == 0


def test_workers_of_one_thread_share_a_core_that_is_drawn_anew(lab):
    drawn = {launched(lab, seed, Design(blocks=1, warm_ms=0.0)).core for seed in range(12)}
    assert len(lab.pinned) == 3 * 12
    for start in range(0, 36, 3):
        assert len({core for _, core in lab.pinned[start : start + 3]}) == 1
    assert drawn == os.sched_getaffinity(0)  # of 12 draws


def test_workers_of_several_threads_are_not_pinned(lab):
    many = [replace(one, options={"threads": 2}) for one in ARMS]
    assert run_launch(many, INPUTS, FEW, 0, start=lab.start).core is None
    assert lab.pinned == []


def test_an_engine_for_each_input_and_the_builds_one(lab):
    split = {"8": Path("0.1.onnx"), "32": Path("0.2.onnx")}
    arms = (*ARMS[:2], replace(ARMS[2], artefact=Path("0.0.onnx"), rebuilt=(split,)))
    arms = tuple(one if one.rebuilt else replace(one, rebuilt=(Path("0.0.onnx"),)) for one in arms)
    assert run_launch(arms, INPUTS, FEW, 0, build=1, start=lab.start).build == 1
    assert [name for label, name in lab.loaded if label == "candidate"] == ["0.1.onnx", "0.2.onnx"]
    assert [name for label, name in lab.loaded if label == NULL] == ["0.0.onnx"]  # one that serves both


def test_arms_may_share_a_process_but_not_the_null_control(lab):
    baseline, candidate = (replace(one, process="both") for one in (ARMS[0], ARMS[2]))
    run_launch((baseline, null_of(baseline), candidate), INPUTS, FEW, 0, start=lab.start)
    assert sorted(lab.started) == ["baseline", NULL]
    assert len(lab.loaded) == 3
    assert lab.open == 0


def test_a_batch_is_stacked_and_contexts_are_asked_for(lab):
    feed = {"x": np.zeros((1, 4), np.float32), "scale": np.float32(1)}
    many = replace(ARMS[2], batch=8, contexts=2)
    run_launch((*ARMS[:2], many), (Input("8", 8, feed),), FEW, 0, start=lab.start)
    assert ("candidate", "8", {"x": (8, 4), "scale": ()}, 2) in lab.kept
    assert ("baseline", "8", {"x": (1, 4), "scale": ()}, 1) in lab.kept


@pytest.mark.parametrize("error", [WorkerDied("at once"), EnvironmentMissing("no such interpreter")])
def test_when_one_worker_does_not_start_the_others_are_ended(lab, error):
    def start(one):
        if one.label == NULL:
            raise error
        return lab.start(one)

    with pytest.raises((LaunchLost, EnvironmentMissing), match=error.what):
        run_launch(ARMS, INPUTS, FEW, 0, start=start)
    assert sorted(lab.started) == ["baseline", "candidate"]
    assert lab.open == 0
