"""Who takes over from a host that goes away, and who does not."""

from __future__ import annotations

import pytest

from harness.errors import EnvironmentMissing, HostLost, HostUnreachable, WorkerDied, WorkerHung
from harness.workers import Environment
from harness.workers.standins import Standins, computes_on, pools_of

LOST = HostLost("the connection was lost")


def environment(name, host="", **more):
    return Environment(name, "python", "tensorrt", "8.6", {}, host, **more)


ONE, TWO, THREE = (environment(f"tensorrt-8.6@gpu{n}", f"ssh=gpu{n}") for n in (1, 2, 3))
OTHER = environment("tensorrt-10@gpu2", "ssh=gpu2")
SECOND = environment("tensorrt-8.6@gpu1-cuda1", "ssh=gpu1//env:CUDA_VISIBLE_DEVICES=1")
HERE = environment("tensorrt-8.6")
BUILDS = environment("tensorrt-8.6@gpu4", "ssh=gpu4", can_run=False)


class Hosts:
    """Workers of hosts, as far as they are there."""

    def __init__(self, gpus=(), gone=(), broken=()):
        self.gpus, self.gone, self.broken, self.asked = dict(gpus), set(gone), dict(broken), []

    def get(self, environment):
        self.asked.append(environment.name)
        if environment.name in self.gone:
            raise HostUnreachable("cannot be reached: it is off")
        if environment.name in self.broken:
            raise self.broken[environment.name]
        return self.Of([{"name": self.gpus.get(environment.name, "H200")}])

    class Of:
        def __init__(self, gpus):
            self.gpus = gpus

        def machine(self):
            return {"gpus": self.gpus, "cpu": "a CPU"}


def standins(hosts, *environments, shared=True):
    named = {one.name: one for one in environments}
    made = Standins(named, hosts, pools_of(named) if shared else None)
    for one in environments:
        if one.name in hosts.gone:  # as it was when it was there
            made.seen(one, {"gpus": [{"name": "H200"}, {"name": "H200"}]})
    return made


def test_who_can_take_over():
    pools = pools_of({one.name: one for one in (ONE, TWO, OTHER, SECOND, HERE, BUILDS)})
    assert pools[ONE.name] == [TWO, HERE]
    assert pools[TWO.name] == [ONE, SECOND, HERE]
    assert pools[HERE.name] == [ONE, TWO, SECOND]
    assert pools[OTHER.name] == pools[BUILDS.name] == []


@pytest.mark.parametrize("error", [LOST, EnvironmentMissing("cannot be reached"), WorkerDied("signal SIGTERM")])
def test_what_was_to_run_on_a_lost_host_runs_on_another_one(error):
    made = standins(Hosts(gone=[ONE.name]), ONE, TWO)
    assert made.of(ONE.name) is ONE
    assert made.go_on(ONE.name, error, [ONE.name], timed=True)
    assert made.of(ONE.name) is TWO
    assert made.of(TWO.name) is TWO
    assert made.why_not(ONE.name, timed=True) == made.why_not(TWO.name, timed=True) == ""


def test_all_that_a_lost_host_has_is_lost():
    made = standins(Hosts(gone=[ONE.name, SECOND.name]), ONE, SECOND, TWO)
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=False)
    assert made.of(SECOND.name) is TWO


@pytest.mark.parametrize(
    "error", [EnvironmentMissing("no such interpreter there"), WorkerDied("signal SIGSEGV"), WorkerHung("no answer")]
)
def test_an_environment_that_is_broken_is_not_its_host(error):
    """Its interpreter was removed, say: what else is on that host runs on."""
    made = standins(Hosts(broken={ONE.name: error}), ONE, SECOND, TWO)
    died = WorkerDied("exit code 1")
    assert made.go_on(ONE.name, died, [ONE.name], timed=False)
    assert made.of(ONE.name) is TWO
    assert made.of(SECOND.name) is SECOND
    assert made.gone(SECOND) == made.why_not(SECOND.name, timed=True) == ""


def test_where_nobody_takes_over_from_a_broken_environment_it_is_named():
    made = standins(Hosts(broken={OTHER.name: EnvironmentMissing("no such interpreter there")}), OTHER, TWO)
    assert not made.go_on(OTHER.name, WorkerDied("exit code 1"), [OTHER.name], timed=False)
    said = made.why_not(OTHER.name, timed=False)
    assert said.startswith("tensorrt-10@gpu2 was lost (no such interpreter there), and no other host")
    assert made.of(TWO.name) is TWO


def test_a_connection_that_breaks_while_it_is_asked_is_the_hosts():
    made = standins(Hosts(broken={ONE.name: LOST}), ONE, SECOND, TWO)
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=False)
    assert made.of(SECOND.name) is TWO


def test_a_host_that_is_there_gets_it_back_once():
    hosts = Hosts()
    made = standins(hosts, ONE, TWO)
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=True)
    assert made.of(ONE.name) is ONE
    assert not made.go_on(ONE.name, LOST, [ONE.name, ONE.name], timed=True)
    assert made.why_not(ONE.name, timed=True) == ""


@pytest.mark.parametrize("error", [WorkerDied("signal SIGSEGV"), EnvironmentMissing("it cannot run there")])
def test_what_is_the_cases_own_fault_is_not_tried_again(error):
    assert not standins(Hosts(), ONE, TWO).go_on(ONE.name, error, [ONE.name], timed=False)


def test_this_machine_is_never_lost():
    hosts = Hosts()
    assert not standins(hosts, HERE, TWO).go_on(HERE.name, LOST, [HERE.name], timed=False)
    assert hosts.asked == []


def test_where_every_host_has_all_cases_nobody_takes_over():
    made = standins(Hosts(gone=[ONE.name]), ONE, TWO, shared=False)
    error = HostLost("the connection was lost")
    assert not made.go_on(ONE.name, error, [ONE.name], timed=False)
    why = "gpu1 was lost (cannot be reached: it is off), and tensorrt-8.6@gpu2 has all cases of its own"
    assert made.why_not(ONE.name, timed=False) == why
    assert error.what == f"the connection was lost; {why}"
    assert made.of(ONE.name) is ONE


def test_nobody_is_left():
    made = standins(Hosts(gone=[ONE.name, TWO.name]), ONE, TWO, OTHER)
    assert not made.go_on(ONE.name, LOST, [ONE.name], timed=False)
    assert made.why_not(ONE.name, timed=False).endswith("and no other host of this run has tensorrt-8.6")


def test_the_last_one_is_this_machine():
    made = standins(Hosts(gone=[ONE.name, TWO.name]), ONE, TWO, HERE)
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=True)
    assert made.of(ONE.name) is HERE


def test_times_are_taken_on_the_same_gpu_alone():
    made = standins(Hosts({TWO.name: "A100"}, gone=[ONE.name]), ONE, TWO)
    assert not made.go_on(ONE.name, HostLost("the connection was lost"), [ONE.name], timed=True)
    assert "its times are taken nowhere else: tensorrt-8.6@gpu2 computes on A100, not on H200" in made.why_not(
        ONE.name, timed=True
    )
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=False), "a build is a build"
    assert made.of(ONE.name) is TWO


def test_a_host_with_the_same_gpu_comes_first():
    made = standins(Hosts({TWO.name: "A100"}, gone=[ONE.name]), ONE, TWO, THREE)
    assert made.go_on(ONE.name, LOST, [ONE.name], timed=True)
    assert made.of(ONE.name) is THREE


def test_times_of_a_host_that_was_never_asked_are_not_taken_elsewhere():
    hosts = Hosts(gone=[ONE.name])
    made = Standins({ONE.name: ONE, TWO.name: TWO}, hosts, pools_of({ONE.name: ONE, TWO.name: TWO}))
    assert not made.go_on(ONE.name, HostLost("lost"), [], timed=True)
    assert "not on something unknown" in made.why_not(ONE.name, timed=True)


def test_what_an_environment_computes_on():
    machine = {"cpu": "a CPU", "gpus": [{"name": "A100"}, {"name": "H200"}]}
    assert computes_on(ONE, machine) == "A100"
    assert computes_on(SECOND, machine) == "H200"
    assert computes_on(Environment("o", "python", "onnxruntime", "1"), machine) == "a CPU"
    assert computes_on(ONE, {"gpus": None}) == computes_on(SECOND, {"gpus": [{"name": "A100"}]}) == ""
    named = environment("t", "ssh=gpu1//env:CUDA_VISIBLE_DEVICES=GPU-8932f937")
    assert computes_on(named, machine) == ""
