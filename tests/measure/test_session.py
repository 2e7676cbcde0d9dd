"""Sessions on fake workers whose truth is known, and one on real ones."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import EnvironmentMissing, UsageError, WorkerDied
from harness.measure import launch, session
from harness.measure.arms import NULL, Arm, Design, Input, Question
from harness.measure.session import run_session
from harness.results.record import decode, encode, record
from harness.stats.sequential import PowerSpending, look_confidence
from harness.stats.verdict import Margins
from harness.workers import Worker, find_environments

from .conftest import ENVIRONMENT, Lab, arm, question

FEED = {"x": np.zeros(1, np.float32)}
FAST = Design(warm_ms=0.0, blocks=12)


def asked(lab, effect=0.0, *, seed=0, design=FAST, **options):
    return run_session(
        question(effect, options.pop("inputs", None)), design, Margins(), seed, start=lab.start, **options
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("effect", "words"),
    # A session may end with "not slower" before it is known to be faster.
    [(0.0, {"pass"}), (0.10, {"regression"}), (-0.08, {"improved", "pass"})],
)
def test_verdicts_on_known_truth(effect, words, seed):
    lab = Lab(seed)
    outcome = asked(lab, effect, seed=seed)
    assert outcome.verdict.word in words
    assert abs(outcome.traffic.point - np.log1p(effect)) < 0.01
    assert outcome.stopped_by in {"look", "proposal", "budget"}
    assert lab.open == 0


def test_a_clear_answer_stops_early():
    assert len(asked(Lab(1), 0.30).launches) < FAST.looks[-1]


def test_much_faster_is_an_improvement():
    assert asked(Lab(1), -0.30).verdict.word == "improved"


def test_noise_between_launches_is_inconclusive_with_advice():
    lab = Lab(3)
    lab.launch_sd = 0.15
    outcome = asked(lab, 0.035, design=Design(looks=(2, 3), warm_ms=0.0, blocks=4))
    assert outcome.verdict.word == "inconclusive"
    assert outcome.stopped_by in {"look", "budget"}
    assert "launch" in outcome.advice


@pytest.mark.parametrize("null_effect", [0.10, -0.10])
def test_a_null_control_that_differs_makes_the_session_invalid(lab, null_effect):
    lab.null_effect = null_effect
    outcome = asked(lab, 0.10)
    assert outcome.verdict.word == "invalid"
    assert outcome.verdict.exit_code == 4
    assert "the baseline differs from its own copy" in outcome.verdict.why


def test_throttled_clocks_make_a_session_on_a_device_invalid(lab, monkeypatch):
    """Asked between blocks: when the workers are gone, an idle GPU has forgotten it."""
    open_then = []

    def throttled():
        open_then.append(lab.open)
        return ["GPU 0 is throttled: hardware thermal"] if len(open_then) == 3 else []

    monkeypatch.setattr(launch, "throttled", throttled)
    assert asked(Lab(0), 0.0).verdict.word == "pass"  # judged by a host clock
    assert open_then == []
    lab.clocks = ("wall_ns", "device_ns")
    outcome = asked(lab, 0.0)
    assert outcome.verdict.word == "invalid"
    assert outcome.verdict.why == "GPU 0 is throttled: hardware thermal"
    assert outcome.launches[0].throttled == ("GPU 0 is throttled: hardware thermal",)
    assert set(open_then) == {3}


def test_load_and_throttling_are_those_of_the_workers_host(lab, monkeypatch):
    monkeypatch.setattr(launch.os, "getloadavg", None)
    lab.clocks = ("wall_ns", "device_ns")
    gpus = [{"throttled_by": ["idle"]}, {"throttled_by": ["hardware thermal"]}]
    lab.machine = {"load": [7.0, 8.0, 9.0], "gpus": gpus}
    there = replace(ENVIRONMENT, host="ssh=gpu1")
    sides = (replace(side, environment=there) for side in (arm("baseline"), arm("candidate")))
    question = Question(*sides, (Input("8", 8, FEED),))
    outcome = run_session(question, Design(looks=(2,), warm_ms=0.0, blocks=4), Margins(), 1, start=lab.start)
    assert outcome.verdict.word == "invalid"
    assert outcome.verdict.why == "GPU 1 is throttled: hardware thermal"
    assert [one.load for one in outcome.launches] == [(7.0, 8.0, 9.0)] * 2


def test_a_worker_that_dies_costs_its_launch_and_no_more(lab):
    lab.dies(arm="candidate", at=17)  # in the second launch, of 12 blocks
    outcome = asked(lab, 0.0)
    assert outcome.verdict.word == "pass"
    assert len(outcome.lost) == 1
    assert "SIGKILL" in outcome.lost[0]
    assert len(lab.started) == 3 * (len(outcome.launches) + 1)
    assert all(len(bursts) == 12 for one in outcome.launches for of in one.samples.values() for bursts in of.values())
    assert lab.open == 0


def test_too_many_lost_launches_are_invalid(lab):
    def start(one):
        if one.label == NULL:
            raise WorkerDied("out of memory", where=one.label)
        return lab.start(one)

    outcome = run_session(question(), FAST, Margins(), 0, start=start)
    assert outcome.verdict.word == "invalid"
    assert "3 of 3 launches were lost: null control: out of memory" in outcome.verdict.why
    assert outcome.stopped_by == "lost launches"
    assert (outcome.launches, outcome.traffic, outcome.null, outcome.per_input) == ([], None, None, {})
    encode(record("latency", "run", outcome.record()))


def test_a_clock_that_goes_back_costs_its_launch(lab):
    lab.gives([1000, -20], arm="baseline", at=3, clock="cpu_ns")
    outcome = asked(lab, 0.10)
    assert outcome.verdict.word == "regression"
    assert len(outcome.lost) == 1
    assert outcome.seconds["lost"] > 0
    assert "arm 'baseline', input '8', block 2, cpu_ns: a duration of -20 ns" in outcome.lost[0]


def test_a_clock_that_does_not_judge_costs_nothing_and_is_kept(lab):
    lab.gives([1000, 10**9], arm="baseline", at=3, clock="wall_ns")  # a stall
    outcome = asked(lab, 0.10)
    assert (outcome.verdict.word, outcome.lost) == ("regression", [])
    assert outcome.launches[0].samples["baseline"]["8"][2]["wall_ns"] == [1000, 10**9]


def test_a_processor_clock_too_coarse_for_the_runs_gives_way_to_the_wall_clock(lab):
    lab.trouble = lambda *call: {**call[-1], "cpu_ns": [0] * len(call[-1]["cpu_ns"])}
    outcome = asked(lab, 0.10)
    assert (outcome.verdict.word, outcome.clock, outcome.lost) == ("regression", "wall_ns", [])


def test_a_process_that_does_not_start_later_on_costs_its_launch(lab):
    def start(one):
        if len(lab.started) == 4:  # the second launch
            lab.started.append("none")
            raise EnvironmentMissing("the interpreter does not start: cannot allocate memory", where=one.label)
        return lab.start(one)

    outcome = run_session(question(), FAST, Margins(), 0, start=start)
    assert outcome.verdict.word == "pass"
    (lost,) = outcome.lost
    assert "cannot allocate memory" in lost


def test_a_clock_that_cannot_tell_two_durations_apart_proves_nothing(lab):
    """Ticks of 0.5 us in a run of 20 us: candidate and baseline are one tick apart, 2.5 %, in every run."""
    lab.clocks = ("wall_ns", "device_ns")
    values = {"baseline": 20_000, NULL: 20_000, "candidate": 20_500}
    lab.trouble = lambda arm, *call: {name: [values[arm]] * 5 for name in call[-1]}
    outcome = asked(lab)
    assert outcome.verdict.word == "inconclusive"  # 0 to 5 %
    assert outcome.traffic.interval.half_width == pytest.approx(0.025)


def test_lost_launches_make_gains_invalid_that_were_there(lab):
    def start(one):
        if len(lab.started) >= 6:
            raise WorkerDied("out of memory", where=one.label)
        return lab.start(one)

    outcome = run_session(question(-0.5), FAST, Margins(), 0, gains={"8": 1.2, "traffic": 1.2}, start=start)
    assert (outcome.verdict.word, len(outcome.launches)) == ("invalid", 2)
    assert {gain.word for gain in outcome.gains.values()} == {"invalid"}


@pytest.mark.parametrize("launches", [2, 5])
def test_a_budget_that_ends_a_session_between_looks_leaves_its_level(lab, launches, monkeypatch):
    """What is left of the level is spent there, not the nominal one beside what earlier looks have spent."""
    lab.launch_sd = 0.1
    ticks = iter(range(10_000))
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    design = Design(looks=(4, 6, 8), warm_ms=0.0, blocks=6, budget_s=2 * launches - 1)
    outcome = asked(lab, 0.05, design=design)
    assert (outcome.stopped_by, len(outcome.launches)) == ("budget", launches)
    looks = (*(look for look in design.looks if look < launches), launches)
    confidence = look_confidence(len(looks) - 1, looks, 0.10, spending=PowerSpending())
    assert outcome.traffic.interval.confidence == pytest.approx(confidence)
    assert outcome.per_input["8"].interval.confidence == pytest.approx(confidence)
    if launches == 5:
        assert confidence > 0.9


def test_a_runtime_that_is_not_there_is_no_lost_launch(lab):
    def start(one):
        raise EnvironmentMissing("no onnxruntime", where=one.environment.name)

    with pytest.raises(EnvironmentMissing, match="no onnxruntime"):
        run_session(question(), FAST, Margins(), 0, start=start)


def test_a_clock_that_nobody_has(lab):
    with pytest.raises(UsageError, match="no clock 'device_ns'"):
        asked(lab, design=Design(clock="device_ns", warm_ms=0.0))
    assert lab.open == 0


@pytest.mark.parametrize(
    ("clocks", "judge"),
    [(("wall_ns", "cpu_ns"), "cpu_ns"), (("wall_ns",), "wall_ns"), (("wall_ns", "cpu_ns", "device_ns"), "device_ns")],
)
def test_which_clock_judged_is_said(lab, clocks, judge):
    lab.clocks = clocks
    assert asked(lab).clock == judge


def test_the_budget_ends_a_session(lab):
    lab.launch_sd = 0.2
    outcome = asked(lab, 0.03, design=Design(budget_s=1e-6, warm_ms=0.0))
    assert outcome.stopped_by == "budget"
    assert len(outcome.launches) == 1
    assert outcome.verdict.word == "inconclusive"


def test_the_same_seed_gives_the_same_order_and_launch_seeds():
    def order(seed):
        lab = Lab(7)
        outcome = asked(lab, 0.0, seed=seed)
        assert outcome.seed == seed
        return [launch.seed for launch in outcome.launches], lab.in_block()

    assert order(11) == order(11)
    assert order(11)[0] != order(12)[0]
    assert len(set(order(11)[0])) == len(order(11)[0])  # launches are not copies of one another


def test_lengths_are_estimated_apart_and_weighed_by_their_traffic(lab):
    """Only the long input got slower; it is a quarter of the calls and a hundred times as long."""
    slow = {"long": 0.10, "short": 0.0}
    lab.times = {"short": 0.1, "long": 10.0}

    def trouble(label, of, warmup, clocks):
        factor = 1 + (slow[of] if label == "candidate" else 0)
        return {name: [int(value * factor) for value in values] for name, values in clocks.items()}

    lab.trouble = trouble
    inputs = (Input("short", 8, FEED, 3.0), Input("long", 800, FEED, 1.0))
    outcome = asked(lab, inputs=inputs)
    assert outcome.verdict.word == "regression"
    assert abs(outcome.per_input["short"].point) < 0.02
    assert abs(outcome.per_input["long"].point - np.log(1.1)) < 0.02
    assert outcome.traffic.point > 0.08
    weighed = asked(lab, inputs=(Input("short", 8, FEED, 1e6), Input("long", 800, FEED, 1.0)))
    assert weighed.verdict.word == "pass"


def test_an_input_without_weight_is_estimated_but_not_counted(lab):
    def trouble(label, of, warmup, clocks):
        factor = 1.2 if label == "candidate" and of == "long" else 1
        return {name: [int(value * factor) for value in values] for name, values in clocks.items()}

    lab.trouble = trouble
    outcome = asked(lab, inputs=(Input("short", 8, FEED), Input("long", 800, FEED, 0.0)))
    assert outcome.verdict.word == "pass"
    assert abs(outcome.per_input["long"].point - np.log(1.2)) < 0.02


def test_a_gain_is_judged_at_its_input_and_for_the_traffic(lab):
    outcome = asked(lab, -0.30, gains={"8": 1.2, "traffic": 1.6})
    assert {label: gain.word for label, gain in outcome.gains.items()} == {"8": "pass", "traffic": "missed"}
    assert outcome.record()["gains"]["traffic"]["verdict"] == "missed"


def test_a_session_goes_on_until_a_gain_is_clear():
    def launches(gains):
        count = 0
        for seed in range(5):
            lab = Lab(seed)
            lab.launch_sd = 0.05
            count += len(asked(lab, -0.30, gains=gains).launches)  # 1.43 times as fast
        return count

    assert launches({"8": 1.40}) > launches({"8": 1.0})


@pytest.mark.parametrize("seed", range(6))
def test_a_session_with_gains_ends_at_its_looks_alone(seed):
    """Proposals come after every launch of a clear case: a gain that was judged at each would not hold its level."""
    assert asked(Lab(seed), -0.30).stopped_by == "proposal"
    lab = Lab(seed)
    lab.launch_sd = 0.02
    outcome = asked(lab, -0.30, gains={"8": 1 / 0.7})
    assert len(outcome.launches) in FAST.looks
    assert outcome.stopped_by in {"look", "budget"}


def test_a_gain_that_stays_open_says_what_it_takes():
    lab = Lab(2)
    lab.launch_sd = 0.02
    outcome = asked(lab, -0.30, gains={"8": 1.43}, design=Design(looks=(3, 4), blocks=6, warm_ms=0.0))
    assert (outcome.verdict.word, outcome.gains["8"].word) == ("improved", "inconclusive")
    assert outcome.advice


def test_a_gain_in_an_invalid_session_is_invalid(lab):
    lab.null_effect = 0.2
    assert asked(lab, -0.5, gains={"8": 1.2}).gains["8"].word == "invalid"


def test_a_gain_of_an_input_that_is_not_there(lab):
    with pytest.raises(UsageError, match="a gain at '9', which is no input"):
        asked(lab, gains={"9": 1.2})


def test_durations_of_batches_and_contexts_count_for_one_sample(lab):
    lab.clocks = ("wall_ns",)
    both = question()
    many = Question(both.baseline, replace(both.candidate, batch=4, contexts=2), both.inputs)
    outcome = run_session(many, FAST, Margins(), 0, start=lab.start)
    assert abs(outcome.traffic.point + np.log(8)) < 0.01


def test_builds_are_the_unit_where_there_are_several(lab):
    """Builds differ by 5 %, launches of a build hardly: with 12 launches of 3 builds, 3 is what counts."""
    lab.launch_sd = 0.001
    files = (Path("0.0.onnx"), Path("0.05.onnx"), Path("0.1.onnx"))
    one = question()
    sides = replace(one.baseline, rebuilt=files[:1] * 2), replace(one.candidate, artefact=files[0], rebuilt=files[1:])
    outcome = run_session(Question(*sides, one.inputs), FAST, Margins(), 0, start=lab.start)
    assert (outcome.traffic.builds, outcome.verdict.word) == (3, "inconclusive")
    assert [launch.build for launch in outcome.launches] == [i % 3 for i in range(12)]


def test_each_launch_is_told(lab):
    told = []
    outcome = asked(lab, on_launch=lambda number, known: told.append((number, known)))
    assert [number for number, _ in told] == list(range(1, len(outcome.launches) + 1))
    assert told[-1][1] == outcome.verdict.why


def test_everything_is_in_the_record(lab):
    outcome = asked(lab, 0.1)
    kept = decode(encode(record("latency", "run", outcome.record(), seed=outcome.seed)))["values"]
    assert kept["verdict"] == "regression"
    assert kept["design"]["looks"] == list(FAST.looks)
    assert kept["launches"][0]["samples"]["candidate"]["8"] == outcome.launches[0].samples["candidate"]["8"]
    assert kept["launches"][0]["cold"]["baseline"]["first_run_ns"] > 0
    assert set(kept["seconds"]) == {"starting", "warming", "measuring", "lost"}
    json.dumps(kept["traffic"])


def test_a_real_session(tmp_path):
    """Real workers, a tiny chain: any verdict may come out on a busy machine, and no process may stay."""
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Exp", ["a"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx")
    environment = next(one for one in find_environments(tmp_path) if one.python == sys.executable)
    random = np.random.default_rng(0)
    feeds = [{"x": random.random((n, 64), np.float32)} for n in (4, 32)]
    workers = []

    def start(one):
        workers.append(Worker(one.environment))
        return workers[-1]

    path = Path(tmp_path / "t.onnx")
    outcome = run_session(
        Question(Arm("a", environment, path), Arm("b", environment, path),
                 tuple(Input(str(len(feed["x"])), len(feed["x"]), feed) for feed in feeds)),
        Design(looks=(2,), blocks=3, warm_ms=1.0, pinned=True), Margins(), 5, start=start,
    )  # fmt: skip
    assert outcome.verdict.word in {"pass", "minor", "regression", "improved", "inconclusive", "invalid"}
    assert len(outcome.launches) == 2
    assert outcome.lost == []
    assert outcome.clock == "cpu_ns"
    assert set(outcome.per_input) == {"4", "32"}
    assert {launch.core for launch in outcome.launches} <= os.sched_getaffinity(0)
    assert len(workers) == 6
    assert not any(worker.alive for worker in workers)
    assert not any(Path(f"/proc/{worker.pid}").exists() for worker in workers)


def test_arms_under_other_settings_are_refused():
    with pytest.raises(UsageError, match="threads: 1 against 2"):
        Question(arm("baseline"), arm("candidate", threads=2), (Input("8", 8, FEED),))
