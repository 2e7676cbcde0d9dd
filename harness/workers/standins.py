"""Hosts that go away in the middle of a run, and the environments that take over what was to run there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import EnvironmentMissing, HostLost, HostUnreachable, WorkerDied, WorkerError
from harness.spec.hosts import read_host
from harness.workers.places import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.errors import HarnessError
    from harness.workers.environments import Environment
    from harness.workers.pool import Workers

__all__ = ["Standins", "computes_on", "pools_of"]


def pools_of(environments: Mapping[str, Environment]) -> dict[str, list[Environment]]:
    """Environment name -> those with the same runtime and version on other hosts, which can do as much."""
    return {
        name: [
            other
            for other in environments.values()
            if other.name.partition("@")[0] == name.partition("@")[0]
            and place_of(other).host != place_of(one).host
            and (other.can_run, other.can_build) == (one.can_run, one.can_build)
        ]
        for name, one in environments.items()
    }


def computes_on(environment: Environment, machine: Mapping[str, Any]) -> str:
    """The name of the GPU, or of the CPU, that an environment's engines run on; empty where it is not known.

    :param machine: as :func:`harness.runtimes.machine.machine` has it.
    """
    device = place_of(environment).device
    if device == "CPU":
        return str(machine.get("cpu") or "")
    gpus, number = machine.get("gpus") or [], device.removeprefix("GPU ")
    known = number.isdecimal() and int(number) < len(gpus)  # a GPU may be named by its UUID, too
    return str(gpus[int(number)].get("name") or "") if known else ""


class Standins:
    """Which environment runs what was to run in which, for one run. What went away stays away: a host with all that
    it has, or one environment whose interpreter is gone or whose process does not live, while others there go on.

    :param environments: all of the run, by name.
    :param pools: environment name -> those that may take over from it: see :func:`pools_of`. Nobody where every host
        has all cases anyway.
    """

    def __init__(
        self,
        environments: Mapping[str, Environment],
        workers: Workers,
        pools: Mapping[str, Sequence[Environment]] | None = None,
    ) -> None:
        self._environments, self._workers, self._pools = environments, workers, pools or {}
        self._lost_hosts: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._hardware: dict[str, str] = {}

    def of(self, name: str) -> Environment:
        """The environment itself, or once its host is gone who takes over, if anybody does: the first on like hardware,
        else the first.
        """
        one = self._environments[name]
        if not self._is_gone(one):
            return one
        for other in self._pools.get(name, ()):
            self._ask(other)
        left = [other for other in self._pools.get(name, ()) if not self._is_gone(other)]
        return next((other for other in left if self._alike(one, other)), left[0] if left else one)

    def seen(self, environment: Environment, machine: Mapping[str, Any]) -> None:
        """Remember what an environment computes on: when its host is gone it cannot be asked."""
        self._hardware[environment.name] = computes_on(environment, machine)

    def gone(self, environment: Environment) -> str:
        """Why an environment on another host, or all of that host, cannot be used any more, asked now; empty while it
        can, and for this machine.
        """
        if environment.host and not self._why_gone(environment):
            try:
                self.seen(environment, self._workers.get(environment).machine())
            except (HostLost, HostUnreachable) as error:
                self._lost_hosts[read_host(environment.host).label] = error.what
            except (EnvironmentMissing, WorkerError) as error:
                self._lost[environment.name] = error.what
        return self._why_gone(environment)

    def go_on(self, name: str, error: HarnessError, tried: Sequence[str], *, timed: bool) -> bool:
        """Whether what failed may be tried again: elsewhere if the host is gone, there if only a connection was lost.

        :param name: the environment that it was meant for.
        :param tried: names of the environments that it was tried in so far. In none is it tried a third time.
        :param timed: as in :meth:`why_not`. Where nothing takes over, the error says why.
        """
        one = self.of(name)
        # A host that is shut down ends its processes before its connections.
        if not one.host or not isinstance(error, WorkerDied | EnvironmentMissing):
            return False
        if not self.gone(one):
            return isinstance(error, HostLost) and tried.count(one.name) < 2
        while (other := self.of(name)) is not self._environments[name] and self.gone(other):
            pass
        why = self.why_not(name, timed=timed)
        if why:
            error.what = f"{error.what}; {why}"
        return not why

    def why_not(self, name: str, *, timed: bool) -> str:
        """Why nothing of an environment can be run in this run any more; empty where it can.

        :param timed: times are to be taken, which only the same GPU, or CPU, may take over.
        """
        one, other = self._environments[name], self.of(name)
        if not self._is_gone(one):
            return ""
        label, plain = read_host(one.host).label, name.partition("@")[0]
        lost = f"{label if label in self._lost_hosts else name} was lost"
        if other is one:
            alike = pools_of(self._environments)[name]
            left = [] if self._pools.get(name) else [two.name for two in alike if not self._is_gone(two)]
            nobody = f"{left[0]} has all cases of its own" if left else f"no other host of this run has {plain}"
            return f"{lost} ({self._why_gone(one)}), and {nobody}"
        if not timed or self._alike(one, other):
            return ""
        here, there = (self._hardware.get(two.name) or "something unknown" for two in (one, other))
        return f"{lost}; its times are taken nowhere else: {other.name} computes on {there}, not on {here}"

    def _alike(self, one: Environment, other: Environment) -> bool:
        known = self._hardware.get(one.name)
        return bool(known) and self._hardware.get(other.name) == known

    def _ask(self, environment: Environment) -> None:
        if environment.name not in self._hardware and not self.gone(environment) and not environment.host:
            self.seen(environment, self._workers.get(environment).machine())

    def _is_gone(self, environment: Environment) -> bool:
        return bool(self._why_gone(environment))

    def _why_gone(self, environment: Environment) -> str:
        if not environment.host:
            return ""
        return self._lost_hosts.get(read_host(environment.host).label) or self._lost.get(environment.name, "")
