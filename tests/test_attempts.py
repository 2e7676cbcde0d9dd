"""Tests under which a host is lost, with real workers over two real sshd: where they go on, and what is recorded."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import onnxruntime
import pytest

from harness.attempts import Attempts
from harness.corpus.own import own_entry
from harness.errors import EnvironmentMissing, HostLost, HostUnreachable
from harness.results.store import Store, read_run
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.matrix import Matrix
from harness.workbench import Workbench
from harness.workers import Environment, Workers
from harness.workers.standins import Standins, pools_of
from harness.workers.turns import Turns

VERSION = onnxruntime.__version__
INT8 = Calibration(Method("minmax"), Policy.RAGGED)
MATRIX = Matrix(samples=6, tests=1, launches=2, blocks=2)


@pytest.fixture
def bench(own_model, own_data, sshd, second_sshd, tmp_path, monkeypatch):
    """A workbench whose cases of the first host may move to the second one."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    entry = own_entry(own_model, axes=["x:2=length"], range_="16:256", data=own_data)
    made = [
        Environment(
            f"onnxruntime-{VERSION}-cpu@{server.label}", sys.executable, "onnxruntime", VERSION, {}, server.host
        )
        for server in (sshd, second_sshd)
    ]
    environments = {one.name: one for one in made}
    run = Store(tmp_path / "results").open_run()
    with Workers(deadline_s=60) as workers:
        standins = Standins(environments, workers, pools_of(environments))
        bench = Workbench({"small": entry}, environments, workers, run, MATRIX, 0, None, standins)
        yield bench
        bench.close()
    if sshd.stopped:
        sshd.start()


@pytest.fixture
def case(bench):
    return Case("small", next(iter(bench.environments)), Precision.INT8, INT8, "single")


def attempt(bench, case, run, *, timed=False):
    """As pytest's plugin runs a test."""
    attempts = Attempts(bench, case, timed=timed)
    try:
        with attempts.turn():
            run()
    except (HostLost, EnvironmentMissing) as error:
        attempts.again(run, error)


def recorded(bench):
    return [(one["case"], one["values"]) for one in read_run(bench.run.path)]


def compared(bench, cases, between):
    """A test that records several arms."""

    def run():
        for one in cases:
            found = bench.accuracy(one, bench.served(one))
            bench.record("calibration", one, "compared", buckets=len(found))
            between()

    return run


def gone(sshd):
    """With all that runs there, as when the power goes."""
    for pid in () if sshd.stopped else sshd.descendants():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not sshd.stopped:
        sshd.stop()


def test_what_was_recorded_before_the_loss_stays_and_the_rest_is_the_other_hosts(bench, case, sshd, second_sshd):
    arms = [case, replace(case, calibration=replace(INT8, policy=Policy.PAD))]
    attempt(bench, case, compared(bench, arms, lambda: gone(sshd)))
    moved = replace(arms[1], runtime=list(bench.environments)[1])
    assert recorded(bench) == [(arms[0].id, {"buckets": 3}), (moved.id, {"buckets": 3, "moved_from": case.runtime})]
    (_, last) = read_run(bench.run.path)
    assert (last["fields"]["runtime"], last["environment"]["host"]) == (moved.runtime, second_sshd.hostname)
    assert bench.standins.why_not(case.runtime, timed=True) == "", "it is the same CPU"


def test_a_cut_connection_is_tried_again_on_the_same_host(bench, case, sshd):
    done = []

    def run():
        served = bench.served(case)
        done.append(sshd.cut() if not done else 0)
        bench.record("accuracy", case, "unbounded", buckets=len(bench.accuracy(case, served)))

    attempt(bench, case, run)
    assert done == [1, 0]
    assert recorded(bench) == [(case.id, {"buckets": 3})]


def test_a_session_begins_anew_elsewhere(bench, case, sshd, second_sshd):
    started = []

    def fresh(arm):
        started.append(arm.environment.name)
        if len(started) == 4:  # the first of the second launch
            sshd.stop()
        return Workbench.fresh(bench, arm)

    bench.fresh = fresh
    attempt(bench, case, lambda: bench.timed(case), timed=True)
    outcome = bench.timed(case).outcome
    assert len(outcome.launches) == 2
    assert {one.core for one in outcome.launches} == {second_sshd.core}
    assert set(started[-6:]) == {list(bench.environments)[1]}
    assert outcome.lost == []


def test_where_nothing_takes_over_the_error_says_why(bench, case, sshd):
    bench.standins = Standins(bench.environments, bench.workers)
    # A connection that is already known to be dead is opened anew, and that is refused.
    with pytest.raises((HostLost, HostUnreachable), match=r"was lost .*, and .* has all cases of its own"):
        attempt(bench, case, compared(bench, [case] * 2, lambda: sshd.stopped or sshd.stop()))
    assert len(recorded(bench)) == 1


def test_nobody_works_here_while_a_session_goes_on(own_model, own_data, tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    entry = own_entry(own_model, axes=["x:2=length"], range_="16:256", data=own_data)
    here = Environment(f"onnxruntime-{VERSION}-cpu", sys.executable, "onnxruntime", VERSION)
    case = Case("small", here.name, Precision.INT8, INT8, "single")
    worked, seen, one_at_a_time = threading.Event(), [], threading.Lock()

    def work():
        with Turns(tmp_path).working("gpu1"):
            worked.set()

    other = threading.Thread(target=work)

    class Bench(Workbench):
        def fresh(self, arm):
            with one_at_a_time:
                if not seen:
                    other.start()
                seen.append(worked.is_set())
            return super().fresh(arm)

    with Workers(deadline_s=60) as workers:
        bench = Bench({"small": entry}, {here.name: here}, workers, None, MATRIX, 0, turns=Turns(tmp_path))
        attempt(bench, case, lambda: bench.timed(case), timed=True)
    other.join(30)
    assert worked.is_set()
    assert len(seen) == 6
    assert not any(seen)
