"""Whole gates over two stand-ins of TensorRT: what is planted in the candidate is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from harness.corpus.own import own_entry
from harness.errors import HostLost, UsageError
from harness.gate import gate as gates
from harness.gate.findings import Finding
from harness.gate.gate import Gate, Settings, only_builds
from harness.gate.latency import TRAFFIC, compare_latency
from harness.results.store import Store
from harness.spec.latency import LatencyConfig, LatencySettings
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from tests.fake_tensorrt import interpreter, models

OLD, NEW = "tensorrt-8.5.3.1", "tensorrt-8.6.1"
MATRIX = Matrix(
    precisions=("fp32", "int8"), methods=("minmax",), layouts=("single",), routes=("qdq",), compared=(), samples=4,
    tests=6, builds=2, launches=2, blocks=2,
)  # fmt: skip
WIDE = LatencyConfig(LatencySettings(tolerated=3.0, caught=9.0))
"""Times of a stand-in say nothing: only what is ten times as slow would be seen."""


class Lab:
    def __init__(self, folder, workers):
        self.folder, self.workers = folder, workers
        (folder / "data").mkdir()
        for length in (4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 20, 24, 30, 40, 50, 60):
            x = np.random.default_rng(length).normal(size=(1, 4, length)).astype(np.float32)
            np.savez(folder / "data" / f"{length}.npz", x=x)
        (folder / "conv.onnx").write_bytes(models.conv())
        self.entry = own_entry(folder / "conv.onnx", axes=["x:2=n"], range_="4:16:64", data=folder / "data")
        self.run = Store(folder / "results").open_run()
        self.sides = {
            name: Environment(
                name, str(interpreter(name.removeprefix("tensorrt-"), folder / name)), "tensorrt", version
            )
            for name, version in ((OLD, "8.5.3.1"), (NEW, "8.6.1"))
        }

    def bench(self, seed=0):
        return Workbench({"conv": self.entry}, self.sides, self.workers, self.run, MATRIX, seed, WIDE)

    def gate(self, make=None):
        make = make or self.bench
        settings = Settings(budget_s=30, builds=2)
        return Gate(make(0), lambda: make(1), self.sides[OLD], self.sides[NEW], settings).run()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    with Workers(deadline_s=60) as workers:
        yield Lab(tmp_path, workers)


@pytest.fixture
def untimed(monkeypatch):
    """Nothing is timed: sessions are most of what a gate costs, and other tests here have them."""

    def passes(bench, pair, stage, *_):
        return [Finding(pair.name, "latency", "pass", "not timed", TRAFFIC, p=1.0, stage=stage)]

    monkeypatch.setattr(gates, "compare_latency", passes)


def words(outcome, *aspects):
    return {(one.case, one.aspect, one.where): one.word for one in outcome.findings if one.aspect in aspects}


def test_sides_on_different_hosts_are_refused_before_anything_is_built(lab):
    far = replace(lab.sides[NEW], host="ssh=gpu1")
    with pytest.raises(UsageError, match="different hosts: this machine against gpu1"):
        Gate(lab.bench(0), lambda: lab.bench(1), lab.sides[OLD], far, Settings())


@pytest.mark.parametrize("step", ["build", "served"])
def test_a_lost_host_is_no_regression(lab, step):
    class Away(Workbench):
        pass

    def lost(self, case, number=0):
        if case.runtime == OLD:
            return getattr(Workbench, step)(self, case)
        raise HostLost("the connection to gpu1 was lost")

    setattr(Away, step, lost)
    with pytest.raises(HostLost) as caught:
        lab.gate(lambda seed: Away({"conv": lab.entry}, lab.sides, lab.workers, lab.run, MATRIX, seed, WIDE))
    assert caught.value.exit_code == 5


def test_the_same_engines_pass(lab):
    outcome = lab.gate()
    assert [pair.name for pair in outcome.pairs.both] == ["conv-fp32-single", "conv-int8-minmax-ragged-single"]
    assert set(words(outcome, "builds", "coverage", "accuracy").values()) == {"pass"}
    assert outcome.word in {"pass", "inconclusive"}, [one for one in outcome.findings if one.blocks]
    assert not outcome.first, "nothing was asked again"


class Planted(Workbench):
    """Gives one side files with a fault in them."""

    fault = staticmethod(lambda path: path)

    def _made(self, case):
        made = super()._made(case)
        return tuple(self.fault(path) for path in made) if case.runtime == NEW and case.calibration else made


def planted(lab, fault):
    class Faulty(Planted):
        pass

    Faulty.fault = staticmethod(fault)
    return lambda seed: Faulty({"conv": lab.entry}, lab.sides, lab.workers, lab.run, MATRIX, seed, WIDE)


def scaled(path, factor):
    """The step of the input's quantization, times a factor."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    (node,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants]
    for name in set(node.input[1:2]):
        value = np.asarray(numpy_helper.to_array(constants[name]) * factor, np.float32)
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    target = Path(path).with_name(f"{Path(path).stem}-{factor}.onnx")
    onnx.save(model, target)
    return target


def unknown(path):
    """With an operator that no parser knows."""
    model = onnx.load(path)
    model.graph.node[-1].op_type = "NoSuchOperator"
    target = Path(path).with_name(f"{Path(path).stem}-unknown.onnx")
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(("factor", "timed"), [(0.25, True), (4.0, False)])
def test_a_wrong_scale_is_found_confirmed_and_blocks(lab, factor, timed, request):
    if not timed:
        request.getfixturevalue("untimed")
    outcome = lab.gate(planted(lab, lambda path: scaled(path, factor)))
    assert outcome.word == "regression"
    blocked = [one for one in outcome.findings if one.blocks]
    assert {(one.case, one.aspect) for one in blocked} == {("conv-int8-minmax-ragged-single", "accuracy")}
    assert {one.stage for one in blocked} == {2}
    assert all("confirmed" in one.why and "stage 1" in one.why for one in blocked)
    assert all(word == "pass" for (case, *_), word in words(outcome, "accuracy").items() if "fp32" in case)


def test_an_opt_that_was_moved_is_found_in_the_engine(lab, untimed):
    """What a builder, or an engine out of the wrong cache, was not asked for."""

    class Moved(Workbench):
        def build_options(self, case, index, count):
            options = super().build_options(case, index, count)
            if case.runtime == NEW:
                (profile,) = options["profiles"]
                low, _, high = profile["x"]
                options["profiles"] = [{"x": [low, low, high]}]
            return options

    outcome = lab.gate(lambda seed: Moved({"conv": lab.entry}, lab.sides, lab.workers, lab.run, MATRIX, seed, WIDE))
    assert outcome.word == "regression"
    blocked = [one for one in outcome.findings if one.blocks]
    assert {one.where for one in blocked} == {"profile 0"}
    assert all("opt of x [1, 4, 16] before, [1, 4, 4] now" in one.why for one in blocked)


def test_what_no_longer_builds_blocks_and_the_rest_is_compared(lab):
    outcome = lab.gate(planted(lab, unknown))
    found = words(outcome, "builds", "accuracy")
    assert found["conv-int8-minmax-ragged-single", "builds", ""] == "regression"
    assert found["conv-fp32-single", "accuracy", "short"] == "pass"
    assert outcome.word == "regression"


def test_the_second_stage_builds_anew_and_times_as_often_as_was_said_before(lab):
    bench = lab.bench()
    pair = Gate(bench, lab.bench, lab.sides[OLD], lab.sides[NEW], Settings(builds=2)).pairs.both[0]
    assert [facts["cached"] for facts, _ in bench.build(pair.candidate)] == [False]
    assert [facts["cached"] for facts, _ in lab.bench().build(pair.candidate)] == [True]
    again = lab.bench(1)
    again.first_build = 2
    assert [facts["cached"] for facts, _ in again.build(pair.candidate)] == [False]
    sessions = []
    for stage in (1, 2):
        compare_latency(again, pair, stage, 2.0, sessions.append)
    assert [session.design.looks for session in sessions] == [(2,), (8,)]


def test_a_fault_that_is_there_once_does_not_block(lab, untimed):
    seeds = []

    def make(seed):
        seeds.append(seed)
        return planted(lab, (lambda path: scaled(path, 4.0)) if seed == 0 else (lambda path: path))(seed)

    outcome = lab.gate(make)
    assert seeds == [0, 1]
    assert outcome.first
    assert not [one for one in outcome.findings if one.blocks]
    again = [one for one in outcome.findings if one.stage == 2]
    assert all(one.why.startswith("not confirmed") for one in again)


def test_what_a_side_did_not_build_is_named_as_not_compared(lab):
    gates = []
    make = planted(lab, unknown)
    gates.append(Gate(make(0), lambda: make(1), lab.sides[OLD], lab.sides[NEW], Settings(budget_s=30, builds=2)))
    gates[0].run()
    left = {(one.case, one.aspect): one.why for one in gates[0].not_compared}
    for aspect in ("accuracy", "latency"):
        assert left["conv-int8-minmax-ragged-single", aspect] == f"{NEW} did not build it"
        assert ("conv-fp32-single", aspect) not in left


def test_two_sides_that_only_build_are_both_named_with_what_would_help():
    why = "no GPU: the CUDA driver is missing; pycuda is not installed: pip install pycuda; it is a source package"
    sides = [Environment(name, "p", "tensorrt-rtx", "1", can_run=False, why=why) for name in ("rtx-1.6", "rtx-1.7")]
    assert only_builds(sides) == "rtx-1.6 and rtx-1.7 only build here: no GPU: the CUDA driver is missing"
    assert only_builds(sides[:1]) == "rtx-1.6 only builds here: no GPU: the CUDA driver is missing"
    alone = replace(sides[0], why="pycuda is not installed: pip install pycuda; it is a source package")
    assert "pip install pycuda" in only_builds([alone]), "with a GPU it is all that is missing"
